"""The figures of a guard: the classifier's ROC with its threshold, metrics against the strength, recall by attack.

Everything is drawn from the run's findings and from the table of held-out scores; nothing is estimated here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt
import pandas as pd
from altair.typing import ChartType

from ..runs.schema import EstimateRecord, Findings, Table
from ..runs.store import Run
from ..stats.auc import roc_curve
from ..text.numbers import percent
from .chart_rows import inline, label
from .charts import thinned
from .figures import Figure, Panel
from .numbers import estimate
from .palette import INK, QUIET, SERIES, SHADE, styled
from .sources import items_of, tables_of

FIT = "eco"
EVALUATION = "eco-evaluation"
SCORES = "eco-scores"  # items: held-out scores of a fit


def draw_fit(run: Run, findings: Findings) -> list[Figure]:
    """Figures of a run that fitted a guard."""
    return fit_figures(findings, items_of(run, SCORES, ("side", "score", "flagged")))


def draw_evaluation(run: Run, findings: Findings) -> list[Figure]:
    """Figures of a run that evaluated a guard."""
    return evaluation_figures(findings)


def fit_figures(findings: Findings, scores: pd.DataFrame | None) -> list[Figure]:
    """Of a fit.

    Args:
        findings: Of a run that fitted a guard.
        scores: Held-out scores of the fit, ``side`` ("retain" or "forget"), ``score`` and ``flagged``; None where
            there are none.
    """
    tables = tables_of(findings, FIT)
    return [_roc(tables, scores), *_strength(tables)] if tables else []


def evaluation_figures(findings: Findings) -> list[Figure]:
    """Of an evaluation."""
    tables = tables_of(findings, EVALUATION)
    return [_recall(tables["recall"])] if tables else []


def _roc(tables: dict[str, Table], scores: pd.DataFrame | None) -> Figure:
    title = "The classifier on prompts that nothing was fitted on"
    if scores is None or set(scores["side"]) != {"retain", "forget"}:
        return Figure("roc", title, "Not drawn: there are no held-out prompts of both kinds.", ())
    retain, forget = (scores.loc[scores["side"] == side, "score"].to_numpy() for side in ("retain", "forget"))
    row = _loosest(tables["calibration"])
    alpha, expected = float(row["alpha"]), _estimate(row["rate"])
    is_retain = (scores["side"] == "retain").to_numpy()
    flagged = scores["flagged"].to_numpy()
    rate, recall = float(flagged[is_retain].mean()), float(flagged[~is_retain].mean())
    words = (
        f"at the threshold {percent(round(rate, 4))} of those that may pass are flagged, and "
        f"{percent(round(recall, 4))} of the others"
    )
    curve = roc_curve(forget, retain)
    fpr, tpr = (values.tolist() for values in thinned(curve.fpr, curve.tpr))
    near = min(1.0, max(5 * alpha, 1.5 * rate))
    panels = tuple(
        Panel(
            name,
            f"ROC curve up to a false-positive rate of {most:.3g}; {words}.",
            _roc_chart(fpr, tpr, (rate, recall), alpha, expected, most),
        )
        for name, most in (("Whole", 1.0), ("Few false positives", near))
    )
    caption = (
        f"{len(forget):,} rewordings of held-out forget rows against {len(retain):,} held-out {_passing(row)}. "
        f"The point is the threshold: {words}. The dashed line is the rate that was promised as the highest, on "
        "average; the shaded strip is where the rate of this very threshold is to be expected."
    )
    return Figure("roc", title, caption, panels)


def _passing(row: dict[str, Any]) -> str:
    """What may pass, as the calibration's row calls it: prompts, or conversations of them; a group's are prompts."""
    told = str(row["of"])
    return told if told.endswith("that may pass") else "prompts that may pass"


def _loosest(table: Table) -> dict[str, Any]:
    """Of the thresholds on prompts that may pass, that of the highest promised rate."""
    rows = [dict(row) for row in table.rows if not str(row["of"]).startswith("misses")]
    return max(rows, key=lambda row: float(row["alpha"]))


def _roc_chart(
    fpr: list[float],
    tpr: list[float],
    point: tuple[float, float],
    alpha: float,
    expected: EstimateRecord,
    most: float,
) -> ChartType:
    x = alt.X(
        "fpr:Q",
        title="flagged of prompts that may pass",
        scale=alt.Scale(domain=[0, most], nice=False),
        axis=alt.Axis(tickCount=5, format="~g"),
    )
    y = alt.Y("tpr:Q", title="recognised of rewordings", scale=alt.Scale(domain=[0, 1.02], nice=False))
    low, high = (min(end or 0.0, most) for end in (expected.low, expected.high))
    strip = inline([{"fpr": low, "to": high, "tpr": 0.0, "top": 1.02}])
    steps = inline({"fpr": a, "tpr": b} for a, b in zip(fpr, tpr, strict=True))
    return styled(
        alt.layer(
            strip.mark_rect(color=SHADE, opacity=0.6).encode(x=x, x2="to:Q", y=y, y2="top:Q"),
            inline([{"fpr": alpha}]).mark_rule(strokeDash=[5, 4], color=QUIET, strokeWidth=1.2).encode(x=x),
            steps.mark_line(interpolate="step-after", color=SERIES[0], strokeWidth=2, clip=True).encode(
                x=x, y=y, order=alt.Order("fpr:Q")
            ),
            inline([{"fpr": point[0], "tpr": point[1]}])
            .mark_point(filled=True, color=SERIES[1], size=110, opacity=1, clip=True)
            .encode(x=x, y=y),
        ),
        height=220,
    )


def _strength(tables: dict[str, Table]) -> Iterator[Figure]:
    title = "The metric against the strength of the corruption"
    if "curve" not in tables:
        yield Figure("strength", title, "Not drawn: no strength was searched.", ())
        return
    rows = tables["curve"].rows
    names = list(dict.fromkeys(str(row["metric"]) for row in rows))
    targets = {str(row["metric"]): row["target"] for row in tables["metrics"].rows}
    panels = []
    for name in names:
        own = [dict(row) for row in rows if row["metric"] == name]
        chosen = next((row for row in own if row["chosen"]), None)
        target = targets[name]
        told = "" if chosen is None else f"; at the chosen strength {estimate(_estimate(chosen['value']))}"
        panels.append(
            Panel(
                name,
                f"{name} by strength, target {estimate(_estimate(target))}{told}.",
                _strength_chart(name, own, _estimate(target)),
            )
        )
    caption = (
        "Points are means over noise seeds on the tuning rows, every prompt corrupted; bars are their intervals over "
        "seeds. The horizontal line is the target with its interval, the shaded strip the strengths that were searched "
        "more closely, the large point the strength that was chosen. Values at the chosen strength, measured again "
        "under other seeds, stand in the table."
    )
    yield Figure("strength", title, caption, tuple(panels))


def _estimate(cell: Any) -> EstimateRecord:
    assert isinstance(cell, EstimateRecord)
    return cell


def _strength_chart(name: str, rows: list[dict[str, Any]], target: EstimateRecord) -> ChartType:
    points = [
        {"x": row["log10"], "y": one.value, "low": one.low, "high": one.high, "chosen": row["chosen"],
         "inside": row["bracket"]}
        for row in rows
        if (one := _estimate(row["value"])).value is not None
    ]  # fmt: skip
    ends = [end for one in points for end in (one["y"], one["low"], one["high"]) if end is not None]
    ends += [end for end in (target.value, target.low, target.high) if end is not None]
    low, high = min(ends), max(ends)
    room = 0.06 * (high - low) or 0.05
    first, last = points[0]["x"], points[-1]["x"]
    side = 0.03 * (last - first) or 0.1
    x = alt.X(
        "x:Q",
        title="strength, logarithm to base 10",
        scale=alt.Scale(domain=[first - side, last + side], nice=False),
        axis=alt.Axis(tickCount=6),
    )
    scale = alt.Scale(domain=[low - room, high + room], nice=False, zero=False)
    value, bottom = (
        alt.Y(f"{field}:Q", title=label(name), scale=scale, axis=alt.Axis(tickCount=5)) for field in ("y", "low")
    )
    layers: list[alt.Chart] = []
    inside = [one["x"] for one in points if one["inside"]]
    if inside:
        strip = inline([{"x": min(inside), "to": max(inside), "low": low - room, "high": high + room}])
        layers.append(strip.mark_rect(color=SHADE, opacity=0.6).encode(x=x, x2="to:Q", y=bottom, y2="high:Q"))
    if target.low is not None and target.high is not None:
        band = inline([{"x": first - side, "to": last + side, "low": target.low, "high": target.high}])
        layers.append(band.mark_rect(color=SERIES[2], opacity=0.22).encode(x=x, x2="to:Q", y=bottom, y2="high:Q"))
    layers += [
        inline([{"y": target.value}]).mark_rule(color=SERIES[2], strokeDash=[6, 3], strokeWidth=1.6).encode(y=value),
        inline(points).mark_line(color=SERIES[0], strokeWidth=1.4).encode(x=x, y=value),
        inline(one for one in points if one["low"] is not None)
        .mark_rule(color=SERIES[0], strokeWidth=1.8)
        .encode(x=x, y=bottom, y2="high:Q"),
        inline(points).mark_point(color=SERIES[0], filled=True, size=34, opacity=1).encode(x=x, y=value),
    ]
    chosen = [one for one in points if one["chosen"]]
    if chosen:
        mark = inline(chosen).mark_point(color=SERIES[1], filled=True, size=120, opacity=1, shape="diamond")
        layers.append(mark.encode(x=x, y=value))
    return styled(alt.layer(*layers), height=230)


def _recall(table: Table) -> Figure:
    title = "What is recognised, by attack"
    rows = [
        {"attack": label(str(row["attack"])), "value": one.value, "low": one.low, "high": one.high}
        for row in table.rows
        if isinstance(one := row["share"], EstimateRecord) and one.value is not None
    ]
    if not rows:
        return Figure("recall", title, "Not drawn: no attack could be made.", ())
    order = [str(row["attack"]) for row in rows]
    y = alt.Y("attack:N", sort=order, title=None, axis=alt.Axis(labelLimit=220, minExtent=175, grid=True))
    scale = alt.Scale(domain=[0, 1], nice=False)
    value, low = (
        alt.X(f"{field}:Q", title="recognised", scale=scale, axis=alt.Axis(tickCount=5)) for field in ("value", "low")
    )
    bars = [row for row in rows if row["low"] is not None]
    chart = styled(
        alt.layer(
            inline(bars).mark_rule(color=SERIES[0], strokeWidth=1.8).encode(y=y, x=low, x2="high:Q"),
            inline(rows).mark_point(color=INK, filled=True, size=44, opacity=1).encode(y=y, x=value),
        ),
        width=560,
        height=18 * len(rows) + 10,
    )
    worst = min(rows, key=lambda row: float(row["value"] or 0.0))
    n_lacking = len(table.rows) - len(rows)
    caption = "Held-out forget rows; bars are 95% intervals, rows of one cluster resampled together."
    if n_lacking:
        caption += f" Not measured: {n_lacking} (see the table)."
    told = f"Recall by attack; the least is {worst['value']:.3g} under {worst['attack']}."
    return Figure("recall", title, caption, (Panel("", told, chart),))
