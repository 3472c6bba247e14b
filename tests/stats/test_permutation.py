"""Ranks, two-sample permutations and signs, against hand counts and scipy."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import scipy.stats

from audit.errors import InputError
from audit.stats.permutation import permutation_two_sample, rank_p_value, rank_p_values, sign_test


def test_rank_by_hand_with_a_tie_counted_against() -> None:
    """Score 5 among (1, 5, 7): two controls are at least 5, so (1 + 2) / (1 + 3)."""
    p = rank_p_value(5, [1, 5, 7])
    assert (p.value, p.attainable, p.n) == (0.75, 0.25, 3)
    assert p.method == "rank among 3 controls, ties against, one-sided"


@pytest.mark.parametrize(("score", "expected"), [(8, 0.25), (0, 1.0), (6, 0.5)])
def test_rank_p_value_is_one_over_n_at_best_and_one_at_worst(score: float, expected: float) -> None:
    assert rank_p_value(score, [1, 5, 7]).value == expected


def test_random_ties_give_every_place_among_the_tied_alike() -> None:
    """The score is tied with 3 of 4 controls and below none: p is 1/5, 2/5, 3/5 or 4/5, a quarter of the time each."""
    rng = np.random.default_rng(0)
    found = [rank_p_value(5, [1, 5, 5, 5], ties="random", rng=rng).value for _ in range(4000)]
    values, counts = np.unique(found, return_counts=True)
    assert values.tolist() == [0.2, 0.4, 0.6, 0.8]
    assert scipy.stats.chisquare(counts).pvalue > 0.01


def test_random_ties_need_a_generator_and_no_other_way_is_offered() -> None:
    with pytest.raises(InputError, match="ties is 'random' and rng is None; expected a Generator or a seed"):
        rank_p_value(1, [1], ties="random")
    with pytest.raises(InputError, match="ties is 'half'; expected one of 'against', 'random'"):
        rank_p_value(1, [1], ties="half")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"score\[0\] is nan"):
        rank_p_value(float("nan"), [1.0])


def test_many_ranks_are_the_single_ones() -> None:
    rng = np.random.default_rng(1)
    scores, shared, own = rng.normal(size=20).round(1), rng.normal(size=50).round(1), rng.normal(size=(20, 30)).round(1)
    assert rank_p_values(scores, shared).tolist() == [rank_p_value(s, shared).value for s in scores]
    assert rank_p_values(scores, own).tolist() == [rank_p_value(s, c).value for s, c in zip(scores, own, strict=True)]


@pytest.mark.parametrize("shape", [(0,), (2, 5), (3, 0), (3, 5, 1)])
def test_controls_of_the_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"controls has shape .* for 3 scores; expected \(n,\) or \(3, n\)"):
        rank_p_values([1.0, 2.0, 3.0], np.zeros(shape))


def test_two_samples_fully_separated_give_one_over_the_number_of_assignments() -> None:
    p = permutation_two_sample([4, 5, 6], [1, 2, 3], rng=0)
    assert (p.value, p.attainable, p.n) == (0.05, 0.05, 20)
    assert permutation_two_sample([4, 5, 6], [1, 2, 3], alternative="less", rng=0).value == 1.0
    two_sided = permutation_two_sample([4, 5, 6], [1, 2, 3], alternative="two-sided", rng=0)
    assert (two_sided.value, two_sided.attainable) == (0.1, 0.1)


def test_exact_two_sample_p_value_is_the_share_of_assignments() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(0.5, 1, 4), rng.normal(0, 1, 5)
    pooled = np.concatenate([a, b])
    observed = a.mean() - b.mean()
    reached = 0
    for chosen in combinations(range(9), 4):
        rest = [i for i in range(9) if i not in chosen]
        reached += pooled[list(chosen)].mean() - pooled[rest].mean() >= observed - 1e-12
    assert permutation_two_sample(a, b, rng=0).value == pytest.approx(reached / 126)


def test_random_draws_count_the_observed_one_too() -> None:
    p = permutation_two_sample(np.arange(30) + 100.0, np.arange(30.0), n_draws=199, rng=0)
    assert (p.value, p.attainable, p.n) == (1 / 200, 1 / 200, 199)
    assert p.method == "two-sample permutation, 199 draws, greater"


def test_any_statistic_may_be_permuted() -> None:
    """Medians 8 and 2 differ by 6; so do those of (3, 8, 9) and (1, 2, 7), and no assignment by more: 2 of 20."""

    def medians(a: Any, b: Any) -> float:
        return float(np.median(a) - np.median(b))

    assert permutation_two_sample([7, 8, 9], [1, 2, 3], statistic=medians, rng=0).value == 0.1


def test_a_statistic_that_is_not_finite_is_refused() -> None:
    with pytest.raises(InputError, match=r"not finite on \d+ of \d+ assignments"):
        permutation_two_sample([1, 2, 3], [4, 5, 6], statistic=lambda a, b: float("nan"), rng=0)


def test_too_few_draws_to_ever_reach_five_percent_are_refused() -> None:
    with pytest.raises(InputError, match="n_draws is 18; expected a whole number of at least 19"):
        permutation_two_sample([1.0], [2.0], n_draws=18, rng=0)


def test_sign_test_by_hand() -> None:
    """5 of 5 above 0: 2^-5. 4 of 5: (5 + 1) / 32."""
    p = sign_test([0.1, 2, 3, 1, 5])
    assert (p.value, p.attainable, p.n) == (1 / 32, 1 / 32, 5)
    assert sign_test([0.1, 2, -3, 1, 5]).value == pytest.approx(6 / 32)
    assert sign_test([0.1, 2, 3, 1, 5], alternative="two-sided").value == pytest.approx(2 / 32)
    assert sign_test([0.1, 2, 3, 1, 5], alternative="less").value == 1.0


def test_tied_pairs_are_left_out_and_counted() -> None:
    p = sign_test([1, 0, 2, 0, 3])
    assert (p.value, p.n) == (1 / 8, 3)
    assert p.method == "sign test, 3 pairs, 2 ties left out, greater"


def test_only_tied_pairs_say_nothing() -> None:
    p = sign_test([0.0, 0.0])
    assert (p.value, p.attainable, p.n) == (1.0, 1.0, 0)
