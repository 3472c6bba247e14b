"""The stratified permutation test, against enumeration by hand."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare, spearmanr

from audit.errors import InputError
from audit.stats import stratified
from audit.stats.stratified import stratified_permutation, stratified_permutation_max

SCORES = np.array([0.3, 1.2, 2.0, -0.5, 50.0, 61.0, 45.0, 58.0, 66.0])
MEMBER = np.array([0, 1, 1, 0, 0, 1, 0, 1, 0], dtype=bool)
STRATA = np.array(["a"] * 4 + ["b"] * 5)


def slow_statistic(scores: Any, member: Any) -> float:
    """Sum over strata of n1 n0 / (n1 + n0) times the difference of mean standardised scores."""
    total = 0.0
    for stratum in ("a", "b"):
        x, m = scores[stratum == STRATA], member[stratum == STRATA]
        z = (x - x.mean()) / x.std()
        total += m.sum() * (~m).sum() / len(m) * (z[m].mean() - z[~m].mean())
    return total


def every_assignment() -> list[np.ndarray]:
    found = []
    for one, two in product(combinations(range(4), 2), combinations(range(4, 9), 2)):
        member = np.zeros(9, dtype=bool)
        member[list(one + two)] = True
        found.append(member)
    return found


@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
def test_p_value_is_the_share_of_assignments_with_the_documented_statistic(alternative: Any) -> None:
    turn = {"greater": lambda t: t, "less": lambda t: -t, "two-sided": abs}[alternative]
    null = np.array([turn(slow_statistic(SCORES, member)) for member in every_assignment()])
    expected = np.mean(null >= turn(slow_statistic(SCORES, MEMBER)) - 1e-12)
    p = stratified_permutation(SCORES, MEMBER, STRATA, alternative=alternative, rng=0)
    assert p.value == pytest.approx(expected)
    assert p.n == 60
    assert "all 60 assignments" in p.method


def test_one_stratum_by_hand() -> None:
    """Scores (1, 2, 3, 4), members the last two: one of C(4, 2) = 6 sums is as large."""
    p = stratified_permutation([1, 2, 3, 4], [0, 0, 1, 1], rng=0)
    assert (p.value, p.attainable) == (1 / 6, 1 / 6)


def test_ties_count_against_and_raise_the_attainable_p_value() -> None:
    """Scores (1, 1, 2, 2): members (2, 2) is 1 of 6; scores (1, 2, 2, 2): 3 of 6 assignments are as large."""
    assert stratified_permutation([1, 1, 2, 2], [0, 0, 1, 1], rng=0).value == 1 / 6
    p = stratified_permutation([1, 2, 2, 2], [0, 0, 1, 1], rng=0)
    assert (p.value, p.attainable) == (0.5, 0.5)


def test_equal_scores_give_one() -> None:
    p = stratified_permutation(np.ones(6), [1, 0, 1, 0, 1, 0], rng=0)
    assert (p.value, p.attainable) == (1.0, 1.0)


def test_redraws_agree_with_enumeration() -> None:
    """The same data with 59 draws (60 assignments are too many to enumerate), averaged over seeds."""
    exact = stratified_permutation(SCORES, MEMBER, STRATA, rng=0).value
    redrawn = [stratified_permutation(SCORES, MEMBER, STRATA, n_draws=59, rng=seed) for seed in range(400)]
    mean = np.mean([(p.value * 60 - 1) / 59 for p in redrawn])
    assert mean == pytest.approx(exact, abs=0.01)
    assert {p.attainable for p in redrawn} == {1 / 60}
    assert all("59 redraws" in p.method for p in redrawn)


def test_the_least_p_value_of_redraws_counts_the_observed_draw() -> None:
    scores = np.arange(60.0)
    assert stratified_permutation(scores, scores >= 30, n_draws=499, rng=0).value == 1 / 500


@pytest.mark.parametrize("n_members", [1, 2, 4, 5])
def test_redraws_take_every_set_of_members_equally_often(n_members: int) -> None:
    """z = 1, 2, 4, ..., 32, so that a sum names its set; 6 texts, the smaller arm being members or controls."""
    z = 2.0 ** np.arange(6)[None, :]
    block = stratified._Block(np.concatenate([z, -z]), np.arange(6) < n_members, np.ones(2))
    sums = stratified._subset_sums(block, 30_000, np.random.default_rng(0))
    assert (sums[1] == -sums[0]).all()
    found, counts = np.unique(sums[0], return_counts=True)
    sets = sorted(sum(2**i for i in chosen) for chosen in combinations(range(6), n_members))
    assert found.tolist() == sets
    assert chisquare(counts).pvalue > 0.01


def test_chunks_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    scores, member = rng.normal(size=40), np.tile([0, 1], 20)
    whole = stratified_permutation(scores, member, n_draws=499, rng=1).value
    monkeypatch.setattr("audit.stats.stratified.CELLS_AT_ONCE", 200)
    assert stratified_permutation(scores, member, n_draws=499, rng=1).value == pytest.approx(whole, abs=0.05)


def test_level_and_spread_of_a_stratum_do_not_matter() -> None:
    moved = np.where(STRATA == "a", 1000 + 7 * SCORES, 0.001 * SCORES)
    assert stratified_permutation(moved, MEMBER, STRATA, rng=0) == stratified_permutation(SCORES, MEMBER, STRATA, rng=0)


def test_stratifying_removes_a_difference_between_strata_that_pooling_would_report() -> None:
    """Members fill most of the high stratum; inside each stratum they score no higher."""
    rng = np.random.default_rng(4)
    strata = np.repeat([0, 1], 50)
    member = np.r_[np.arange(50) < 5, np.arange(50) < 45]
    scores = 10.0 * strata + rng.normal(size=100)
    assert stratified_permutation(scores, member, n_draws=999, rng=0).value == 0.001
    assert stratified_permutation(scores, member, strata, n_draws=999, rng=0).value > 0.05


def test_ranks_resist_an_outlier_that_hides_the_effect_from_the_mean() -> None:
    rng = np.random.default_rng(5)
    member = np.repeat([True, False], 30)
    scores = rng.normal(size=60) + 1.2 * member
    scores[59] = 1e6
    by_mean = stratified_permutation(scores, member, n_draws=999, rng=0)
    by_rank = stratified_permutation(scores, member, statistic="rank", n_draws=999, rng=0)
    assert by_mean.value > 0.2
    assert by_rank.value < 0.01


def test_strata_without_both_arms_are_left_out_and_counted() -> None:
    scores, member = np.r_[SCORES, 9.0, 8.0], np.r_[MEMBER, True, True]
    p = stratified_permutation(scores, member, [*STRATA, "c", "d"], rng=0)
    assert p.value == stratified_permutation(SCORES, MEMBER, STRATA, rng=0).value
    assert "2 strata, 2 strata without both arms left out" in p.method


def test_an_adjusted_p_value_is_the_share_of_the_largest_standardised_statistic() -> None:
    """Two scores; each T divided by its standard deviation over all 60 assignments, then the maximum."""
    other = np.array([1.0, 0.2, 0.9, 0.1, 3.0, 2.0, 5.0, 4.0, 1.0])
    null = np.array([[slow_statistic(x, m) for m in every_assignment()] for x in (SCORES, other)])
    spread = null.std(axis=1)
    largest = (null / spread[:, None]).max(axis=0)
    found = stratified_permutation_max({"loss": SCORES, "ratio": other}, MEMBER, STRATA, rng=0)
    for name, x, sd in (("loss", SCORES, spread[0]), ("ratio", other, spread[1])):
        expected = np.mean(largest >= slow_statistic(x, MEMBER) / sd - 1e-9)
        assert found[name].value == pytest.approx(expected)
        assert "of 2, maximum over the family" in found[name].method


def test_a_family_of_one_is_the_single_test() -> None:
    family = stratified_permutation_max({"loss": SCORES}, MEMBER, STRATA, rng=0)
    assert family == {"loss": stratified_permutation(SCORES, MEMBER, STRATA, rng=0)}


def test_a_copy_of_a_score_costs_nothing_and_an_unrelated_one_does() -> None:
    rng = np.random.default_rng(6)
    member = np.tile([True, False], 25)
    score = rng.normal(size=50) + 0.9 * member
    noise = {f"noise {i}": rng.normal(size=50) for i in range(8)}
    alone = stratified_permutation(score, member, n_draws=1999, rng=0).value
    copied = stratified_permutation_max({"a": score, "b": 3 * score + 1}, member, n_draws=1999, rng=0)["a"].value
    among = stratified_permutation_max({"a": score, **noise}, member, n_draws=1999, rng=0)["a"].value
    assert copied == alone
    assert alone < 0.05
    assert 3 * alone < among


def test_adjusted_p_values_rise_as_statistics_fall() -> None:
    rng = np.random.default_rng(7)
    member = np.tile([True, False], 20)
    scores = {str(shift): rng.normal(size=40) + shift * member for shift in (0.0, 0.4, 0.8, 1.2)}
    found = stratified_permutation_max(scores, member, n_draws=499, rng=0)
    single = {name: stratified_permutation(x, member, n_draws=499, rng=0).value for name, x in scores.items()}
    assert spearmanr([p.value for p in found.values()], list(single.values())).statistic > 0.99
    assert all(found[name].value >= single[name] for name in scores)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"is_member": [0, 1, 2, 0]}, r"is_member\[2\] is 2.0; expected True or False"),
        ({"is_member": [0, 1, 1]}, r"scores of 'score' are 4, is_member has 3 entries"),
        ({"is_member": [1, 1, 1, 1]}, r"none of 1 strata has both members and controls \(4 members, 0 controls"),
        ({"strata": [0, 1, 2, 3]}, r"none of 4 strata has both members and controls \(2 members, 2 controls"),
        ({"strata": [0, 1]}, r"strata has 2 labels for 4 scores"),
        ({"statistic": "median"}, r"statistic is 'median'; expected one of 'mean', 'rank'"),
        ({"n_draws": 10}, r"n_draws is 10; expected a whole number of at least 19"),
    ],
)
def test_designs_that_cannot_be_redrawn_are_refused(arguments: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"is_member": [0, 1, 1, 0], "rng": 0} | arguments
    with pytest.raises(InputError, match=message):
        stratified_permutation([1.0, 2.0, 3.0, 4.0], **given)


def test_an_empty_family_is_refused() -> None:
    with pytest.raises(InputError, match="scores is empty; expected at least one method"):
        stratified_permutation_max({}, [0, 1], rng=0)
