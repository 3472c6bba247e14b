"""The tables of a fit, for its section of the report."""

from __future__ import annotations

import math
from itertools import groupby

import numpy as np

from audit.runs.schema import Cell, Column, EstimateRecord, Table
from audit.text.safe import counted

from .calibration import Calibration, Threshold, TwoSided
from .conversations import units
from .evaluate.recall import prompt_text
from .fit_made import FitMade
from .search_result import SearchResult
from .words import STAGES


def _thresholds(calibration: Calibration, whole: str) -> list[tuple[str, Threshold]]:
    if isinstance(calibration, Threshold):
        return [(whole, calibration)]
    if isinstance(calibration, TwoSided):
        return [(whole, calibration.retain), ("misses of rewordings", calibration.forget)]
    return [(f"group {name}", one) for name, one in calibration.items()]


def calibration_table(made: FitMade) -> Table:
    calibration = made.calibration
    test = EstimateRecord.of(made.false_positives)
    turned = {"misses of rewordings"}
    whole = f"{units(made.turns)} that may pass"
    return Table(
        name="calibration",
        title="The threshold and its promise",
        note="Flagged is what is above the threshold. The rate of this very threshold is distributed as Beta over "
        "draws of calibration prompts; the last column is what was found on test prompts, which neither trained nor "
        "calibrated.",
        columns=(
            Column(key="of", label="For"),
            Column(key="alpha", label="Promised, at most"),
            Column(key="n", label="n", help=f"calibration {units(made.turns)}"),
            Column(key="rank", label="Rank", help="of the threshold among the calibration scores, from the lowest"),
            Column(key="threshold", label="Threshold"),
            Column(key="rate", label="Expected rate", help="with the interval of this threshold's own rate"),
            Column(key="found", label="Found", help="on test prompts; exact interval"),
        ),
        rows=tuple(
            {
                "of": name,
                "alpha": one.alpha,
                "n": one.n,
                "rank": one.rank,
                "threshold": -one.value if name in turned else one.value,
                "rate": EstimateRecord.of(one.rate),
                "found": test if name == whole else None,
            }
            for name, one in _thresholds(calibration, whole)
        ),
    )


def false_positive_rows(made: FitMade, *, show_text: bool) -> Table:
    test, scores = made.test, made.passing
    flagged = sorted(
        ((float(value), row) for row, value in zip(test, scores, strict=True) if value > made.threshold),
        key=lambda one: -one[0],
    )
    columns = [Column(key="id", label="Row"), Column(key="score", label="Score")]
    rows: list[dict[str, Cell]] = [{"id": row.id, "score": value} for value, row in flagged]
    if show_text:
        columns.append(Column(key="prompt", label="Prompt"))
        rows = [{**told, "prompt": prompt_text(row.prompt)} for told, (_, row) in zip(rows, flagged, strict=True)]
    return Table(
        name="false-positives",
        title=f"Held-out {units(made.turns)} that were flagged by mistake",
        note="None." if not rows else "" if show_text else "Prompts are quoted only where that was asked for.",
        columns=tuple(columns),
        rows=tuple(rows),
    )


def metric_table(found: SearchResult) -> Table:
    return Table(
        name="metrics",
        title="What the strength brings about, on the tuning rows",
        note="Without the guard there is no noise, hence no interval over noise.",
        columns=(
            Column(key="metric", label="Metric"),
            Column(key="bare", label="Without the guard"),
            Column(key="guard", label="Behind the guard", help="every prompt corrupted"),
            Column(key="target", label="Target"),
            Column(key="source", label="Target from"),
        ),
        rows=tuple(
            {
                "metric": one.name,
                "bare": one.bare,
                "guard": EstimateRecord.of(one.value),
                "target": EstimateRecord.of(one.target.estimate),
                "source": one.target.source,
            }
            for one in found.metrics
        ),
    )


