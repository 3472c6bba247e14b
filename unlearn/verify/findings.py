"""What a loop says of itself: the section of its report, its record, its items and its lines in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import pyarrow as pa

from audit.errors import InputError
from audit.forgetting.measured import Measured
from audit.runs.schema import AuditSection, EstimateRecord, Finding, Findings, Table
from audit.runs.schema import Verdict as Said
from audit.stats.estimate import Estimate

from .battery import Material
from .judging import Decided, Tried
from .residual import TOLERANCE
from .tables import GOLD, all_tables
from .verdict import ATTACKS, LEVEL, Word

AUDIT: Final = "remediation"
ITEMS: Final = "items/verification.parquet"
_SAID: Final[Mapping[Word, Said]] = {
    "not removed": "found",
    "suppressed": "found",
    "removed": "not found",
    "undecided": "inconclusive",
    "destroyed": "inconclusive",
}
_MEANS: Final[Mapping[Word, str]] = {
    "not removed": "Asked as before, the model still gives what a model that never learnt it would not.",
    "suppressed": "It is not given as before, but it is still there: an attack, or the weights, bring it back.",
    "removed": "Within the tolerance, on these rows and under these attacks, the model is as one that never learnt it.",
    "undecided": "The evidence does not suffice to say either. This is not a pass.",
    "destroyed": "The model is broken, so its silence is no forgetting. This is not a pass.",
}
_CANNOT_SHOW: Final = (
    "That nothing is left: other prompts, stronger attacks or longer tuning may bring out what these did not.",
    "What another training of the remedy or of gold with another seed would give, beyond the seeds that were given.",
    "Anything about rows and texts that were not given here.",
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a remedy took."""

    name: str
    method: str
    told: str
    seconds: float
    trained: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A remedy that could not be made or measured, and why."""

    word: Literal["failed", "destroyed"]
    why: str


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop that has been measured and judged.

    Attributes:
        tried: Every system, subject first.
        decided: Verdicts.
        costs: Of the remedies.
        audits: Finding and estimate -> each system's, where audits were run.
        material: What was measured on.
        notes: What a reader must know beside it.
        seed: Of the bootstraps.
        failed: Remedies on which there is no verdict.
    """

    tried: Mapping[str, Tried]
    decided: Sequence[Decided]
    costs: Sequence[Cost]
    audits: Sequence[dict[str, Any]]
    material: Material
    notes: Sequence[str]
    seed: int
    failed: Mapping[str, Failure] = field(default_factory=dict)

    def verdict_of(self, name: str) -> Decided:
        """The verdict on one system.

        Raises:
            InputError: There is none.
        """
        for one in self.decided:
            if one.name == name:
                return one
        raise InputError(f"there is no verdict on {name}.")


def make_section(loop: Loop) -> AuditSection:
    """The section of a loop."""
    remedies = [cost.name for cost in loop.costs if cost.name not in loop.failed]
    ordered = [*remedies, *(one.name for one in loop.decided if one.name not in remedies)]
    return AuditSection(
        audit=AUDIT,
        title="Did it work? Before, after, and a model that never learnt it",
        method=(
            "Every system answered the same questions, continued the same texts and stood the same attacks. What is "
            "left of the subject's lead over gold is the residual r: 0 as gold, 1 as before the remedy. "
            f"The verdict follows from the intervals of all residuals by rules with the tolerance {TOLERANCE:g}; "
            f"intervals are at {LEVEL:.0%}, over whole clusters, and wider where several residuals are looked at."
        ),
        assumptions=(*_assumptions(loop), *loop.notes),
        cannot_show=_CANNOT_SHOW,
        findings=(
            *(_finding(loop.verdict_of(name), is_remedy=name in remedies) for name in ordered),
            *(_failed(name, one) for name, one in loop.failed.items()),
        ),
        tables=all_tables(loop),
    )


def _assumptions(loop: Loop) -> tuple[str, ...]:
    independent = "Clusters (people, passages) are independent of each other."
    if GOLD in loop.tried:
        return (
            "Gold was trained as the subject was, without the forget set alone.",
            independent,
            f'"Removed" needs a say of each of: {", ".join(ATTACKS)}.',
        )
    return (
        "There is no gold: rows and texts that nobody saw stand in for it, and are supposed to be as hard as the "
        "forget set for a model that saw neither. What they are harder or easier by counts as knowledge.",
        independent,
        'Without gold neither "removed" nor "suppressed" can be said. Attacks that were run are told and enter no '
        "verdict.",
    )


