"""What the figures of steering share: axes, and a number along the weights of the sparse group lasso."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
from altair.typing import ChartType

from .chart_rows import inline
from .palette import SERIES, styled

ROOM = 34  # pixels of an upright axis, so that the title stands clear of the numbers
NUMBERS = alt.Axis(tickCount=5, format=".4~r")
UPRIGHT = alt.Axis(tickCount=5, format=".4~r", minExtent=ROOM)


def by_gamma(points: list[dict[str, Any]], order: list[str], name: str, *, most: float | None = None) -> ChartType:
    """A line over gammas from weak to strong, with a diamond where a point is ``chosen``."""
    x = alt.X("gamma:O", sort=order, title="gamma", axis=alt.Axis(labelAngle=0))
    scale = alt.Scale(domain=[0, most], nice=False) if most is not None else alt.Scale(zero=False)
    y = alt.Y("value:Q", title=name, scale=scale, axis=UPRIGHT)
    layers: list[alt.Chart] = [
        inline(points).mark_line(color=SERIES[0], strokeWidth=1.4).encode(x=x, y=y),
        inline(points).mark_point(color=SERIES[0], filled=True, size=44, opacity=1).encode(x=x, y=y),
    ]
    chosen = [one for one in points if one["chosen"]]
    if chosen:
        layers.append(
            inline(chosen)
            .mark_point(color=SERIES[1], filled=True, size=130, opacity=1, shape="diamond")
            .encode(x=x, y=y)
        )
    return styled(alt.layer(*layers), height=200)


def padded(values: Sequence[float]) -> list[float]:
    """Ends of an axis that holds the values."""
    low, high = min(values), max(values)
    room = 0.05 * (high - low) or 0.05
    return [low - room, high + room]
