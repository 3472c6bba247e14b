"""The strongest way of asking: by hand, without a gap, with two golds, and its interval under the null."""

from __future__ import annotations

import numpy as np
import pytest

from audit.errors import InputError
from audit.forgetting.measured import Measured
from unlearn.verify.robustness.strongest import Known, residuals


def measured(values: list[float] | np.ndarray, *, per: int = 1) -> Measured:  # type: ignore[type-arg]
    n = len(values)
    return Measured(
        "p", tuple(map(str, range(n))), tuple(str(place // per) for place in range(n)), np.array(values, dtype=float)
    )


SUBJECT, GOLD = measured([0.9, 0.8, 0.7, 0.8]), measured([0.1, 0.2, 0.1, 0.2])


def test_residuals_by_hand() -> None:
    """Gap 0.8 - 0.15 = 0.65. Plain: remedied 0.15, r = 0. JSON: 0.475, r = 0.5. Pooled: 0.325 / 1.3 = 0.25."""
    plain = Known(SUBJECT, measured([0.2, 0.1, 0.2, 0.1]), GOLD)
    other = Known(SUBJECT, measured([0.475, 0.5, 0.45, 0.475]), GOLD)
    found = residuals({"plain": plain, "JSON": other}, rng=0, n_draws=1_000)
    assert [one.residual.value for one in found.each] == pytest.approx([0.0, 0.5])
    assert found.strongest == "JSON"
    assert found.largest.value == pytest.approx(0.5)
    assert found.pooled.value == pytest.approx(0.25)
    assert found.largest.low is not None
    assert found.largest.low == max(one.residual.low or -9 for one in found.each)


def test_of_a_loss_the_signs_are_turned() -> None:
    minus = [measured(-one.values) for one in (SUBJECT, measured([0.475] * 4), GOLD)]
    found = residuals({"loss": Known(*minus)}, rng=0, more_is_known=False, n_draws=1_000)
    assert found.largest.value == pytest.approx(0.5)


def test_a_way_that_the_subject_cannot_read_has_no_residual() -> None:
    """Above gold by nothing, below gold, and above by less than a tenth of the largest gap."""
    small = Known(measured(GOLD.values + 0.03), SUBJECT, GOLD)
    ways = {"plain": Known(SUBJECT, GOLD, GOLD), "same": Known(GOLD, SUBJECT, GOLD), "less": Known(GOLD, GOLD, SUBJECT),
            "small": small}  # fmt: skip
    found = residuals(ways, rng=0, n_draws=1_000)
    assert [one.residual.value for one in found.each] == [0.0, None, None, None]
    assert "does not clearly know more" in (found.each[2].residual.why or "")
    assert "below 10% of the largest" in (found.each[3].residual.why or "")
    assert "3 ways of asking without a gap left out" in (found.largest.why or "")
    nothing = residuals({"same": ways["same"]}, rng=0)
    assert nothing.largest.value is None
    assert nothing.strongest is None


def test_the_untouched_subject_is_1_and_without_an_interval() -> None:
    found = residuals({"plain": Known(SUBJECT, SUBJECT, GOLD)}, rng=0, n_draws=1_000)
    assert found.largest.value == pytest.approx(1.0)
    assert found.largest.low is None
    assert "every draw of clusters gave the same value" in (found.largest.why or "")


def test_with_two_golds_only_what_both_do_not_say_counts() -> None:
    """Golds 0.15 and 0.25, remedied 0.25: nothing above the higher one."""
    second = measured(GOLD.values + 0.1)
    found = residuals({"plain": Known(SUBJECT, second, GOLD, second)}, rng=0, n_draws=1_000)
    assert found.largest.value == pytest.approx(0.0)


def test_no_ways_are_refused() -> None:
    with pytest.raises(InputError, match="there is no way of asking"):
        residuals({}, rng=0)


@pytest.mark.slow
def test_under_the_null_the_largest_is_rarely_above_0() -> None:
    """Twelve ways, 15 clusters of 2, r = 0 for all. The plain bound of the largest would be above 0 in far more than
    5%; 60 simulations of 2.5% give 5 or more with probability 1.7%."""
    above = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        known = {}
        for way in range(12):
            gold = 0.3 + rng.normal(0, 0.05, 15).repeat(2)
            remedied = gold + rng.normal(0, 0.08, 15).repeat(2) + rng.normal(0, 0.05, 30)
            subject = gold + 0.4 + rng.normal(0, 0.1, 30)
            known[str(way)] = Known(*(measured(one, per=2) for one in (subject, remedied, gold)))
        low = residuals(known, rng=0, n_draws=1_000).largest.low
        above += low is not None and low > 0
    assert above < 5
