"""Charts of how near texts come to training rows: similarities by set, coverage by number, rates by arm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np
from altair.typing import ChartType
from numpy.typing import NDArray

from ..errors import InputError
from ..text.numbers import fixed
from .chart_rows import Rows, inline, labels, records
from .palette import DASHES, DECOY, INK, SERIES, SHAPES, legend_columns, styled

BINS = 30
SETS = ("generated", "held_out", "base")  # in drawing order
SET_NAMES = {"generated": "generated", "held_out": "held out", "base": "base model"}
KINDS = ("model", "base model", "false positives")
_SET_COLORS = {"generated": SERIES[0], "held_out": DECOY, "base": SERIES[1]}
_SET_DASHES = dict(zip(SETS, DASHES, strict=False))


def similarity_edges(similarities: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges of `BINS` bins of equal width, shape (BINS + 1,), from below all of these to a cosine of 1.

    Args:
        similarities: Cosines, at least one, shape (n,).
        thresholds: Thresholds that must lie on the axis, at least one, shape (k,).
    """
    lowest = min(similarities.min(), thresholds.min(), 0.95)
    return np.linspace(np.floor(lowest * 20 + 1e-9) / 20, max(1.0, thresholds.max()), BINS + 1)


def similarity_histogram(
    similarities: Mapping[str, NDArray[np.float64]], *, threshold: float, edges: NDArray[np.float64]
) -> ChartType:
    """Shares of each set's texts by similarity, as steps; the threshold is a dashed rule with its value.

    Args:
        similarities: Set, one of `SETS`, -> cosines between the outer edges, shape (n,); empty sets are not drawn.
        threshold: Similarity above which a text is a hit.
        edges: Of the bins, ascending, as from `similarity_edges`.

    Raises:
        InputError: A set is not one of `SETS`, or all are empty.
    """
    strangers = [name for name in similarities if name not in SETS]
    sets = [name for name in SETS if len(similarities.get(name, ()))]
    if strangers or not sets:
        raise InputError(
            f"there is nothing to draw of {strangers[0] if strangers else 'empty sets'!r}; expected {', '.join(SETS)}"
        )
    names = {name: f"{SET_NAMES[name]}, n {len(similarities[name]):,}" for name in sets}
    rows: list[dict[str, Any]] = []
    for name in sets:
        shares = np.histogram(similarities[name], edges)[0] / len(similarities[name])
        at, height = np.append(edges, edges[-1]), [*shares, shares[-1], 0.0]
        points = [(edges[0], 0.0), *zip(at, height, strict=True)]
        rows += [{"set": names[name], "at": n, "x": float(x), "y": float(y)} for n, (x, y) in enumerate(points)]
    top = max(row["y"] for row in rows) * 1.15  # room for the threshold's name
    x_scale = alt.Scale(domain=[float(edges[0]), float(edges[-1])], nice=False)
    x = alt.X("x:Q", title="cosine of the nearest training row", scale=x_scale, axis=alt.Axis(tickCount=5))
    y_axis = alt.Axis(format="~%", tickCount=5)
    y = alt.Y("y:Q", title="share of texts", scale=alt.Scale(domain=[0, top], nice=False), axis=y_axis)
    shown = list(names.values())
    colors = alt.Scale(domain=shown, range=[_SET_COLORS[name] for name in sets])
    dashes = alt.Scale(domain=shown, range=[list(_SET_DASHES[name]) for name in sets])
    legend = alt.Legend(title=None, columns=legend_columns(shown), symbolSize=500)
    rule = inline([{"x": threshold, "name": f"threshold {fixed(threshold, 3)}"}])
    is_left = threshold < (edges[0] + edges[-1]) / 2
    name_mark = rule.mark_text(
        align="left" if is_left else "right", dx=5 if is_left else -5, baseline="top", color=INK, fontSize=11
    )
    return styled(
        alt.layer(
            inline(rows).mark_line(interpolate="step-after", strokeWidth=2).encode(
                x=x,
                y=y,
                order=alt.Order("at:Q"),
                color=alt.Color("set:N", sort=shown, scale=colors, legend=legend),
                strokeDash=alt.StrokeDash("set:N", sort=shown, scale=dashes, legend=legend),
            ),
            rule.mark_rule(strokeDash=[5, 4], color=INK, strokeWidth=1.4).encode(x=x),
            name_mark.encode(x=x, y=alt.value(4), text="name:N"),
        )
    )  # fmt: skip


