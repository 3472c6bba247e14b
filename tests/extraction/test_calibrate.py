"""Thresholds on maxima of negatives whose distribution is known, and what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, norm

from audit.errors import InputError
from audit.extraction.calibrate import LEAST_IN_BUCKET, Negatives, calibrate, fixed


def held_out(rng: np.random.Generator, n: int, *, slope: float = 0.0, source: str = "held-out rows") -> Negatives:
    lengths = rng.integers(20, 200, n)
    return Negatives(source, rng.standard_normal(n) + slope * lengths, lengths)


def test_new_texts_are_hits_at_the_target_rate_on_average() -> None:
    rng = np.random.default_rng(0)
    rates = []
    for seed in range(60):
        found = calibrate([held_out(rng, 400)], target=0.05, seed=seed)
        new = held_out(rng, 2000)
        rates.append(found.hits(new.maxima, new.lengths).mean())
    assert 0.035 < np.mean(rates) <= 0.055


def test_the_reported_rate_is_of_texts_that_had_no_part_in_the_threshold() -> None:
    """On the calibrating half it would be at most the target by construction; here it scatters around it."""
    rng = np.random.default_rng(1)
    found = [calibrate([held_out(rng, 400)], target=0.05, seed=seed).achieved["held-out rows"] for seed in range(60)]
    assert all(one.n == 200 for one in found)
    assert sum(one.value > 0.05 for one in found if one.value is not None) >= 15
    covered = sum((one.low or 0) <= 0.05 <= (one.high or 1) for one in found)
    assert covered >= 45  # less than 95%, because each threshold's own rate is not the target


def test_lengths_get_thresholds_of_their_own_where_there_are_enough() -> None:
    rng = np.random.default_rng(2)
    sloped = held_out(rng, 2 * 4 * LEAST_IN_BUCKET + 400, slope=0.1)
    found = calibrate([sloped], target=0.02, seed=0)
    assert len(found.buckets) > 1
    assert found.buckets[0].shortest == 0
    assert found.buckets[-1].longest is None
    assert [one.threshold for one in found.buckets] == sorted(one.threshold for one in found.buckets)
    new = held_out(rng, 20_000, slope=0.1)
    hits = found.hits(new.maxima, new.lengths)
    for bucket in found.buckets:
        inside = (new.lengths >= bucket.shortest) & (new.lengths <= (bucket.longest or 10**9))
        assert hits[inside].mean() < 0.045
    assert len(calibrate([held_out(rng, 600, slope=0.1)], target=0.02, seed=0).buckets) == 1


def test_the_strictest_source_sets_the_threshold() -> None:
    rng = np.random.default_rng(3)
    easy = held_out(rng, 500)
    hard = held_out(rng, 500, source="generations of the base model")
    hard = Negatives(hard.source, hard.maxima + 2, hard.lengths)
    both = calibrate([easy, hard], target=0.05, seed=0)
    assert both.buckets[0].threshold == calibrate([easy, hard], target=0.05, seed=0).buckets[0].threshold
    assert both.achieved["held-out rows"].value == pytest.approx(0.0, abs=0.01)
    assert both.worst is both.achieved["generations of the base model"]


def test_clustered_negatives_hold_the_rate_that_they_say() -> None:
    """Rows of one cluster are alike; one of each counts, or 20 clusters of 20 would err five times as often."""
    true_rates, covered = [], 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        clusters = np.repeat(np.arange(60), 20)
        maxima = np.repeat(rng.standard_normal(60), 20) + 0.1 * rng.standard_normal(1200)
        lengths = np.full(1200, 50)
        negatives = Negatives.one_each("held-out rows", maxima, lengths, clusters, seed=seed)
        assert len(negatives.maxima) == 60
        found = calibrate([negatives], target=0.1, seed=seed)
        true_rates.append(norm.sf(found.buckets[0].threshold / np.sqrt(1.01)))
        estimate = found.achieved["held-out rows"]
        assert estimate.low is not None
        assert estimate.high is not None
        covered += estimate.low <= true_rates[-1] <= estimate.high
    assert np.mean(true_rates) < 0.1 + 3 * np.std(true_rates) / np.sqrt(300)
    assert covered >= 270


def test_a_given_threshold_counts_equality_as_a_hit_and_is_measured_on_all_negatives() -> None:
    maxima = np.array([0.94, 0.95, 0.96, 0.5])
    found = fixed(0.95, [Negatives("held-out rows", maxima, np.full(4, 50))], target=0.01)
    assert found.hits(maxima, np.full(4, 50)).tolist() == [False, True, True, False]
    assert found.achieved["held-out rows"].value == 0.5
    assert found.fixed


def test_a_text_that_was_not_compared_is_no_hit() -> None:
    found = fixed(0.9, [Negatives("held-out rows", np.array([0.1]), np.array([50]))], target=0.01)
    assert not found.hits(np.array([np.nan]), np.array([50]))[0]


@pytest.mark.parametrize(
    ("n", "target", "told"),
    [(50, 0.01, "expected at least 99 in each half"), (500, 0.0, "above 0 and below 1")],
)
def test_too_few_negatives_are_refused(n: int, target: float, told: str) -> None:
    with pytest.raises(InputError, match=told):
        calibrate([held_out(np.random.default_rng(0), n)], target=target, seed=0)


def test_no_negatives_are_refused() -> None:
    with pytest.raises(InputError, match="no negatives"):
        calibrate([], target=0.01, seed=0)


def test_the_mean_rate_over_sources_stays_below_the_target_even_where_sources_differ() -> None:
    rng = np.random.default_rng(5)
    above = 0
    for seed in range(30):
        sources = [held_out(rng, 300), held_out(rng, 300, source="base")]
        found = calibrate(sources, target=0.05, seed=seed)
        new = held_out(rng, 1000)
        above += int(found.hits(new.maxima, new.lengths).sum())
    assert above <= binom.ppf(0.9999, 30_000, 0.05)
