"""Finished units of a scan on disk, so that one that was killed goes on, and the hits of all of them in one file.

Each unit is a file of its own, named by the hash of what decides its content: ledger and flags, and place, size and
time of change of the files. So nothing that is still true is done again when one file of a corpus was mended or another
was added. A unit that is damaged is done again. Units of another scan are never thrown away unasked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from pydantic import ValidationError

from ...errors import InputError
from ...runs.lock import LOCK_NAME, FolderLock
from ...runs.records import content_key
from ...text.files import atomic_writer, make_folder, remove_leftovers, storage_errors
from ...text.safe import quoted
from ..ledger.records import Ledger
from .shards import HTML, PLAIN, Part, Unit, extension
from .units import Hit, PartRecord, ScanPlan, UnitRecord

_VERSION: Final = 1  # of what a unit's file holds; raise it when a scan would find something else
_MARK: Final = "palimpsest-scan.json"
_ROWS: Final = 10_000
_NAMES: Final = {  # of what `asked_for` gives, for messages
    "version": "version of the search",
    "ledger": "commitment of the ledger",
    "field": "--field",
    "id_field": "--id-field",
    "loose": "--loose",
    "max_distance": "--max-distance of --fuzzy",
    "tokenizer": "hash of the tokenizer",
}


class Found(NamedTuple):
    """A hit with everything that a reader of the table needs; the trap's text is not among it."""

    shard: str
    document: str
    line: int
    trap_id: str
    arm: str
    n_rep: int
    kind: str
    distance: int
    start: int
    end: int
    token_start: int | None
    token_end: int | None


class ScanStore:
    """The finished units of a scan, in a folder that only its owner can read; open it with ``with``.

    Args:
        folder: Made when absent.
        asked: What decides the hits, from `asked_for`.
        places: Paths of the corpus; units of some of them are gone on with.
        restart: Throw away the units that are there.
    """

    def __init__(self, folder: Path, asked: Mapping[str, Any], places: Sequence[str], *, restart: bool = False) -> None:
        self.folder = folder
        self._asked, self._places = dict(asked), sorted(places)
        self._restart = restart
        self._lock = FolderLock(folder)
        self._key = content_key(**asked)

    def __enter__(self) -> Self:
        if self.folder.is_dir() and any(self.folder.iterdir()) and not (self.folder / _MARK).is_file():
            raise InputError(
                f"{self.folder} is there already and not from a scan. Move it away, or choose another --out."
            )
        make_folder(self.folder)
        with storage_errors(self.folder, kept="nothing was changed", doing="protect"):
            self.folder.chmod(0o700)
        self._lock.acquire()
        try:
            if self._restart:
                self._discard()
            self._refuse_another()
            mark = {"palimpsest": "finished units of a scan for traps", "asked": self._asked, "corpus": self._places}
            with atomic_writer(self.folder / _MARK, secret=True) as stream:
                stream.write(json.dumps(mark).encode() + b"\n")
            remove_leftovers(self.folder)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def has(self, unit: Unit) -> bool:
        """Whether the unit is finished: every file of it was read to its end."""
        record = self.read(unit)
        return record is not None and not any(part.problem for part in record.parts)

    def read(self, unit: Unit) -> UnitRecord | None:
        """What was kept of a unit, or None."""
        try:
            return UnitRecord.model_validate_json(self._path(unit).read_bytes(), strict=True)
        except (OSError, ValidationError):
            return None

    def write(self, unit: Unit, record: UnitRecord) -> None:
        """Keeps a scanned unit; errors as in `audit.text.files.atomic_writer`."""
        with atomic_writer(self._path(unit), secret=True) as stream:
            stream.write(record.model_dump_json().encode())

    def remove(self) -> None:
        """Removes all of it, when the hits are safe elsewhere.

        Raises:
            StorageError: The folder cannot be changed.
        """
        self._discard()
        with storage_errors(self.folder, kept="the hits are safe", doing="tidy"):
            (self.folder / _MARK).unlink(missing_ok=True)
            (self.folder / LOCK_NAME).unlink(missing_ok=True)
            if not any(self.folder.iterdir()):
                self.folder.rmdir()

    def _refuse_another(self) -> None:
        """Refuses to go on where the units are of another ledger, of other flags, or of a corpus that is not in this.

        Raises:
            InputError: They are; what differs is named.
        """
        if not any(self.folder.glob("unit-*.part")):
            return
        asked, places = _marked(self.folder / _MARK)
        differences = [
            f"- {_NAMES[name]}: {_shown(asked.get(name))}, here {_shown(own)}"
            for name, own in self._asked.items()
            if asked.get(name) != own
        ]
        if not set(places) <= set(self._places):
            differences.append(f"- the corpus: {_shown(places)}, here {_shown(self._places)}")
        if not asked:
            differences = [f"- of what it was cannot be told: {self.folder / _MARK} is damaged"]
        if differences:
            told = "\n".join(differences)
            raise InputError(
                f"{self.folder} holds what another scan finished:\n{told}\n"
                "Go on with that scan by its own command, give this one another --out, or throw the old away with "
                "--no-resume."
            )

    def _discard(self) -> None:
        with storage_errors(self.folder, kept="some units may be gone and will be scanned again", doing="clear"):
            for path in self.folder.glob("unit-*.part"):
                path.unlink(missing_ok=True)

    def _path(self, unit: Unit) -> Path:
        parts = [[os.path.realpath(part.path), part.shard, *part[2:]] for part in unit]
        return self.folder / f"unit-{content_key(asked=self._key, parts=parts)[:32]}.part"


