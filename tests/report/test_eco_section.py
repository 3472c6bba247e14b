"""The figures of a guard: what is drawn, what is not, and what the words beside it say."""

from __future__ import annotations

from typing import Any

import pandas as pd

from audit.report.eco_section import EVALUATION, FIT, evaluation_figures, fit_figures
from audit.report.svg import svg
from audit.runs.schema import AuditSection, Column, EstimateRecord, Findings, Table

HOSTILE = "<script>alert(1)</script>"


def cell(value: float | None, half: float | None = 0.05) -> EstimateRecord:
    low, high = (None, None) if value is None or half is None else (value - half, value + half)
    why = "no spread" if low is None else None
    return EstimateRecord(value=value, low=low, high=high, level=0.95, n=3, method="mean", why=why)


def table(name: str, rows: list[dict[str, Any]]) -> Table:
    columns = tuple(Column(key=key, label=key) for key in (rows[0] if rows else {"none": ""}))
    return Table(name=name, title="", columns=columns, rows=tuple(rows))


def findings(audit: str, *tables: Table) -> Findings:
    section = AuditSection(audit=audit, title="", method="", assumptions=(), cannot_show=(), findings=(), tables=tables)
    return Findings(sections=(section,))


CALIBRATION = table(
    "calibration", [{"of": "prompts that may pass", "alpha": 0.1, "threshold": 0.5, "rate": cell(0.08)}]
)


def scores(sides: str) -> pd.DataFrame:
    """Four prompts that may pass, one of them flagged; four rewordings, three of them recognised."""
    rows = [("retain", 0.1), ("retain", 0.2), ("retain", 0.3), ("retain", 0.7), ("forget", 0.4), ("forget", 0.6),
            ("forget", 0.8), ("forget", 0.9)]  # fmt: skip
    kept = [(side, score) for side, score in rows if side in sides]
    return pd.DataFrame([{"side": side, "score": score, "flagged": score > 0.5} for side, score in kept])


def curve(metric: str = "probability") -> list[dict[str, Any]]:
    return [
        {"metric": metric, "strength": 10.0**place, "log10": float(place), "bracket": place in (1, 2),
         "chosen": place == 2, "value": cell(1.0 - 0.3 * place, None if place == 0 else 0.05)}
        for place in range(4)
    ]  # fmt: skip


def test_the_roc_has_the_threshold_in_words_and_the_strength_a_panel_for_each_metric() -> None:
    metrics = table("metrics", [{"metric": name, "target": cell(0.4)} for name in ("probability", HOSTILE)])
    told = findings(FIT, CALIBRATION, metrics, table("curve", [*curve(), *curve(HOSTILE)]))
    roc, strength = fit_figures(told, scores("retain forget"))
    assert len(roc.panels) == 2
    assert "4 rewordings" in roc.caption
    assert "25% of those that may pass are flagged, and 75% of the others" in roc.caption
    assert [panel.title for panel in strength.panels] == ["probability", HOSTILE]
    assert "target 0.400 [0.350, 0.450]; at the chosen strength 0.400 [0.350, 0.450]" in strength.panels[0].description
    for panel in (*roc.panels, *strength.panels):
        drawn = svg(panel.chart, uid="a", title="t", description="d")
        assert drawn.startswith("<svg")
        assert "<script" not in drawn
    assert "'domain': [0, 0.5]" in str(roc.panels[1].chart.to_dict())  # five times the promised rate


def test_what_cannot_be_drawn_says_why() -> None:
    roc, strength = fit_figures(findings(FIT, CALIBRATION), scores("retain"))
    assert (roc.panels, strength.panels) == ((), ())
    assert "no held-out prompts of both kinds" in roc.caption
    assert "no strength was searched" in strength.caption
    nothing = table("recall", [{"attack": "translation", "share": cell(None)}])
    (recall,) = evaluation_figures(findings(EVALUATION, nothing))
    assert recall.panels == ()
    assert evaluation_figures(Findings(sections=())) == fit_figures(Findings(sections=()), None) == []


def test_recall_is_drawn_by_attack_and_what_was_not_measured_is_counted() -> None:
    rows = [{"attack": f"attack {place}", "share": cell(0.9 - 0.2 * place)} for place in range(3)]
    rows.append({"attack": "translation", "share": cell(None)})
    (recall,) = evaluation_figures(findings(EVALUATION, table("recall", rows)))
    assert "the least is 0.5 under attack 2" in recall.panels[0].description
    assert "Not measured: 1" in recall.caption
    assert svg(recall.panels[0].chart, uid="a", title="t", description="d").startswith("<svg")
