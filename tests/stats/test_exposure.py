"""Exposure in bits, its p-value and its interval."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from audit.errors import InputError
from audit.stats.exposure import exposure, exposures
from audit.stats.permutation import rank_p_values

SCORES = st.integers(-5, 5).map(float)


def test_exposure_by_hand() -> None:
    """Score 5 among (1, 5, 7, 2): 5 and 7 come first, rank 3 of M = 5."""
    found = exposure(5, [1, 5, 7, 2])
    assert found.bits.value == pytest.approx(math.log2(5) - math.log2(3))
    assert found.p_value.value == 3 / 5
    assert found.most == math.log2(5)


@given(SCORES, st.lists(SCORES, min_size=1, max_size=60))
def test_two_to_the_minus_exposure_is_the_rank_p_value(score: float, decoys: list[float]) -> None:
    found = exposure(score, decoys)
    assert found.bits.value is not None
    p = float(rank_p_values([score], decoys)[0])
    assert 2**-found.bits.value == pytest.approx(p, rel=1e-12)
    assert found.p_value.value == p
    assert -1e-12 <= found.bits.value <= found.most == math.log2(len(decoys) + 1)
    if found.bits.low is not None and found.bits.high is not None:
        assert 0 <= found.bits.low <= found.bits.value <= found.bits.high
    assert exposures([score], decoys)[0] == pytest.approx(found.bits.value, abs=1e-12)


@given(st.lists(SCORES, min_size=1, max_size=30))
def test_ties_are_against_the_claimant(decoys: list[float]) -> None:
    tied, above = exposure(max(decoys), decoys), exposure(max(decoys) + 1, decoys)
    assert tied.p_value.value > above.p_value.value
    assert (tied.bits.value or 0) < (above.bits.value or 0)


def test_the_top_rank_is_worth_log2_m_and_has_no_upper_bound() -> None:
    """Among 99 decoys: log2 100 bits; the share above is below 1 - 0.025^(1/99) = 0.0366 with 97.5%: 4.77 bits."""
    found = exposure(9.0, np.zeros(99)).bits
    assert found.value == pytest.approx(math.log2(100))
    assert (found.low, found.high) == (None, None)
    assert found.why == "no decoy scores as high, so there is no upper bound; at least 4.77 bits"


def test_the_interval_covers_the_exposure_among_all_candidates() -> None:
    """A sequence that 10% of all candidates outscore: -log2 0.1 = 3.32 bits, 50 decoys, 500 draws."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(500):
        bits = exposure(0.9, rng.random(50)).bits
        covered += bits.low <= -math.log2(0.1) <= bits.high if bits.low is not None and bits.high is not None else True
    assert covered >= binom.ppf(0.005, 500, 0.95)


def test_a_model_that_saw_nothing_has_one_bit_or_more_half_of_the_time() -> None:
    rng = np.random.default_rng(1)
    bits = exposures(rng.normal(size=4_000), rng.normal(size=(4_000, 19)))
    assert np.mean(bits >= 1) == pytest.approx(0.5, abs=0.03)
    assert np.mean(bits >= math.log2(20) - 1e-9) == pytest.approx(0.05, abs=0.012)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((math.nan, [1.0]), r"score\[0\] is nan"),
        ((1.0, []), "decoys is empty"),
        ((1.0, [math.inf]), r"decoys\[0\] is inf"),
    ],
)
def test_scores_that_cannot_be_ranked_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        exposure(*arguments)


def test_a_level_outside_0_and_1_is_refused() -> None:
    with pytest.raises(InputError, match="level is 1.0"):
        exposure(1.0, [0.0], level=1.0)
