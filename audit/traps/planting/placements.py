"""The placements of a ledger's copies on disk: where each one stands, and what is needed to take it out again.

The file tells which texts are members, so it is as secret as the ledger (mode 0600), and it is never overwritten. It
holds no decoy. What it says is checked when it is read; whether the way back is exact, by the SHA-256 of every file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

from pydantic import Field, ValidationError

from ... import __version__
from ...errors import DataError, InputError
from ...runs.problems import plain_problems
from ...runs.schema import Record
from ...text.files import atomic_writer
from ...text.safe import quoted
from ...text.sources import require_exists
from ..ledger.checks import listed
from ..ledger.files import refuse_taken
from ..ledger.records import SEED_LIMIT, Hash
from .corpus import Kind
from .hosts.document import Html
from .splice import Fingerprint

PLACEMENTS_VERSION: Literal[1] = 1
PLACEMENTS_FORMAT: Literal["palimpsest traps placements"] = "palimpsest traps placements"
ORIGINALS = ".originals"  # ends the name of the folder with the originals of planted parquet files


class PlantedCopy(NamedTuple):
    """One copy; in the file a list in this order.

    Attributes:
        trap: Place of its trap in ``traps``, from 0.
        copy: Number of the copy, from 0.
        offset: Character offset in the planted document of what was inserted, its first separator included.
        n_characters: Characters inserted, separators (and, hidden in HTML, markup) included.
        byte: Byte offset of the same in the planted file; None in parquet.
        n_bytes: Bytes inserted there; None in parquet.
        token: Tokens of the planted document that begin before ``offset``; None where no tokenizer was given.
        before_sha256: SHA-256 of the planted document's text before ``offset``, UTF-8.
    """

    trap: int
    copy: int
    offset: int
    n_characters: int
    byte: int | None
    n_bytes: int | None
    token: int | None
    before_sha256: str


class PlantedDocument(Record):
    """A document with copies in it.

    Attributes:
        file: Place of its file in ``files``, from 0.
        id: Its identifier.
        place: Where it stands, for a person.
        quotes: Byte offsets in the planted file of quotation marks that a CSV cell got, in order.
        copies: By offset.
    """

    file: int
    id: str
    place: str
    quotes: tuple[int, ...]
    copies: tuple[PlantedCopy, ...] = Field(min_length=1)


class PlantedFile(Record):
    """A file of the corpus before and after; equal when nothing was planted in it, and then without blocks."""

    path: str
    kind: Kind
    original_sha256: Hash
    original_bytes: int
    planted_sha256: Hash
    planted_bytes: int
    blocks: str

    @property
    def is_planted(self) -> bool:
        return self.original_sha256 != self.planted_sha256

    @property
    def planted(self) -> Fingerprint:
        return Fingerprint(self.planted_sha256, self.planted_bytes, self.blocks)


class PlantedTrap(Record):
    """A member: what was planted, and how often.

    Attributes:
        variants: Near copies that stand in place of all copies but the first, in turn; mostly none.
    """

    id: str
    text: str
    n_rep: int
    variants: tuple[str, ...] = ()

    def text_of(self, copy: int) -> str:
        """What copy number ``copy`` says, from 0: the trap itself, then its variants in turn."""
        return self.variants[(copy - 1) % len(self.variants)] if copy and self.variants else self.text


class PlantingOptions(Record):
    """How it was planted."""

    separator: str
    field: str
    id_field: str | None
    html: Html
    min_words: int
    placement: Literal["document", "scattered"]
    neighbourhood: bool
    tokenizer_sha256: Hash | None


class Placements(Record):
    """``PLACEMENTS.json``.

    Attributes:
        commitment: Of the ledger.
        seed: Of the positions.
        single_file: The source was one file, not a folder.
        traps: All members, in the ledger's order.
        files: All files, in order of path.
        documents: Those with copies, in the order in which they stand in the files.
    """

    format: Literal["palimpsest traps placements"]
    schema_version: Literal[1]
    created: str
    palimpsest: str
    packages: dict[str, str]
    commitment: Hash
    seed: int = Field(ge=0, lt=SEED_LIMIT)
    options: PlantingOptions
    single_file: bool
    traps: tuple[PlantedTrap, ...]
    files: tuple[PlantedFile, ...]
    documents: tuple[PlantedDocument, ...]

    def of_file(self, number: int) -> Iterator[PlantedDocument]:
        """The documents of a file that have copies."""
        return (document for document in self.documents if document.file == number)

    def cuts(self) -> dict[int, list[tuple[int, int]]]:
        """File -> (byte offset, bytes) of everything inserted in it, by offset; nothing for parquet."""
        found: dict[int, list[tuple[int, int]]] = {}
        for file, documents in groupby(self.documents, key=lambda document: document.file):
            inside: list[tuple[int, int]] = []
            for document in documents:
                inside += [(quote, 1) for quote in document.quotes]
                inside += [
                    (copy.byte, copy.n_bytes)
                    for copy in document.copies
                    if copy.byte is not None and copy.n_bytes is not None
                ]
            found[file] = sorted(inside)
        return found


def originals_folder(path: Path) -> Path:
    """Where the originals of planted parquet files lie, beside the placements."""
    return path.with_name(f"{path.name}{ORIGINALS}")


def write_placements(path: Path, placements: Placements) -> None:
    """Writes placements atomically, readable by their owner alone.

    Raises:
        InputError: Something stands there already.
        StorageError: The file cannot be written.
    """
    refuse_taken(path, "placements are never overwritten")
    with atomic_writer(path, secret=True) as stream:
        for line in _lines(placements):
            stream.write(line.encode())


def _lines(placements: Placements) -> Iterator[str]:
    """The file piece by piece: one line for each field, trap, file and document."""
    lists = ("traps", "files", "documents")
    head = placements.model_dump(mode="json", exclude=set(lists))
    yield "{\n" + "".join(f"  {_json(name)}: {_json(value)},\n" for name, value in head.items())
    for name in lists:
        yield f"  {_json(name)}: ["
        before = "\n"
        for record in getattr(placements, name):
            yield f"{before}    {_json(record.model_dump(mode='json'))}"
            before = ",\n"
        yield "\n  ]" + ("\n}\n" if name == lists[-1] else ",\n")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def read_placements(path: Path) -> Placements:
    """Reads placements, and refuses what does not fit together.

    Raises:
        InputError: There is no such file, or it is a folder.
        DataError: It cannot be read, is something else, of a newer version, or damaged.
    """
    require_exists(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected the placements that `traps inject` wrote.")
    try:
        raw = path.read_bytes()
        value = json.loads(raw)
    except OSError as error:
        raise DataError(f"could not read {path}: {error.strerror}. Check its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}. It was changed or damaged; restore it from a copy.") from error
    form = value.get("format") if isinstance(value, dict) else None
    if form != PLACEMENTS_FORMAT:
        raise DataError(f"{path} holds no placements of traps: its format is {quoted(form)}.")
    version = value.get("schema_version")
    if type(version) is int and version > PLACEMENTS_VERSION:
        raise DataError(
            f"{path} has schema version {version}; Palimpsest {__version__} reads version {PLACEMENTS_VERSION}. Read "
            "it with the Palimpsest that wrote it or a newer one."
        )
    del value
    try:
        placements = Placements.model_validate_json(raw, strict=True)
    except ValidationError as error:
        problems = plain_problems(error, Placements)
    else:
        problems = _problems(placements)
    if problems:
        raise DataError(
            f"{path} was changed or damaged after it was written: {listed(problems)} Restore it from a copy."
        )
    return placements


def _problems(placements: Placements) -> list[str]:
    """What does not fit together, one sentence each."""
    found = []
    paths = [file.path for file in placements.files]
    for path in paths:
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts or "\0" in path:
            found.append(f"the path {quoted(path)} leads out of the folder.")
    if len(set(paths)) < len(paths) or not paths or (placements.single_file and len(paths) > 1):
        found.append(f"it names {len(paths)} files, {len(set(paths))} different ones.")
    n_copies = [0] * len(placements.traps)
    last = 0
    for document in placements.documents:
        if not last <= document.file < len(placements.files):
            found.append(f"document {quoted(document.id)} is of file {document.file}, out of order.")
            return found
        last = document.file
        for copy in document.copies:
            if not 0 <= copy.trap < len(placements.traps):
                found.append(f"document {quoted(document.id)} holds trap number {copy.trap}.")
                return found
            n_copies[copy.trap] += 1
    for trap, n in zip(placements.traps, n_copies, strict=True):
        if trap.n_rep != n:
            found.append(f"trap {quoted(trap.id)} has {n} copies; expected {trap.n_rep}.")
    cuts = placements.cuts()
    for number, file in enumerate(placements.files):
        inside = cuts.get(number, [])
        ends = [0, *(at + n_bytes for at, n_bytes in inside)]
        ordered = all(end <= at and n_bytes >= 0 for end, (at, n_bytes) in zip(ends, inside, strict=False))
        added = sum(n_bytes for _, n_bytes in inside)
        if not ordered or (file.kind != "parquet" and added != file.planted_bytes - file.original_bytes):
            found.append(f"what was inserted in {quoted(file.path)} does not add up.")
    return found
