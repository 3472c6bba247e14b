"""The two shapes in which numbers travel refuse to contradict themselves."""

from __future__ import annotations

from typing import Any

import pytest

from audit.errors import InputError
from audit.stats.estimate import Estimate, PValue


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"value": float("nan")}, "value is NaN"),
        ({"level": 1.0}, "level is 1.0"),
        ({"n": -1}, "n is -1"),
        ({"low": None}, "one bound is missing"),
        ({"low": 0.7, "high": 0.3}, "low 0.7 is above high 0.3"),
        ({"low": None, "high": None}, "needs a `why`"),
        ({"value": None}, "needs a `why`"),
    ],
)
def test_an_estimate_that_contradicts_itself_is_refused(fields: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"value": 0.5, "low": 0.4, "high": 0.6, "level": 0.95, "n": 10, "method": "test"}
    with pytest.raises(InputError, match=message):
        Estimate(**(good | fields))


def test_an_undefined_estimate_says_why() -> None:
    estimate = Estimate.undefined(method="AUC", why="no negatives", n=3)
    assert (estimate.value, estimate.low, estimate.high, estimate.why) == (None, None, None, "no negatives")


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_p_value_outside_the_unit_interval_is_refused(value: float) -> None:
    with pytest.raises(InputError, match=f"value is {value}; expected a number from 0 to 1"):
        PValue(value, 0.1, 9, "rank")
