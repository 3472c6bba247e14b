"""What a section hands to the report: a figure of one or more panels, with the words that belong to it."""

from __future__ import annotations

from dataclasses import dataclass

from altair.typing import ChartType


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
