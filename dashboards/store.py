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
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Final, Literal

from audit.errors import AuditError
from audit.report.sections import Judged, all_judged, model_name, overview
from audit.runs.listing import run_folders
from audit.runs.schema import Findings, Verdict
from audit.runs.seal.record import SEAL_NAME
from audit.runs.store import Run
from audit.text.safe import printable

BLOCKING: tuple[Verdict, ...] = ("found", "confounded", "inconclusive")  # what is no pass by itself
SealState = Literal["", "intact", "broken", "unchecked"]
LARGEST_LISTED: Final = 64 * 2**20  # bytes of findings that the list of runs parses
_KEPT_ROWS, _KEPT_RUNS = 20_000, 8  # as read, in memory
_RECORDS = ("run.json", "findings.json", "opening.json", SEAL_NAME)


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
        seal: What its seal was found to be when a page last checked it, if no file has changed since; "unchecked" where
            it has not been checked, "" where there is none.
        problem: What is wrong with it; None where nothing is seen without hashing its files.
        note: What else must be known to read the row; None where nothing must.
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
    seal: SealState = ""
    problem: str | None = None
    note: str | None = None

    @property
    def wrong(self) -> str | None:
        """The problem, and that the seal was found broken; None where there is neither."""
        broken = "Its seal is broken: its files are not as they were sealed. The page Run says which."
        told = [one for one in (broken if self.seal == "broken" else None, self.problem) if one]
        return " ".join(told) or None


@dataclass(frozen=True, slots=True)
class _Seen:
    """A row as it was read, with the marks of its files at that time, and its run where that has not ended."""

    marks: tuple[object, ...]
    row: Row
    run: Run | None


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
    _seen: dict[Path, _Seen] = field(default_factory=dict)
    _opened: dict[Path, Opened] = field(default_factory=dict)
    _seals: dict[Path, tuple[str, SealState]] = field(default_factory=dict)
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

    def unlisted(self) -> str | None:
        """Why the folder of runs cannot be listed; None where it can, or is not there yet."""
        try:
            run_folders(self.root)
        except AuditError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            why = error.__cause__.strerror if isinstance(error.__cause__, OSError) else None
            return f"The folder of runs cannot be listed: {why or 'it cannot be read'}. It may hold runs all the same."
        return None

    def rows(self) -> list[Row]:
        """One row for each folder, the newest first; those whose date cannot be read come last.

        Reads ``run.json`` and ``findings.json``, and those only where they changed since the last call; findings of
        more than `LARGEST_LISTED` are not read, which the row's note says.
        """
        rows = [self._sealed(self._row(id_, folder), folder) for id_, folder in self.folders().items()]
        return sorted(rows, key=lambda row: (_when(row.date), row.id), reverse=True)

    def remember_seal(self, opened: Opened, state: SealState) -> None:
        """Keeps what a check has found of the run's seal, for the rows, as long as no file of the run changes."""
        if opened.folder is not None and state in ("intact", "broken"):
            with self._lock:
                if len(self._seals) >= _KEPT_ROWS:
                    self._seals.clear()
                self._seals[opened.folder] = (opened.key, state)

    def _sealed(self, row: Row, folder: Path) -> Row:
        with self._lock:
            known = self._seals.get(folder)
        if known is not None and known[0] == files_key(folder):
            return replace(row, seal=known[1])
        return replace(row, seal="unchecked") if row.sealed else row

    def open(self, id_: str) -> Opened:
        """The run of that id out of the listing; an id that is not in it says so."""
        folder = self.folders().get(id_)
        if folder is None:
            return Opened(id_, problem="There is no run of this name in the folder of runs.")
        key = files_key(folder)
        with self._lock:
            known = self._opened.get(folder)
        if known is not None and (known.id, known.key) == (id_, key):
            return _as_it_stands(known)
        opened = _opened(id_, folder, key)
        with self._lock:
            self._opened.pop(folder, None)
            self._opened[folder] = opened
            while len(self._opened) > _KEPT_RUNS:
                del self._opened[next(iter(self._opened))]
        return opened

    def _row(self, id_: str, folder: Path) -> Row:
        marks = (id_, *(_mark(folder / name) for name in _RECORDS))
        try:
            with self._lock:
                known = self._seen.get(folder)
            if known is None or known.marks != marks:
                known = _Seen(marks, *_read_row(id_, folder, sealed=marks[-1] is not None))
        except OSError as error:
            return Row(id_, problem=_unread(error))
        with self._lock:
            if len(self._seen) >= _KEPT_ROWS:
                self._seen.clear()
            self._seen[folder] = known
        return known.row if known.run is None else _with_state(known.row, known.run)


