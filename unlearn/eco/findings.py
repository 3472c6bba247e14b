"""What a fit says of itself: the section of its report, its record and its lines in a terminal.

Nothing here is a verdict. Strengths were tuned on some rows about what is to be forgotten; whether the guard holds on
others is for an evaluation to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit.report.numbers import estimate as shown
from audit.runs.schema import AuditSection, EstimateRecord, Finding, PValueRecord
from audit.stats.estimate import Estimate
from audit.text.numbers import percent
from audit.text.safe import counted

from .calibration import Threshold, TwoSided
from .conversations import counted_units, units
from .evaluate.recall import surplus
from .fit_made import FitMade
from .fit_tables import (
    calibration_table,
    curve_table,
    dealt_table,
    false_positive_rows,
    metric_table,
    sensitivity,
    size_table,
    trajectory,
)
from .search_result import SearchResult
from .words import corruption_words, selection_words

AUDIT = "eco"
SCORES = "items/eco-scores.parquet"
SEARCH = "items/eco-search.parquet"
NOT_PROTECTED = (
    "The weights. They keep what they know: whoever has them, or may send embeddings, is not held back.",
    "Prompts that the classifier does not know for what they are: other languages, allusions, wordings made to get "
    "past it. An evaluation tells how many of some kinds it recognises.",
    "What the model says to a prompt that asks for nothing of the kind, if it says it by itself.",
    "A prompt's secrecy. Other answers and other times can give away that it was flagged.",
)
LIMITS = tuple(f"Not protected: {told[0].lower()}{told[1:]}" for told in NOT_PROTECTED)
_CANNOT_SHOW = (
    *LIMITS,
    "That what the classifier promises holds for prompts of another source: the rate was promised for prompts like "
    "those of the retain file, on average over draws of them.",
    "How a model answers that never learnt it: the target of the strength stands in for such a model.",
)
_OUTCOMES = {
    "reached": "The target was reached.",
    "crossed, not met": "The metrics cross their targets, but no strength meets them all; the nearest was taken.",
    "never reached": "The target was not reached at any strength that was searched; the nearest was taken.",
    "flat": "The metrics do not depend on the strength; nothing here says that the guard hides anything.",
}


def fit_section(made: FitMade, *, show_text: bool) -> AuditSection:
    """The section of a run that fits a guard."""
    found = made.found
    settings = made.settings
    findings = [_guard(made), _false_positives(made), _recall(made)]
    tables = [calibration_table(made), false_positive_rows(made, show_text=show_text)]
    if found is not None:
        findings.append(_strength(found))
        tables += [metric_table(found), curve_table(found), trajectory(found)]
        if found.sensitivity:
            tables.append(sensitivity(found))
    if made.selected_rms and settings.corruption.strength is not None:
        tables.append(size_table(made))
    tables.append(dealt_table(made))
    findings += [
        Finding(
            id=f"eco.warning-{number}",
            audit=AUDIT,
            claim=told[0].upper() + told[1:] + ("" if told.endswith(".") else "."),
            verdict="information",
            how_to_read="A warning of the fit itself.",
        )
        for number, told in enumerate(made.warnings, start=1)
    ]
    return AuditSection(
        audit=AUDIT,
        title="A guard by embedding-corrupted prompts",
        method=(
            f"Embedding-corrupted prompts (arXiv:2406.07933). A classifier ({made.classifier}) was trained on all "
            "forget prompts and a part of those that may pass, with rewordings and slips of both. Its threshold is an "
            "order statistic of the scores of calibration prompts (split conformal). A flagged prompt reaches the "
            f"model with the embeddings of {selection_words(settings)} corrupted: "
            f"{corruption_words(settings.corruption)}. The strength was {_how_strong(made)}. Rows are dealt by cluster "
            "(an author, say), and nothing is measured on what was tuned on it."
        ),
        assumptions=(
            "The promise on false positives holds for prompts that are exchangeable with the calibration prompts, on "
            "average over draws of these; the rate of this very threshold varies as its interval says. "
            f"{_reach(made.turns)} Prompts about other authors or sources than those of the calibration prompts vary "
            "more than the interval says.",
            "The classifier knows all forget prompts as they are written, so that recall is told of rewordings alone.",
            "Intervals of metrics at a strength are over noise seeds, with the rows taken as given: other rows would "
            "give means further apart than these intervals say.",
        ),
        cannot_show=_CANNOT_SHOW,
        findings=tuple(findings),
        tables=tuple(tables),
    )


def fit_record(made: FitMade) -> dict[str, Any]:
    """For the run's file."""
    auc = made.auc
    return {
        "target": made.settings.target,
        "threshold": made.threshold,
        "calibration": made.record.evidence["threshold"],
        "corruption": {name: getattr(made.settings.corruption, name) for name in ("function", "strength", "dims")},
        "search": None if made.found is None else made.found.to_record(),
        "false_positives": EstimateRecord.of(made.false_positives).model_dump(),
        "recall": EstimateRecord.of(made.recall).model_dump(),
        "auc": None if auc is None else EstimateRecord.of(auc).model_dump(),
        "selected_rms": list(made.selected_rms),
        "classifier": made.classifier,
        "reworded": made.reworded.source,
        "warnings": list(made.warnings),
    }


