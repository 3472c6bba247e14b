"""TPR at a fixed FPR: the point never exceeds the FPR, and the interval knows the threshold was estimated."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, binom

from audit.errors import InputError
from audit.stats.auc import roc_curve
from audit.stats.proportion import wilson
from audit.stats.tpr import tpr_at_fpr


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("fpr", [0.01, 0.05, 0.1, 0.29])
def test_value_is_the_largest_tpr_of_the_roc_curve_within_the_fpr(seed: int, fpr: float) -> None:
    rng = np.random.default_rng(seed)
    positive, negative = rng.normal(1, 1, 50).round(1), rng.normal(0, 1, 100).round(1)
    curve = roc_curve(positive, negative)
    assert tpr_at_fpr(positive, negative, fpr=fpr).value == curve.tpr[curve.fpr <= fpr + 1e-12].max()


def test_tied_negatives_never_let_the_fpr_exceed_its_target() -> None:
    """The two largest of 10 negatives are tied at 5: a threshold at 5 would flag 20%, so only 6 and 7 count."""
    assert tpr_at_fpr([7, 6, 5, 5, 1], [5, 5, 4, 3, 3, 2, 2, 1, 1, 0], fpr=0.1).value == 2 / 5


def test_rounding_does_not_lose_an_allowed_false_positive() -> None:
    """0.29 x 100 is 28.999999999999996 in floating point; 29 false positives are allowed."""
    negative = np.arange(100.0)
    assert tpr_at_fpr([70.5, 71.5, 200], negative, fpr=0.29).value == 1.0
    assert tpr_at_fpr([69.5, 71.5, 200], negative, fpr=0.29).value == pytest.approx(2 / 3)


def test_interval_agrees_with_a_direct_sum_over_the_thresholds_rank() -> None:
    """At each bound, the mixture over J ~ Binomial(n0, fpr) of Beta(s_J + 1/2, n1 - s_J + 1/2) is 2.5% or 97.5%."""
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(1, 1, 40), rng.normal(0, 1, 60)
    descending = np.sort(negative)[::-1]
    estimate = tpr_at_fpr(positive, negative, fpr=0.1)

    def mixture(rate: float) -> float:
        total = 0.0
        for j in range(61):
            above = 0 if j == 0 else np.sum(positive > descending[j - 1])
            below = 40 if j == 60 else np.sum(positive > descending[j])
            s = (above + below) / 2
            total += binom.pmf(j, 60, 0.1) * beta.cdf(rate, s + 0.5, 40 - s + 0.5)
        return total

    assert estimate.low is not None
    assert estimate.high is not None
    assert mixture(estimate.low) == pytest.approx(0.025, abs=1e-6)
    assert mixture(estimate.high) == pytest.approx(0.975, abs=1e-6)


def test_interval_is_wider_than_if_the_threshold_were_known() -> None:
    rng = np.random.default_rng(1)
    positive, negative = rng.normal(1, 1, 1000), rng.normal(0, 1, 100)
    estimate = tpr_at_fpr(positive, negative, fpr=0.1)
    known = wilson(round(estimate.value * 1000), 1000)  # type: ignore[operator]
    assert estimate.high - estimate.low > 3 * (known.high - known.low)  # type: ignore[operator]


def test_many_negatives_bring_the_interval_to_that_of_a_known_threshold() -> None:
    rng = np.random.default_rng(2)
    positive, negative = rng.normal(1, 1, 100), rng.normal(0, 1, 200_000)
    estimate = tpr_at_fpr(positive, negative, fpr=0.1)
    s = round(estimate.value * 100)  # type: ignore[operator]
    jeffreys = tuple(float(beta.ppf(q, s + 0.5, 100 - s + 0.5)) for q in (0.025, 0.975))
    assert (estimate.low, estimate.high) == pytest.approx(jeffreys, abs=0.01)


@pytest.mark.parametrize("shift", [-50.0, 50.0])
def test_separated_scores_keep_an_interval_of_positive_width_that_holds_the_value(shift: float) -> None:
    rng = np.random.default_rng(3)
    estimate = tpr_at_fpr(rng.normal(shift, 1, 50), rng.normal(0, 1, 50), fpr=0.1)
    assert estimate.value == (1.0 if shift > 0 else 0.0)
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low <= estimate.value <= estimate.high
    assert 0.01 < estimate.high - estimate.low < 0.4


def test_any_increasing_transform_gives_the_same_estimate() -> None:
    rng = np.random.default_rng(4)
    positive, negative = rng.normal(1, 1, 70), rng.normal(0, 1, 90)
    assert tpr_at_fpr(np.exp(positive), np.exp(negative), fpr=0.05) == tpr_at_fpr(positive, negative, fpr=0.05)


def test_too_few_negatives_give_an_undefined_estimate_that_says_how_many_are_needed() -> None:
    estimate = tpr_at_fpr(np.arange(50.0), np.arange(999.0), fpr=0.001)
    assert (estimate.value, estimate.low, estimate.high) == (None, None, None)
    assert estimate.why == "999 negatives cannot show a false-positive rate of 0.001; it needs at least 1000"
    assert tpr_at_fpr(np.arange(50.0), np.arange(1000.0), fpr=0.001).value is not None


@pytest.mark.parametrize("fpr", [0.0, 1.0, -0.1, float("nan")])
def test_an_fpr_outside_the_open_unit_interval_is_refused(fpr: float) -> None:
    with pytest.raises(InputError, match=f"fpr is {fpr}; expected a number between 0 and 1"):
        tpr_at_fpr([1.0], [0.0], fpr=fpr)