def _opened(id_: str, folder: Path, key: str) -> Opened:
    try:
        if (refused := linked(folder)) is not None:
            return Opened(id_, folder, key=key, problem=refused)
        run = Run.open(folder)
    except OSError as error:
        return Opened(id_, folder, key=key, problem=_unread(error))
    except AuditError as error:
        return Opened(id_, folder, key=key, problem=told(error, folder))
    try:
        return _as_it_stands(Opened(id_, folder, run, run.findings(), key))
    except (AuditError, OSError) as error:
        return Opened(id_, folder, run, None, key, told(error, folder))


def _as_it_stands(opened: Opened) -> Opened:
    """The same, with what depends on who holds the lock told anew; findings are not parsed again for it."""
    run, folder = opened.run, opened.folder
    if run is None or folder is None or run.complete:
        return opened
    if opened.findings is not None:
        told_now = f"This run has not ended ({run.state()}). What is shown of it is incomplete."
        return replace(opened, problem=told_now)
    if _mark(folder / "findings.json") is not None:
        return opened  # damaged
    try:
        run.findings()
    except (AuditError, OSError) as error:
        return replace(opened, problem=told(error, folder))
    return opened


def linked(folder: Path) -> str | None:
    """Why a run's folder is refused, because a record in it or a folder is a link; None where it is not.

    Raises:
        OSError: The folder cannot be listed.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            is_link = entry.is_symlink()
            if is_link and (entry.name in _RECORDS or entry.is_dir()):
                return (
                    f"{printable(entry.name)} in this run's folder is a link to somewhere else, and links are not "
                    "followed. Put the files themselves there."
                )
            if entry.name in _RECORDS and not (entry.is_file(follow_symlinks=False) or entry.is_dir()):
                return f"{printable(entry.name)} in this run's folder is no plain file, so it is not read."
    return None


def files_key(folder: Path) -> str:
    """Hash over path, size and times of every file below ``folder``, and over the seal's bytes.

    Links count as themselves, with what they name; they are not followed.

    Not the seal's head alone: files can change while the seal stays, and what was drawn of the old ones would go on
    being shown.
    """
    digest = hashlib.sha256(os.fsencode(folder))
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted([*names, *(one for one in folders if os.path.islink(os.path.join(place, one)))]):
            path = Path(place, name)
            if name != ".lock":
                digest.update(repr((os.fsencode(path.relative_to(folder)), _mark(path), _target(path))).encode())
    try:
        seal = b"no seal" if (folder / SEAL_NAME).is_symlink() else (folder / SEAL_NAME).read_bytes()
    except OSError:
        seal = b"no seal"
    digest.update(seal)
    return digest.hexdigest()


def blocking(findings: Findings) -> list[Judged]:
    """Findings that are no pass, the gravest first."""
    listed = [one for one in all_judged(findings) if one.verdict in BLOCKING]
    return sorted(listed, key=lambda one: BLOCKING.index(one.verdict))


def _read_row(id_: str, folder: Path, *, sealed: bool) -> tuple[Row, Run | None]:
    """The row, and the run where it has not ended: who holds its lock is asked whenever the row is shown."""
    if (refused := linked(folder)) is not None:
        return Row(id_, sealed=sealed, problem=refused), None
    try:
        run = Run.open(folder)
    except AuditError as error:
        return Row(id_, sealed=sealed, problem=told(error, folder)), None
    record = run.record
    row = Row(id_, record.kind, model_name(record), record.provenance.created, "complete", sealed=sealed)
    unended = None if run.complete else run
    mark = _mark(folder / "findings.json")
    if mark is not None and mark[0] > LARGEST_LISTED:
        note = f"Its findings are {mark[0] / 2**20:,.0f} MiB, too many to be read for this list. Its page reads them."
        return replace(row, note=note), unended
    try:
        if unended is not None and mark is None:
            return row, unended
        findings = run.findings()
    except AuditError as error:
        return replace(row, problem=told(error, folder)), unended
    row = replace(
        row,
        verdict=overview(findings).label,
        blocking=tuple((one.finding.id, one.verdict) for one in blocking(findings)),
        audits=tuple(dict.fromkeys(section.audit for section in findings.sections)),
    )
    return row, unended


def _with_state(row: Row, run: Run) -> Row:
    """The row of a run that has not ended, with what is true of it now."""
    state = run.state()
    return replace(row, state=state, problem=row.problem or f"This run has not ended ({state}).")


def _when(date: str) -> float:
    """Seconds since 1970; of what is no date, less than any date has."""
    try:
        moment = datetime.fromisoformat(date)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return float("-inf")


def _mark(path: Path) -> tuple[int, ...] | None:
    """Of the file itself: a link is not followed."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _target(path: Path) -> bytes | None:
    try:
        return os.fsencode(os.readlink(path))
    except OSError:
        return None  # no link


def _unread(error: OSError) -> str:
    return f"It could not be read: {error.strerror or 'no reason is known'}."


def told(error: object, folder: Path) -> str:
    """The message without the path of the folder that holds the runs, which is nobody's business in a browser."""
    return printable(error).replace(f"{printable(folder)}/", "").replace(printable(folder), "this run")
