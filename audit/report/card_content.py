"""What a model card says of a run: results for its metadata, and a section for its body.

In the metadata stand the numbers of findings that carry a verdict, each with its interval, n, method and verdict beside
it; in the body all findings, what was not assessed, and where the evidence is. The same run gives the same text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ..gates.result import GateResult, RuleOutcome
from ..runs.schema import EstimateRecord, Findings, RunRecord
from ..text.numbers import percent
from ..text.safe import counted
from .gate import shown_gate
from .numbers import estimate, p_value
from .safe_text import one_line
from .sections import VERDICT_WORDS, Judged, judged, overview
from .tables import markdown_escaped

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

DATASET_PREFIX: Final = "palimpsest-"
"""What ``dataset.type`` of our results in a card's metadata begins with; no data set of the Hub is meant."""
_AUDITS: Final = {
    "traps": "copyright traps, planted at random among decoys",
    "membership": "membership of found texts in the training data",
    "extraction": "extraction of post-training data",
}
_OF_THE_RUN: Final = "policy."  # rules on how the run was made, not on the model
_MOST_ROWS: Final = 200
_MOST_LINES: Final = 40


@dataclass(frozen=True, slots=True)
class CardContent:
    """What a card says of one run.

    Attributes:
        record: ``run.json``.
        findings: ``findings.json``.
        findings_sha256: Of that file.
        weights: Name -> SHA-256 of the weights that the numbers are of.
        gate: A policy's verdict on this run; None where none was given.
        anew: Whether the policy was put to the run for this card; else a file with its verdict was believed.
        head: Of the run's seal; None where it is not sealed.
        deviations: What departed from the plan.
    """

    record: RunRecord
    findings: Findings
    findings_sha256: str
    weights: Mapping[str, str]
    gate: GateResult | None = None
    anew: bool = False
    head: str | None = None
    deviations: tuple[str, ...] = ()


def eval_results(content: CardContent) -> list[EvalResult]:
    """The numbers for the card's metadata: every estimate that exists of a finding with a verdict."""
    from huggingface_hub import EvalResult

    evidence: dict[str, Any] = {
        "run": one_line(content.record.id),
        "findings_sha256": content.findings_sha256,
        "weights_sha256": {one_line(name): digest for name, digest in sorted(content.weights.items())},
    }
    if content.head is not None:
        evidence["seal_head"] = one_line(content.head)
    return [
        EvalResult(
            task_type="text-generation",
            task_name="Text generation",
            dataset_type=DATASET_PREFIX + one_line(section.audit, limit=60),
            dataset_name=one_line(section.title, limit=200) or "-",
            dataset_args=evidence,
            metric_type=one_line(name, limit=100),
            metric_name=one_line(f"{one.finding.id}/{name}"),
            metric_value=number.value,
            metric_args=_args(number, one),
        )
        for section in content.findings.sections
        for one in judged(section)
        if one.verdict != "information"
        for name, number in one.finding.estimates.items()
        if number.value is not None
    ]


def _args(number: EstimateRecord, one: Judged) -> dict[str, Any]:
    interval = {} if number.low is None else {"low": number.low, "high": number.high, "level": number.level}
    why = {"note": one_line(number.why)} if number.why else {}
    return {**interval, "n": number.n, "method": one_line(number.method), "verdict": one.verdict, **why}


def section(content: CardContent) -> list[str]:
    """Lines of the body's section in Markdown, without its marks; text from data makes no markup, HTML or link."""
    return [
        line
        for part in (_head(content), _table(content), _not_assessed(content), _limits(content), _evidence(content))
        for line in part
    ]


def _text(text: str, limit: int = 600) -> str:
    return markdown_escaped(text, limit=limit)


def _items(lines: Sequence[str]) -> Iterator[str]:
    yield from (f"- {line}" for line in lines[:_MOST_LINES])
    if len(lines) > _MOST_LINES:
        yield f"- {len(lines) - _MOST_LINES:,} more are in the run's report."


def _head(content: CardContent) -> Iterator[str]:
    record, top = content.record, overview(content.findings)
    made = record.provenance
    yield from ("## What the model still carries of its training data", "")
    told = _text(f"Audited with Palimpsest {made.palimpsest} on {made.created[:10]} (UTC).")
    yield f"{told} **{top.label}.** {top.meaning}"
    if content.gate is not None:
        gate = shown_gate(content.gate)
        policy = f"{_text(gate.policy) or 'that was applied'} ({_text(gate.applied)})"
        believed = "" if content.anew else " A file with this verdict was believed, not made anew for this card."
        yield from ("", f"By the policy {policy}: **{gate.label}.** {gate.meaning}{believed}")
        if gate.reading:
            yield from ("", _text(gate.reading))
        if gate.blocking:
            yield ""
            yield from _items(
                [f"**{_text(rule.outcome)}**: {_text(rule.title)} ({_text(rule.id)})" for rule in gate.blocking]
            )
        if clauses := [rule for rule in content.gate.rules if rule.clause]:
            yield ""
            yield from _items([_clause(rule) for rule in clauses])
    yield ""


