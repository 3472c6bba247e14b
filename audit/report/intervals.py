"""Estimates with their intervals beside one another: a line for each name, a mark for each group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
from altair.typing import ChartType

from .chart_rows import inline, is_number
from .palette import QUIET, SERIES, SHAPES, WIDTH, cycled, legend_columns, styled
from .steering_charts import NUMBERS, padded

_LABELS = 210  # px of a name


def interval_chart(
    rows: Sequence[dict[str, Any]],
    *,
    axis: str,
    groups: str | None,
    domain: Sequence[float] | None = None,
    zero: bool = True,
    width: int = WIDTH,
) -> ChartType:
    """Points and bars, the names in order of first appearance.

    Args:
        rows: ``name``, ``group``, ``value`` and, or None, ``low`` and ``high``.
        axis: Title of the axis of values.
        groups: Title of the legend; None where there is one group, or the groups' names say enough.
        domain: Ends of the axis; by default such that every bar, and 0 if it is marked, lies on it.
        zero: Whether 0 is marked by a dashed rule.
        width: Pixels of the whole panel.
    """
    names = list(dict.fromkeys(str(row["name"]) for row in rows))
    kinds = list(dict.fromkeys(str(row["group"]) for row in rows))
    ends = [row[key] for row in rows for key in ("value", "low", "high") if is_number(row[key])]
    span = list(domain) if domain is not None else padded([*ends, *([0.0] if zero else [])])
    label = alt.Axis(labelLimit=_LABELS, grid=True)
    y = alt.Y("name:N", sort=names, scale=alt.Scale(domain=names), title=None, axis=label)
    offset = alt.YOffset("group:N", sort=kinds, scale=alt.Scale(domain=kinds, paddingOuter=0.5))
    scale = alt.Scale(domain=span, nice=False)
    value, low = (alt.X(f"{key}:Q", title=axis, scale=scale, axis=NUMBERS) for key in ("value", "low"))
    legend = alt.Legend(title=groups, symbolStrokeWidth=0, columns=legend_columns(kinds)) if len(kinds) > 1 else None
    color, shape = (
        channel("group:N", scale=alt.Scale(domain=kinds, range=cycled(choices, len(kinds))), legend=legend)
        for channel, choices in ((alt.Color, SERIES), (alt.Shape, SHAPES))
    )
    layers: list[alt.Chart] = []
    if zero:
        rule = inline([{"value": 0.0}]).mark_rule(strokeDash=[5, 4], color=QUIET, strokeWidth=1.2)
        layers.append(rule.encode(x=value))
    layers += [
        inline(row for row in rows if is_number(row["low"]) and is_number(row["high"]))
        .mark_rule(strokeWidth=1.8)
        .encode(y=y, yOffset=offset, x=low, x2="high:Q", color=color),
        inline(rows)
        .mark_point(filled=True, size=48, opacity=1)
        .encode(y=y, yOffset=offset, x=value, color=color, shape=shape),
    ]
    return styled(alt.layer(*layers), width=width, height=max(60, (16 * len(kinds) + 12) * len(names)))