def asked_for(ledger: Ledger, plan: ScanPlan) -> dict[str, Any]:
    """What decides the hits in a file; it holds no secret.

    Whether bad records may be left out is not among it: a unit that was finished holds the same either way.
    """
    tokenizer = None if plan.tokenizer is None else content_key(tokenizer=plan.tokenizer)
    return {
        "version": _VERSION,
        "ledger": ledger.commitment(),
        "field": plan.field,
        "id_field": plan.id_field,
        "loose": plan.loose,
        "max_distance": plan.max_distance,
        "tokenizer": tokenizer,
    }


def _marked(path: Path) -> tuple[dict[str, Any], list[str]]:
    """What the units beside a mark were asked for, and their corpus; nothing where it cannot be read."""
    try:
        mark = json.loads(path.read_bytes())
        asked, places = mark["asked"], mark["corpus"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return {}, []
    if not isinstance(asked, dict) or not isinstance(places, list):
        return {}, []
    return asked, list(map(str, places))


def _shown(value: object) -> str:
    return "none" if value is None else quoted(value, limit=200)


class Lines:
    """Lines of a file before each of its ranges; the units are given in order."""

    def __init__(self) -> None:
        self._before: dict[str, int] = {}

    def before(self, unit: Unit, record: UnitRecord) -> list[int]:
        """Of each part of the next unit."""
        before = []
        for part, held in zip(unit, record.parts, strict=True):
            before.append(self._before.get(part.path, 0) if part.begin else 0)
            self._before = {part.path: before[-1] + held.n_lines}  # of earlier files nothing is asked any more
        return before


def found_in(unit: Unit, record: UnitRecord, before: list[int], ledger: Ledger) -> Iterator[Found]:
    """Hits of a unit, with lines counted from the beginning of each file."""
    for hit in record.hits:
        yield _found(hit, record.parts[hit.part], unit[hit.part], before[hit.part], ledger)


def _found(hit: Hit, held: PartRecord, part: Part, before: int, ledger: Ledger) -> Found:
    trap = ledger.traps[hit.trap]
    line = before + hit.line
    is_one_text = extension(part.path) in (*PLAIN, *HTML)
    document = hit.identifier or (held.shard if is_one_text else str(line))
    return Found(
        held.shard,
        document,
        line,
        trap.id,
        trap.arm,
        trap.n_rep,
        hit.kind,
        hit.distance,
        hit.start,
        hit.end,
        hit.token_start,
        hit.token_end,
    )


def write_hits(path: Path, hits: Iterator[Found]) -> None:
    """Writes hits atomically as .jsonl or .parquet, readable by the owner alone, because decoys are among them.

    Raises:
        StorageError: The file cannot be written.
    """
    with atomic_writer(path, secret=True) as stream:
        if path.suffix.lower() == ".jsonl":
            for hit in hits:
                stream.write(json.dumps(hit._asdict(), ensure_ascii=False).encode() + b"\n")
        else:
            _write_parquet(stream, hits)


def _write_parquet(stream: Any, hits: Iterator[Found]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = {"shard", "document", "trap_id", "arm", "kind"}
    schema = pa.schema([(name, pa.string() if name in texts else pa.int64()) for name in Found._fields])
    with pq.ParquetWriter(stream, schema, write_page_checksum=True) as writer:
        while rows := list(islice(hits, _ROWS)):
            writer.write_table(pa.Table.from_pylist([row._asdict() for row in rows], schema=schema))
