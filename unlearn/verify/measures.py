"""What a measure of verification is: formula, range, direction, source, and where it is known to fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Axis = Literal["wording", "knowledge", "privacy", "utility"]
Direction = Literal["more is known", "less is known", "more is useful", "less is useful", "neither"]


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure, as tables and docs/methods/verification.md tell it.

    Attributes:
        key: Stable name, dotted: ``wording.rouge``. Files and policies know the measure by it.
        label: In tables, with the unit where there is one.
        axis: What it speaks of.
        direction: What a larger value says.
        low: Smallest value, or None where there is none.
        high: Largest value, likewise.
        formula: In one line.
        source: Paper or code, or "ours"; departures are named.
        failure: Where it is known to mislead.
    """

    key: str
    label: str
    axis: Axis
    direction: Direction
    low: float | None
    high: float | None
    formula: str
    source: str
    failure: str
