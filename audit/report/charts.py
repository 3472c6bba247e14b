"""Charts shared by the report and the dashboard: plain rows in, Altair definitions out.

No function here reads a file, an address or a model. Rows are aggregated before they are drawn, so a drawing's
size does not grow with the run. Whatever a row holds is treated as data: labels are cleaned and cut. The charts
of single scores and p-values are in `audit.report.distributions`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
from altair.typing import ChartType
from numpy.typing import NDArray

from ..errors import InputError
from ..text.numbers import percent
from .chart_rows import (
    CONTROL,
    Rows,
    by_repetition,
    chance_rule,
    grouped,
    inline,
    is_number,
    labels,
    length_label,
    records,
)
from .palette import DASHES, QUIET, SERIES, SHADE, SHAPES, WIDTH, cycled, legend_columns, ramp, styled

_WIDEST = 700  # pixels of a panel with many repetitions
_MOST_POINTS = 129  # of one curve, on each of the two scales


def auc_by_repetition(rows: Rows) -> dict[str, ChartType]:
    """AUC with its interval against the number of copies, one line per score, one panel per length.

    Args:
        rows: ``score`` (str), ``n_rep`` (int, or "control"), ``length`` (int or str), ``value``, ``low`` and
            ``high`` (in [0, 1], or None). Rows without a value are left out: say so beside the chart.

    Returns:
        Panel title -> chart; chance, 0.5, is a dashed rule. Empty when no row has a value.

    Raises:
        InputError: A row lacks one of the fields.
    """
    return _by_repetition(rows, "AUC", chance=0.5, floor=0.4)


def tpr_by_repetition(rows: Rows, *, fpr: float = 0.01) -> dict[str, ChartType]:
    """True-positive rate at a fixed false-positive rate, against the number of copies.

    Args:
        rows: As for `auc_by_repetition`.
        fpr: The false-positive rate, in (0, 1); chance, the same number, is a dashed rule.

    Returns:
        Panel title -> chart, as for `auc_by_repetition`.

    Raises:
        InputError: A row lacks one of the fields.
    """
    return _by_repetition(rows, f"TPR at {percent(fpr)} FPR", chance=fpr, floor=0.0)


def _by_repetition(rows: Rows, measure: str, *, chance: float, floor: float) -> dict[str, ChartType]:
    fields = ("score", "n_rep", "length", "value", "low", "high")
    drawn = [row for row in records(rows, fields) if is_number(row["value"])]
    names = labels(row["score"] for row in drawn)
    for row in drawn:
        row["score"], row["n_rep"] = names[row["score"]], str(row["n_rep"])
        if not (is_number(row["low"]) and is_number(row["high"])):
            row["low"] = row["high"] = None
    lowest = min((row["value"] if row["low"] is None else row["low"] for row in drawn), default=floor)
    domain = [min(floor, math.floor(lowest * 10) / 10), 1.0]
    scale = alt.Scale(domain=domain, nice=False, zero=False)
    value, low = (alt.Y(f"{field}:Q", title=measure, scale=scale) for field in ("value", "low"))
    return {
        length_label(length): _repetition_panel(panel, list(names.values()), value, low, chance)
        for length, panel in grouped(drawn, "length").items()
    }


def _repetition_panel(rows: list[dict[str, Any]], scores: list[str], y: alt.Y, low: alt.Y, chance: float) -> ChartType:
    order = sorted({row["n_rep"] for row in rows}, key=by_repetition)
    title = "copies of each trap in the training data"
    x = alt.X("n_rep:O", sort=order, title=title, axis=alt.Axis(labelAngle=0, grid=False, labelLimit=60))
    offset = alt.XOffset("score:N", sort=scores, scale=alt.Scale(domain=scores, paddingOuter=0.35))

    def by_score(values: Sequence[Any]) -> alt.Scale:
        return alt.Scale(domain=scores, range=cycled(values, len(scores)))

    legend = alt.Legend(title=None, columns=legend_columns(scores), symbolStrokeWidth=0, symbolOpacity=1)
    color = alt.Color("score:N", scale=by_score(SERIES), legend=legend)
    dash = alt.StrokeDash("score:N", scale=by_score([list(dash) for dash in DASHES]), legend=None)
    shape = alt.Shape("score:N", scale=by_score(SHAPES), legend=legend)
    lines = inline(row for row in rows if row["n_rep"] != CONTROL).mark_line(strokeWidth=1.3, opacity=0.75)
    intervals = inline(row for row in rows if row["low"] is not None).mark_rule(strokeWidth=1.8)
    points = inline(rows).mark_point(filled=True, size=42, opacity=1)
    return styled(
        alt.layer(
            chance_rule(chance).encode(y=y),
            lines.encode(x=x, xOffset=offset, y=y, color=color, strokeDash=dash),
            intervals.encode(x=x, xOffset=offset, y=low, y2="high:Q", color=color),
            points.encode(x=x, xOffset=offset, y=y, color=color, shape=shape),
        ),
        width=min(_WIDEST, max(WIDTH, 60 + len(order) * (12 + 7 * len(scores)))),
    )


def roc(rows: Rows, *, resolution: float | None = None, log_x: bool = False) -> ChartType:
    """ROC curves, one per group, drawn as the stairs that they are; the dashed curve is chance.

    Args:
        rows: ``fpr`` and ``tpr`` (in [0, 1], rising within a group, from (0, 0) to (1, 1)) and ``group`` (str
            or int, from fewest to most repetitions). See `thinned` for long curves.
        resolution: 1 / number of negatives; the region below it is greyed, for nothing can be read there.
        log_x: Logarithmic axis of false-positive rates; needs ``resolution``, where the curves begin.

    Raises:
        InputError: A row lacks a field, or ``log_x`` has no resolution in (0, 1).
    """
    drawn = records(rows, ("fpr", "tpr", "group"))
    start = 0.0
    if log_x:
        if resolution is None or not 0.0 < resolution < 1.0:
            raise InputError(
                f"a logarithmic ROC axis needs the resolution of the false-positive rate, between 0 and 1; it is "
                f"{resolution}. Pass 1 / (number of negatives), or log_x=False."
            )
        start = resolution / 3
        drawn = [row for row in drawn if row["fpr"] >= resolution * (1 - 1e-9)]
    names = labels(row["group"] for row in drawn)
    for row in drawn:
        row["group"] = names[row["group"]]
    x = alt.X(
        "fpr:Q",
        title="false-positive rate" + (", logarithmic" if log_x else ""),
        scale=alt.Scale(type="log" if log_x else "linear", domain=[start, 1.0], nice=False),
        axis=alt.Axis(values=_decades(start), format="~g") if log_x else alt.Axis(tickCount=5),
    )
    y = alt.Y("tpr:Q", title="true-positive rate", scale=alt.Scale(domain=[0, 1]))
    at_chance = np.geomspace(start, 1.0, 40) if log_x else np.array([0.0, 1.0])
    diagonal = inline({"fpr": float(at), "tpr": float(at)} for at in at_chance)
    layers = [
        diagonal.mark_line(strokeDash=[5, 4], color=QUIET, strokeWidth=1.2).encode(x=x, y=y),
        _stairs(drawn, list(names.values()), x, y),
    ]
    if resolution is not None:
        shade = inline([{"fpr": start, "to": min(resolution, 1.0), "tpr": 0.0, "top": 1.0}])
        layers.insert(0, shade.mark_rect(color=SHADE, opacity=0.75).encode(x=x, x2="to:Q", y=y, y2="top:Q"))
    return styled(alt.layer(*layers), height=260)


def _stairs(rows: list[dict[str, Any]], groups: list[str], x: alt.X, y: alt.Y) -> alt.Chart:
    legend = alt.Legend(title="copies", columns=5, symbolSize=500)
    colors = alt.Scale(domain=groups, range=ramp(len(groups)))
    dashes = alt.Scale(domain=groups, range=[list(dash) for dash in cycled(DASHES, len(groups))])
    lines = inline(rows).mark_line(interpolate="step-after", strokeWidth=2, clip=True)
    drawn: alt.Chart = lines.encode(
        x=x,
        y=y,
        order=alt.Order("fpr:Q"),
        color=alt.Color("group:N", sort=groups, scale=colors, legend=legend),
        strokeDash=alt.StrokeDash("group:N", sort=groups, scale=dashes, legend=legend),
    )
    return drawn


def thinned(fpr: NDArray[np.float64], tpr: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A ROC curve's points cut to about 250, close together on a linear and on a logarithmic axis.

    Every kept point is a point of the curve. Between kept points the stairs run at the lower true-positive
    rate, so the drawing never shows more than was measured.

    Args:
        fpr: False-positive rates, shape (n,), rising from 0 to 1.
        tpr: True-positive rates, shape (n,), rising from 0 to 1.
    """
    if len(fpr) <= 2 * _MOST_POINTS:
        return fpr, tpr
    smallest = fpr[fpr > 0].min()
    grid = np.union1d(np.linspace(0, 1, _MOST_POINTS), np.geomspace(smallest, 1, _MOST_POINTS))
    keep = np.unique(np.append(np.searchsorted(fpr, grid + 1e-12, side="right") - 1, len(fpr) - 1))
    return fpr[keep], tpr[keep]


def _decades(start: float) -> list[float]:
    return [10.0**power for power in range(math.ceil(math.log10(start) - 1e-9), 1)]
