"""How charts look: colours that colour-blind readers can tell apart, shapes and dashes that survive grey print.

The hues follow Okabe and Ito ("Color Universal Design", 2008), darkened until each has a contrast of 4.5 to 1
or more with white. A test measures the contrast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
from altair.typing import ChartType

from .svg import MEASURED_FONT

INK = "#1a1a1a"
QUIET = "#5f5f5f"
GRID = "#dcdcdc"
SHADE = "#d0d0d0"
DECOY = "#5f5f5f"
SERIES = ("#0067a3", "#b34700", "#00704f", "#8a3f86", "#1a1a1a", "#7a5c00", "#3d5a80", "#a3193d")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
DASHES = ((1, 0), (6, 2), (2, 2), (8, 2, 2, 2), (4, 4), (10, 3), (1, 3), (6, 2, 1, 2))
_RAMP_ENDS = ((0x4A, 0x8F, 0xC7), (0x08, 0x1B, 0x3A))  # few to many repetitions

_LABEL_PIXELS = 130
WIDTH = 340  # pixels of a whole panel with axes and legend: fits a telephone, three go side by side


def ramp(count: int) -> list[str]:
    """``count`` blues, pale to dark, for ordered groups."""
    steps = [0.5] if count == 1 else [step / (count - 1) for step in range(count)]
    low, high = _RAMP_ENDS
    return ["#" + "".join(f"{round(a + (b - a) * t):02x}" for a, b in zip(low, high, strict=True)) for t in steps]


def legend_columns(names: Sequence[str]) -> int:
    """How many columns of legend entries fit below a panel, 1 to 4, taking 6 pixels per character."""
    for columns in (4, 3, 2):
        longest = [max(map(len, names[at::columns])) for at in range(min(columns, len(names)))]
        if sum(min(_LABEL_PIXELS, 6 * length) + 30 for length in longest) <= WIDTH - 40:
            return columns
    return 1


def cycled(choices: Sequence[Any], count: int) -> list[Any]:
    """The first ``count`` of ``choices``, from the start again when they run out."""
    return [choices[at % len(choices)] for at in range(count)]


def styled(chart: ChartType, *, width: int = WIDTH, height: int = 230) -> ChartType:
    """The chart with the project's look; ``width`` (pixels) holds axes and legend, ``height`` the plot alone."""
    chart = chart.properties(width=width, height=height, background="#ffffff")
    chart = chart.properties(autosize=alt.AutoSizeParams(type="fit-x", contains="padding"), padding=4)
    axis = {
        "labelColor": INK,
        "labelFontSize": 11,
        "titleColor": INK,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "gridColor": GRID,
        "domainColor": QUIET,
        "tickColor": QUIET,
        "labelFlush": False,
    }
    legend = {
        "orient": "bottom",
        "direction": "horizontal",
        "labelColor": INK,
        "labelFontSize": 11,
        "titleColor": INK,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "symbolSize": 70,
        "symbolStrokeWidth": 2,
        "rowPadding": 4,
        "columnPadding": 14,
        "labelLimit": _LABEL_PIXELS,
    }
    looked: ChartType = chart.configure(font=MEASURED_FONT, axis=axis, legend=legend, view={"stroke": GRID})
    return looked
