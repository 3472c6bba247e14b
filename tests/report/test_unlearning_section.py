"""Curves over the steps of a training, and texts marked by how far a label moved."""

from __future__ import annotations

import math
import re
from typing import Any

import pandas as pd

from audit.report.svg import svg
from audit.report.unlearning_section import marked_texts, unlearning_figures
from audit.runs.schema import AuditSection, Column, EstimateRecord, Findings, Table


def found(*values: float | None) -> Findings:
    rows: list[dict[str, Any]] = [
        {
            "step": 10 * number,
            "result": number == len(values) - 1,
            "loss": EstimateRecord(value=value, low=None, high=None, level=0.95, n=1, method="mean", why="one passage"),
        }
        for number, value in enumerate(values)
    ]
    columns = tuple(Column(key=key, label=key) for key in ("step", "result", "loss"))
    table = Table(name="curves", title="", columns=columns, rows=tuple(rows))
    section = AuditSection(
        audit="unlearning", title="", method="", assumptions=(), cannot_show=(), findings=(), tables=(table,)
    )
    return Findings(sections=(section,))


def test_a_panel_for_each_measure_and_what_was_not_measured_is_counted() -> None:
    (figure,) = unlearning_figures(found(1.0, None, 2.5))
    (panel,) = figure.panels
    assert panel.title == "loss"
    assert "step 0: 1 [no interval]; step 20: 2.5 [no interval]" in panel.description
    assert "Left out: 1 not estimable" in figure.caption
    assert svg(panel.chart, uid="a", title="t", description="d").startswith("<svg")
    assert unlearning_figures(found(None, None))[0].panels == ()
    assert "nothing was measured" in unlearning_figures(Findings(sections=()))[0].caption


def test_losses_share_one_span_of_the_axis() -> None:
    def cell(value: float) -> EstimateRecord:
        return EstimateRecord(value=value, low=value - 0.1, high=value + 0.1, level=0.95, n=9, method="mean")

    rows: tuple[dict[str, Any], ...] = tuple(
        {"step": step, "result": step == 1, "forget_loss": cell(1.0 + 4 * step), "retain_loss": cell(2.0),
         "name_probability": cell(0.5)}
        for step in (0, 1)
    )  # fmt: skip
    columns = tuple(Column(key=key, label=key) for key in rows[0])
    table = Table(name="curves", title="", columns=columns, rows=rows)
    section = found(1.0).sections[0].model_copy(update={"tables": (table,)})
    (figure,) = unlearning_figures(Findings(sections=(section,)))
    spans = [set(re.findall(r"'domain': (\[[^]]*\])", str(panel.chart.to_dict()))) for panel in figure.panels]
    assert spans[0] == spans[1] != spans[2]


def test_marks_grow_with_the_distance_and_tell_apart_what_was_not_asked() -> None:
    cases = [(None, math.nan, -1), (None, 0.0, 0), ("x", 0.5, 1), ("x", -0.5, 1), ("x", 1.0, 2), ("x", -3.0, 3)]
    items = pd.DataFrame(
        [{"view": 0, "title": "a", "note": "", "text": "t", "label": label, "nats": nats} for label, nats, _ in cases]
    )
    (text,) = marked_texts(items).texts
    assert [piece.level for piece in text.pieces] == [level for *_, level in cases]
    assert text.pieces[-1].hint == "label: 'x', -3 nats"
    assert {level for level, _ in marked_texts(items).legend} == {piece.level for piece in text.pieces}