def curve_table(found: SearchResult) -> Table:
    level = float(found.settings["level"])
    chosen = found.strength
    low, high = found.bracket or (None, None)
    return Table(
        name="curve",
        title="Metrics by strength",
        note="Mean over the noise seeds of the search, Student's interval over these seeds.",
        columns=(
            Column(key="metric", label="Metric"),
            Column(key="strength", label="Strength"),
            Column(key="log10", label="Its logarithm to base 10"),
            Column(key="value", label="Mean over seeds"),
            Column(key="bracket", label="In the bracket"),
            Column(key="chosen", label="Chosen"),
        ),
        rows=tuple(
            {
                "metric": row["metric"],
                "strength": row["strength"],
                "log10": row["log10_strength"],
                "value": EstimateRecord(
                    value=row["mean"], low=row["low"], high=row["high"], level=level, n=row["n_seeds"],
                    method="mean over noise seeds, Student t", why=None if row["low"] is not None else "no spread",
                ),
                "bracket": low is not None and high is not None and low <= row["strength"] <= high,
                "chosen": row["strength"] == chosen,
            }
            for row in found.rows()
        ),
    )  # fmt: skip


def trajectory(found: SearchResult) -> Table:
    rows: list[dict[str, Cell]] = []
    for (stage, strength), own in groupby(found.trace, key=lambda one: (one.stage, one.strength)):
        measured = list(own)
        means = np.mean([one.values for one in measured], axis=0)
        row: dict[str, Cell] = {
            "order": len(rows) + 1,
            "stage": STAGES[stage],
            "strength": strength,
            "seeds": len(measured),
        }
        row |= {f"metric-{place}": float(value) for place, value in enumerate(means)}
        rows.append(row)
    return Table(
        name="search",
        title="The search, in order",
        note=f"{counted(found.n_evaluations, 'evaluation')}, each under several noise seeds: {found.passes:,} passes "
        "over the tuning rows. A strength that was measured under other seeds before stands again.",
        columns=(
            Column(key="order", label="Order"),
            Column(key="stage", label="Stage"),
            Column(key="strength", label="Strength"),
            Column(key="seeds", label="Noise seeds"),
            *(Column(key=f"metric-{place}", label=f"Mean {one.name}") for place, one in enumerate(found.metrics)),
        ),
        rows=tuple(rows),
    )


def sensitivity(found: SearchResult) -> Table:
    return Table(
        name="sensitivity",
        title="Had the targets been others",
        note="For targets of 0.8 and 1.2 times their size the best of the strengths searched was picked, so that the "
        "values look a little better than they are.",
        columns=(
            Column(key="factor", label="Targets times"),
            Column(key="strength", label="Strength"),
            *(Column(key=f"metric-{place}", label=f"Then {one.name}") for place, one in enumerate(found.metrics)),
            Column(key="distance", label="Mean distance to the targets"),
            Column(key="why", label="Remark"),
        ),
        rows=tuple(
            {
                "factor": one.factor,
                "strength": "none" if one.strength is None else one.strength,
                **{f"metric-{place}": EstimateRecord.of(value) for place, value in enumerate(one.values)},
                "distance": one.distance,
                "why": one.why or "",
            }
            for one in found.sensitivity
        ),
    )


def size_table(made: FitMade) -> Table:
    strength = made.settings.corruption.strength
    sizes = np.array(made.selected_rms)
    assert strength is not None
    median = float(np.median(sizes))
    return Table(
        name="size",
        title="The strength beside the embeddings",
        note="A strength means little by itself: one model's embeddings are many times another's.",
        columns=(
            Column(key="strength", label="Strength"),
            Column(key="rms", label="Root mean square of the selected embeddings, median over prompts"),
            Column(key="range", label="Smallest and largest"),
            Column(key="n", label="Tuning prompts"),
            Column(key="ratio", label="Strength over that median"),
        ),
        rows=(
            {
                "strength": strength,
                "rms": median,
                "range": f"{sizes.min():.4g} to {sizes.max():.4g}",
                "n": len(sizes),
                "ratio": strength / median if median > 0 and math.isfinite(strength / median) else "not defined",
            },
        ),
    )


def dealt_table(made: FitMade) -> Table:
    words = {
        "tuning": "forget rows that tuned the strength",
        "audit": "forget rows held out of that",
        "training": "prompts that may pass and trained the classifier",
        "calibration": "prompts that may pass and set the threshold",
        "test": "prompts that may pass and only tested",
    }
    return Table(
        name="dealt",
        title="Who saw which rows",
        columns=(
            Column(key="part", label="Part"),
            Column(key="rows", label="Rows"),
            Column(key="clusters", label="Clusters"),
        ),
        rows=tuple(
            {"part": words[name], "rows": len(rows), "clusters": len({row.cluster for row in rows})}
            for name, rows in made.dealt.items()
        ),
    )
