"""Estimates and p-values of a run as text."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ..runs.schema import EstimateRecord, PValueRecord
from ..text.numbers import decimals_for, fixed, p_number, percent, telling

NOT_ESTIMABLE = "not estimable"


def limits_of(plan: Mapping[str, Any]) -> frozenset[float]:
    """Every fraction that a plan states: a number that only rounds to one of its limits is shown with more digits."""
    return frozenset(number for table in plan.values() for number in _fractions(table))


def _fractions(value: Any) -> Iterator[float]:
    if isinstance(value, float) and 0 < abs(value) < 1:
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _fractions(inner)


def plain(number: float, landmarks: Collection[float] = ()) -> str:
    """A number without an interval, to 4 significant digits, without an exponent where that is readable."""
    if math.isnan(number):
        return NOT_ESTIMABLE
    if math.isinf(number):
        return fixed(number, 0)
    if number == 0.0:
        return "0"
    magnitude = math.floor(math.log10(abs(number)))
    if not -5 <= magnitude <= 14:
        return f"{number:.3e}"
    if number.is_integer():
        return f"{number:,.0f}"
    text = fixed(number, max(0, 3 - magnitude), landmarks)
    return text.rstrip("0").rstrip(".") if "." in text else text


def estimate(record: EstimateRecord, landmarks: Collection[float] = ()) -> str:
    """ "0.953 [0.921, 0.973]"; "0.953 [no interval]"; "not estimable". The reason is in ``record.why``."""
    if record.value is None or math.isnan(record.value):
        return NOT_ESTIMABLE
    if record.low is None or record.high is None or math.isnan(record.low) or math.isnan(record.high):
        return f"{plain(record.value, landmarks)} [no interval]"
    numbers = (record.value, record.low, record.high)
    decimals = decimals_for((record.high - record.low) / 2)
    if all(map(math.isfinite, numbers)):
        decimals = max(telling(number, decimals, landmarks) for number in numbers)
    value, low, high = (fixed(number, decimals, landmarks) for number in numbers)
    return f"{value} [{low}, {high}]"


def p_value(record: PValueRecord, landmarks: Collection[float] = ()) -> str:
    """ "0.01 (smallest possible 0.01)": a p-value next to the best that the design could have given."""
    return f"{p_number(record.value, landmarks)} (smallest possible {p_number(record.attainable)})"


def method_note(record: EstimateRecord) -> str:
    """Method and level, for a note: "AUC, DeLong; 95% interval". A value without an interval has no level."""
    bare = record.value is not None and record.low is None
    return record.method if bare else f"{record.method}; {percent(record.level)} interval"
