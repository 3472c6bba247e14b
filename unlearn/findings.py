"""What a run of unlearning says of itself: the section of its report, and the numbers of its model card.

Nothing here is a verdict. Curves are measured on the forget text and on prompts cut from it, which the training reached
itself; whether the text is gone is for an audit of the result to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from audit.errors import InputError
from audit.forgetting.measured import Measured, difference
from audit.report.numbers import estimate as shown
from audit.runs.schema import AuditSection, Cell, Column, EstimateRecord, Finding, Table
from audit.stats.estimate import Estimate

from .watch import FORGET, MASS, NAME, NAMES, RETAIN, Watch

AUDIT = "unlearning"
ITEMS = "unlearning-curves"
_READ = {
    FORGET: "It rises as the text is forgotten. Far above the loss on text of the same kind that was never read, the "
    "model is broken rather than forgetful.",
    RETAIN: "It should stay where it was: what it rises by is damage to what was to be kept.",
    NAME: "It falls as the names are forgotten. Whether it reaches that of a model that never read the text, only such "
    "a model can tell.",
    MASS: "It falls as the names are forgotten. Invented names begin with pieces that common words begin with too.",
}
_OF_TRAININGS = ("steps", "batch", "memory", "memory_of")
_CANNOT_SHOW = (
    "That the text is gone. It may be suppressed rather than removed, and come back with other prompts, with further "
    "training, or at a lower numerical precision.",
    "What the model does where it is asked otherwise: every number here is of the forget text itself, or of prompts "
    "that were cut from it or written by hand.",
    "How a model behaves that never read the text: none was trained, so there is nothing to compare the result with.",
    "What another training with another seed would give: the intervals are over passages alone.",
    "What else the model has lost: only the loss on held-out text is measured, where there is any.",
)


@dataclass(frozen=True, slots=True)
class Made:
    """A run that has ended.

    Attributes:
        name: The method as reports call it.
        how: What was done, in words.
        claim: What was made of what, in one sentence.
        logs: Name of a training -> its `unlearn.training.TrainingLog` as a record.
        result_step: Step whose weights are the result.
        reads: Name of a pass without training -> tokens read and seconds.
        notes: What a reader must know beside it.
    """

    name: str
    how: str
    claim: str
    logs: Mapping[str, Mapping[str, Any]]
    result_step: int
    reads: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """A measure before the first step and in the result; ``change`` is the paired difference."""

    name: str
    before: Estimate
    after: Estimate
    change: Estimate


def changes(
    before: Mapping[str, Measured], after: Mapping[str, Measured], *, seed: int, level: float = 0.95
) -> dict[str, Change]:
    """Measure -> its change, whole passages resampled."""
    found = {}
    for name, first in before.items():
        last = after[name]
        try:
            moved = difference(last, first, rng=seed, level=level)
        except InputError as error:
            moved = Estimate.undefined(method=f"{NAMES[name]}: paired difference", why=str(error), level=level)
        found[name] = Change(
            NAMES[name], first.mean(rng=seed, level=level), last.mean(rng=seed, level=level), moved
        )  # fmt: skip
    return found


def make_section(
    made: Made,
    watch: Watch,
    steps: Mapping[int, Mapping[str, Measured]],
    *,
    tables: Sequence[Table] = (),
    alarms: Sequence[str] = (),
    seed: int,
    level: float = 0.95,
) -> AuditSection:
    """The section of a run.

    Args:
        made: What was made.
        watch: What was measured.
        steps: Step -> its measures, ascending; the first step and the result's among them where anything is measured.
        tables: Further tables of the method, such as its dictionary.
        alarms: What `unlearn.alarms.alarms` makes of the changes.
        seed: Of the bootstraps.
        level: Of the intervals.
    """
    found = changes(steps[min(steps)], steps[made.result_step], seed=seed, level=level) if steps else {}
    findings = [
        Finding(
            id="unlearning.model",
            audit=AUDIT,
            claim=f"{made.claim} Not verified: nothing in this run says that the text is gone.",
            verdict="information",
            how_to_read="Audit the result before you rely on it; the limits of what was measured stand below.",
        ),
        *(_alarm(number, told) for number, told in enumerate(alarms, start=1)),
        *(_finding(name, one, made.result_step) for name, one in found.items()),
    ]
    lacking = tuple(f"Not measured: {NAMES[name]}; {why}." for name, why in watch.missing.items())
    return AuditSection(
        audit=AUDIT,
        title=f"Unlearning by {made.name}",
        method=made.how,
        assumptions=(
            "What is measured as the training goes on decides nothing: no training, no stopping and no choice of "
            "weights reads it.",
            *watch.notes,
            *made.notes,
        ),
        cannot_show=(*_CANNOT_SHOW, *lacking),
        findings=tuple(findings),
        tables=(*([_change_table(found), _curve_table(steps, made, seed=seed, level=level)] if found else []),
                *tables, _cost_table(made)),
    )  # fmt: skip


def _alarm(number: int, told: str) -> Finding:
    return Finding(
        id=f"unlearning.alarm-{number}",
        audit=AUDIT,
        claim=told,
        verdict="information",
        items=f"items/{ITEMS}.parquet",
        how_to_read="It is told from the numbers below by bounds of ours; where none stands, nothing is proved.",
    )


def _finding(name: str, one: Change, step: int) -> Finding:
    return Finding(
        id=f"unlearning.{name}",
        audit=AUDIT,
        claim=f"{one.name[0].upper()}{one.name[1:]}: {_brief(one.before)} before the first step, "
        f"{_brief(one.after)} in the result (step {step:,}).",
        verdict="information",
        estimates={
            "before": EstimateRecord.of(one.before),
            "result": EstimateRecord.of(one.after),
            "result less before": EstimateRecord.of(one.change),
        },
        items=f"items/{ITEMS}.parquet",
        how_to_read=_READ[name],
    )


def _brief(one: Estimate) -> str:
    return "not measured" if one.value is None else f"{one.value:.3g}"


def _change_table(found: Mapping[str, Change]) -> Table:
    return Table(
        name="changes",
        title="Before and after",
        columns=(
            Column(key="measure", label="Measure"),
            Column(key="before", label="Before the first step"),
            Column(key="result", label="Result"),
            Column(key="change", label="Result less before", help="paired: the same passages are drawn for both"),
        ),
        rows=tuple(
            {
                "measure": one.name,
                "before": EstimateRecord.of(one.before),
                "result": EstimateRecord.of(one.after),
                "change": EstimateRecord.of(one.change),
            }
            for one in found.values()
        ),
    )


def _curve_table(
    steps: Mapping[int, Mapping[str, Measured]], made: Made, *, seed: int, level: float
) -> Table:  # fmt: skip
    measures = list(next(iter(steps.values())))
    rows: list[dict[str, Cell]] = []
    for step, found in steps.items():
        estimates: dict[str, Cell] = {
            name: EstimateRecord.of(one.mean(rng=seed, level=level)) for name, one in found.items()
        }
        rows.append({"step": step, "result": step == made.result_step, **estimates})
    return Table(
        name="curves",
        title="Measures by step",
        note="One training, measured as it went on; the row of the result is the one whose weights were kept.",
        columns=(
            Column(key="step", label="Step"),
            Column(key="result", label="Result"),
            *(Column(key=name, label=NAMES[name][0].upper() + NAMES[name][1:]) for name in measures),
        ),
        rows=tuple(rows),
    )


def _cost_table(made: Made) -> Table:
    return Table(
        name="cost",
        title="What it cost",
        note="Tokens that were trained on are of the whole training, less what a kill undid; seconds, memory and what "
        "was read without training, of the attempt that ended it. The measuring is part of a training's seconds, and "
        "no token of it is counted. Memory of a process is the largest that it ever had, whatever for.",
        columns=(
            Column(key="part", label="Training"),
            Column(key="steps", label="Steps"),
            Column(key="batch", label="Items of a step"),
            Column(key="trained", label="Tokens trained on", help="forward and backward"),
            Column(key="read", label="Tokens read", help="forward only, by the loss itself"),
            Column(key="seconds", label="Seconds"),
            Column(key="memory", label="Peak memory, GiB"),
            Column(key="memory_of", label="Of"),
        ),
        rows=tuple(
            {"part": part, "trained": 0, "read": n, "seconds": took, **dict.fromkeys(_OF_TRAININGS, "")}
            for part, (n, took) in made.reads.items()
        )
        + tuple(
            {
                "part": part,
                "steps": log["n_steps"],
                "batch": log["n_items"],
                "trained": log["n_trained"],
                "read": log["n_read"],
                "seconds": float(log["seconds"]),
                "memory": log["peak_memory"] / 2**30,
                "memory_of": log["peak_memory_of"],
            }
            for part, log in made.logs.items()
        ),
    )


def lines(found: Mapping[str, Change]) -> list[str]:
    """A line for each measure, for a terminal: "loss ...: 1.23 [1.1, 1.4] -> 4.56 [4.2, 4.9] (n 40)"."""
    told = []
    for one in found.values():
        before, after = (shown(EstimateRecord.of(end)) for end in (one.before, one.after))
        why = f"; {one.after.why}" if one.after.value is None else ""
        told.append(f"{one.name}: {before} -> {after} (n {one.after.n:,}{why})")
    return told
