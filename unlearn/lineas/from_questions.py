"""What an evaluation of a steering says, from the values that were kept: by the run, and by a replay.

TruthfulQA and multiple choice are kept question by question, a concept's rate by the judges' words on each
continuation, and its cost by the losses of each neutral text (`from_flags`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from audit.forgetting.measured import Measured, difference
from audit.runs.records import plain, read_json
from audit.runs.replay import Derived, Replayed
from audit.runs.store import Run

from .evaluate.judges import Judge
from .evaluate.points import Point
from .evaluate.sweep import given, sweep_rows
from .evaluate.truthfulqa import Truth, TruthChange, truth_change
from .evaluated import BOTH, Choices, Chosen, Evaluated, Questions, Truthful
from .evaluation_findings import AUDIT, evaluation_record, evaluation_section
from .from_flags import TEST, read_judges, read_points
from .sweep_made import Swept

ITEMS = "evaluation-questions"
RECORD = "evaluation.json"
FLAGS, LOSSES = "evaluation-flags", "evaluation-losses"
TRUTHFUL, CHOICES = "truthfulqa", "choices"


def question_items(of: str, measure: str, strength: float, found: Measured, *, half: int = 0) -> list[dict[str, Any]]:
    """A row for each question; ``half`` is 0 where there are no halves."""
    return [
        {
            "of": of,
            "measure": measure,
            "strength": strength,
            "question": name,
            "cluster": cluster,
            "value": float(value),
            "half": half,
            "called": found.name,
        }
        for name, cluster, value in zip(found.ids, found.passages, found.values, strict=True)
    ]


def truth_rows(truths: Mapping[float, Sequence[Truth]], *, seed: int) -> tuple[tuple[str, float, TruthChange], ...]:
    """What each strength does, over both halves and in each; strength 0 is the unsteered model."""
    rows = []
    for strength, after in truths.items():
        if strength:
            rows.append((BOTH, strength, truth_change(truths[0.0], after, rng=seed)))
            for number, (one, other) in enumerate(zip(truths[0.0], after, strict=True), start=1):
                rows.append((f"half {number}", strength, truth_change([one], [other], rng=seed)))
    return tuple(rows)


def chosen_rows(measured: Mapping[tuple[str, float], Measured], *, seed: int) -> tuple[Chosen, ...]:
    """What each strength does to the right choices, by the way to choose."""
    return tuple(
        Chosen(
            how,
            strength,
            measured[how, 0.0].mean(rng=seed),
            one.mean(rng=seed),
            difference(one, measured[how, 0.0], rng=seed),
        )
        for (how, strength), one in measured.items()
        if strength
    )


def concept_of(
    points: Sequence[Point],
    judges: Sequence[Judge],
    *,
    model: str,
    arm: str,
    records: tuple[Mapping[str, Any], ...],
    warnings: tuple[str, ...],
    settings: str,
    seed: int,
) -> Swept:
    """Rates of concepts at each strength and what they cost, as a sweep of one arm that is compared with nothing.

    Args:
        points: The unsteered model's first.
        judges: Of the concepts.
        model: Its name.
        arm: The name of what steers.
        records: Of the judges.
        warnings: Of the texts.
        settings: How continuations were drawn, in words.
        seed: Of every interval.
    """
    return Swept(
        model=model,
        goal="raise",
        ours=given(arm, 0.0),
        arms=(),
        judges=records,
        points=tuple(points),
        rows={judge.name: sweep_rows(points, judge, "raise", rng=seed) for judge in judges},
        compared=(),
        choice=[],
        n_repeated=0,
        warnings=warnings,
        settings=settings,
    )


def replay(run: Run) -> Replayed:
    """The section anew, from the items and what evaluation.json tells.

    Raises:
        DataError: A table is missing or damaged.
    """
    record = read_json(run.folder / RECORD, missing=f"{run.folder} has no {RECORD}; restore it from a copy.")
    stored = next(one for one in run.findings().sections if one.audit == AUDIT)
    asked = [record["truthfulqa"], record["choices"]]
    items = run.read_items(ITEMS).to_pandas() if any(asked) else pd.DataFrame()
    if any(asked) and "half" not in items:
        return Replayed((), {AUDIT: "this run did not keep which half each question lay in; later ones do"})
    seed = run.record.plan["evaluate"]["seed"]
    truthful = None if record["truthfulqa"] is None else _truthful(record["truthfulqa"], items, seed)
    choices = None if record["choices"] is None else _choices(record["choices"], items, seed)
    made = Evaluated(record["model"], record["maps"], truthful, choices)
    told = record["concept"]
    if told is None:
        return Replayed((evaluation_section(made),))
    if run.items_path(FLAGS).exists():
        flags, losses = (run.read_items(name).to_pandas() for name in (FLAGS, LOSSES))
        concept = concept_of(
            read_points(flags, losses, TEST),
            read_judges(flags),
            model=record["model"],
            arm=told["arm"],
            records=tuple(told["judges"]),
            warnings=tuple(told["warnings"]),
            settings=told["settings"],
            seed=seed,
        )
        whole = replace(made, concept=concept, opening=told["opening"])
        again = plain(evaluation_record(whole), RECORD)
        derived = [Derived.record(f"{RECORD}/{name}", record[name], again[name]) for name in again]
        return Replayed((evaluation_section(whole),), {}, tuple(derived))
    section = evaluation_section(made)
    why = "this run did not keep the judges' words on continuations and the losses of neutral texts; later ones do"
    known = {one.id for one in section.findings} | {f"{AUDIT}:{one.name}" for one in section.tables}
    section = section.model_copy(
        update={"findings": tuple(one for one in section.findings if ".warning-" not in one.id)}
    )
    named = [one.id for one in stored.findings] + [f"{AUDIT}:{one.name}" for one in stored.tables]
    not_replayed = {name: why for name in named if name not in known or ".warning-" in name}
    return Replayed((section,), {**not_replayed, f"{AUDIT}/method": why, f"{AUDIT}/assumptions": why})


def _truthful(told: Mapping[str, Any], items: pd.DataFrame, seed: int) -> Truthful:
    truths: dict[float, list[Truth]] = {}
    of = items[items["of"] == TRUTHFUL]
    for strength, by_strength in of.groupby("strength", sort=False):
        for _, by_half in by_strength.groupby("half", sort=False):
            both = [_measured(own) for _, own in by_half.groupby("measure", sort=False)]
            truths.setdefault(float(strength), []).append(Truth(*both))
    return Truthful(
        told["method"],
        Questions(**told["questions"]),
        told["sentences"],
        told["primer"],
        (told["support"][0], told["support"][1]),
        (told["chance"][0], told["chance"][1]),
        truth_rows(truths, seed=seed),
    )


def _choices(told: Mapping[str, Any], items: pd.DataFrame, seed: int) -> Choices:
    of = items[items["of"] == CHOICES]
    measured = {
        (str(how), float(strength)): _measured(own)
        for (how, strength), own in of.groupby(["measure", "strength"], sort=False)
    }
    return Choices(Questions(**told["questions"]), told["chance"], told["format"], chosen_rows(measured, seed=seed))


def _measured(own: pd.DataFrame) -> Measured:
    return Measured(
        str(own["called"].iloc[0]), tuple(own["question"]), tuple(own["cluster"]), own["value"].to_numpy(dtype=float)
    )
