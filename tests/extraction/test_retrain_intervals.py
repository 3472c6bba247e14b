"""The interval that the verdict on retraining rests on: by hand, and how often it errs with nothing to find."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t as student

from audit.extraction import retrain_intervals as module
from audit.extraction.retrain_intervals import effective_number, over_both, over_trainings
from tests.benchmarks.calibrate_retraining import Design, tried

N = 120


def test_effective_numbers_are_worked_by_hand() -> None:
    assert effective_number(np.array([1.0, 1.0, 2.0])) == pytest.approx(16 / 6)
    assert effective_number(np.ones(4), ["a", "a", "a", "b"]) == pytest.approx(16 / 10)
    assert effective_number(np.full(7, 3.0)) == pytest.approx(7)


def test_without_skewness_the_limits_are_students_squares_added() -> None:
    """120 rows 1 above and 1 below a mean of -0.4, trainings 0.1 above and below."""
    rows = np.tile([1.0, -1.0], N // 2)
    gaps = np.array([-0.5, -0.3])
    found = over_both(2 * (gaps[:, None] + rows), np.full(N, 2.0), level=0.9)
    of_rows = student.ppf(1 - 0.005, N - 1) * rows.std(ddof=1) / math.sqrt(N)  # a tenth of 5%
    of_trainings = student.ppf(0.95, 1) * 0.1
    assert found.value == pytest.approx(-0.4)
    assert found.high == pytest.approx(-0.4 + math.hypot(of_rows, of_trainings))
    assert found.low == pytest.approx(-0.4 - math.hypot(of_rows, of_trainings))
    assert found.n == N
    assert over_trainings(gaps, 0.9).high == pytest.approx(-0.4 + of_trainings)


@pytest.mark.parametrize("quantile", [1.3, 2.9, 5.0])
@pytest.mark.parametrize("skewness", [1e-5, 0.05, 0.3, 0.9])
def test_the_longer_tail_moves_the_limit_outward_by_halls_cubic(quantile: float, skewness: float) -> None:
    """Hall 1992: t + A t^2/3 + A^2 t^3/27 + A/6 is about normal; at t = -limit it is -quantile."""
    limit = module._outward(quantile, skewness)
    moved = -limit + skewness * limit**2 / 3 - skewness**2 * limit**3 / 27 + skewness / 6
    assert moved == pytest.approx(-quantile, abs=1e-6)
    assert limit > quantile
    assert module._outward(quantile, -skewness) == module._outward(quantile, 0.0) == quantile


def test_much_worse_rows_move_the_upper_limit_alone() -> None:
    worse = np.where(np.arange(N) < 12, 9.0, -1.0)
    up, down = (over_both(sign * np.tile(worse, (3, 1)), np.ones(N)) for sign in (1, -1))
    error = worse.std(ddof=1) / math.sqrt(N)
    assert up.low == pytest.approx(-error * student.ppf(1 - 0.0025, N - 1))
    assert (up.high or 0.0) > 1.2 * -(up.low or 0.0)
    assert down.low == pytest.approx(-(up.high or 0.0))
    assert down.high == pytest.approx(-(up.low or 0.0))


def test_rows_of_a_cluster_count_as_their_sum() -> None:
    rng = np.random.default_rng(0)
    sums, weights = rng.normal(size=(3, 3 * N)), rng.integers(1, 9, 3 * N).astype(float)
    together = over_both(sums, weights, [f"c{place % N}" for place in range(3 * N)])
    summed = over_both(sums.reshape(3, 3, N).sum(axis=1), weights.reshape(3, N).sum(axis=0))
    assert together.low == pytest.approx(summed.low)
    assert together.high == pytest.approx(summed.high)
    assert together.method == summed.method


def test_an_interval_that_could_not_hold_is_not_given() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3, N))
    assert over_both(rows, np.ones(N)).high is not None
    uneven = np.where(np.arange(N) < 60, 1.0, 9.0)  # (60 + 540)^2 / (60 + 60 * 81)
    assert over_both(rows, uneven).why == "the held-out rows count as 73.2 equal clusters, and 100 are needed"
    assert "count as 99.0 equal" in (over_both(rows[:, :99], np.ones(99)).why or "")
    assert over_both(rows[:, :100], np.ones(100)).high is not None
    assert "one training shows nothing" in (over_both(rows[:1], np.ones(N)).why or "")
    assert over_both(np.full((3, N), 0.3), np.ones(N)).why == "every cluster shows the same difference"
    assert over_both(np.zeros((3, N)), np.ones(N)).why == "every cluster shows the same difference"


@pytest.mark.parametrize(
    ("design", "percentile_errs"),
    [
        (Design(100, 3), False),
        (Design(100, 10, "exponential"), False),
        (Design(100, 10, "lognormal", sign=-1), False),
        (Design(100, 3, of_trainings=0.5), False),
        (Design(300, 10, "lognormal", unequal=1.0), True),
        (Design(300, 10, "5% much worse", unequal=1.0), True),
    ],
)
def test_without_a_difference_one_is_seen_at_most_at_the_stated_rate(design: Design, percentile_errs: bool) -> None:
    """2.5%, and 99% of the spread of as many experiments; a percentile bootstrap over clusters fails where marked."""
    found = tried(design, 1000, seed=0)
    assert found.n > 600
    assert found.below / found.n <= 0.025 + 2.33 * math.sqrt(0.025 * 0.975 / found.n)
    if percentile_errs:
        most = 0.025 + 2.33 * math.sqrt(0.025 * 0.975 / found.n_percentile)
        assert found.percentile_below / found.n_percentile > most


@pytest.mark.parametrize("n_clusters", [20, 40])
def test_few_clusters_give_no_verdict(n_clusters: int) -> None:
    assert tried(Design(n_clusters, 3), 20, seed=0).n == 0


def test_a_true_difference_is_seen() -> None:
    found = tried(Design(100, 3, shift=-0.5), 100, seed=0)
    assert found.below > 90