def coverage_chart(rows: Rows, *, interval: tuple[float, float] | None = None) -> ChartType:
    """Share of the training rows that are hit, against the number of generations.

    Args:
        rows: ``n`` (>= 1, ascending) and ``coverage`` (in [0, 1]); at least one.
        interval: Bounds of the last point, drawn as a bar.

    Raises:
        InputError: A row lacks a field, or there are none.
    """
    drawn = records(rows, ("n", "coverage"))
    if not drawn:
        raise InputError("there are no points of a coverage curve to draw; expected at least one")
    highest = max(row["coverage"] for row in drawn)
    top = max(highest, interval[1] if interval else 0.0) * 1.08 or 1.0
    x_scale = alt.Scale(domain=[0, drawn[-1]["n"] * 1.03], nice=False)
    x = alt.X("n:Q", title="generations", scale=x_scale, axis=alt.Axis(tickCount=4, tickMinStep=1, format=",d"))
    y_scale = alt.Scale(domain=[0, min(1.0, top)], nice=False)
    y = alt.Y("coverage:Q", title="training rows hit", scale=y_scale, axis=alt.Axis(format="~%", tickCount=5))
    layers = [
        inline(drawn).mark_line(color=SERIES[0], strokeWidth=1.6).encode(x=x, y=y),
        inline(drawn).mark_point(color=SERIES[0], filled=True, size=22, opacity=1).encode(x=x, y=y),
    ]
    if interval:
        bar = inline([{"n": drawn[-1]["n"], "coverage": interval[0], "high": interval[1]}])
        layers.append(bar.mark_rule(color=SERIES[0], strokeWidth=1.8).encode(x=x, y=y, y2="high:Q"))
    return styled(alt.layer(*layers))


def rate_charts(rows: Rows) -> dict[str, ChartType]:
    """Memorisation rates with their intervals, a line for each arm, a panel for each view, all on one axis.

    Args:
        rows: ``view`` and ``arm`` (str), ``kind`` (one of `KINDS`), ``value`` in [0, 1], ``low`` and ``high``.

    Returns:
        Name of the view -> chart, in order of first appearance.

    Raises:
        InputError: A row lacks a field.
    """
    drawn = records(rows, ("view", "arm", "kind", "value", "low", "high"))
    arms = labels(row["arm"] for row in drawn)
    for row in drawn:
        row["arm"] = arms[row["arm"]]
    kinds = [kind for kind in KINDS if any(row["kind"] == kind for row in drawn)]
    scale = alt.Scale(domain=[0, max((row["high"] for row in drawn), default=1.0) or 1.0], nice=True)
    return {
        name: _rate_panel([row for row in drawn if row["view"] == view], list(arms.values()), kinds, scale)
        for view, name in labels(row["view"] for row in drawn).items()
    }


def _rate_panel(rows: list[dict[str, Any]], arms: list[str], kinds: list[str], scale: alt.Scale) -> ChartType:
    axis = alt.Axis(format="~%", tickCount=5)
    value, low = (alt.X(f"{field}:Q", title="rate", scale=scale, axis=axis) for field in ("value", "low"))
    names = alt.Axis(grid=False, minExtent=82)  # room for "Levenshtein" in a font that is wider than the measured one
    y = alt.Y("arm:N", sort=arms, title=None, scale=alt.Scale(domain=arms), axis=names)
    offset = alt.YOffset("kind:N", sort=kinds, scale=alt.Scale(domain=kinds, paddingOuter=0.6))
    places = [KINDS.index(kind) for kind in kinds]
    colors = alt.Scale(domain=kinds, range=[(SERIES[0], SERIES[1], DECOY)[place] for place in places])
    shapes = alt.Scale(domain=kinds, range=[SHAPES[place] for place in places])
    legend = alt.Legend(title=None, columns=legend_columns(kinds), symbolStrokeWidth=0, symbolOpacity=1)
    color = alt.Color("kind:N", sort=kinds, scale=colors, legend=legend)
    shape = alt.Shape("kind:N", sort=kinds, scale=shapes, legend=legend)
    return styled(
        alt.layer(
            inline(rows).mark_rule(strokeWidth=1.8).encode(x=low, x2="high:Q", y=y, yOffset=offset, color=color),
            inline(rows).mark_point(filled=True, size=42, opacity=1).encode(
                x=value, y=y, yOffset=offset, color=color, shape=shape
            ),
        ),
        height=20 * len(kinds) * len(arms),
    )  # fmt: skip
