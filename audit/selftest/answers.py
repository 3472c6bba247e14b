"""What an instrument answered, beside what it had to answer and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import AuditError


@dataclass(frozen=True, slots=True)
class Known:
    """One known answer.

    Attributes:
        name: What was asked.
        expected: The right answer, in words.
        got: What the instrument said.
        passed: Whether it is that.
        why: Where the expectation comes from.
        luck: Upper bound of the chance that a right instrument answers otherwise; 0 where nothing is drawn.
        asked: Whether it was asked at all; what was not has neither passed nor failed.
    """

    name: str
    expected: str
    got: str
    passed: bool
    why: str
    luck: float = 0.0
    asked: bool = True

    def to_record(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Instrument:
    """What is tested together.

    Attributes:
        name: For ``--only`` and the record.
        ask: Given an empty folder, gives known answers one by one.
    """

    name: str
    ask: Callable[[Path], Iterator[Known]]


def within(name: str, value: float | None, low: float, high: float, why: str, *, luck: float = 0.0) -> Known:
    """A number that must lie in [low, high]; nothing and NaN lie nowhere."""
    passed = bool(value is not None and low <= value <= high)
    got = "undefined" if value is None else _number(value)
    return Known(name, f"{_number(low)} to {_number(high)}", got, passed, why, luck)


def near(name: str, value: float | None, truth: float, why: str, *, tolerance: float = 1e-9) -> Known:
    """A number that is known but for rounding."""
    passed = bool(value is not None and abs(value - truth) <= tolerance)
    got = "undefined" if value is None else _number(value)
    return Known(name, f"{_number(truth)} (to {tolerance:g})", got, passed, why)


def same(name: str, value: object, truth: object, why: str, *, luck: float = 0.0) -> Known:
    """A word, a count or a list that is known exactly."""
    return Known(name, _short(truth), _short(value), bool(value == truth), why, luck)


def left_out(name: str, why: str) -> Known:
    """What cannot be asked here."""
    return Known(name, "not asked", "not asked", passed=True, why=_short(why), asked=False)


def refused(name: str, call: Callable[[], object], words: str, why: str) -> Known:
    """A call that must end in one of the project's own errors with these words in it."""
    try:
        value = call()
    except AuditError as error:
        return Known(name, f'refused: "{words}"', _short(str(error)), words in str(error), why)
    return Known(name, f'refused: "{words}"', f"not refused: {_short(value)}", False, why)


def _number(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else str(float(value))


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
