"""Truth ratios of single items by system, as steps: before a remedy, after it, and gold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import altair as alt
import numpy as np
from altair.typing import ChartType
from numpy.typing import NDArray

from audit.report.chart_rows import inline, labels
from audit.report.palette import DASHES, DECOY, SERIES, legend_columns, styled

BINS: Final = 24


def ratio_chart(
    values: Mapping[str, NDArray[np.float64]], edges: NDArray[np.float64], *, before: str, gold: str
) -> ChartType:
    """Shares of items in bins of equal width, a line for each system.

    Args:
        values: System -> ln truth ratio of each item, finite.
        edges: Of the bins, ascending.
        before: System that is drawn as the model before the remedy.
        gold: System that never learnt it.
    """
    shown = labels(values)
    names = {name: f"{text}, n {len(values[name]):,}" for name, text in shown.items()}
    rows: list[dict[str, Any]] = []
    for name, own in values.items():
        shares = np.histogram(own, edges)[0] / max(1, len(own))
        points = [(edges[0], 0.0), *zip(edges, [*shares, shares[-1]], strict=True), (edges[-1], 0.0)]
        rows += [{"system": names[name], "at": at, "x": float(x), "y": float(y)} for at, (x, y) in enumerate(points)]
    order = list(names.values())
    looks = {before: (SERIES[1], DASHES[1]), gold: (DECOY, DASHES[2])}
    colors, dashes = zip(*(looks.get(name, (SERIES[0], DASHES[0])) for name in names), strict=True)
    legend = alt.Legend(title=None, columns=legend_columns(order), symbolSize=500, labelLimit=200)
    scale = alt.Scale(domain=[float(edges[0]), float(edges[-1])], nice=False)
    return styled(
        inline(rows)
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            x=alt.X("x:Q", title="ln truth ratio", scale=scale, axis=alt.Axis(tickCount=5)),
            y=alt.Y("y:Q", title="share of rows", axis=alt.Axis(format="~%", tickCount=5)),
            order=alt.Order("at:Q"),
            color=alt.Color("system:N", sort=order, scale=alt.Scale(domain=order, range=list(colors)), legend=legend),
            strokeDash=alt.StrokeDash(
                "system:N",
                sort=order,
                scale=alt.Scale(domain=order, range=[list(one) for one in dashes]),
                legend=legend,
            ),
        )
    )
