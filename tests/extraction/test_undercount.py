"""The undercount, on arms whose ratio is planted, and where there is nothing to count."""

from __future__ import annotations

import numpy as np
import pytest

from audit.extraction.undercount import undercount, undercount_at_equal_rate


def test_a_planted_ratio_is_covered() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(60):
        embed = rng.random(2000) < 0.2
        string = embed & (rng.random(2000) < 0.25)
        found = undercount(embed, string, seed=seed)
        held += (found.low or 0) <= 4.0 <= (found.high or 99)
    assert held >= 50


def test_without_a_string_hit_a_lower_bound_is_told_and_no_infinity() -> None:
    found = undercount(np.arange(1000) < 100, np.zeros(1000, bool), seed=0)
    assert found.value is None
    # Clopper-Pearson, 2.5% on each side used: 100/1000 is at least 0.0821, 0/1000 at most 0.00368.
    assert found.why is not None
    assert "above 22.3" in found.why


def test_nothing_on_either_side_is_undefined() -> None:
    assert undercount(np.zeros(10, bool), np.zeros(10, bool), seed=0).why == "neither arm has a hit"


def test_a_few_string_hits_leave_no_upper_bound_but_a_lower_one() -> None:
    string = np.arange(1000) < 1
    found = undercount(np.arange(1000) < 100, string, seed=0)
    assert found.value == 100
    assert found.high is None
    assert "too few for an upper bound" in (found.why or "")


def test_at_an_equal_rate_arms_of_equal_strength_have_a_ratio_of_one() -> None:
    """Both arms are noisy copies of one truth; their scales differ, which the equal rate undoes."""
    rng = np.random.default_rng(1)
    held = 0
    for seed in range(12):
        shift = 3.0 * (rng.random(600) < 0.3)
        embed, string = shift + rng.standard_normal(600), 0.1 * (shift + rng.standard_normal(600)) + 5
        negatives = rng.standard_normal(400), 0.1 * rng.standard_normal(400) + 5
        found = undercount_at_equal_rate(embed, string, *negatives, target=0.05, floor=-np.inf, seed=seed)
        held += (found.low or 0) <= 1.0 <= (found.high or 99)
    assert held >= 10


def test_the_stronger_arm_finds_more_at_an_equal_rate() -> None:
    rng = np.random.default_rng(2)
    learnt = rng.random(800) < 0.4
    embed = 4.0 * learnt + rng.standard_normal(800)
    string = 1.0 * learnt + rng.standard_normal(800)
    found = undercount_at_equal_rate(
        embed, string, rng.standard_normal(500), rng.standard_normal(500), target=0.02, floor=-np.inf, seed=0
    )
    assert found.low is not None
    assert found.low > 2


def test_what_was_not_compared_is_no_hit() -> None:
    embed = np.array([5.0, np.nan, 5.0, 5.0])
    found = undercount_at_equal_rate(embed, embed, np.zeros(100), np.zeros(100), target=0.05, floor=-np.inf, seed=0)
    assert found.value == pytest.approx(1.0)
    assert found.n == 4


def test_a_threshold_below_what_was_computed_gives_no_ratio() -> None:
    """Similarities below the floor are 0, so the string arm would seem to miss what it was not asked for."""
    rng = np.random.default_rng(3)
    embed, string = rng.random(300), 0.3 + 0.1 * rng.random(300)
    negatives = rng.random(300), 0.2 + 0.1 * rng.random(300)
    known = undercount_at_equal_rate(embed, string, *negatives, target=0.05, floor=0.05, seed=0)
    assert known.value is not None
    assert known.value < 0.2
    cut = [np.where(values < 0.5, 0.0, values) for values in (string, negatives[1])]
    found = undercount_at_equal_rate(embed, cut[0], negatives[0], cut[1], target=0.05, floor=0.5, seed=0)
    assert found.value is None
    assert "below 0.5" in (found.why or "")
