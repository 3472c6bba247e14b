"""What stands where in a report: parts, tables and figures in their order, cut to `Limits`; HTML and Markdown write it.

Nothing here is escaped: that is the part of whoever writes it down.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..runs.schema import (
    AuditSection,
    Cell,
    Column,
    EstimateRecord,
    Finding,
    Findings,
    PValueRecord,
    RunRecord,
    StageRecord,
    Table,
)
from .calibration import NOT_STATED, calibration
from .content import Report, before_and_after
from .figures import Comparison, Figure, MarkedTexts
from .gate import ShownGate, shown_gate
from .glossary import terms_in
from .limits import Limits
from .numbers import estimate, limits_of, plain
from .safe_text import one_line
from .sections import GRAVITY, VERDICT_WORDS, Judged, Overview, all_judged, in_plain_words, model_name, overview
from .tables import ShownTable, shown

_MOST_SETTINGS: Final = 400  # of one mapping; what lies beyond is counted and stands in run.json
# Kind of a run -> the report's heading, and the command that runs its plan again.
_KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "unlearning": ("What was done to make this model forget a text?", "unlearn run"),
    "eco": ("What does the guard before this model hold back?", "eco run"),
    "eco-evaluation": ("What does the guard before this model hold back?", "eco run"),
    "steer": ("What was learnt to steer this model?", "steer run"),
    "steer-sweep": ("What does steering this model do, and what does it cost?", "steer run"),
    "compare": ("How do these runs differ?", "compare"),
    "remediation": ("Did the remedies work?", "remediate"),
    "retraining": ("What are the extracted rows worth to train on?", "extract retrain"),
    "steer-evaluation": ("What does steering this model do to its answers, and to what it writes?", "steer run"),
}
_AUDIT: Final = ("What does this model still carry of its training data?", "audit")
_ESTIMATES: Final = (
    "Read a cell as value [interval], with n independent items behind it; its small numbers lead to the method below. "
    "Numbers without brackets are counts or settings."
)
_P_VALUES: Final = (
    "p is the chance of so strong a result, or a stronger one, if there were nothing to find; n counts the controls "
    "or random draws behind it."
)
_NUMBERS: Final = "Numbers without brackets are counts, settings or plain measurements without an interval."


@dataclass(frozen=True, slots=True)
class ShownFinding:
    """One finding with the numbers that there is room for, and what it lacks."""

    anchor: str
    finding: Finding
    label: str
    verdict: str
    remark: str
    numbers: ShownTable | None
    n_further: int
    power: str
    p_note: str


@dataclass(frozen=True, slots=True)
class ShownSection:
    """One audit's part.

    Attributes:
        anchor: Of its heading.
        section: As the findings have it, its lists cut.
        calibration: Claim, numbers and how to read them, of what the audit found where there is nothing to find.
        no_calibration: What to say where there is none; "" where there is.
        figures: Those that there is room for.
        comparisons: Texts side by side.
        marked: Texts with marks.
        tables: Anchor, table and how to read its numbers.
        elsewhere: Titles of tables that stand under "before and after".
        left_out: What there was no room for, in words; "" where nothing is left out.
    """

    anchor: str
    section: AuditSection
    calibration: tuple[tuple[str, str, str], ...]
    no_calibration: str
    figures: tuple[Figure, ...]
    comparisons: tuple[Comparison, ...]
    marked: MarkedTexts | None
    tables: tuple[tuple[str, ShownTable, str], ...]
    elsewhere: tuple[str, ...]
    left_out: str


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report; the attributes stand in reading order."""

    record: RunRecord
    heading: str
    model: str
    gate: ShownGate | None
    overview: Overview
    plain_words: str
    findings: tuple[ShownFinding, ...]
    n_findings: int
    verdicts: tuple[tuple[str, str, str], ...]  # label, meaning, verdict
    terms: tuple[tuple[str, str], ...]
    sections: tuple[ShownSection, ...]
    changes: tuple[tuple[str, tuple[tuple[str, ShownTable, str], ...]], ...]  # audit's title, its tables
    deviations: tuple[str, ...]
    limitations: tuple[str, ...]
    subjects: Mapping[str, list[tuple[str, str]]]
    seeds: list[tuple[str, str]]
    stages: tuple[tuple[StageRecord, str, str], ...]  # stage, time, detail
    total: str
    command: str
    plan: list[tuple[str, str]]
    hardware: list[tuple[str, str]]
    packages: list[tuple[str, str]]
    self_test: str
    hashes: list[tuple[str, str]]
    verb: str
    head: str | None
    broken_seal: tuple[str, ...]
    hides_text: bool


