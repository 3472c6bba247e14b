"""AUC, its interval and the ROC curve, against scikit-learn, a slow oracle and hand arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from audit.errors import InputError
from audit.stats.auc import auc_difference_paired, roc_auc, roc_curve, stratified_auc
from audit.stats.estimate import Estimate


def scores(seed: int, n1: int = 60, n0: int = 80, decimals: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Rounded normal scores, so that many are tied."""
    rng = np.random.default_rng(seed)
    return rng.normal(0.8, 1, n1).round(decimals), rng.normal(0, 1, n0).round(decimals)


def slow_delong(pairs: list[tuple[np.ndarray, np.ndarray]], weights: list[float]) -> tuple[float, float]:
    """Weighted sum of AUCs and its variance, from the n1 x n0 matrix of comparisons."""
    wins = sum(w * (0.5 * (np.sign(p[:, None] - q) + 1)) for w, (p, q) in zip(weights, pairs, strict=True))
    above, below = wins.mean(axis=1), wins.mean(axis=0)
    return float(wins.mean()), float(above.var(ddof=1) / len(above) + below.var(ddof=1) / len(below))


def bounds(estimate: Estimate) -> tuple[float, float]:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low, estimate.high


@pytest.mark.parametrize("seed", range(5))
def test_auc_agrees_with_scikit_learn_with_ties(seed: int) -> None:
    positive, negative = scores(seed)
    labels = [1] * len(positive) + [0] * len(negative)
    expected = roc_auc_score(labels, np.concatenate([positive, negative]))
    assert roc_auc(positive, negative).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_interval_agrees_with_the_quadratic_form_of_delong(seed: int) -> None:
    positive, negative = scores(seed)
    auc, variance = slow_delong([(positive, negative)], [1.0])
    reach = norm.isf(0.025) * math.sqrt(variance) / (auc * (1 - auc))
    centre = math.log(auc / (1 - auc))
    expected = [1 / (1 + math.exp(-x)) for x in (centre - reach, centre + reach)]
    assert bounds(roc_auc(positive, negative)) == pytest.approx(expected, abs=1e-12)


def test_auc_by_hand() -> None:
    """Positives (3, 2), negatives (1, 2): V = (1, 3/4), W = (1, 3/4), AUC 7/8.

    var V = var W = (1/8)^2 x 2 = 1/32, so the variance is 1/32/2 + 1/32/2 = 1/32.
    """
    estimate = roc_auc([3, 2], [1, 2])
    assert estimate.value == 7 / 8
    reach = 1.959964 * math.sqrt(1 / 32) / (7 / 64)
    assert bounds(estimate)[0] == pytest.approx(1 / (1 + math.exp(-(math.log(7) - reach))), abs=1e-6)
    assert estimate.n == 4


def test_negated_scores_give_one_minus_auc_and_the_mirrored_interval() -> None:
    positive, negative = scores(3)
    one, other = roc_auc(positive, negative), roc_auc(-positive, -negative)
    assert other.value == pytest.approx(1 - one.value, abs=1e-12)  # type: ignore[operator]
    low, high = bounds(one)
    assert bounds(other) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_any_increasing_transform_gives_the_same_estimate() -> None:
    positive, negative = scores(4)
    assert roc_auc(np.exp(positive), np.exp(negative)) == roc_auc(positive, negative)


def test_separated_scores_keep_an_interval_of_positive_width() -> None:
    """All of m = 20 disjoint pairs concordant: low^20 = 0.025, low = 0.8316."""
    estimate = roc_auc(np.arange(30) + 100.0, np.arange(20.0))
    assert estimate.value == 1.0
    assert bounds(estimate) == pytest.approx((0.8316, 1.0), abs=1e-4)
    assert "Clopper-Pearson on 20 disjoint pairs" in estimate.method
    assert bounds(roc_auc(np.arange(20.0), np.arange(30) + 100.0)) == pytest.approx((0.0, 0.1684), abs=1e-4)


def test_tied_scores_give_half_with_a_bound_that_is_not_degenerate() -> None:
    """Hoeffding with 50 pairs: sqrt(log(40) / 100) = 0.1921."""
    estimate = roc_auc(np.ones(50), np.ones(50))
    assert estimate.value == 0.5
    assert bounds(estimate) == pytest.approx((0.3079, 0.6921), abs=1e-4)
    assert "Hoeffding bound on 50 disjoint pairs" in estimate.method


def test_one_text_on_a_side_says_next_to_nothing() -> None:
    assert bounds(roc_auc([0.5], [0.1, 0.6, 0.2])) == (0.0, 1.0)


def test_a_higher_level_gives_a_wider_interval() -> None:
    positive, negative = scores(5)
    narrow, wide = bounds(roc_auc(positive, negative, level=0.9)), bounds(roc_auc(positive, negative, level=0.99))
    assert wide[0] < narrow[0]
    assert narrow[1] < wide[1]


