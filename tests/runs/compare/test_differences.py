"""Differences: worked by hand, against a slow oracle, and under the null."""

from __future__ import annotations

import numpy as np
import pytest

from audit.runs.compare.differences import Ranked, Values, difference, paired_auc, paired_mean, unpaired
from audit.runs.schema import EstimateRecord
from audit.stats.auc import stratified_auc
from audit.stats.bootstrap import bootstrap


def record(
    value: float | None, low: float | None, high: float | None, *, method: str = "m", n: int = 20
) -> EstimateRecord:
    why = "no reason" if value is None or low is None else None
    return EstimateRecord(value=value, low=low, high=high, level=0.95, n=n, method=method, why=why)


def values(numbers: list[float], ids: list[str] | None = None) -> Values:
    names = tuple(ids or [str(place) for place in range(len(numbers))])
    return Values(names, names, np.array(numbers))


def test_an_unpaired_difference_of_symmetric_intervals_adds_the_squares_of_half_widths() -> None:
    """1 ± 0.3 and 2 ± 0.4: the difference is 1 ± sqrt(0.09 + 0.16) = 1 ± 0.5."""
    found = unpaired(record(1.0, 0.7, 1.3), record(2.0, 1.6, 2.4))
    assert (found.value, found.low, found.high) == pytest.approx((1.0, 0.5, 1.5))
    assert "independent" in found.method


def test_each_side_of_a_lopsided_interval_keeps_its_own_width() -> None:
    """0 [0, 0.4] and 0.5 [0.2, 0.8]: low 0.5 - sqrt(0.3² + 0.4²) = 0, high 0.5 + sqrt(0.3² + 0²) = 0.8."""
    found = unpaired(record(0.0, 0.0, 0.4), record(0.5, 0.2, 0.8))
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.0, 0.8))


def test_other_methods_are_not_compared_and_other_sizes_are() -> None:
    one = record(0.5, 0.4, 0.6, method="mean, percentile bootstrap of 20 clusters, 2,000 draws")
    same = record(0.5, 0.4, 0.6, method="mean, percentile bootstrap of 1,033 clusters, 2,000 draws")
    other = record(0.5, 0.4, 0.6, method="proportion, Wilson score interval")
    threshold = [record(0.5, 0.4, 0.6, method=f"TPR at FPR <= {fpr}") for fpr in (0.1, 0.01)]
    assert difference(one, same, (None, None), seed=0).how == "unpaired"
    refused = difference(one, other, (None, None), seed=0)
    assert refused.how == "none"
    assert refused.estimate.value is None
    assert "the methods differ" in str(refused.estimate.why)
    assert "Wilson" in str(refused.estimate.why)
    assert difference(*threshold, (None, None), seed=0).how == "none"


@pytest.mark.parametrize("missing", [record(None, None, None), record(0.5, None, None)])
def test_no_difference_is_given_without_an_interval(missing: EstimateRecord) -> None:
    for pair in ((missing, record(0.5, 0.4, 0.6)), (record(0.5, 0.4, 0.6), missing)):
        found = difference(*pair, (None, None), seed=0)
        assert found.how == "none"
        assert found.estimate.value is None
        assert found.estimate.why


