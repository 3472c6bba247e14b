"""Kolmogorov-Smirnov and conformal thresholds, against scipy and hand arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats

from audit.errors import InputError
from audit.stats.conformal import conformal_threshold, conformal_thresholds_by_group
from audit.stats.ks import ks_two_sample


@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
@pytest.mark.parametrize("sizes", [(30, 30), (25, 47)])
def test_distance_and_p_value_are_those_of_scipy(alternative: Any, sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=sizes[0]), rng.normal(0.4, 1, sizes[1])
    expected = scipy.stats.ks_2samp(a, b, alternative=alternative, method="exact")
    distance, p = ks_two_sample(a, b, alternative=alternative)
    assert distance.value == pytest.approx(expected.statistic)
    assert p.value == pytest.approx(expected.pvalue)


def test_separated_samples_reach_the_attainable_p_value() -> None:
    """3 against 3: both fully separated orders of C(6, 3) = 20, so 2/20 two-sided and 1/20 one-sided."""
    distance, p = ks_two_sample([1, 2, 3], [4, 5, 6])
    assert distance.value == 1.0
    assert (p.value, p.attainable) == pytest.approx((0.1, 0.1))
    assert ks_two_sample([1, 2, 3], [4, 5, 6], alternative="greater")[1].value == pytest.approx(0.05)


def test_distance_interval_by_hand() -> None:
    """D = 1 for 50 and 50: sqrt(log(80) / 2) x 2 / sqrt(50) = 0.4187, so [0.5813, 1]."""
    distance, _ = ks_two_sample(np.arange(50.0), np.arange(50.0) + 100)
    assert (distance.low, distance.high) == pytest.approx((0.5813, 1.0), abs=1e-4)


def test_large_samples_use_the_asymptotic_p_value_and_say_so() -> None:
    rng = np.random.default_rng(1)
    _, p = ks_two_sample(rng.normal(size=10_001), rng.normal(size=50))
    assert p.method == "two-sample KS, asymptotic, two-sided"
    assert 0 < p.value <= 1


@pytest.mark.filterwarnings("error")
def test_a_p_value_that_scipy_could_not_count_is_not_called_exact() -> None:
    """Interleaved samples: scipy 1.17 gives up the exact count and warns."""
    _, p = ks_two_sample(np.arange(5.0), np.arange(5.0) + 0.5)
    assert p.value == pytest.approx(1.0)
    assert "asymptotic" in p.method


def test_a_p_value_is_never_zero() -> None:
    _, p = ks_two_sample(np.arange(3000.0), np.arange(3000.0) + 1e6)
    assert p.value > 0
    assert p.value == p.attainable


def test_threshold_by_hand() -> None:
    """Scores 1..19, alpha 0.1: rank ceil(20 x 0.9) = 18; the rate is Beta(2, 18) distributed."""
    found = conformal_threshold(np.arange(1, 20)[::-1], alpha=0.1)
    assert (found.threshold, found.rank, found.n, found.expected_rate) == (18.0, 18, 19, 0.1)
    expected = tuple(float(scipy.stats.beta.ppf(q, 2, 18)) for q in (0.025, 0.975))
    assert (found.beta_low, found.beta_high) == pytest.approx(expected)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1, 0.3, 0.5])
def test_rank_is_exact_where_rounding_would_move_it(alpha: float) -> None:
    """n + 1 = 1/alpha times 3: exactly 3 scores at or above the threshold's place, whatever 1 - alpha rounds to."""
    n = round(3 / alpha) - 1
    found = conformal_threshold(np.arange(n), alpha=alpha)
    assert n + 1 - found.rank == 3
    assert found.expected_rate == pytest.approx(alpha)


@pytest.mark.parametrize(("alpha", "needed"), [(0.05, 19), (0.01, 99), (0.3, 3), (0.5, 1)])
def test_too_few_scores_are_refused_with_the_number_needed(alpha: float, needed: int) -> None:
    assert conformal_threshold(np.arange(needed), alpha=alpha).rank == needed
    if needed > 1:
        with pytest.raises(
            InputError, match=rf"{needed - 1} calibration scores .* expected at least {needed}\. Score more"
        ):
            conformal_threshold(np.arange(needed - 1), alpha=alpha)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0])
def test_an_alpha_outside_the_open_unit_interval_is_refused(alpha: float) -> None:
    with pytest.raises(InputError, match=f"alpha is {alpha}; expected a number between 0 and 1"):
        conformal_threshold([1.0, 2.0], alpha=alpha)


def test_each_group_gets_the_threshold_of_its_own_scores() -> None:
    scores = np.r_[np.arange(20.0), 100 + np.arange(30.0)]
    groups = ["en"] * 20 + ["fr"] * 30
    found = conformal_thresholds_by_group(scores, groups, alpha=0.1)
    assert list(found) == ["en", "fr"]
    assert found["en"] == conformal_threshold(scores[:20], alpha=0.1)
    assert found["fr"] == conformal_threshold(scores[20:], alpha=0.1)


def test_a_group_that_is_too_small_is_named() -> None:
    with pytest.raises(
        InputError, match="group 'fr': 3 calibration scores cannot hold a rate of 0.1; expected at least 9"
    ):
        conformal_thresholds_by_group(np.arange(23.0), ["en"] * 20 + ["fr"] * 3, alpha=0.1)