def _clause(rule: RuleOutcome) -> str:
    """What a rule says of its clause, and what of it nothing is said of."""
    not_covered = f" Not covered: {_text(rule.not_covered)}" if rule.not_covered else ""
    return f"{_text(rule.evidence.capitalize())}: {_text(rule.clause or '')} ({_text(rule.id)}).{not_covered}"


def _table(content: CardContent) -> Iterator[str]:
    listed = [one for section in content.findings.sections for one in judged(section)]
    levels = {cell.level for one in listed for cell in one.finding.estimates.values() if cell.low is not None}
    rows, readings = [], dict[str, list[str]]()
    for one in listed:
        finding = one.finding
        numbers = [(_text(name), _told(cell, levels), cell.n) for name, cell in finding.estimates.items()]
        numbers += [(_text(f"p: {name}"), p_value(p), p.n) for name, p in finding.p_values.items()]
        readings.setdefault(one_line(finding.how_to_read, limit=600), []).append(finding.id)
        if finding.power is not None:
            numbers.append(("power", _told(finding.power, levels), finding.power.n))
            seen = finding.power_for or "an effect that the finding does not name"
            readings.setdefault(f"power is the chance that this test sees {seen}.", []).append(finding.id)
        start = f"| {_text(finding.id)} | {VERDICT_WORDS[one.verdict][0]}"
        rows += [f"{start} | {name} | {value} | {n:,} |" for name, value, n in numbers] or [f"{start} | - | - | - |"]
    if not rows:
        yield from ("No finding: an empty result is not a pass.", "")
        return
    yield from ("| Finding | Verdict | Number | Estimate [interval] | n |", "|---|---|---|---:|---:|")
    yield from rows[:_MOST_ROWS]
    if len(rows) > _MOST_ROWS:
        yield from ("", f"{len(rows) - _MOST_ROWS:,} more rows are in the run's report.")
    about = f"Brackets are {percent(next(iter(levels)))} intervals; n" if len(levels) == 1 else "n"
    yield from ("", f"{about} counts the independent items behind a number. How to read the numbers:", "")
    yield from _items([f"{_text(', '.join(ids), 200)}: {_text(reading)}" for reading, ids in readings.items()])
    yield ""


def _told(cell: EstimateRecord, levels: set[float]) -> str:
    """The estimate, with its level where not all have the same."""
    return estimate(cell) + (f" ({percent(cell.level)})" if cell.low is not None and len(levels) > 1 else "")


def _not_assessed(content: CardContent) -> Iterator[str]:
    have = {section.audit for section in content.findings.sections}
    lines = [f"{name}: {what}. Not part of this run." for name, what in _AUDITS.items() if name not in have]
    listed = [one for section in content.findings.sections for one in judged(section)]
    lines += [
        f"{_text(one.finding.id)}: {one.verdict}, which leaves the question open."
        for one in listed
        if one.verdict in ("inconclusive", "confounded")
    ]
    lines += [
        f"{_text(one.finding.id)}, {_text(name)}: not estimable. {_text(cell.why or '')}".rstrip()
        for one in listed
        for name, cell in one.finding.estimates.items()
        if cell.value is None
    ]
    if content.gate is not None:
        lines += [
            f"{_text(rule.title)} ({_text(rule.id)}): {rule.outcome}. {_text(rule.reason)}"
            for rule in content.gate.rules
            if rule.outcome in ("missing", "skipped", "not assessed") and not rule.id.startswith(_OF_THE_RUN)
        ]
    yield from ("### Not assessed", "")
    yield from _items(lines or ["Nothing that Palimpsest audits was left out."])
    yield ""


def _limits(content: CardContent) -> Iterator[str]:
    told = [line for section in content.findings.sections for line in section.cannot_show]
    lines = list(dict.fromkeys([*told, *content.findings.limitations]))
    yield from ("### What this cannot show", "")
    yield from _items([_text(line) for line in lines] or ["Nothing was stated."])
    yield ""
    if content.deviations:
        yield from ("### Departures from the plan", "")
        yield from _items([_text(line) for line in content.deviations])
        yield ""


def _evidence(content: CardContent) -> Iterator[str]:
    record = content.record
    yield from ("### Evidence", "")
    yield f"- {_text(f'Run {record.id}')}."
    yield f"- SHA-256 of its plan {_text(record.plan_sha256)}, of its findings.json {content.findings_sha256}."
    files = [f"{_text(name)} {_text(digest)}" for name, digest in sorted(content.weights.items())]
    more = f" and {counted(len(files) - _MOST_LINES, 'file')} more" if len(files) > _MOST_LINES else ""
    yield f"- The numbers are of the weights with SHA-256: {', '.join(files[:_MOST_LINES])}{more}."
    if content.head is None:
        yield "- The run was not sealed when this was written."
    else:
        yield f"- Head of its seal: {_text(content.head)}. `palimpsest runs verify RUN --head HEAD` checks a copy."
