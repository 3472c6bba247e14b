"""The figures of an evaluation of steering: what changes in TruthfulQA and multiple choice, and rates of concepts.

Everything is drawn from the run's findings and from its tables of items; nothing is estimated here.
"""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from ..runs.schema import EstimateRecord, Table
from .chart_rows import inline, is_number
from .figures import Figure, Panel
from .palette import QUIET, SERIES, SHAPES, cycled, styled
from .steering_charts import NUMBERS, padded
from .steering_sweep_section import concept_figures


def evaluation_figures(tables: dict[str, Table], points: pd.DataFrame | None) -> list[Figure]:
    """Of an evaluation.

    Args:
        tables: Of its section, by name.
        points: Of concepts, as in `steering_sweep_section.sweep_figures`; None where none was measured.
    """
    found = []
    if "truthfulqa" in tables:
        title = "TruthfulQA: change of MC1 and MC2"
        found.append(_changes("truthfulqa", title, _rows(tables["truthfulqa"], ("measure", "halves"))))
    if "choices" in tables:
        found.append(_changes("choices", "Multiple choice: change of accuracy", _rows(tables["choices"], ("how",))))
    return found if points is None else [*found, *concept_figures(points)]


def _rows(table: Table, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Name, strength and difference of each row that has one."""
    return [
        {"name": ", ".join(str(row[name]) for name in names), "strength": f"{row['strength']:g}", "value": one.value,
         "low": one.low, "high": one.high}
        for row in table.rows
        if isinstance(one := row["change"], EstimateRecord) and one.value is not None
    ]  # fmt: skip


def _changes(name: str, title: str, rows: list[dict[str, Any]]) -> Figure:
    """Differences with intervals, a line for each measure and a mark for each strength."""
    if not rows:
        return Figure(name, title, "Not drawn: nothing could be estimated.", ())
    order = list(dict.fromkeys(row["name"] for row in rows))
    strengths = list(dict.fromkeys(row["strength"] for row in rows))
    ends = [row[key] for row in rows for key in ("value", "low", "high") if is_number(row[key])]
    y = alt.Y("name:N", sort=order, scale=alt.Scale(domain=order), title=None, axis=alt.Axis(labelLimit=210, grid=True))
    offset = alt.YOffset("strength:N", sort=strengths, scale=alt.Scale(domain=strengths, paddingOuter=0.5))
    scale = alt.Scale(domain=padded([*ends, 0.0]), nice=False)
    value, low = (
        alt.X(f"{key}:Q", title="steered less unsteered", scale=scale, axis=NUMBERS) for key in ("value", "low")
    )
    color, shape = (
        channel(
            "strength:N",
            scale=alt.Scale(domain=strengths, range=cycled(choices, len(strengths))),
            legend=alt.Legend(title="strength", symbolStrokeWidth=0),
        )
        for channel, choices in ((alt.Color, SERIES), (alt.Shape, SHAPES))
    )
    chart = styled(
        alt.layer(
            inline([{"value": 0.0}]).mark_rule(strokeDash=[5, 4], color=QUIET, strokeWidth=1.2).encode(x=value),
            inline(row for row in rows if is_number(row["low"]) and is_number(row["high"]))
            .mark_rule(strokeWidth=1.8)
            .encode(y=y, yOffset=offset, x=low, x2="high:Q", color=color),
            inline(rows)
            .mark_point(filled=True, size=48, opacity=1)
            .encode(y=y, yOffset=offset, x=value, color=color, shape=shape),
        ),
        height=max(60, (16 * len(strengths) + 12) * len(order)),
    )
    told = "; ".join(f"{row['name']} at strength {row['strength']} {row['value']:+.3g}" for row in rows)
    caption = "Paired by question; bars are intervals, and one that holds 0 shows no difference."
    return Figure(name, title, caption, (Panel("", f"Steered less unsteered: {told}.", chart),))