def laid_out(report: Report, limits: Limits) -> Page:
    """The report's parts, cut to what ``limits`` leaves room for; what is left out is counted."""
    record, findings = report.record, report.findings
    gate = None if report.gate is None else shown_gate(report.gate)
    heading, verb = _KINDS.get(record.kind, _AUDIT)
    marks = limits_of(record.plan)
    listed = all_judged(findings)
    ordered = _for_room(listed, limits.findings)
    first: dict[str, int] = {}
    for number, section in enumerate(findings.sections):
        first.setdefault(section.audit, number)
    numbered = list(enumerate(findings.sections))[: limits.sections]
    return Page(
        record=record,
        heading=heading,
        model=_model(record),
        gate=gate,
        overview=overview(findings),
        plain_words=in_plain_words(record, findings, gate, is_broken=bool(report.broken_seal)),
        findings=tuple(_finding(at, one, limits, marks) for at, one in enumerate(ordered, start=1)),
        n_findings=len(listed),
        verdicts=tuple((*VERDICT_WORDS[verdict], verdict) for verdict in GRAVITY),
        terms=terms_in(_words(findings, limits)),
        sections=tuple(
            _section(number, section, report, limits, with_drawings=first[section.audit] == number)
            for number, section in numbered
        ),
        changes=tuple(
            (
                section.title,
                tuple(_table(f"a{number + 1}-b{at}", table, limits, marks) for at, table in enumerate(tables, 1)),
            )
            for number, section in numbered
            if (tables := before_and_after(section)[: limits.tables])
        ),
        deviations=_lines(report.deviations, limits),
        limitations=_lines(findings.limitations, limits),
        subjects={role: settings(subject) for role, subject in list(record.subjects.items())[: limits.lines]},
        seeds=settings(record.seeds),
        stages=tuple((stage, duration(stage.seconds), _detail(stage)) for stage in record.stages[: limits.lines]),
        total=duration(sum(stage.seconds for stage in record.stages)),
        command=shlex.join(record.provenance.command),
        plan=settings(record.plan),
        hardware=settings(record.provenance.hardware),
        packages=settings(record.provenance.packages),
        self_test=_self_test(record),
        hashes=settings(report.item_hashes),
        verb=verb,
        head=report.head,
        broken_seal=_lines(report.broken_seal, limits),
        hides_text=report.hides_text,
    )


def n_cells(report: Report, limits: Limits) -> int:
    """Cells of the tables that ``limits`` leaves room for."""
    return sum(
        min(len(table.rows), limits.rows) * min(len(table.columns), limits.columns)
        for section in report.findings.sections[: limits.sections]
        for table in section.tables[: limits.tables]
    )


def _for_room(listed: Sequence[Judged], most: int) -> list[Judged]:
    """All in the findings' order, or the gravest where there is no room for all."""
    if len(listed) <= most:
        return list(listed)
    kept = sorted(range(len(listed)), key=lambda at: (GRAVITY.index(listed[at].verdict), at))[:most]
    return [listed[at] for at in sorted(kept)]


def _lines(lines: Sequence[str], limits: Limits) -> tuple[str, ...]:
    rest = len(lines) - limits.lines
    more = () if rest <= 0 else (f"{rest:,} more stand in the run's files.",)
    return (*lines[: limits.lines], *more)


