"""The run folder: made step by step, resumed after a kill, read by everyone else.

``opening.json`` (`OpeningRecord`), ``run.json`` (`RunRecord`), ``plan.toml``, ``items/*.parquet``, ``findings.json``;
while it is made also ``parts/`` (finished parts of long work), ``seconds.json`` (time spent in unfinished stages) and
``attempts/`` (where and with what each later attempt ran).
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from ..errors import AuditError, IncompleteRunError, InputError, StorageError
from ..text.files import make_folder, remove_leftovers, storage_errors, write_json, write_text
from ..text.safe import did_you_mean, printable, quoted
from ..text.tables import read_parquet, write_parquet
from .lock import FolderLock, is_locked
from .moments import now
from .provenance import provenance
from .records import first_difference, plain, plan_hash, read_record, write_record
from .resume import read_run, read_seconds, refuse_strangers, require_same_plan, require_same_versions, result_missing
from .schema import Findings, OpeningRecord, Provenance, RunRecord, StageRecord
from .self_test import latest
from .shards import ShardedTable, remove_parts

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class Run:
    """One run folder. `start` makes or resumes one, `open` reads one.

    A started run is locked for other processes until `finish` or `close`; use it with ``with``. A complete or opened
    run can only be read.

    Attributes:
        folder: The run's folder.
    """

    def __init__(self, folder: Path, record: RunRecord, lock: FolderLock | None) -> None:
        """Use `start` or `open`."""
        self.folder = folder
        self._record = record
        self._lock = lock
        self._seconds: dict[str, float] = {}  # spent by earlier attempts in stages that did not end
        self._began: dict[str, float] = {}  # stages that run now

    # Making and opening

    @classmethod
    def start(
        cls,
        folder: str | Path,
        *,
        kind: str,
        plan: Mapping[str, Any],
        plan_text: str | None,
        command: Sequence[str],
        resume: bool = True,
        hardware: Mapping[str, Any] | None = None,
        plan_folder: Path | None = None,
        policy_sha256: str | None = None,
    ) -> Run:
        """Makes a run, resumes the same one, or returns it as it is when it is complete.

        Args:
            folder: Made when absent; otherwise empty, or this same run's.
            kind: What is run: "audit", "traps", ...
            plan: Everything that determines the results, as plain JSON values.
            plan_text: The plan as the user wrote it, kept as ``plan.toml``; None when there was no file.
            command: The command line, program first.
            resume: Whether a run that is there may be gone on with.
            hardware: Further facts for the provenance, such as the GPUs' names.
            plan_folder: Where relative paths of the plan start; a resumed run keeps the first one.
            policy_sha256: Of the policy file that the plan names; it belongs among the plan's inputs as well.

        Raises:
            InputError: The folder is another run's (the first differing key is named), is no run's and not empty, is
                in use, was begun with other package versions, or exists and ``resume`` is false.
            DataError: The run's files were changed or damaged, or are of another version.
            StorageError: The folder cannot be written.
        """
        folder = Path(folder)
        if printable(folder) != str(folder):
            raise InputError(f"the run's folder {printable(folder)} is not UTF-8. Give --out a path in UTF-8.")
        plain_plan: dict[str, Any] = plain(plan, "plan")
        refuse_strangers(make_folder(folder))
        made_here = provenance(command, hardware=plain(hardware or {}, "hardware"))
        lock = FolderLock(folder)
        lock.acquire()
        try:
            remove_leftovers(folder)
            if (folder / "run.json").exists():
                run = cls._resume(folder, kind, plain_plan, lock, resume=resume, made_here=made_here)
            else:
                run = cls._create(
                    folder,
                    kind,
                    plain_plan,
                    lock,
                    made_here=made_here,
                    plan_folder=plan_folder,
                    policy_sha256=policy_sha256,
                )
            if not run.complete:
                make_folder(folder / "items")
                if plan_text is not None and not (folder / "plan.toml").exists():
                    write_text(folder / "plan.toml", plan_text)
        except BaseException:
            lock.release()
            raise
        if run.complete:
            run.close()
        return run

    @classmethod
    def _create(
        cls,
        folder: Path,
        kind: str,
        plan: dict[str, Any],
        lock: FolderLock,
        *,
        made_here: Provenance,
        plan_folder: Path | None,
        policy_sha256: str | None,
    ) -> Run:
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        record = RunRecord(
            id=f"{kind}-{moment}-{secrets.token_hex(4)}",
            kind=kind,
            status="running",
            plan=plan,
            plan_sha256=plan_hash(plan),
            plan_folder=None if plan_folder is None else printable(plan_folder.absolute()),
            provenance=made_here,
            policy_sha256=policy_sha256,
            self_test=latest(),
        )
        opening = OpeningRecord(
            id=record.id,
            kind=kind,
            created=made_here.created,
            plan_sha256=record.plan_sha256,
            policy_sha256=policy_sha256,
        )
        write_record(folder / "opening.json", opening)  # before run.json: without that there is no run to go on with
        write_record(folder / "run.json", record)
        return cls(folder, record, lock)

    @classmethod
    def _resume(
        cls,
        folder: Path,
        kind: str,
        plan: dict[str, Any],
        lock: FolderLock,
        *,
        resume: bool,
        made_here: Provenance,
    ) -> Run:
        record = read_run(folder)
        if not resume:
            raise InputError(
                f"{folder} holds the run {record.id} already ({record.status}). "
                "Choose another --out, or allow it to be resumed with --resume."
            )
        require_same_plan(folder, record, kind, plan)
        run = cls(folder, record, lock)
        if run.complete:
            return run
        require_same_versions(folder, record.provenance, made_here)
        for name in ("items", "parts", "attempts"):
            if (folder / name).is_dir():
                remove_leftovers(folder / name)
        run._seconds = read_seconds(folder)
        if record.error is not None:
            run._update(error=None)
        attempts = make_folder(folder / "attempts")
        write_record(attempts / f"{len(list(attempts.glob('*.json'))) + 2:06d}.json", made_here)
        return run

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Opens a run, complete or not, to read it.

        Raises:
            InputError: There is no such folder, or it holds no run.
            DataError: ``run.json`` is damaged or of another version.
        """
        folder = Path(folder)
        if not folder.is_dir():
            if folder.exists():
                raise InputError(f"{folder} is a file; give the folder of a run.")
            near = [path.name for path in folder.parent.iterdir()] if folder.parent.is_dir() else []
            raise InputError(f"there is no run folder at {folder}.{did_you_mean(folder.name, near)}")
        if not (folder / "run.json").exists():
            raise InputError(f"{folder} holds no run: it has no run.json. Give the folder that --out named.")
        return cls(folder, read_run(folder), None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failed = isinstance(error, AuditError) and not isinstance(error, IncompleteRunError)  # that is an interruption
        if failed and not self.complete and self._lock is not None and self._lock.held:
            with suppress(AuditError):  # the error on its way matters more than a note of it
                self._update(error=type(error).__name__)  # its words may quote a text or a trap
        self.close()

    def close(self) -> None:
        """Frees the folder for other processes; the run can be resumed later."""
        if self._lock:
            self._lock.release()

    # What is known of it

    @property
    def record(self) -> RunRecord:
        """``run.json`` as it stands."""
        return self._record

    @property
    def complete(self) -> bool:
        """Whether the run has ended."""
        return self._record.status == "complete"

    def state(self) -> str:
        """What is true of it now: "complete", "running" while a process holds it, "failed (error)" or "interrupted"."""
        if self.complete:
            return "complete"
        if is_locked(self.folder):
            return "running"
        return "interrupted" if self._record.error is None else f"failed ({self._record.error})"

    def attempts(self) -> tuple[Provenance, ...]:
        """Where and with what each attempt ran, the first one first."""
        later = sorted((self.folder / "attempts").glob("*.json"))
        return (
            self._record.provenance,
            *(read_record(path, Provenance, missing=f"there is no {path}") for path in later),
        )

    # Steps

    def has(self, stage: str) -> bool:
        """Whether that stage has ended."""
        return any(record.name == stage for record in self._record.stages)

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """A step: recorded when the block ends without an exception, else to be done anew.

        Seconds count over all attempts. Of an attempt that was killed, they count up to its last finished part.

        Yields:
            A dict for facts about the step (plain JSON values), kept as ``detail``.

        Raises:
            InputError: The stage has ended or is running, the run cannot be written, or ``detail`` is not plain JSON.
        """
        self._require_open()
        if self.has(name) or name in self._began:
            state = "is running" if name in self._began else "has ended"
            raise InputError(f"{self.folder}: stage {quoted(name)} {state} already; ask has() first.")
        detail: dict[str, Any] = {}
        self._began[name] = time.monotonic()
        try:
            yield detail
            seconds = round(self._spent()[name], 3)
            ended = StageRecord(name=name, seconds=seconds, finished=now(), detail=plain(detail, f"stage {name}"))
            self._update(stages=(*self._record.stages, ended))
        except BaseException:
            self._seconds[name] = self._spent()[name]
            del self._began[name]
            with suppress(StorageError):  # the error on its way matters more than the time spent
                self._save_seconds()
            raise
        del self._began[name]
        self._seconds.pop(name, None)

    def _spent(self) -> dict[str, float]:
        """Seconds in each stage that has not ended, all attempts."""
        here = {name: time.monotonic() - began for name, began in self._began.items()}
        return {name: self._seconds.get(name, 0.0) + here.get(name, 0.0) for name in self._seconds | here}

    def _save_seconds(self) -> None:
        write_json(self.folder / "seconds.json", self._spent())

    def add_subject(self, role: str, subject: Mapping[str, Any]) -> None:
        """Records a model under audit; the same again changes nothing.

        Raises:
            InputError: Another subject has that role: the model changed since the run began.
        """
        subject = plain(subject, f"subject {role}")
        if role in self._record.subjects:
            difference = first_difference(self._record.subjects[role], subject)
            if difference:
                key, old, new = difference
                raise InputError(
                    f"{self.folder}: the {role} model is not the one this run began with: {key} was {old}, is {new}. "
                    "Restore that model, or begin a new run with another --out."
                )
            return
        self._update(subjects={**self._record.subjects, role: subject})

    def add_seed(self, name: str, seed: int) -> None:
        """Records a seed; the same again changes nothing.

        Raises:
            InputError: Another seed has that name.
        """
        known = self._record.seeds.get(name)
        if known is not None and known != seed:
            raise InputError(
                f"{self.folder}: the seed {quoted(name)} was {known} when this run began, is {seed}. "
                "Use that seed, or begin a new run with another --out."
            )
        if known is None:
            self._update(seeds={**self._record.seeds, name: seed})

    # Items and findings

    def items_path(self, name: str) -> Path:
        """Path of a table of items: ``items/<name>.parquet``, whether or not it exists.

        Raises:
            InputError: The name has other characters than letters, digits, ``-`` and ``_``.
        """
        return self.folder / "items" / f"{_checked(name)}.parquet"

    def write_items(self, name: str, table: pa.Table, *, secret: bool = False) -> None:
        """Writes a table of items, one row per scored thing, atomically; ``secret`` as in `atomic_writer`.

        Raises:
            InputError: The run cannot be written.
            StorageError: The file cannot be written.
        """
        self._require_open()
        write_parquet(self.items_path(name), table, secret=secret)

    def read_items(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Reads a table of items, or some of its columns.

        Raises:
            IncompleteRunError: There is no such table yet.
            InputError: There is no such column; those that exist are named.
            DataError: The file is damaged, or lacks in a complete run.
        """
        path = self.items_path(name)
        if not path.exists():
            raise result_missing(self.folder, f"items/{path.name}", self._record, self.state())
        return read_parquet(path, columns)

    def shards(self, name: str, *, key: str, n_parts: int, restart: bool = False) -> ShardedTable:
        """Long work in parts, under ``parts/<name>``; `finish` removes parts whose items table exists.

        Raises:
            InputError: The run cannot be written, or as in `ShardedTable`.
        """
        self._require_open()
        folder = self.folder / "parts" / _checked(name)
        return ShardedTable(folder, key=key, n_parts=n_parts, restart=restart, on_write=self._save_seconds)

    def write_findings(self, findings: Findings, *, secret: bool = False) -> None:
        """Writes ``findings.json`` atomically; ``secret``, where it quotes a text, as in `atomic_writer`.

        Raises:
            InputError: A number in it is NaN or infinite, or the run cannot be written.
        """
        self._require_open()
        write_record(self.folder / "findings.json", findings, secret=secret)

    def findings(self) -> Findings:
        """Reads ``findings.json``.

        Raises:
            IncompleteRunError: There is none yet.
            DataError: It is damaged, of another version, or lacks in a complete run.
        """
        path = self.folder / "findings.json"
        if not path.exists():
            raise result_missing(self.folder, path.name, self._record, self.state())
        return read_record(path, Findings, missing=f"there is no {path}")

    def finish(self) -> None:
        """Marks the run complete, removes what only served its making, and frees the folder.

        Raises:
            InputError: A stage is still running, or the run cannot be written.
        """
        if self._began:
            raise InputError(f"{self.folder}: stage {quoted(next(iter(self._began)))} has not ended; end it first.")
        self._update(status="complete", finished=now())
        with storage_errors(self.folder, kept="the results are complete", doing="tidy"):
            (self.folder / "seconds.json").unlink(missing_ok=True)
            for parts in sorted((self.folder / "parts").glob("*")):
                if self.items_path(parts.name).exists():
                    remove_parts(parts)
            if (self.folder / "parts").is_dir() and not any((self.folder / "parts").iterdir()):
                (self.folder / "parts").rmdir()
        self.close()

    def _update(self, **changes: Any) -> None:
        self._require_open()
        record = self._record.model_copy(update=changes)
        write_record(self.folder / "run.json", record)
        self._record = record

    def _require_open(self) -> None:
        if self.complete:
            raise InputError(f"{self.folder} holds a complete run, which cannot change. Begin one with another --out.")
        if self._lock is None or not self._lock.held:
            raise InputError(f"{self.folder} is open for reading only. Use Run.start(...) to go on with the run.")


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InputError(f"{quoted(name)} is no name for a table; use 1 to 64 letters, digits, '-' and '_'.")
    return name