def _finding(one: Decided, *, is_remedy: bool) -> Finding:
    verdict = one.verdict
    estimates = {each.key: EstimateRecord.of(each.estimate) for each in verdict.judged}
    estimates |= {f"kept.{rule.key}": EstimateRecord.of(rule.estimate) for rule in one.destroyed.rules}
    claim = f"{one.name}: {verdict.word}. {verdict.why}"
    how = _MEANS[verdict.word]
    if not is_remedy:
        how = f"{how} No remedy: it is judged so that the instrument itself can be checked."
    return Finding(
        id=f"{AUDIT}.{one.name}",
        audit=AUDIT,
        claim=claim,
        verdict=_SAID[verdict.word] if is_remedy else "information",
        estimates=estimates,
        items=ITEMS,
        how_to_read=how,
    )


def _failed(name: str, failure: Failure) -> Finding:
    means = "Nothing was measured, so nothing is said of it. This is not a pass."
    return Finding(
        id=f"{AUDIT}.{name}",
        audit=AUDIT,
        claim=f"{name}: {failure.word}. {failure.why}",
        verdict="inconclusive",
        how_to_read=_MEANS["destroyed"] if failure.word == "destroyed" else means,
    )


def loop_record(loop: Loop) -> dict[str, Any]:
    """For programs: verdicts with their ingredients, and costs."""
    costs = {cost.name: cost for cost in loop.costs}
    return {
        "tolerance": TOLERANCE,
        "level": LEVEL,
        "verdicts": {
            one.name: {
                "verdict": one.verdict.word,
                "why": one.verdict.why,
                "residuals": {
                    each.key: {
                        "label": each.label,
                        "kind": each.kind,
                        "answer": each.answer,
                        "seeds": each.n_seeds,
                        "estimate": _record(each.estimate),
                        "corrected": _record(each.corrected),
                    }
                    for each in one.verdict.judged
                },
                "missing": one.verdict.missing,
                "cost": _cost(costs.get(one.name)),
            }
            for one in loop.decided
        }
        | {
            name: {
                "verdict": one.word,
                "why": one.why,
                "residuals": {},
                "missing": {},
                "cost": _cost(costs.get(name)),
            }
            for name, one in loop.failed.items()
        },
    }


def _cost(cost: Cost | None) -> dict[str, Any] | None:
    return None if cost is None else {"method": cost.method, "seconds": cost.seconds, "trained": cost.trained}


def _record(estimate: Estimate) -> dict[str, Any]:
    return EstimateRecord.of(estimate).model_dump()


def item_table(tried: Mapping[str, Tried]) -> pa.Table:
    """Every number: system, measure, id, cluster, value."""
    rows = [
        {"system": name, "measure": key, "id": identifier, "cluster": home, "value": value}
        for name, one in tried.items()
        for key, measured in _all_measured(one)
        for identifier, home, value in zip(measured.ids, measured.passages, measured.values.tolist(), strict=True)
    ]
    return pa.Table.from_pylist(rows)


def _all_measured(one: Tried) -> Iterator[tuple[str, Measured]]:
    yield from one.battery.direct.measured.items()
    for key, measured in one.battery.never.measured.items():
        yield f"never.{key}", measured
    yield from one.battery.useful.found.measured.items()
    for part, qa in one.battery.tofu.items():
        yield f"tofu.log_ratio.{part}", qa.log_ratio
    yield from one.battery.muse.measured.items()
    for way, measured in one.prompts.items():
        yield f"prompts.{way}", measured
    for what, rounded in one.roundings.items():
        for bits, measured in rounded.items():
            yield f"quantisation.{bits}.{what}", measured
    for curve in one.curves:
        for place, step in enumerate(curve.steps):
            yield f"relearning.{curve.kind}.seed {curve.seed}.step {step}", curve.measured(place)
    if one.soft is not None:
        yield "soft-prompt.advantage", one.soft
    for way, measured in one.evasion.items():
        yield f"evasion.{way}", measured
    yield from one.benchmarks.items()
    for score, by_set in one.membership.items():
        for role, measured in by_set.items():
            yield f"membership.{score}.{role}", measured


def verdict_lines(findings: Findings) -> list[str]:
    """A line for each system, for a terminal."""
    section = next(one for one in findings.sections if one.audit == AUDIT)
    table: Table = next(one for one in section.tables if one.name == "verdicts")
    return [f"  {row['system']}: {row['verdict']}" for row in table.rows]
