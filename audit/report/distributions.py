"""Charts of many single values, aggregated before they are drawn: scores by group, rank p-values by bin."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from altair.typing import ChartType

from ..errors import InputError
from .chart_rows import Rows, by_repetition, copies_label, frame, inline, label, labels
from .palette import DECOY, INK, SERIES, ramp, styled

_MOST_DOTS = 101  # of one group: its percentiles

DECOY_GROUP = "decoy"


def score_distribution(rows: Rows, *, score: str = "score") -> ChartType:
    """Scores of each group: a dot per text (or per percentile), the middle half as a box, the median as a bar.

    Args:
        rows: ``score`` (finite; higher = more like a member) and ``group`` (str or int, in drawing order;
            "decoy" is drawn in grey).
        score: What the axis is called, at most 28 characters.

    Raises:
        InputError: A field is missing, or a score is not finite.
    """
    table = frame(rows, ("score", "group"))
    values = table["score"].to_numpy(dtype=float)
    bad = values[~np.isfinite(values)]
    if len(bad):
        raise InputError(f"{len(bad):,} scores to draw are not finite, the first is {bad[0]}; leave them out")
    names = labels(table["group"].unique())
    members = [name for name in names.values() if name != DECOY_GROUP]
    colors = {DECOY_GROUP: DECOY, **dict(zip(members, ramp(len(members)), strict=True))}
    dots: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    for group, part in table.groupby("group", sort=False)["score"]:
        name, scores = names[group], part.to_numpy(dtype=float)
        shown = np.quantile(scores, np.linspace(0, 1, min(_MOST_DOTS, len(scores))), method="nearest")
        spread = (np.arange(len(shown)) * 0.618034) % 1.0 * 2 - 1  # even, and the same every time
        dots += [{"group": name, "score": float(v), "at": float(s)} for v, s in zip(shown, spread, strict=True)]
        low, middle, high = (float(q) for q in np.quantile(scores, [0.25, 0.5, 0.75]))
        boxes.append({"group": name, "score": low, "middle": middle, "high": high})
    order = list(names.values())
    title = "decoys, and members by number of copies"
    x = alt.X("group:N", sort=order, title=title, axis=alt.Axis(labelAngle=0, grid=False, labelLimit=60))
    y = alt.Y("score:Q", title=label(score), scale=alt.Scale(zero=False))
    scale = alt.Scale(domain=order, range=[colors[name] for name in order])
    color = alt.Color("group:N", sort=order, scale=scale, legend=None)
    offset = alt.XOffset("at:Q", scale=alt.Scale(domain=[-1.4, 1.4]))
    box = inline(boxes).mark_bar(size=26, fillOpacity=0, strokeWidth=1.6, stroke=INK)
    return styled(
        alt.layer(
            inline(dots).mark_circle(size=14, opacity=0.55).encode(x=x, xOffset=offset, y=y, color=color),
            box.encode(x=x, y=y, y2="high:Q"),
            inline(boxes).mark_tick(size=26, thickness=3, color=INK, opacity=1).encode(x=x, y="middle:Q"),
        )
    )


def rank_p_histogram(rows: Rows, *, bins: int = 20) -> dict[str, ChartType]:
    """Histogram of rank p-values for each number of copies, with the count expected if nothing was memorised.

    A rank p-value among m controls is one of 1/(m+1), ..., 1, each as likely under the null hypothesis. Where
    ``n_controls`` is given the expected count of every bin is exact; else it is n / ``bins``.

    Args:
        rows: ``p`` (in (0, 1]), ``n_rep`` (int) and, optionally, ``n_controls`` (>= 1, or missing).
        bins: Number of bins of equal width, closed on the right, >= 2.

    Returns:
        Panel title -> chart, from fewest to most copies; all have the same axes.

    Raises:
        InputError: A field is missing, ``bins`` is below 2, or a p-value lies outside (0, 1].
    """
    if bins < 2:
        raise InputError(f"bins is {bins}; a histogram needs 2 or more")
    table = frame(rows, ("p", "n_rep"))
    if table.empty:
        return {}
    p = table["p"].to_numpy(dtype=float)
    bad = p[~((p > 0) & (p <= 1))]
    if len(bad):
        raise InputError(f"{len(bad):,} rank p-values lie outside (0, 1], the first is {bad[0]}; check the run's items")
    groups = sorted(table.groupby("n_rep"), key=lambda item: by_repetition(item[0]))
    counted = {copies_label(n_rep): binned(part, bins) for n_rep, part in groups}
    top = max(max(bar["count"], bar["expected"]) for part in counted.values() for bar in part)
    return {name: _histogram(part, top) for name, part in counted.items()}


def _histogram(bars: list[dict[str, float]], top: float) -> ChartType:
    scale = alt.Scale(domain=[0, top * 1.05], nice=False)
    axis = alt.Axis(tickCount=4, tickMinStep=1, format=",d")
    y = alt.Y("count:Q", title="traps", scale=scale, axis=axis)
    x = alt.X("low:Q", title="rank p-value", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(tickCount=5, grid=False))
    drawn = inline([{**bar, "zero": 0} for bar in bars]).mark_rect(color=SERIES[0], stroke="#ffffff", strokeWidth=0.6)
    steps = inline([*bars, {**bars[-1], "low": 1.0}]).mark_line(
        interpolate="step-after", color=SERIES[1], strokeDash=[5, 3], strokeWidth=1.8
    )
    expected = alt.Y("expected:Q", title="traps", scale=scale, axis=axis)
    return styled(
        alt.layer(drawn.encode(x=x, x2="high:Q", y=y, y2="zero:Q"), steps.encode(x=x, y=expected)), height=170
    )


def binned(table: pd.DataFrame, bins: int) -> list[dict[str, float]]:
    """Counts of p per bin (k/bins, (k+1)/bins], and the counts to expect of uniform rank p-values.

    Args:
        table: ``p`` in (0, 1] and, optionally, ``n_controls``; see `rank_p_histogram`.
        bins: Number of bins, >= 2.

    Returns:
        One dict per bin: ``low``, ``high`` (edges), ``count``, ``expected``. Both counts sum to len(table).
    """
    p = table["p"].to_numpy(dtype=float)
    at = np.clip(np.ceil(p * bins - 1e-9).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(at, minlength=bins)
    controls = table["n_controls"] if "n_controls" in table else pd.Series(np.nan, index=table.index)
    expected = np.full(bins, controls.isna().sum() / bins)
    for n_controls, times in zip(*np.unique(controls.dropna().to_numpy(dtype=int), return_counts=True), strict=True):
        choices = n_controls + 1  # the p-values k / choices, k = 1 ... choices
        below = np.floor(np.arange(bins + 1) * choices / bins + 1e-9)
        expected += times * np.diff(below) / choices
    edges = np.arange(bins + 1) / bins
    return [
        {"low": float(low), "high": float(high), "count": int(count), "expected": float(mean)}
        for low, high, count, mean in zip(edges[:-1], edges[1:], counts, expected, strict=True)
    ]
