"""Runs side by side: as text for a terminal, as a table for a spreadsheet, and as sections of a report."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from .. import __version__
from ..runs.compare.make import Comparison, Row
from ..runs.compare.settings import line_of
from ..runs.provenance import provenance
from ..runs.records import plan_hash
from ..runs.schema import AuditSection, Cell, Column, EstimateRecord, Finding, Findings, RunRecord, Table
from ..text.numbers import percent
from ..text.safe import counted, printable
from .chart_rows import label as cut_label
from .content import Report
from .figures import Figure, Panel
from .intervals import interval_chart
from .numbers import estimate
from .safe_text import one_line

KIND: Final = "compare"
_COLUMNS = 100
_MOST_DRAWN, _WIDE = 40, 700  # estimates of one figure; pixels
_HOW_TO_READ = (
    "A difference is the run's value less that of run 1. Paired: both rest on the same items, which were resampled "
    "together. Unpaired: from the two intervals alone, supposing that the runs are independent; where they rest on the "
    "same texts this is too wide. Where nothing differs, one interval in twenty at 95% leaves out 0 all the same. All "
    "of it speaks of these models; none says what training again would give."
)


def comparison_text(comparison: Comparison, *, tables: bool = False) -> str:
    """The comparison in plain characters, at most 100 columns wide but for names that have no spaces.

    Args:
        comparison: Runs side by side.
        tables: Whether cells of tables are shown beside the estimates of findings.
    """
    kind = comparison.runs[0].record.kind
    lines = [f"{len(comparison.runs)} runs of kind {one_line(kind)}; differences are from run 1", ""]
    for run in comparison.runs:
        lines += _wrapped(f"{run.folder}, of {run.model}", first=f"  {run.name}  ", rest=" " * 9)
    heads = [
        ("Let through by name, though it matters: ", _allowed(comparison)),
        ("Note: ", comparison.told),
    ]
    for label, told in heads:
        if told:
            lines.append("")
        for line in told:
            lines += _wrapped(f"{label}{line}", first="", rest="  ")
    shown = [row for row in comparison.rows if (tables or row.place.finding is not None) and _estimable(row)]
    verdicts = dict(comparison.verdicts)
    notes: dict[str, int] = {}
    audit = where = None
    for row in shown:
        if row.place.audit != audit:
            audit = row.place.audit
            lines += ["", one_line(audit)]
        if row.place.where != where:
            where = row.place.where
            said = verdicts.get((row.place.audit, row.place.finding or ""))
            words = "" if said is None or set(said) == {"information"} else f" ({'; '.join(v or '-' for v in said)})"
            lines += ["", *_wrapped(f"{where}{words}", first="  ", rest="    ")]
        lines += _wrapped(row.place.name, first="    ", rest="      ")
        lines += _row_lines(row, comparison.run_names, notes)
    lines += [""]
    for note, number in notes.items():
        lines += _wrapped(note, first=f"({number}) ", rest="    ")
    lines += ["", *_wrapped(_HOW_TO_READ, first="", rest="")]
    hidden = comparison.n_cells + (0 if tables else sum(row.place.finding is None for row in comparison.rows))
    if hidden:
        lines += ["", f"{counted(hidden, 'cell')} of tables not shown; --tables shows them."]
    empty = sum(not _estimable(row) for row in comparison.rows if tables or row.place.finding is not None)
    if empty:
        lines.append(f"{counted(empty, 'estimate')} not shown that no run could make.")
    for line in comparison.left_out:
        lines += _wrapped(f"Not compared: {line}.", first="", rest="  ")
    return "\n".join(lines) + "\n"


def _estimable(row: Row) -> bool:
    return any(one is not None and one.value is not None for one in row.estimates)


def _row_lines(row: Row, names: Sequence[str], notes: dict[str, int]) -> Iterator[str]:
    cells = ["-" if one is None else estimate(one) for one in row.estimates]
    sizes = ["" if one is None else f"n {one.n:,}" for one in row.estimates]
    wide, long = max(map(len, cells)), max(map(len, sizes))
    for number, (name, cell, size) in enumerate(zip(names, cells, sizes, strict=True)):
        told = f"{name}  {cell:<{wide}}  {size:<{long}}"
        if number:
            made = row.differences[number - 1]
            record = EstimateRecord.of(made.estimate)
            mark = f" ({notes.setdefault(one_line(record.why, limit=600), len(notes) + 1)})" if record.why else ""
            if record.value is None:
                told += f"  no difference{mark}"
            else:
                apart = record.low is not None and record.high is not None and not record.low <= 0 <= record.high
                told += f"  difference {estimate(record)}, {made.how}{', not 0' if apart else ''}{mark}"
        yield from _wrapped(told, first="      ", rest=" " * 13)


def _wrapped(text: str, *, first: str, rest: str) -> list[str]:
    """Lines without control characters; spaces inside stay, for they align columns."""
    safe = "  ".join(one_line(part, limit=2_000) for part in text.split("  "))
    return textwrap.wrap(
        safe,
        _COLUMNS,
        initial_indent=first,
        subsequent_indent=rest,
        break_on_hyphens=False,
        break_long_words=False,
    ) or [first.rstrip()]


def comparison_table(comparison: Comparison) -> pa.Table:
    """One row for each estimate and run, with its difference from the first run."""
    rows: list[dict[str, Any]] = []
    for row in comparison.rows:
        for number, (run, one) in enumerate(zip(comparison.runs, row.estimates, strict=True)):
            made = None if number == 0 else row.differences[number - 1]
            cells = {
                "audit": row.place.audit,
                "where": row.place.where,
                "estimate": row.place.name,
                "run": run.number,
                "folder": run.folder,
            }
            cells |= _cells("", one)
            cells["difference_how"] = None if made is None else made.how
            rows.append(cells | _cells("difference_", None if made is None else EstimateRecord.of(made.estimate)))
    kinds = dict.fromkeys(("value", "low", "high", "level"), pa.float64()) | {"n": pa.int64(), "run": pa.int64()}
    schema = pa.schema([(name, kinds.get(name.removeprefix("difference_"), pa.string())) for name in rows[0]])
    return pa.Table.from_pylist([{name: _text(cell) for name, cell in row.items()} for row in rows], schema=schema)


def _text(cell: Any) -> Any:
    return printable(cell) if isinstance(cell, str) else cell


def _cells(prefix: str, one: EstimateRecord | None) -> dict[str, Any]:
    return {f"{prefix}{name}": None if one is None else getattr(one, name) for name in EstimateRecord.model_fields}


def comparison_findings(comparison: Comparison) -> Findings:
    """One section for each audit: what differs, and every row in tables."""
    audits = dict.fromkeys(row.place.audit for row in comparison.rows)
    allowed = tuple(f"Let through by name, though it matters: {line}." for line in _allowed(comparison))
    told = tuple(f"{line[0].upper()}{line[1:]}." for line in comparison.told)
    left_out = tuple(f"Not compared: {line}." for line in comparison.left_out)
    return Findings(
        sections=tuple(_section(comparison, audit) for audit in audits), limitations=(*allowed, *told, *left_out)
    )


def _allowed(comparison: Comparison) -> tuple[str, ...]:
    """What was let through by name, in words."""
    return tuple(line_of(one, comparison.run_names) for one in comparison.allowed)


def _section(comparison: Comparison, audit: str) -> AuditSection:
    rows = [row for row in comparison.rows if row.place.audit == audit]
    tables = (
        _verdicts(comparison, audit),
        _estimates("findings", "Estimates of findings", comparison, [r for r in rows if r.place.finding is not None]),
        _estimates("cells", "Cells of tables", comparison, [r for r in rows if r.place.finding is None]),
        _p_values(comparison, audit),
    )
    return AuditSection(
        audit=audit,
        title=f"Runs side by side: {audit}",
        method=(
            "Each run's estimates stand as the run recorded them. A difference is paired where both runs hold the "
            "items that the estimate was made from, with the same ids, and the items give the recorded value again: "
            "the items (or their whole clusters) are resampled together. Else it comes from the two intervals."
        ),
        assumptions=(
            "Items, or clusters of them, are independent of one another.",
            "An unpaired difference supposes that the two runs are independent.",
            *(f"{line}; let through by name." for line in _allowed(comparison)),
        ),
        cannot_show=(
            "What training again would give: no seed of training is varied here.",
            "Which of many differences is real: intervals are not corrected for their number.",
        ),
        findings=tuple(_finding(comparison, audit, rows, at) for at in range(len(comparison.runs) - 1)),
        tables=tuple(table for table in tables if table.rows),
    )


def _finding(comparison: Comparison, audit: str, rows: Sequence[Row], at: int) -> Finding:
    made = [row.differences[at].estimate for row in rows]
    sure = [one for one in made if one.low is not None and one.high is not None]
    apart = sum(not one.low <= 0 <= one.high for one in sure if one.low is not None and one.high is not None)
    level = percent(sure[0].level) if sure else "95%"
    return Finding(
        id=f"{KIND}.{audit}.run_{at + 2}",
        audit=audit,
        claim=(
            f"Run {at + 2} less run 1: {counted(len(sure), 'difference')} with an interval, of which {apart:,} "
            f"{'leaves' if apart == 1 else 'leave'} out 0 at {level}; {len(made) - len(sure):,} could not be made."
        ),
        verdict="information",
        how_to_read=_HOW_TO_READ,
    )


def _estimates(name: str, title: str, comparison: Comparison, rows: Sequence[Row]) -> Table:
    columns = [Column(key="where", label="Where"), Column(key="name", label="Estimate")]
    columns += [Column(key=run.name, label=run.name.capitalize()) for run in comparison.runs]
    for run in comparison.runs[1:]:
        columns += [
            Column(key=f"{run.name} less", label=f"{run.name.capitalize()} less run 1"),
            Column(key=f"{run.name} how", label="Made"),
        ]
    told: list[dict[str, Cell]] = []
    for row in rows:
        cells: dict[str, Cell] = {"where": row.place.where, "name": row.place.name}
        cells |= dict(zip(comparison.run_names, row.estimates, strict=True))
        for run, made in zip(comparison.runs[1:], row.differences, strict=True):
            cells[f"{run.name} less"] = EstimateRecord.of(made.estimate)
            cells[f"{run.name} how"] = made.how
        told.append(cells)
    return Table(name=name, title=title, columns=tuple(columns), rows=tuple(told))


def _verdicts(comparison: Comparison, audit: str) -> Table:
    rows: list[dict[str, Cell]] = [
        {"finding": finding, **dict(zip(comparison.run_names, said, strict=True))}
        for (of, finding), said in comparison.verdicts
        if of == audit
    ]
    columns = (Column(key="finding", label="Finding"), *_run_columns(comparison))
    return Table(name="verdicts", title="Verdicts", columns=columns, rows=tuple(rows))


def _p_values(comparison: Comparison, audit: str) -> Table:
    return Table(
        name="p-values",
        title="p-values",
        note="No difference is taken: how far two p-values lie apart says nothing of how far two models do.",
        columns=(
            Column(key="where", label="Where"), Column(key="name", label="p-value"), *_run_columns(comparison),
        ),
        rows=tuple(
            {"where": place.where, "name": place.name} | dict(zip(comparison.run_names, said, strict=True))
            for place, said in comparison.p_values
            if place.audit == audit
        ),
    )  # fmt: skip


def _run_columns(comparison: Comparison) -> list[Column]:
    return [Column(key=run.name, label=run.name.capitalize()) for run in comparison.runs]


def comparison_report(comparison: Comparison, item_hashes: Mapping[str, str]) -> Report:
    """What a report says of the comparison.

    Args:
        comparison: Runs side by side, with the cells of their tables.
        item_hashes: File -> SHA-256, of what it rests on.
    """
    allow = [word for one in comparison.allowed for word in ("--allow", one.name)]
    folders = [run.folder for run in comparison.runs]
    command = ["palimpsest", "compare", *folders, *allow, "--seed", str(comparison.seed)]
    return Report(
        record=comparison_record(comparison, command),
        findings=comparison_findings(comparison),
        figures=comparison_figures(comparison),
        item_hashes=item_hashes,
    )


def comparison_figures(comparison: Comparison) -> dict[str, list[Figure]]:
    """Audit -> its differences from run 1, for estimates of findings that lie in [0, 1] in every run."""
    audits = dict.fromkeys(row.place.audit for row in comparison.rows)
    return {audit: [_differences(comparison, audit)] for audit in audits}


def _differences(comparison: Comparison, audit: str) -> Figure:
    title = "Differences from run 1"
    rows = [row for row in comparison.rows if row.place.audit == audit and row.place.finding is not None]
    drawn: list[dict[str, Any]] = []
    names: set[str] = set()
    for row in rows:
        values = [one.value for one in row.estimates if one is not None and one.value is not None]
        name = f"{row.place.finding}/{row.place.name}"
        if not values or min(values) < 0 or max(values) > 1 or len(names) == _MOST_DRAWN:
            continue
        for run, made in zip(comparison.runs[1:], row.differences, strict=True):
            one = EstimateRecord.of(made.estimate)
            if one.value is not None:
                names.add(name)
                drawn.append(
                    {"name": cut_label(name, limit=44), "group": run.name, "value": one.value, "low": one.low,
                     "high": one.high}
                )  # fmt: skip
    if not drawn:
        return Figure("differences", title, "Not drawn: no difference of shares could be made.", ())
    chart = interval_chart(drawn, axis="difference", groups=None, width=_WIDE)
    caption = (
        "Each run's estimate less that of run 1, for estimates between 0 and 1 (shares, AUCs); an interval that holds "
        "0 shows no difference."
    )
    if len(rows) > len(names):
        caption += f" Not drawn: {len(rows) - len(names):,} others (see the tables)."
    told = f"{len(names)} estimates with their differences from run 1, which stand in the tables."
    return Figure("differences", title, caption, (Panel("", told, chart),))


def comparison_record(comparison: Comparison, command: Sequence[str]) -> RunRecord:
    """What the report says of where the comparison came from; nothing in it is the time of the day.

    ``created`` is when the last of the runs ended, so that the same comparison gives the same page to the byte.
    """
    plan: dict[str, Any] = {
        "runs": {run.name: {"folder": run.folder, "id": run.record.id, "plan_sha256": run.record.plan_sha256}
                 for run in comparison.runs},
        "allowed": [one.name for one in comparison.allowed],
        "seed": comparison.seed,
    }  # fmt: skip
    ends = [run.record.finished or run.record.provenance.created for run in comparison.runs]
    made = provenance(command).model_copy(
        update={"created": max(ends), "palimpsest": __version__, "hardware": {}, "command": tuple(command)}
    )
    return RunRecord(
        id=comparison.id,
        kind=KIND,
        status="complete",
        plan=plan,
        plan_sha256=plan_hash(plan),
        subjects={run.name: {"model": run.model, "run": run.record.id} for run in comparison.runs},
        seeds={KIND: comparison.seed},
        provenance=made,
    )
