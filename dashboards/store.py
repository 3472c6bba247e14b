"""The runs in one folder, as the dashboard sees them: listed cheaply, opened by id, never by a path.

Nothing here raises because of what a run holds: a run that is half written, damaged or of a newer version comes with a
sentence that says what is wrong; `sealing` says it of one that was changed after it was sealed.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

from audit.errors import AuditError
from audit.report.sections import Judged, all_judged, overview
from audit.runs.listing import run_folders
from audit.runs.schema import Findings, RunRecord, Verdict
from audit.runs.seal.record import SEAL_NAME
from audit.runs.store import Run
from audit.text.safe import printable

BLOCKING: tuple[Verdict, ...] = ("found", "confounded", "inconclusive")  # what is no pass by itself
_KEPT_ROWS, _KEPT_RUNS = 20_000, 8  # as read, in memory


@dataclass(frozen=True, slots=True)
class Row:
    """One folder of the store.

    Attributes:
        id: The folder's name; how pages and addresses name the run.
        kind: As in ``run.json``; "" where it cannot be read.
        model: The model that was examined, as the run names it; "" where there is none.
        date: When it was begun, ISO 8601 in UTC; "" where it cannot be read.
        state: As `Run.state`; "unreadable" where it cannot be read.
        verdict: Label of the gravest verdict; "" where there are no findings.
        blocking: (id, verdict) of findings that are no pass: found, confounded or inconclusive, the gravest first.
        audits: Audits that its findings hold.
        sealed: Whether it has a seal, intact or not.
        problem: What is wrong with it; None where nothing is seen without hashing its files.
    """

    id: str
    kind: str = ""
    model: str = ""
    date: str = ""
    state: str = "unreadable"
    verdict: str = ""
    blocking: tuple[tuple[str, str], ...] = ()
    audits: tuple[str, ...] = ()
    sealed: bool = False
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """One run, as far as it could be read.

    Attributes:
        id: As `Row.id`.
        folder: Its folder; None where there is no such run.
        run: None where ``run.json`` could not be read.
        findings: None where there are none, or they could not be read.
        key: Changes whenever a file of the run does; what caches are keyed by.
        problem: What is wrong, in a sentence or more; None where nothing is.
    """

    id: str
    folder: Path | None = None
    run: Run | None = None
    findings: Findings | None = None
    key: str = ""
    problem: str | None = None

    @property
    def audits(self) -> tuple[str, ...]:
        """Audits that its findings hold, in their order."""
        return tuple(dict.fromkeys(section.audit for section in self.findings.sections)) if self.findings else ()

    def file(self, *parts: str) -> Path | None:
        """A plain file of the run, or None: no link and nothing that stands outside of the run's folder."""
        if self.folder is None or any(part in ("", ".", "..") or "/" in part or "\0" in part for part in parts):
            return None
        path = self.folder
        try:
            for part in parts:
                path = path / part
                if stat.S_ISLNK(os.lstat(path).st_mode):
                    return None
            return path if stat.S_ISREG(os.lstat(path).st_mode) else None
        except (OSError, ValueError):
            return None


