"""The figures of a run of unlearning: curves over its steps, and texts marked by how far each label moved."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import altair as alt
import pandas as pd
from altair.typing import ChartType

from ..runs.schema import Column, EstimateRecord, Findings
from ..runs.store import Run
from .chart_rows import inline
from .figures import Figure, MarkedPiece, MarkedText, MarkedTexts, Panel
from .numbers import estimate
from .palette import INK, SERIES, styled
from .sources import items_of, tables_of

AUDIT = "unlearning"
VIEWS = "unlearning-labels"  # items: the token-level views
_ALIKE = ("forget_loss", "retain_loss")  # measures that are read against each other, so on one span of the axis
_TITLE = "What changed while the model was tuned"
_EDGES = (1.0, 3.0)  # nats: where a movement counts as more, and as far
_LEGEND = (
    (0, "the label is the token that stands there"),
    (1, "another token, moved less than 1 nat"),
    (2, "1 to 3 nats"),
    (3, "3 nats or more"),
    (-1, "nothing is asked at this place"),
)


def draw(run: Run, findings: Findings) -> list[Figure]:
    """Figures of a run of unlearning."""
    return unlearning_figures(findings)


def quote(run: Run) -> MarkedTexts | None:
    """The token-level views of a run, where it keeps them."""
    views = items_of(run, VIEWS)
    return None if views is None else marked_texts(views)


def unlearning_figures(findings: Findings) -> list[Figure]:
    """One panel for each measure of the table "curves"; nothing is estimated here."""
    table = tables_of(findings, AUDIT).get("curves")
    if table is None:
        return [Figure("curves", _TITLE, "Not drawn: nothing was measured.", ())]
    rows = table.rows
    result = next((int(str(row["step"])) for row in rows if row["result"]), None)
    losses = _span(cell for row in rows for key in _ALIKE if isinstance(cell := row.get(key), EstimateRecord))
    panels, left_out = [], 0
    for column in table.columns:
        cells = [(int(str(row["step"])), row.get(column.key)) for row in rows]
        drawn = [(step, cell) for step, cell in cells if isinstance(cell, EstimateRecord)]
        left_out += sum(cell.value is None for _, cell in drawn)
        points = [(step, cell) for step, cell in drawn if cell.value is not None]
        if points:
            span = losses if column.key in _ALIKE else _span(cell for _, cell in points)
            panels.append(_panel(column, points, result, span))
    caption = (
        "Points are means over passages or prompts, bars their intervals (passages resampled), the same ones at every "
        "step. The dashed line is the step whose weights are the result. Nothing here decided anything."
    )
    if left_out:
        caption += f" Left out: {left_out:,} not estimable (see the table)."
    return [Figure("curves", _TITLE, caption, tuple(panels))]


def _panel(column: Column, points: list[tuple[int, EstimateRecord]], result: int | None, span: list[float]) -> Panel:
    told = "; ".join(f"step {step:,}: {estimate(cell)}" for step, cell in (points[0], points[-1]))
    return Panel(column.label, f"{column.label}, {told}.", _curve(points, result, span))


def _curve(points: list[tuple[int, EstimateRecord]], result: int | None, span: list[float]) -> ChartType:
    rows: list[dict[str, Any]] = [
        {"step": step, "value": cell.value, "low": cell.low, "high": cell.high} for step, cell in points
    ]
    last = max(1, points[-1][0], result or 0)
    x_scale = alt.Scale(domain=[-0.03 * last, 1.03 * last], nice=False)
    axis = alt.Axis(tickCount=4, tickMinStep=1, format=",d")
    x = alt.X("step:Q", title="step", scale=x_scale, axis=axis)
    scale = alt.Scale(domain=span, nice=False, zero=False)
    y_axis = alt.Axis(tickCount=5, format="~g")
    value, low = (alt.Y(f"{name}:Q", title=None, scale=scale, axis=y_axis) for name in ("value", "low"))
    layers = [
        inline(rows).mark_line(color=SERIES[0], strokeWidth=1.6).encode(x=x, y=value),
        inline(row for row in rows if row["low"] is not None)
        .mark_rule(color=SERIES[0], strokeWidth=1.8)
        .encode(x=x, y=low, y2="high:Q"),
        inline(rows).mark_point(color=SERIES[0], filled=True, size=34, opacity=1).encode(x=x, y=value),
    ]
    if result is not None:
        rule = inline([{"step": result}]).mark_rule(strokeDash=[5, 4], color=INK, strokeWidth=1.2)
        layers.insert(0, rule.encode(x=x))
    return styled(alt.layer(*layers), height=190)


def _span(cells: Iterable[EstimateRecord]) -> list[float]:
    """Of an axis that shows all these: from 0 where that is near, with a little room above and below."""
    ends = [end for cell in cells for end in (cell.value, cell.low, cell.high) if end is not None]
    if not ends:
        return [0.0, 1.0]
    low, high = min(ends), max(ends)
    room = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    return [0.0 if 0 <= low <= 0.5 * high else low - room, high + room]


def marked_texts(items: pd.DataFrame) -> MarkedTexts:
    """The token-level views of a run.

    Args:
        items: One row for each piece of a text: ``view``, ``title``, ``note``, ``text``, ``label`` (None where it is
            the token itself) and ``nats`` (log p(label) less log p(token); NaN where nothing is asked).
    """
    return MarkedTexts(
        "Labels, token by token",
        "Each token is marked by how far its label moved: the label is what the model was tuned to say there, and the "
        "distance is the difference of their log-probabilities under the model as it was, on the translated text. "
        "Below zero, the label is the less probable of the two.",
        _LEGEND,
        tuple(
            MarkedText(
                str(part["title"].iloc[0]),
                str(part["note"].iloc[0]),
                tuple(_piece(row) for row in part.to_dict("records")),
            )
            for _, part in items.groupby("view", sort=True)
        ),
    )


def _piece(row: dict[Any, Any]) -> MarkedPiece:
    if math.isnan(row["nats"]):
        return MarkedPiece(row["text"], -1, "")
    if not isinstance(row["label"], str):
        return MarkedPiece(row["text"], 0, "")
    level = 1 + sum(abs(row["nats"]) >= edge for edge in _EDGES)
    return MarkedPiece(row["text"], level, f"label: {row['label']!r}, {row['nats']:+.3g} nats")