def _finding(number: int, one: Judged, limits: Limits, marks: Collection[float]) -> ShownFinding:
    finding = one.finding
    rows = number_rows(finding)
    open_question = finding.verdict in ("not found", "inconclusive") and one.verdict != "confounded"
    return ShownFinding(
        anchor=f"finding-{number}",
        finding=finding,
        label=VERDICT_WORDS[one.verdict][0],
        verdict=one.verdict,
        remark=one.remark,
        numbers=shown(numbers_table(rows[: limits.numbers]), marks) if rows else None,
        n_further=max(0, len(rows) - limits.numbers),
        power=_power(finding, is_needed=open_question),
        p_note=""
        if finding.p_values or finding.verdict == "information"
        else "No p-value is given: one needs a randomised draw to rest on, and this finding rests on intervals alone.",
    )


def _power(finding: Finding, *, is_needed: bool) -> str:
    if finding.power is not None:
        of = finding.power_for or "the effect that was looked for"
        return f"Power: the chance of seeing {of} is {estimate(finding.power)} ({finding.power.method})."
    if finding.verdict == "not found":
        return "Power: not stated for this finding; what it excludes, its intervals exclude." if is_needed else ""
    return "Power: not stated for this finding." if is_needed else ""


def number_rows(finding: Finding) -> list[tuple[str, Cell]]:
    """Name and number of each line of a finding's table: estimates, then p-values."""
    return [*finding.estimates.items(), *((f"p-value: {name}", p) for name, p in finding.p_values.items())]


def numbers_table(rows: Sequence[tuple[str, Cell]], title: str = "Numbers of this finding") -> Table:
    """Lines of `number_rows` as a table."""
    columns = (Column(key="measure", label="Measure"), Column(key="value", label="Value [interval], n"))
    told: tuple[dict[str, Cell], ...] = tuple({"measure": name, "value": cell} for name, cell in rows)
    return Table(name="numbers", title=title, columns=columns, rows=told)


def _section(
    number: int, section: AuditSection, report: Report, limits: Limits, *, with_drawings: bool
) -> ShownSection:
    anchor = f"a{number + 1}"
    apart = before_and_after(section)
    names = {table.name for table in apart}
    tables = [table for table in section.tables if table.name not in names]
    further = [
        (f"{finding.id}: {name}", cell)
        for finding in section.findings
        for name, cell in number_rows(finding)[limits.numbers :]
    ]
    figures = list(report.figures.get(section.audit, ())) if with_drawings else []
    comparisons = tuple(report.comparisons.get(section.audit, ())) if with_drawings else ()
    marked = report.marked.get(section.audit) if with_drawings else None
    if further:
        tables.append(numbers_table(further, "Further numbers of the findings"))
    controls, marks = calibration(section), limits_of(report.record.plan)
    return ShownSection(
        anchor=anchor,
        section=section.model_copy(
            update={
                "assumptions": _lines(section.assumptions, limits),
                "cannot_show": _lines(section.cannot_show, limits),
            }
        ),
        calibration=tuple(
            (one.claim, _numbers_in_words(one, limits, marks), how) for one, how in controls[: limits.lines]
        ),
        no_calibration="" if controls else NOT_STATED,
        figures=tuple(figures[: limits.figures]),
        comparisons=comparisons[: limits.lines],
        marked=marked if marked is not None and marked.texts else None,
        tables=tuple(
            _table(f"{anchor}-t{at}", table, limits, marks) for at, table in enumerate(tables[: limits.tables], 1)
        ),
        elsewhere=tuple(table.title for table in apart),
        left_out=_left_out(len(figures) - limits.figures, len(tables) - limits.tables),
    )


def _left_out(n_figures: int, n_tables: int) -> str:
    told = [f"{n:,} more {what}" for n, what in ((n_figures, "figures"), (n_tables, "tables")) if n > 0]
    return f"Left out for want of room: {' and '.join(told)}." if told else ""


def _numbers_in_words(finding: Finding, limits: Limits, marks: Collection[float]) -> str:
    told = [f"{name} {estimate(one, marks)}, n {one.n:,}" for name, one in finding.estimates.items()][: limits.numbers]
    return "; ".join(told)


def _table(anchor: str, table: Table, limits: Limits, marks: Collection[float]) -> tuple[str, ShownTable, str]:
    return anchor, shown(cut(table, limits), marks), reading(table)


