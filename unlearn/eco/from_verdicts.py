"""What an evaluation of a guard says, from what was kept prompt by prompt: by the run itself, and by a replay."""

from __future__ import annotations

import math
from typing import Any

from audit.answers.quality import forget_quality
from audit.runs.records import plain, read_json
from audit.runs.replay import Derived, Replayed
from audit.runs.schema import AuditSection, EstimateRecord
from audit.runs.store import Run

from .calibration import Threshold
from .evaluate.latency import delays
from .evaluate.recall import mistaken, recalled, share
from .evaluate.report import BEFORE, GOLD, SCOPES, Evaluation
from .evaluated import BEGINNINGS, VERDICTS, Evaluated, Facts, guard_of, read_evaluated
from .evaluation_findings import AUDIT, Left, asked_unit, evaluation_section
from .evaluation_tables import Noise
from .guard_files import GuardRecord

RECORD = "evaluation.json"
Tables = dict[str, list[dict[str, Any]]]


def section_of(made: Evaluated, facts: Facts) -> tuple[AuditSection, Tables, tuple[Noise, ...]]:
    """The section, its tables as plain rows, and p-values of forget quality under each draw of the noise."""
    seed, promised = facts.seed, promised_by(facts.guard)
    tables = Evaluation(
        facts.guard.settings.target,
        recall=tuple(recalled(one, kind, rng=seed) for kind, one in made.recall),
        false_positives=tuple(
            mistaken(one, promised=promised if is_promised else None, seed=seed) for is_promised, one in made.passing
        ),
        qa=made.qa,
        flagged=_flagged(made),
        choices=made.choices,
        continuations=made.continued,
        latency=tuple(delays(made.timed, seed=seed)),
        seed=seed,
    ).tables()
    if made.continued:
        tables["passages written"] = _written(made)
    if made.continued and (begun := made.beginnings) is not None:
        found = share(begun.flagged, begun.clusters, name=BEGINNINGS, rng=seed)
        tables["protected texts"].append(
            {"measure": BEGINNINGS, "system": "guard", "estimate": EstimateRecord.of(found).model_dump()}
        )
    noise = noise_of(made)
    section = evaluation_section(facts.guard, tables, facts.left, noise, facts.not_measured, show_text=facts.show_text)
    return section, tables, noise


def promised_by(record: GuardRecord) -> Threshold | None:
    """The threshold that bounds false positives, as the guard's file tells it; None where nothing bounds them."""
    told = record.evidence.get("threshold", {})
    if told.get("kind") != "one-sided":
        return None
    values = dict(told["retain"])
    values["rate"] = EstimateRecord(**values["rate"]).estimate()
    values["value"] = record.threshold
    return Threshold(**values)


def noise_of(made: Evaluated) -> tuple[Noise, ...]:
    """Forget quality under each draw of the noise; the first is the one of all other tables."""
    if GOLD not in made.qa:
        return ()
    gold = {one.scope: one for one in made.qa[GOLD] if one.part == "forget"}
    by_draw = [[one for one in made.qa["guard"] if one.part == "forget"], *made.noise]
    found = []
    for scope in SCOPES:
        tested = [forget_quality(one, gold[scope]) for own in by_draw for one in own if one.scope == scope]
        for place in range(2):  # raw and folded
            values = [p.value for one in tested if (p := one[place].p_value) is not None]
            found.append(Noise(scope, tested[0][place].name, tuple(values), len(tested)))
    return tuple(found)


def noise_record(noise: tuple[Noise, ...]) -> list[dict[str, Any]]:
    """For the run's file."""
    return [{"scope": one.scope, "test": one.test, "p_values": list(one.p_values)} for one in noise]


def _flagged(made: Evaluated) -> dict[Any, tuple[str, ...]]:
    """Part -> those of its answered rows that the guard flags."""
    answered = {one.part: set(one.probability.ids) | set(one.probability.left_out) for one in made.qa.get(BEFORE, ())}
    return {
        one.of: tuple(row.id for row in one.listed(flagged=True) if row.id in answered[one.of])
        for one in made.answered
        if one.of in answered
    }


def _written(made: Evaluated) -> list[dict[str, Any]]:
    """What each system wrote beside the original, for the run's file; the report quotes it where that is asked."""
    return [
        {"id": name, "system": system, "likeness": likeness, "written": text, "original": made.originals[name]}
        for system, one in made.continued.items()
        for name, text, likeness in zip(one.similar[0].ids, one.written, one.similar[0].values.tolist(), strict=True)
    ]


def replay(run: Run) -> Replayed:
    """The section anew, from the items and what evaluation.json tells.

    Raises:
        DataError: A table is missing or damaged.
    """
    record = read_json(run.folder / RECORD, missing=f"{run.folder} has no {RECORD}; restore it from a copy.")
    kept = record.get("kept")
    if kept is None:
        why = "this run kept the tables of its evaluation, and not the verdicts and measures by row; later ones do"
        return Replayed((), {AUDIT: why})
    made = read_evaluated(run, kept, record["tables"])
    plan = run.record.plan
    table = plan["evaluate"] if "evaluate" in plan else plan["eco"]
    guard = guard_of(kept["guard"])
    left = Left(record["rows"]["given"], record["rows"]["measured"], kept["max_rows"])
    facts = Facts(guard, left, record["not_measured"], table["seed"], table["show_text"])
    section, tables, noise = section_of(made, facts)
    stored, again = _unquoted(record["tables"]), _unquoted(plain(tables, RECORD))
    derived = [
        Derived.record(f"{RECORD}/{name}", stored.get(name), again.get(name))
        for name in dict.fromkeys([*stored, *again])
    ]
    derived.append(Derived.record(f"{RECORD}/noise", record["noise"], noise_record(noise)))
    return Replayed((section,), {}, (*derived, _flags(made, guard.threshold)))


def _unquoted(tables: Tables) -> Tables:
    """Without the prompts that were not recognised, which stand there alone."""
    recall = [{**row, "missed": [{**one, "text": ""} for one in row["missed"]]} for row in tables["recall"]]
    return {**tables, "recall": recall}


def _flags(made: Evaluated, threshold: float) -> Derived:
    """A single prompt is flagged where its score is above the threshold, or it cannot be read.

    In a conversation the score is that of the newest turn, and an earlier one may be what is flagged.
    """
    talks = {one.of for kind, one in made.recall if kind == "turns"}
    rows = [
        (flag, score > threshold or math.isinf(score))
        for _, one in made.judged()
        if one.of not in talks and asked_unit(one.of) == "prompt"
        for score, flag in zip(one.scores, one.flagged, strict=True)
    ]
    return Derived(f"items/{VERDICTS}.parquet/flagged", [one for one, _ in rows], [other for _, other in rows])
