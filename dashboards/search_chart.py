"""The search for a strength of corruption, in its order: what was tried, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
from altair.typing import ChartType

from audit.report.chart_rows import inline, label, labels
from audit.report.palette import INK, SERIES, SHAPES, cycled, legend_columns, styled


def search_chart(
    rows: Sequence[dict[str, Any]], *, value: str, title: str, logarithmic: bool = False, rule: float | None = None
) -> ChartType:
    """One number of each evaluation in the order of the search, a mark for each stage.

    Args:
        rows: ``order`` (>= 1), ``stage`` (str) and the number; at least one.
        value: Name of that number.
        title: Of its axis.
        logarithmic: Whether the axis is; all numbers are above 0 then.
        rule: A number that is marked by a dashed line.
    """
    stages = labels(row["stage"] for row in rows)
    drawn = [{"order": row["order"], "stage": stages[row["stage"]], "value": row[value]} for row in rows]
    names = list(stages.values())
    scale = alt.Scale(type="log") if logarithmic else alt.Scale(zero=False)
    x = alt.X("order:Q", title="evaluation", axis=alt.Axis(tickCount=5, tickMinStep=1, format=",d", grid=False))
    y = alt.Y("value:Q", title=label(title), scale=scale, axis=alt.Axis(tickCount=5, format="~g"))
    legend = alt.Legend(title=None, columns=legend_columns(names), symbolStrokeWidth=0, symbolOpacity=1)
    color, shape = (
        channel("stage:N", scale=alt.Scale(domain=names, range=cycled(choices, len(names))), legend=legend)
        for channel, choices in ((alt.Color, SERIES), (alt.Shape, SHAPES))
    )
    layers: list[alt.Chart] = []
    if rule is not None:
        mark = inline([{"value": rule}]).mark_rule(strokeDash=[5, 4], color=INK, strokeWidth=1.2)
        layers.append(mark.encode(y=y))
    points = inline(drawn).mark_point(filled=True, size=44, opacity=1)
    layers.append(points.encode(x=x, y=y, color=color, shape=shape))
    return styled(alt.layer(*layers))
