"""Long work in numbered parts, each safe on disk as soon as it is done."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import AuditError, DataError, IncompleteRunError, InputError
from ..text.files import atomic_writer, make_folder, remove_leftovers, storage_errors
from ..text.safe import quoted
from ..text.tables import write_parquet
from .lock import LOCK_NAME, FolderLock
from .records import read_record, write_record
from .schema import SCHEMA_VERSION, Record

_MARK = b"palimpsest.part"  # in each part's schema metadata: which job and part it is
_PARTS = "part-[0-9][0-9][0-9][0-9][0-9][0-9].parquet"


class Job(Record):
    """``job.json``: which work the parts in this folder belong to."""

    schema_version: int = SCHEMA_VERSION
    key: str
    n_parts: int


class ShardedTable:
    """A table made in ``n_parts`` parts, one parquet file each, by one process at a time.

    Open it with ``with``; only then is the folder locked and changed. Opening checks every finished part whole (each
    page against its checksum); a part that is cut off, damaged or of another job is removed, so that it is done
    anew, and stands in ``damaged``.

    Example:
        with ShardedTable(folder, key=content_key(plan=plan, model=digest), n_parts=10) as parts:
            for number in parts.missing():
                parts.write(number, score(number))
            table = parts.assemble()

    Args:
        folder: Where the parts are kept; made when absent.
        key: Names everything that determines the content; see `content_key`.
        n_parts: Number of parts, 1 to 999,999; parts are numbered from 0.
        restart: Throw away the parts that are there.
        on_write: Called after each part is safe on disk.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        key: str,
        n_parts: int,
        restart: bool = False,
        on_write: Callable[[], None] | None = None,
    ) -> None:
        if not key:
            raise InputError(f"{folder}: the key is empty; expected what determines the content, see content_key().")
        if not 1 <= n_parts <= 999_999:
            raise InputError(f"{folder}: n_parts is {n_parts}; expected 1 to 999,999.")
        self.folder = Path(folder)
        self.damaged: tuple[int, ...] = ()
        self._job = Job(key=key, n_parts=n_parts)
        self._restart = restart
        self._on_write = on_write
        self._lock = FolderLock(self.folder)
        self._done: set[int] = set()
        self._schema: pa.Schema | None = None

    def __enter__(self) -> Self:
        make_folder(self.folder)
        self._lock.acquire()
        try:
            remove_leftovers(self.folder)
            self._claim()
            self._check_parts()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def done(self) -> set[int]:
        """Numbers of the finished parts."""
        self._require_open()
        return set(self._done)

    def missing(self) -> list[int]:
        """Numbers of the parts still to do, ascending."""
        self._require_open()
        return [number for number in range(self._job.n_parts) if number not in self._done]

    def write(self, number: int, table: pa.Table) -> None:
        """Writes one part; when this returns, it is on disk.

        Args:
            number: From 0 to ``n_parts`` - 1, not done yet.
            table: Any number of rows; the same columns and types as every other part. Name the types outright: a
                column of nulls alone gets another type when they are inferred.

        Raises:
            InputError: The number is out of range or done, or the columns differ from another part's.
            StorageError: It cannot be written; earlier parts stay.
        """
        self._require_open()
        if not 0 <= number < self._job.n_parts:
            raise InputError(f"{self.folder}: part {number} is out of range; expected 0 to {self._job.n_parts - 1}.")
        if number in self._done:
            raise InputError(f"{self.folder}: part {number} is done already; write each part once.")
        schema = _stored(table.schema)
        self._require_schema(schema, number)
        write_parquet(self._path(number), table.replace_schema_metadata({_MARK: self._mark(number)}))
        self._schema = schema
        self._done.add(number)
        if self._on_write:
            self._on_write()

    def read(self, number: int) -> pa.Table:
        """One finished part.

        Raises:
            IncompleteRunError: It is not done yet.
            DataError: It was damaged since it was checked.
        """
        self._require_open()
        if number not in self._done:
            raise IncompleteRunError(f"{self.folder}: part {number} is not done yet. Run the same command again.")
        return pa.Table.from_batches(self._read(number, 10_000), schema=self._schema)

    def batches(self, *, batch_size: int = 10_000) -> Iterator[pa.RecordBatch]:
        """Rows in part order, at most ``batch_size`` at a time; memory does not grow with the table.

        Raises:
            IncompleteRunError: Parts are missing.
            DataError: A part was damaged since it was checked.
        """
        self._require_all()
        for number in range(self._job.n_parts):
            yield from self._read(number, batch_size)

    def assemble(self) -> pa.Table:
        """The whole table in part order; errors as in `batches`."""
        self._require_all()
        return pa.Table.from_batches(self.batches(), schema=self._schema)

    def write_parquet(self, path: str | Path) -> None:
        """Writes the whole table to one parquet file, atomically and a part at a time; errors as in `batches`.

        Raises:
            StorageError: The file cannot be written; the parts stay.
        """
        self._require_all()
        with (
            atomic_writer(path) as stream,
            pq.ParquetWriter(stream, self._schema, write_page_checksum=True) as writer,
        ):
            for number in range(self._job.n_parts):
                batches = list(self._read(number, 10_000))
                writer.write_table(pa.Table.from_batches(batches, schema=self._schema))

    def discard(self) -> None:
        """Removes every part, when the whole table is safe elsewhere; the folder stays."""
        self._require_open()
        with storage_errors(self.folder, kept="some parts may be gone and will be redone", doing="clear"):
            for path in self.folder.glob(_PARTS):
                path.unlink(missing_ok=True)
        self._done.clear()
        self._schema = None

    def _claim(self) -> None:
        """Makes the folder this job's, or refuses when it is another's."""
        path = self.folder / "job.json"
        if path.exists():
            there = read_record(path, Job, missing=f"there is no {path}")
            if self._restart:
                write_record(path, self._job)
                self.discard()
            else:
                self._require_same_job(there)
            return
        strangers = sorted(self.folder.glob(_PARTS))
        if strangers:
            raise InputError(
                f"{self.folder} holds {strangers[0].name} but no job.json, so it is not from a job of Palimpsest. "
                "Choose another --out."
            )
        write_record(path, self._job)

    def _require_same_job(self, there: Job) -> None:
        if there == self._job:
            return
        if there.key == self._job.key:
            what = f"the same job cut into {there.n_parts} parts, not {self._job.n_parts}"
        else:
            what = f"another job (key {there.key[:12]}..., this one's is {self._job.key[:12]}...)"
        raise InputError(
            f"{self.folder} holds the parts of {what}: the plan, the data or the model differ. "
            "Choose another --out, or throw the old parts away with --restart."
        )

    def _check_parts(self) -> None:
        damaged = []
        for number in range(self._job.n_parts):
            path = self._path(number)
            if not path.exists():
                continue
            try:
                for _ in self._read(number, 10_000):
                    pass
            except DataError:
                with storage_errors(path, kept="the other parts are unchanged", doing="remove the damaged"):
                    path.unlink()
                damaged.append(number)
            else:
                self._done.add(number)
        self.damaged = tuple(damaged)

    def _read(self, number: int, batch_size: int) -> Iterator[pa.RecordBatch]:
        """Checked rows of one part, without the mark."""
        path = self._path(number)
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                if (file.schema_arrow.metadata or {}).get(_MARK) != self._mark(number):
                    raise DataError(f"{path} is not part {number} of this job. Remove it and run again.")
                schema = file.schema_arrow.remove_metadata()
                self._require_schema(schema, number)
                self._schema = schema
                for batch in file.iter_batches(batch_size=batch_size):
                    yield batch.replace_schema_metadata(None)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} is damaged: {error}. Run again: the part will be redone.") from error

    def _require_schema(self, schema: pa.Schema, number: int) -> None:
        if self._schema is None or schema.equals(self._schema):
            return
        there = {field.name: str(field.type) for field in self._schema}
        here = {field.name: str(field.type) for field in schema}
        raise InputError(
            f"{self.folder}: part {number} has the columns {quoted(here, limit=300)}, "
            f"but earlier parts have {quoted(there, limit=300)}. Give every part the same schema."
        )

    def _require_open(self) -> None:
        if not self._lock.held:
            raise InputError(f"{self.folder}: the parts are not open. Use them inside `with ShardedTable(...)`.")

    def _require_all(self) -> None:
        missing = self.missing()
        if missing:
            named = ", ".join(str(number) for number in missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise IncompleteRunError(
                f"{self.folder}: {len(missing)} of {self._job.n_parts} parts are not done yet ({named}). "
                "Run the same command again to finish them."
            )

    def _mark(self, number: int) -> bytes:
        return json.dumps({"key": self._job.key, "n_parts": self._job.n_parts, "part": number}).encode()

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}.parquet"


def has_parts(folder: Path) -> bool:
    """Whether a finished part lies in ``folder``."""
    return any(folder.glob(_PARTS))


def remove_parts(folder: Path) -> None:
    """Removes what a `ShardedTable` made in ``folder``, and the folder when nothing else lies in it.

    Raises:
        StorageError: The folder cannot be read or changed.
    """
    with storage_errors(folder, kept="what else lies there is unchanged", doing="tidy"):
        remove_leftovers(folder)
        if _is_job(folder / "job.json"):
            for path in (*folder.glob(_PARTS), folder / "job.json"):
                path.unlink(missing_ok=True)
        (folder / LOCK_NAME).unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()


def _is_job(path: Path) -> bool:
    try:
        read_record(path, Job, missing="")
    except AuditError:
        return False
    return True


def _stored(schema: pa.Schema) -> pa.Schema:
    """The schema as parquet gives it back: some types change, such as timestamps in seconds."""
    buffer = io.BytesIO()
    pq.write_table(schema.remove_metadata().empty_table(), buffer)
    return pq.read_schema(buffer).remove_metadata()