@dataclass(slots=True)
class Store:
    """The runs directly in ``root``, and ``root`` itself where it is one."""

    root: Path
    _seen: dict[Path, tuple[tuple[object, ...], Row]] = field(default_factory=dict)
    _opened: dict[Path, Opened] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def folders(self) -> Mapping[str, Path]:
        """Id -> folder of everything that is a run or the rest of one; empty where ``root`` cannot be read."""
        try:
            found = run_folders(self.root)
        except AuditError:
            return {}
        named: dict[str, Path] = {}
        for folder in found:
            name, number = printable(folder.resolve().name if folder == self.root else folder.name), 2
            while name in named:
                name, number = f"{printable(folder.name)} ({number})", number + 1
            named[name] = folder
        return named

    def rows(self) -> list[Row]:
        """One row for each folder, the newest first; those that cannot be read come last.

        Reads ``run.json`` and ``findings.json``, and those only where they changed since the last call.
        """
        rows = [self._row(id_, folder) for id_, folder in self.folders().items()]
        return sorted(rows, key=lambda row: (row.date, row.id), reverse=True)

    def open(self, id_: str) -> Opened:
        """The run of that id out of the listing; an id that is not in it says so."""
        folder = self.folders().get(id_)
        if folder is None:
            return Opened(id_, problem="There is no run of this name in the folder of runs.")
        key = files_key(folder)
        with self._lock:
            known = self._opened.get(folder)
        if known is not None and (known.id, known.key) == (id_, key):
            return known
        opened = _opened(id_, folder, key)
        if opened.run is None or opened.run.complete:  # the state of others depends on who holds the lock
            with self._lock:
                self._opened.pop(folder, None)
                self._opened[folder] = opened
                while len(self._opened) > _KEPT_RUNS:
                    del self._opened[next(iter(self._opened))]
        return opened

    def _row(self, id_: str, folder: Path) -> Row:
        marks = tuple(_mark(folder / name) for name in ("run.json", "findings.json", SEAL_NAME))
        try:
            with self._lock:
                known = self._seen.get(folder)
            if known is not None and known[0] == (id_, *marks) and known[1].state in ("complete", "unreadable"):
                return known[1]  # the state of others depends on who holds the lock
            row = _read_row(id_, folder, sealed=marks[2] is not None)
        except OSError as error:
            return Row(id_, problem=told(error, folder))
        with self._lock:
            if len(self._seen) >= _KEPT_ROWS:
                self._seen.clear()
            self._seen[folder] = ((id_, *marks), row)
        return row


def _opened(id_: str, folder: Path, key: str) -> Opened:
    try:
        run = Run.open(folder)
    except (AuditError, OSError) as error:
        return Opened(id_, folder, key=key, problem=told(error, folder))
    problem = None
    try:
        findings = run.findings()
        if not run.complete:
            problem = f"This run has not ended ({run.state()}). What is shown of it is incomplete."
    except (AuditError, OSError) as error:
        return Opened(id_, folder, run, None, key, told(error, folder))
    return Opened(id_, folder, run, findings, key, problem)


def files_key(folder: Path) -> str:
    """Hash over path, size and times of every file below ``folder``, and over the seal's bytes.

    Not the seal's head alone: files can change while the seal stays, and what was drawn of the old ones would go on
    being shown.
    """
    digest = hashlib.sha256(os.fsencode(folder))
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(place, name)
            if name != ".lock":
                digest.update(repr((os.fsencode(path.relative_to(folder)), _mark(path))).encode())
    try:
        digest.update((folder / SEAL_NAME).read_bytes())
    except OSError:
        digest.update(b"no seal")
    return digest.hexdigest()


def model_of(record: RunRecord) -> str:
    """The model under audit, or the one that was to forget, as the run names it; "" where there is none."""
    return str(record.audited.get("model", ""))


def short_model(name: str) -> str:
    """The last part of a folder's path; an id as it is."""
    return name.rstrip("/").rsplit("/", 1)[-1] if name.startswith(("/", ".", "~")) else name


def blocking(findings: Findings) -> list[Judged]:
    """Findings that are no pass, the gravest first."""
    listed = [one for one in all_judged(findings) if one.verdict in BLOCKING]
    return sorted(listed, key=lambda one: BLOCKING.index(one.verdict))


def _read_row(id_: str, folder: Path, *, sealed: bool) -> Row:
    try:
        run = Run.open(folder)
    except AuditError as error:
        return Row(id_, sealed=sealed, problem=told(error, folder))
    record = run.record
    row = Row(id_, record.kind, model_of(record), record.provenance.created, run.state(), sealed=sealed)
    try:
        findings = run.findings()
    except AuditError as error:
        return replace(row, problem=told(error, folder))
    return replace(
        row,
        verdict=overview(findings).label,
        blocking=tuple((one.finding.id, one.verdict) for one in blocking(findings)),
        audits=tuple(dict.fromkeys(section.audit for section in findings.sections)),
        problem=None if run.complete else f"This run has not ended ({run.state()}).",
    )


def _mark(path: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def told(error: object, folder: Path) -> str:
    """The message without the path of the folder that holds the runs, which is nobody's business in a browser."""
    return printable(error).replace(f"{printable(folder)}/", "").replace(printable(folder), "this run")
