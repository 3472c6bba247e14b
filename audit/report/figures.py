"""What a section hands to the report: figures of one or more panels, and texts with words marked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

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


class MarkedPiece(NamedTuple):
    """Some characters of a text, how strongly they are marked (0 not at all, to 3; -1 set back), and why, or ""."""

    text: str
    level: int
    hint: str


@dataclass(frozen=True, slots=True)
class MarkedText:
    """One text; its pieces, joined, are what is shown of it. All strings may be hostile; the page cleans them."""

    title: str
    note: str
    pieces: tuple[MarkedPiece, ...]


@dataclass(frozen=True, slots=True)
class MarkedTexts:
    """Texts that are marked alike.

    Attributes:
        title: What is shown, a few words.
        how_to_read: What the marks mean.
        legend: Level and its words.
        texts: In reading order.
    """

    title: str
    how_to_read: str
    legend: tuple[tuple[int, str], ...]
    texts: tuple[MarkedText, ...]
