"""What a report says, whatever it is written as: read once from a run, then laid out as HTML, Markdown, JSON or PDF."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..errors import InputError, MissingDependencyError
from ..gates.result import GateResult
from ..runs.records import read_record
from ..runs.schema import AuditSection, Findings, OpeningRecord, RunRecord, Table
from ..runs.seal.check import verify_run
from ..runs.seal.record import SEAL_NAME, SECRET_NAME, is_sealed
from ..runs.store import Run
from ..text.files import sha256_file
from .deviations import deviations_of
from .drawing import QUOTED, figures_of, quoted_of
from .figures import Comparison, Figure, MarkedTexts

HIDDEN: Final = "[hidden]"
# Columns of tables in findings that quote prompts or passages, where the run was asked to.
_QUOTING: Final = frozenset({"prompt", "written", "original"})
# Tables that set a model after a remedy beside the same model before it.
_BEFORE_AFTER: Final[Mapping[str, tuple[str, ...]]] = {
    "remediation": ("verdicts", "measures", "changes", "audits"),
    "unlearning": ("changes",),
    "eco": ("metrics",),
    "steer": ("held-out-distances", "distances"),
    "steer-evaluation": ("truthfulqa", "choices"),
}


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that one report rests on.

    Attributes:
        record: ``run.json``.
        findings: ``findings.json``.
        figures: Audit's name (``AuditSection.audit``) -> its figures, in reading order.
        comparisons: Audit's name -> texts to quote side by side, the strongest match first.
        marked: Audit's name -> texts to quote with marks.
        gate: A policy's verdict on the run; None where no policy was given.
        deviations: What departed from the plan.
        item_hashes: Path inside the run -> SHA-256 in hex, of the files that the findings rest on.
        head: Of the run's seal; None where it is not sealed.
        broken_seal: What is not as it was sealed, one sentence each.
        hides_text: Whether there may be texts that are not quoted because nobody asked for them.
    """

    record: RunRecord
    findings: Findings
    figures: Mapping[str, Sequence[Figure]] = field(default_factory=dict)
    comparisons: Mapping[str, Sequence[Comparison]] = field(default_factory=dict)
    marked: Mapping[str, MarkedTexts] = field(default_factory=dict)
    gate: GateResult | None = None
    deviations: tuple[str, ...] = ()
    item_hashes: Mapping[str, str] = field(default_factory=dict)
    head: str | None = None
    broken_seal: tuple[str, ...] = ()
    hides_text: bool = False

    def __post_init__(self) -> None:
        """Refuses figures and texts of an audit that has no section."""
        names = [section.audit for section in self.findings.sections]
        given = (("figures", self.figures), ("comparisons", self.comparisons), ("marked texts", self.marked))
        for what, mapping in given:
            strangers = [name for name in mapping if name not in names]
            if strangers:
                raise InputError(
                    f"there are {what} for the audit {strangers[0]!r}, which has no section in the findings; the "
                    f"sections are {', '.join(names) or 'none'}. Name {what} after AuditSection.audit."
                )


def read_report(
    run: Run,
    *,
    gate: GateResult | None = None,
    show_text: bool | None = None,
    comparisons: Mapping[str, Sequence[Comparison]] | None = None,
) -> Report:
    """Reads what a report of the run says.

    Args:
        run: A run that has findings. One that has not ended gets a report that says so.
        gate: A policy's verdict on it.
        show_text: Whether texts that may be sensitive are quoted; None stands for what the run's plan asked.
        comparisons: Audit -> texts to quote side by side.

    Raises:
        IncompleteRunError: The run has no findings.
        DataError: Findings, items or another of the run's files are damaged.
    """
    findings = run.findings()
    told = without_quotes(findings) if show_text is False else findings
    marks = show_text or (show_text is None and plan_shows(run.record.plan))
    marked = quoted_of(run, findings) if marks else {}
    compared = {} if show_text is False else dict(comparisons or {})
    audits = {section.audit for section in findings.sections}
    kept_back = (audits & QUOTED.keys() and not marks) or ("extraction" in audits and not compared)
    opening = run.folder / "opening.json"
    opened = read_record(opening, OpeningRecord, missing="") if opening.is_file() else None
    broken, unchecked = _seal(run.folder)
    return Report(
        record=run.record,
        findings=told,
        figures=figures_of(run, findings),
        comparisons=compared,
        marked=marked,
        gate=gate,
        deviations=(*deviations_of(run.record, findings, run.attempts(), opened), *unchecked),
        item_hashes={path.relative_to(run.folder).as_posix(): sha256_file(path) for path in _rests_on(run)},
        head=seal_head(run.folder),
        broken_seal=broken,
        hides_text=bool(kept_back or told != findings),
    )


def sealed_folder(folder: Path) -> Path | None:
    """The run, or the one that it lies in, that carries a seal, so that nothing may be written into it; or None."""
    where = folder.resolve()
    return next((one for one in (where, *where.parents) if is_sealed(one)), None)


def seal_head(folder: Path) -> str | None:
    """The head that the run's seal names, unchecked; None where there is no seal or it cannot be read."""
    try:
        head = json.loads((folder / SEAL_NAME).read_bytes()).get("head")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return head if isinstance(head, str) else None


def _seal(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is not as it was sealed, and why the seal could not be checked, in one sentence each."""
    if not is_sealed(folder):
        return ((f"it holds {SECRET_NAME} and no {SEAL_NAME}",) if (folder / SECRET_NAME).exists() else ()), ()
    try:
        return tuple(problem.says for problem in verify_run(folder).problems), ()
    except MissingDependencyError as error:
        return (), (f"The seal was not checked: {error}",)


def quotes(run: Run) -> bool:
    """Whether the findings may quote a text: they are kept from others then."""
    mode = (run.folder / "findings.json").stat().st_mode
    return not mode & (stat.S_IRGRP | stat.S_IROTH)


def plan_shows(plan: Mapping[str, Any]) -> bool:
    """Whether a plan asked for texts in the report, in any of its tables."""
    return any(isinstance(table, Mapping) and table.get("show_text") is True for table in plan.values())


def without_quotes(findings: Findings) -> Findings:
    """The same findings with quoted prompts and passages hidden."""
    return findings.model_copy(update={"sections": tuple(_hidden(section) for section in findings.sections)})


def _hidden(section: AuditSection) -> AuditSection:
    tables = []
    for table in section.tables:
        quoting = {column.key for column in table.columns} & _QUOTING
        rows = tuple(
            {key: HIDDEN if key in quoting and isinstance(cell, str) and cell else cell for key, cell in row.items()}
            for row in table.rows
        )
        note = f"{table.note} Quoted texts are hidden; palimpsest report RUN --show-text shows them.".strip()
        tables.append(table.model_copy(update={"rows": rows, "note": note}) if quoting and rows else table)
    return section.model_copy(update={"tables": tuple(tables)})


def before_and_after(section: AuditSection) -> tuple[Table, ...]:
    """Tables of the section that set a model after a remedy beside the same model before it."""
    names = _BEFORE_AFTER.get(section.audit, ())
    return tuple(table for table in section.tables if table.name in names and table.rows)


def _rests_on(run: Run) -> list[Path]:
    named = [run.folder / name for name in ("findings.json", "opening.json", "plan.toml")]
    return [*sorted((run.folder / "items").glob("*.parquet")), *(path for path in named if path.is_file())]