def test_a_paired_mean_is_narrower_than_what_both_share_and_whole_clusters_move() -> None:
    """Values of wide spread that all rise by about 1: the spread cancels. Pairs of equal rows count once."""
    rng = np.random.default_rng(0)
    first = rng.normal(0, 10, 50)
    other = first + 1 + rng.normal(0, 0.1, 50)
    alone = paired_mean(first, other, [str(place) for place in range(50)], level=0.95, seed=0)
    assert alone.value == pytest.approx(1, abs=0.05)
    assert alone.low is not None
    assert alone.high is not None
    assert alone.high - alone.low < 0.1
    doubled = paired_mean(
        np.repeat(first, 2), np.repeat(other, 2), [str(place // 2) for place in range(100)], level=0.95, seed=0
    )
    assert doubled.n == 50
    assert doubled.low is not None
    assert doubled.high is not None
    assert doubled.high - doubled.low == pytest.approx(alone.high - alone.low, rel=1e-9)


def test_items_that_do_not_give_the_recorded_value_again_are_not_paired() -> None:
    one, other = [0.1, 0.5, 0.3], [0.2, 0.4, 0.9]
    right = (record(0.3, 0.1, 0.5), record(0.5, 0.2, 0.8))
    assert difference(*right, (values(one), values(other)), seed=0).how == "paired"
    wrong = difference(right[0], record(0.6, 0.2, 0.8), (values(one), values(other)), seed=0)
    assert wrong.how == "unpaired"
    assert "0.6 was recorded" in str(wrong.estimate.why)
    strangers = difference(*right, (values(one), values(other, ["0", "1", "x"])), seed=0)
    assert strangers.how == "unpaired"
    assert "only 2 of 4 items are in both" in str(strangers.estimate.why)


def test_the_order_of_items_does_not_matter() -> None:
    one, other = values([0.1, 0.5, 0.3]), values([0.9, 0.2, 0.4], ["2", "0", "1"])
    found = difference(record(0.3, 0.1, 0.5), record(0.5, 0.2, 0.8), (one, other), seed=0)
    straight = paired_mean(one.values, np.array([0.2, 0.4, 0.9]), one.clusters, level=0.95, seed=0)
    assert found.estimate.low == straight.low
    assert found.estimate.high == straight.high


def ranked(rng: np.random.Generator, shift: float, n: int = 20) -> Ranked:
    """Two strata with other shares of positives, scores with ties."""
    strata = np.array(["a"] * n + ["b"] * n)
    positive = np.concatenate([np.arange(n) < n // 2, np.arange(n) < n // 4])
    scores = np.round(rng.normal(0, 1, 2 * n) + shift * positive + (strata == "b") * 3, 1)
    return Ranked(tuple(map(str, range(2 * n))), tuple(map(bool, positive)), tuple(strata.tolist()), scores)


def test_a_paired_auc_is_the_difference_of_the_two_aucs_in_every_draw() -> None:
    """The same draws of texts, inside strata and sides, with both AUCs taken anew in each: the slow way."""
    rng = np.random.default_rng(1)
    one, other = ranked(rng, 0.5), ranked(rng, 1.0)
    found = paired_auc(one, other.scores, level=0.95, seed=0, n_draws=200)
    positive, strata = np.array(one.positive), np.array(one.strata)
    order = np.argsort(strata, kind="stable")
    sides = [order[positive[order] == side] for side in (True, False)]

    def slow(x: np.ndarray, y: np.ndarray) -> float:
        rows = np.concatenate([sides[0][x.astype(int)], sides[1][y.astype(int)]])
        aucs = [
            stratified_auc(s[rows], positive[rows], strata[rows].tolist()).value for s in (one.scores, other.scores)
        ]
        assert aucs[0] is not None
        assert aucs[1] is not None
        return aucs[1] - aucs[0]

    numbers = [np.arange(len(side), dtype=float) for side in sides]
    labels = [strata[side].tolist() for side in sides]
    oracle = bootstrap(slow, *numbers, strata=labels, n_draws=200, rng=0)
    assert (found.value, found.low, found.high) == pytest.approx((oracle.value, oracle.low, oracle.high))
    assert "only 5 texts on a side" in str(found.why)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Two runs that differ by nothing: about 95% of intervals hold 0 (200 data sets; 3 deviations are 4.6%)."""
    rng = np.random.default_rng(2)
    held = {"mean": 0, "auc": 0, "unpaired": 0}
    for number in range(200):
        shared = rng.normal(0, 1, 60)
        a, b = shared + rng.normal(0, 1, 60), shared + rng.normal(0, 1, 60)
        mean = paired_mean(a, b, [str(place) for place in range(60)], level=0.95, seed=number, n_draws=500)
        labels = Ranked(tuple(map(str, range(60))), tuple(place < 30 for place in range(60)), ("s",) * 60, a)
        auc = paired_auc(labels, b, level=0.95, seed=number, n_draws=500)
        both = [rng.normal(0, 1, 60) for _ in range(2)]
        ends = [record(one.mean(), one.mean() - 1.96 * one.std(ddof=1) / 60**0.5,
                       one.mean() + 1.96 * one.std(ddof=1) / 60**0.5) for one in both]  # fmt: skip
        for name, found in (("mean", mean), ("auc", auc), ("unpaired", unpaired(*ends))):
            assert found.low is not None
            assert found.high is not None
            held[name] += found.low <= 0 <= found.high
    assert all(0.90 <= count / 200 <= 0.99 for count in held.values()), held