def fit_lines(record: Mapping[str, Any]) -> list[str]:
    """For a terminal, from the record."""
    false, recall = EstimateRecord(**record["false_positives"]), EstimateRecord(**record["recall"])
    turns = record["calibration"].get("turns", 1)
    told = [
        f"threshold {record['threshold']:.6g}; flagged of held-out {units(turns)} that may pass: {shown(false)} "
        f"({counted(false.n, 'prompt' if turns == 1 else 'conversation')})",
        f"recognised of held-out rewordings: {shown(recall)} ({counted(recall.n, 'cluster')})",
    ]
    search = record["search"]
    if search is not None:
        for one in search["metrics"]:
            value = EstimateRecord(**one["value"])
            target = one["target"]["estimate"]["value"]
            told.append(
                f"{one['name']}: {one['bare']:.3g} without the guard, {shown(value)} behind it, target {target:.3g} "
                f"(strength {search['strength']:.4g}, {counted(search['n_evaluations'], 'evaluation')})"
            )
    return told + [f"warning: {one}" for one in record["warnings"]]


def _reach(turns: int) -> str:
    """For what the promise on false positives is."""
    if turns == 1:
        return "It is one for single prompts: in a conversation every turn is one more chance to be flagged."
    return (
        f"It is one for whole conversations of up to {turns} prompts of a user, which were made from single prompts "
        "and the answers of their rows: turns of real conversations hang together more."
    )


def _how_strong(made: FitMade) -> str:
    if made.found is None:
        return "given, and nothing was searched" if made.settings.corruption.strength else "not needed"
    return "searched on tuning rows, with every prompt corrupted, until the metrics came to their targets"


def _guard(made: FitMade) -> Finding:
    settings = made.settings
    return Finding(
        id="eco.guard",
        audit=AUDIT,
        claim=(
            f"A guard for {settings.target!r} stands before {made.record.model}. A prompt is held to be about "
            f"that where its score is above {made.threshold:.6g}; then the embeddings of {selection_words(settings)} "
            f"are corrupted: {corruption_words(settings.corruption)}. The weights are as they were and know what they "
            "knew."
        ),
        verdict="information",
        how_to_read="A guard protects a door. What it does not protect stands below.",
    )


def _false_positives(made: FitMade) -> Finding:
    found = made.false_positives
    n = int((made.passing > made.threshold).sum())
    calibration = made.calibration
    one_sided = isinstance(calibration, Threshold)
    promise = "false positives are not bounded by what was asked for"
    p_values = {}
    if isinstance(calibration, Threshold):
        promise = f"at most {percent(calibration.alpha)} was promised on average"
        p = surplus(n, len(made.passing), calibration)
        if p is not None:
            p_values = {"as many or more, if the promise holds": PValueRecord.of(p)}
    elif not isinstance(calibration, TwoSided):
        alpha = next(iter(calibration.values())).alpha
        promise = f"at most {percent(alpha)} was promised on average, for each group"
    elif calibration.bounds_false_positives:
        promise = f"at most {percent(calibration.retain.alpha)} was promised on average"
    estimates = {"flagged": EstimateRecord.of(found)}
    if one_sided:
        estimates["expected of this threshold"] = EstimateRecord.of(calibration.rate)  # type: ignore[union-attr]
    return Finding(
        id="eco.false-positives",
        audit=AUDIT,
        claim=f"Of {counted_units(found.n, made.turns, 'held-out ')} that may pass, {n:,} were flagged; {promise}.",
        verdict="information",
        estimates=estimates,
        p_values=p_values,
        items=SCORES,
        how_to_read="A small p-value says that the promise does not hold for these prompts.",
    )


def _recall(made: FitMade) -> Finding:
    found = made.recall
    n = int((made.reworded.scores > made.threshold).sum())
    estimates = {"recognised": EstimateRecord.of(found)}
    auc = made.auc
    if auc is not None:
        estimates["area under the ROC curve"] = EstimateRecord.of(auc)
    return Finding(
        id="eco.recall",
        audit=AUDIT,
        claim=(
            f"Of {counted(len(made.reworded.scores), 'rewording')} of held-out forget rows ({made.reworded.source}), "
            f"{n:,} were recognised."
        ),
        verdict="information",
        estimates=estimates,
        items=SCORES,
        how_to_read="What is not recognised reaches the model as it is. Other rewordings may fare worse.",
    )


def _strength(found: SearchResult) -> Finding:
    parts = [
        f"{one.name} is {one.bare:.3g} without the guard and {_number(one.value)} behind it, and its target "
        f"{one.target.value:.3g} ({one.target.source})"
        for one in found.metrics
    ]
    estimates: dict[str, EstimateRecord] = {}
    for one in found.metrics:
        estimates[f"{one.name} behind the guard"] = EstimateRecord.of(one.value)
        estimates[f"{one.name}, target"] = EstimateRecord.of(one.target.estimate)
    return Finding(
        id="eco.strength",
        audit=AUDIT,
        claim=f"{_OUTCOMES.get(found.outcome, found.outcome)} At strength {found.strength:.4g}, {'; '.join(parts)}.",
        verdict="information",
        estimates=estimates,
        items=SEARCH,
        how_to_read="Tuning rows, every prompt corrupted, noise seeds that neither searched nor chose. The aim is the "
        "target and not 0: below it, the guard can be recognised.",
    )


def _number(one: Estimate) -> str:
    return "not measured" if one.value is None else f"{one.value:.3g}"