@pytest.mark.parametrize("seed", range(3))
def test_paired_difference_agrees_with_the_quadratic_form(seed: int) -> None:
    positive, negative = scores(seed)
    rng = np.random.default_rng(seed + 100)
    other = positive + rng.normal(size=60).round(1), negative + rng.normal(size=80).round(1)
    value, variance = slow_delong([(positive, negative), other], [1.0, -1.0])
    estimate = auc_difference_paired(positive, negative, *other)
    reach = norm.isf(0.025) * math.sqrt(variance)
    assert estimate.value == pytest.approx(value, abs=1e-12)
    assert bounds(estimate) == pytest.approx((value - reach, value + reach), abs=1e-12)


def test_pairing_narrows_the_difference_of_alike_scores() -> None:
    positive, negative = scores(1, 200, 200, 6)
    rng = np.random.default_rng(2)
    alike = positive + 0.1 * rng.normal(size=200), negative + 0.1 * rng.normal(size=200)
    low, high = bounds(auc_difference_paired(positive, negative, *alike))
    single = bounds(roc_auc(positive, negative))
    assert high - low < 0.5 * (single[1] - single[0])


def test_scores_that_rank_alike_differ_by_zero_with_a_bound() -> None:
    """Twice Hoeffding's margin with 60 pairs: 2 sqrt(log(40) / 120) = 0.3507."""
    positive, negative = scores(1)
    estimate = auc_difference_paired(positive, negative, 2 * positive, 2 * negative)
    assert estimate.value == 0.0
    assert bounds(estimate) == pytest.approx((-0.3507, 0.3507), abs=1e-4)


def test_scores_of_different_texts_cannot_be_paired() -> None:
    with pytest.raises(InputError, match=r"negative_a has 2 scores and negative_b has 3; .* Join the two tables"):
        auc_difference_paired([1.0], [1.0, 2.0], [1.0], [1.0, 2.0, 3.0])


def test_roc_curve_runs_from_corner_to_corner_and_holds_the_auc() -> None:
    positive, negative = scores(6)
    curve = roc_curve(positive, negative)
    assert (curve.fpr[0], curve.tpr[0], curve.fpr[-1], curve.tpr[-1]) == (0, 0, 1, 1)
    assert curve.thresholds[0] == np.inf
    area = float(np.sum(np.diff(curve.fpr) * (curve.tpr[1:] + curve.tpr[:-1]) / 2))
    assert area == pytest.approx(roc_auc(positive, negative).value, abs=1e-12)


def test_each_roc_point_counts_scores_at_or_above_its_threshold() -> None:
    positive, negative = scores(7)
    curve = roc_curve(positive, negative)
    for fpr, tpr, threshold in zip(curve.fpr, curve.tpr, curve.thresholds, strict=True):
        assert fpr == np.mean(negative >= threshold)
        assert tpr == np.mean(positive >= threshold)
    assert len(curve.thresholds) == 1 + len(np.unique(np.concatenate([positive, negative])))


def test_one_stratum_gives_the_plain_auc() -> None:
    positive, negative = scores(0)
    both, member = np.concatenate([positive, negative]), np.arange(140) < 60
    plain, inside = roc_auc(positive, negative), stratified_auc(both, member, [0] * 140)
    assert (inside.value, inside.low, inside.high) == pytest.approx((plain.value, plain.low, plain.high))


def test_only_texts_of_one_stratum_are_compared() -> None:
    """Stratum a: 3 > 1 and 3 > 2, AUC 1; b: 11 between 10 and 12, AUC 1/2. Whoever is alone is left out."""
    estimate = stratified_auc(
        [3.0, 1.0, 2.0, 11.0, 10.0, 12.0, 99.0],
        np.array([True, False, False, True, False, False, True]),
        ["a", "a", "a", "b", "b", "b", "alone"],
    )
    assert estimate.value == 0.75
    assert estimate.n == 6
    assert "Hoeffding" in estimate.method


@pytest.mark.parametrize("sizes", [[(40, 200), (200, 100)], [(1, 10)] * 30, [(10, 10)], [(5, 200), (5, 20)]], ids=str)
def test_the_interval_inside_strata_covers_whatever_the_shares_and_shapes(sizes: list[tuple[int, int]]) -> None:
    """Skewed one way in the first stratum and the other way in the next; members shifted so that each AUC is 0.6."""
    rng = np.random.default_rng(3)
    shift = -math.log(0.8)  # P(X + shift > Y) = 1 - e^-shift / 2 = 0.6 for exponential X and Y
    member = np.concatenate([np.arange(n1 + n0) < n1 for n1, n0 in sizes])
    strata = np.repeat(np.arange(len(sizes)), [n1 + n0 for n1, n0 in sizes])
    sign = np.where(strata % 2, -1.0, 1.0)
    held = 0
    for _ in range(200):
        values = sign * rng.exponential(size=len(member)) + shift * member
        low, high = bounds(stratified_auc(values, member, strata.tolist()))
        held += low <= 0.6 <= high
    assert held >= 200 * 0.91
