"""The run whose audit a page shows: the chosen one itself, or a run that lies inside a loop's."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from audit.errors import AuditError
from audit.report.numbers import limits_of
from audit.runs.schema import AuditSection, Findings
from audit.runs.store import Run

from .address import chosen_run, kept
from .plain import cell, plain
from .store import Opened, Store, files_key, linked

LOOP = "remediation"
_CHANGED = "files-changed"  # in the session
_AUDITS, _REMEDIES = "audits", "remedies"


@dataclass(frozen=True, slots=True)
class Part:
    """A run with the sections that a page shows.

    Attributes:
        run: The run whose items are read.
        findings: Its findings.
        sections: Those of the page's audits, at least one.
        key: Changes whenever a file of the run does.
        outer: Folder of the run that was chosen: its own, or the loop's that it lies in.
        files: `store.files_key` of that folder when the page was drawn.
    """

    run: Run
    findings: Findings
    sections: tuple[AuditSection, ...]
    key: str
    outer: Path
    files: str

    @property
    def landmarks(self) -> frozenset[float]:
        """Limits that the plan states: no number is rounded onto one of them."""
        return limits_of(self.run.record.plan)

    def section(self, audit: str) -> AuditSection | None:
        """The first section of that audit."""
        return next((one for one in self.sections if one.audit == audit), None)


def chosen_part(shop: Store, audits: Sequence[str], kinds: Collection[str], *, what: str, how: str) -> Part | None:
    """Draws the picker of runs, and of the runs inside a loop's.

    Args:
        shop: The runs.
        audits: Names of audits that the page shows.
        kinds: Kinds of runs that can hold them.
        what: What a run without them lacks: "traps audit".
        how: What would make it, in Markdown.

    Returns:
        None where there is nothing to show, which has been said.
    """
    if st.session_state.pop(_CHANGED, False):
        st.info("The run's files changed while this page was open. It was drawn anew.", icon=":material/refresh:")
    opened = chosen_run(shop, kinds)
    if opened is None or opened.run is None:
        return None
    inside = _inside(opened.run, kinds) if opened.run.record.kind == LOOP and LOOP not in audits else {}
    if inside:
        name = st.selectbox(
            "Model of the loop" if _AUDITS in _folders(inside) else "Remedy of the loop",
            list(inside),
            format_func=lambda one: cell(one, 60),
            **kept("part", next(iter(inside)), list(inside)),
            help="The chosen run is a loop. It holds a run of its own for each of these.",
        )
        return _inner(name, inside[name], opened, audits, what=what, how=how)
    return _own(opened, opened.run, audits, what=what, how=how)


def _own(opened: Opened, run: Run, audits: Sequence[str], *, what: str, how: str) -> Part | None:
    if opened.findings is None:
        st.info("Nothing has been concluded in this run yet, so there is nothing to show here.", icon=":material/info:")
        return None
    return _part(run, opened.findings, opened.key, opened, audits, what=what, how=how)


def _inner(name: str, folder: Path, opened: Opened, audits: Sequence[str], *, what: str, how: str) -> Part | None:
    try:
        run = Run.open(folder)
        findings = run.findings()
    except (AuditError, OSError) as error:
        st.warning(plain(without_folder(error, folder), 3_000), icon=":material/warning:")
        return None
    return _part(run, findings, f"{opened.key}/{folder.parent.name}/{name}", opened, audits, what=what, how=how)


def _part(
    run: Run, findings: Findings, key: str, opened: Opened, audits: Sequence[str], *, what: str, how: str
) -> Part | None:
    sections = tuple(one for one in findings.sections if one.audit in audits)
    if not sections:
        st.info(f"This run has no {what}. {how}", icon=":material/info:")
        return None
    return Part(run, findings, sections, key, opened.folder or run.folder, opened.key)


def changed_since(part: Part) -> bool:
    """Whether a file of the run has changed since the page was drawn."""
    return files_key(part.outer) != part.files


def note_change() -> None:
    """Has the next page say that the run's files changed."""
    st.session_state[_CHANGED] = True


def _inside(run: Run, kinds: Collection[str]) -> dict[str, Path]:
    """Name -> folder of the runs inside a loop's that are of one of the kinds, the subject's first."""
    found: dict[str, Path] = {}
    audited = sorted((run.folder / _AUDITS).glob("*/run.json"), key=lambda file: file.parent.name != "subject")
    for file in [*audited, *sorted((run.folder / _REMEDIES).glob("*/run/run.json"))]:
        folder = file.parent
        try:
            if _has_link(run.folder, file) or linked(folder) is not None:
                continue
            if Run.open(folder).record.kind in kinds:
                found[folder.name if folder.parent.name == _AUDITS else folder.parent.name] = folder
        except (AuditError, OSError):
            continue  # the page Run tells what is wrong with a loop's folder
    return found


def _has_link(folder: Path, path: Path) -> bool:
    """Whether any part of the path below the folder is a link."""
    parts = path.relative_to(folder).parts
    return any(folder.joinpath(*parts[: n + 1]).is_symlink() for n in range(len(parts)))


def _folders(inside: dict[str, Path]) -> set[str]:
    return {folder.parent.name for folder in inside.values()}


def without_folder(error: Exception, folder: Path) -> str:
    """The message without the path of the folder, which is nobody's business in a browser."""
    return str(error).replace(f"{folder}/", "").replace(str(folder), "this run")
