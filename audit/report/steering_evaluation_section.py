"""The figures of an evaluation of steering: what changes in TruthfulQA and multiple choice, and rates of concepts.

Everything is drawn from the run's findings and from its tables of items; nothing is estimated here.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from ..runs.schema import EstimateRecord, Findings, Table
from ..runs.store import Run
from .figures import Figure, Panel
from .intervals import interval_chart
from .sources import items_of, tables_of
from .steering_sweep_section import concept_figures

EVALUATION, POINTS = "steer-evaluation", "evaluation-points"


def draw(run: Run, findings: Findings) -> list[Figure]:
    """Figures of a run that evaluated maps."""
    return evaluation_figures(tables_of(findings, EVALUATION), items_of(run, POINTS))


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
    """Name, strength (the group) and difference of each row that has one."""
    return [
        {"name": ", ".join(str(row[name]) for name in names), "group": f"{row['strength']:g}", "value": one.value,
         "low": one.low, "high": one.high}
        for row in table.rows
        if isinstance(one := row["change"], EstimateRecord) and one.value is not None
    ]  # fmt: skip


def _changes(name: str, title: str, rows: list[dict[str, Any]]) -> Figure:
    """Differences with intervals, a line for each measure and a mark for each strength."""
    if not rows:
        return Figure(name, title, "Not drawn: nothing could be estimated.", ())
    chart = interval_chart(rows, axis="steered less unsteered", groups="strength")
    told = "; ".join(f"{row['name']} at strength {row['group']} {row['value']:+.3g}" for row in rows)
    caption = "Paired by question; bars are intervals, and one that holds 0 shows no difference."
    return Figure(name, title, caption, (Panel("", f"Steered less unsteered: {told}.", chart),))
