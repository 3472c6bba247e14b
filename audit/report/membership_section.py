"""The figures of the audit of found texts: AUCs beside those of the checks without the model, and the scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from altair.typing import ChartType

from ..errors import DataError
from ..runs.schema import EstimateRecord, Findings
from ..runs.store import Run
from .chart_rows import inline
from .figures import Figure, Panel
from .numbers import estimate
from .palette import DECOY, QUIET, SERIES, styled
from .sources import items_of
from .traps_section import SCORE_LABELS

AUDIT = "membership"
BINS = 24
_BLIND = {
    "bag_of_words_auc": "bag of words",
    "length_auc": "length",
    "reference_only_auc": "reference alone",
}
_KINDS = ("score of the model", "check without the model")


def draw(run: Run, findings: Findings) -> list[Figure]:
    """Figures of a run's audit of found texts; none where it kept no items."""
    plan = run.record.plan.get(AUDIT)
    primary = plan.get("primary") if isinstance(plan, Mapping) else None
    wanted = [primary] if primary else ["ratio", "loss"]
    items = items_of(run, AUDIT, ("side", *(f"{name}_score" for name in wanted)))
    return [] if items is None else membership_figures(items, findings, primary=primary)


def membership_figures(items: pd.DataFrame, findings: Findings, *, primary: str | None = None) -> list[Figure]:
    """Figures of the audit, in reading order; one that cannot be drawn says why in its caption.

    Args:
        items: One row for each text: ``side`` ("suspect" or "validation") and ``*_score`` columns.
        findings: What the audit found; nothing is estimated here.
        primary: The score whose distribution is drawn; None stands for ratio where there is one, else loss.

    Raises:
        DataError: A column is missing.
    """
    score = primary or ("ratio" if "ratio_score" in items else "loss")
    missing = [name for name in ("side", f"{score}_score") if name not in items]
    if missing:
        raise DataError(
            f"items/membership.parquet has no column {', '.join(missing)}. Draw the report with the version that made "
            "the run."
        )
    return [_aucs(findings), _distribution(items, score)]


def _aucs(findings: Findings) -> Figure:
    title = "AUC of scores and of checks without the model"
    cells: list[tuple[str, str, Any]] = []
    for section in findings.sections:
        if section.audit != AUDIT:
            continue
        for table in section.tables:
            if table.name == "scores":
                cells += [(str(row["score"]), _KINDS[0], row["auc"]) for row in table.rows]
        for finding in section.findings:
            if finding.id == "membership.blind":
                cells += [(_BLIND.get(name, name), _KINDS[1], cell) for name, cell in finding.estimates.items()]
    rows = [
        {"name": name, "kind": kind, "value": cell.value, "low": cell.low, "high": cell.high, "words": estimate(cell)}
        for name, kind, cell in cells
        if isinstance(cell, EstimateRecord) and cell.value is not None and cell.low is not None
    ]
    if not rows:
        return Figure("auc", title, "Not drawn: the findings hold no AUC.", ())
    caption = (
        "Points are AUCs of suspect against validation texts, bars their intervals (of the checks, 99%); the dashed "
        "line is chance. Where an orange bar leaves the line, the sets differ in themselves and no blue point is "
        "evidence. Where none does, blue points are indicative, no more."
    )
    words = "; ".join(f"{row['name']} {row['words']}" for row in rows)
    return Figure("auc", title, caption, (Panel("", f"{title}. {words}.", _auc_chart(rows)),))


def _auc_chart(rows: list[dict[str, Any]]) -> ChartType:
    names = [row["name"] for row in rows]
    y = alt.Y("name:N", sort=names, title=None, axis=alt.Axis(grid=False))
    scale = alt.Scale(domain=[0, 1])
    color = alt.Color(
        "kind:N",
        sort=list(_KINDS),
        scale=alt.Scale(domain=list(_KINDS), range=list(SERIES[:2])),
        legend=alt.Legend(title=None, columns=2),
    )
    shape = alt.Shape("kind:N", scale=alt.Scale(domain=list(_KINDS), range=["circle", "square"]), legend=None)
    chance = inline([{"value": 0.5}]).mark_rule(strokeDash=[5, 4], color=QUIET, strokeWidth=1.2)
    bars = inline(rows).mark_rule(strokeWidth=1.8)
    points = inline(rows).mark_point(filled=True, size=42, opacity=1)
    return styled(
        alt.layer(
            chance.encode(x=alt.X("value:Q", title="AUC", scale=scale)),
            bars.encode(x=alt.X("low:Q", title="AUC", scale=scale), x2="high:Q", y=y, color=color),
            points.encode(x=alt.X("value:Q", title="AUC", scale=scale), y=y, color=color, shape=shape),
        ),
        height=26 * len(rows),
    )


def _distribution(items: pd.DataFrame, score: str) -> Figure:
    name = SCORE_LABELS.get(score, score)
    title = f"Scores of suspect and validation texts: {name}"
    values = items[f"{score}_score"].to_numpy(dtype=np.float64)
    if len(values) == 0 or not np.isfinite(values).all():
        return Figure("scores", title, "Not drawn: a score is missing.", ())
    edges = np.histogram_bin_edges(values, BINS)
    rows, words = [], []
    for side in ("suspect", "validation"):
        part = values[(items["side"] == side).to_numpy()]
        if len(part) == 0:
            continue
        shares = np.histogram(part, edges)[0] / len(part)
        steps = zip(edges, [*shares, shares[-1]], strict=True)
        rows += [{"score": float(edge), "share": float(share), "side": side} for edge, share in steps]
        words.append(f"{side}: n {len(part):,}, median {np.median(part):.4g}")
    caption = (
        "Share of each set's texts in bins of equal width; higher scores speak for membership. The score was named "
        "beforehand or follows from a fixed order; it was not picked for its result. Sets that lie apart may have been "
        "apart before any training."
    )
    return Figure("scores", title, caption, (Panel("", f"{title}. {'; '.join(words)}.", _steps(rows, name)),))


def _steps(rows: list[dict[str, Any]], name: str) -> ChartType:
    sides = ["suspect", "validation"]
    scale = alt.Scale(domain=sides, range=[SERIES[0], DECOY])
    dash = alt.Scale(domain=sides, range=[[1, 0], [6, 2]])
    lines: alt.Chart = inline(rows).mark_line(interpolate="step-after", strokeWidth=2)
    drawn = lines.encode(
        x=alt.X("score:Q", title=name, scale=alt.Scale(zero=False, nice=False)),
        y=alt.Y("share:Q", title="share of texts", axis=alt.Axis(format="~%")),
        color=alt.Color("side:N", sort=sides, scale=scale, legend=alt.Legend(title=None, columns=2, symbolSize=500)),
        strokeDash=alt.StrokeDash("side:N", scale=dash, legend=None),
    )
    return styled(drawn)
