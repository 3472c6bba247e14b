"""What a section hands to the report: figures of one or more panels, and texts side by side, with their words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from altair.typing import ChartType

# Some words of a text as they stand, and whether they differ from the other text's.
Piece: TypeAlias = tuple[str, bool]


@dataclass(frozen=True, slots=True)
class Panel:
    """One drawing. ``title`` stands above it ("" for none); ``description`` says in words what it shows."""

    title: str
    description: str
    chart: ChartType


@dataclass(frozen=True, slots=True)
class Figure:
    """Panels side by side under one caption.

    Attributes:
        id: Stable name within its audit: "auc".
        title: What is drawn, a few words.
        caption: How to read it, and what was left out.
        panels: The drawings; none when there is nothing to draw, and then ``caption`` says why.
    """

    id: str
    title: str
    caption: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Texts beside one another, their differing words marked. All strings may be hostile; the page cleans them.

    Attributes:
        title: What is compared, a few words.
        note: What is measured of the pair, or "".
        sides: Name and pieces of each text, in reading order; the pieces of one text, joined, are what is shown of it.
    """

    title: str
    note: str
    sides: tuple[tuple[str, tuple[Piece, ...]], ...]