def cut(table: Table, limits: Limits) -> Table:
    """The table with no more rows and columns than there is room for; its note says what is left out."""
    lost = [
        f"{rest:,} more {what}"
        for rest, what in (
            (len(table.rows) - limits.rows, "rows"),
            (len(table.columns) - limits.columns, "columns"),
        )
        if rest > 0
    ]
    if not lost:
        return table
    note = f"{table.note} Not shown here: {' and '.join(lost)}; they stand in findings.json.".strip()
    return table.model_copy(
        update={"columns": table.columns[: limits.columns], "rows": table.rows[: limits.rows], "note": note}
    )


def reading(table: Table) -> str:
    """How to read the numbers of a table, by what kinds of number it holds; "" where it holds none."""
    kinds = {type(cell) for row in table.rows for cell in row.values()}
    told = [
        words
        for kind, words in ((EstimateRecord, _ESTIMATES), (PValueRecord, _P_VALUES))
        if kind in kinds
    ]  # fmt: skip
    if not told and kinds & {int, float}:
        told.append(_NUMBERS)
    return " ".join(told)


def _words(findings: Findings, limits: Limits) -> str:
    """Text in which terms are looked for: claims, names and methods of what is shown."""
    parts: list[str] = []
    for section in findings.sections[: limits.sections]:
        parts.append(section.method)
        for finding in section.findings[: limits.findings]:
            parts += [finding.claim, *finding.estimates, *finding.p_values]
            parts += {one.method for one in finding.estimates.values()}
            parts += {one.method for one in finding.p_values.values()}
        for table in section.tables[: limits.tables]:
            parts += [table.title, *(column.label for column in table.columns[: limits.columns])]
    return "\n".join(part[: limits.text] for part in parts)


def _model(record: RunRecord) -> str:
    """Name of the model under audit and the beginning of the hash over its weights, as the gate tells it."""
    prints = record.audited.get("fingerprint")
    weights = prints.get("weights") if isinstance(prints, dict) else None
    name = model_name(record)
    return f"{name}, weights {weights[:16]}..." if name and isinstance(weights, str) else name


def _self_test(record: RunRecord) -> str:
    """What is known of the instrument's last self-test when the run was made, in a sentence."""
    if record.kind == "compare":
        return ""
    test = record.self_test
    if test is None:
        return (
            "The instrument's self-test: none was on record when the run was made. palimpsest doctor --known-answers "
            "makes one."
        )
    failed = sorted(name for name, passed in test.instruments.items() if not passed)
    outcome = (
        "every instrument that was asked passed" if test.passed else f"failed: {', '.join(failed) or 'an instrument'}"
    )
    code = f", commit {test.commit}" if test.commit else ""
    return (
        f"The instrument's self-test before this run: {outcome} ({len(test.instruments)} instruments), "
        f"{test.moment}, Palimpsest {test.palimpsest}{code}; SHA-256 of its result {test.sha256}."
    )


def settings(mapping: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A nested mapping as (dotted key, value) in its own order, cut at a fixed length with a remark."""
    flat = list(_flattened(mapping)) if mapping else []
    rest = len(flat) - _MOST_SETTINGS
    return flat if rest <= 0 else [*flat[:_MOST_SETTINGS], ("...", f"{rest:,} more stand in run.json")]


def _flattened(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flattened(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(inner, Mapping | list | tuple) for inner in value):
        for at, inner in enumerate(value):
            yield from _flattened(inner, f"{path}[{at}]")
    else:
        yield path, _setting(value)


def _setting(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_setting(inner) for inner in value) or "(empty)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "(none)" if value is None or value == {} else str(value)


def _detail(stage: StageRecord) -> str:
    return "; ".join(f"{one_line(key)} {one_line(value)}" for key, value in settings(stage.detail))


def duration(seconds: float) -> str:
    """ "0.42 s", "3 min 05 s", "2 h 10 min"."""
    if seconds < 60:
        return f"{plain(round(seconds, 2))} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60:,} h {minutes % 60:02d} min"
