"""The one shape in which a number leaves a room."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import InputError


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its uncertainty; an undefined one says why instead of pretending to be 0.

    Attributes:
        value: Point estimate, or None when undefined; then ``why`` is set.
        low: Lower bound of the interval, or None when there is none; then ``why`` is set.
        high: Upper bound, likewise.
        level: Confidence level of [low, high], in (0, 1), for example 0.95.
        n: Number of independent units that the estimate rests on (traps, rows, ...), >= 0.
        method: How value and interval were made: "AUC, DeLong on the logit scale".
        why: What is missing and why, when value or interval is None; also caveats.

    Raises:
        InputError: A field contradicts another (a NaN, bounds in the wrong order, no ``why``).
    """

    value: float | None
    low: float | None
    high: float | None
    level: float
    n: int
    method: str
    why: str | None = None

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            if number is not None and math.isnan(number):
                raise InputError(f"{self.method}: {name} is NaN; pass None and say why it is undefined")
        if not 0.0 < self.level < 1.0:
            raise InputError(f"{self.method}: level is {self.level}; expected a number between 0 and 1")
        if self.n < 0:
            raise InputError(f"{self.method}: n is {self.n}; expected 0 or more")
        if (self.low is None) != (self.high is None):
            raise InputError(f"{self.method}: one bound is missing; give both or neither")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise InputError(f"{self.method}: low {self.low} is above high {self.high}")
        if (self.value is None or self.low is None) and not self.why:
            raise InputError(f"{self.method}: an undefined value or interval needs a `why`")

    @classmethod
    def undefined(cls, *, method: str, why: str, n: int = 0, level: float = 0.95) -> Estimate:
        """An estimate that could not be made, with the reason."""
        return cls(None, None, None, level, n, method, why)


@dataclass(frozen=True, slots=True)
class PValue:
    """The result of a test whose null distribution is known by design.

    Attributes:
        value: P-value, in (0, 1].
        attainable: Smallest p-value that this design could have given, in (0, 1].
        n: Number of independent units or draws that the null distribution rests on.
        method: Which test, and one- or two-sided: "rank among 99 controls, one-sided".
    """

    value: float
    attainable: float
    n: int
    method: str

    def __post_init__(self) -> None:
        for name in ("value", "attainable"):
            number = getattr(self, name)
            if not 0.0 <= number <= 1.0:
                raise InputError(f"{self.method}: {name} is {number}; expected a number from 0 to 1")
