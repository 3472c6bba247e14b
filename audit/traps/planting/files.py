"""The second reading of a corpus: every file is written with its copies in it, and every copy is recorded."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from ...errors import DataError, InputError
from ...progress import Progress
from ...text.files import atomic_writer, make_folder, sha256_file
from ...text.safe import quoted
from .corpus import MIB, SourceFile, Sources, Survey, documents
from .hosts import parquet
from .hosts.document import Document, HostOptions, Insertion, hashes_before, with_copies
from .placements import PlantedCopy, PlantedDocument, PlantedFile, PlantedTrap
from .splice import Fingerprint, put_in

Plan = dict[int, list[tuple[int, int, int]]]
"""Number of a document in the corpus -> (word position, place of the trap, copy) of its copies, by position."""

TokenStarts = Callable[[str], list[int]]
"""Character offsets at which the tokens of a text begin, increasing."""


class Placed(NamedTuple):
    """A copy whose place is known: where in the text as it was, what is added there, place of its trap, copy."""

    start: int
    content: str
    trap: int
    copy: int


@dataclass(slots=True)
class Writing:
    """Writes the files of a corpus; what it comes to know is in its last fields.

    Attributes:
        host: How texts are read and copies are written.
        members: What is planted.
        sources: The files.
        found: What the first reading told.
        plan: Where the copies go.
        tokens: For the token offset of each copy.
        planted: The documents with copies so far.
        added: Characters that were inserted so far.
        largest: Largest share of inserted characters in one document, in [0, 1], and its place.
        shortest: Fewest word positions of a document with copies, its copies, and its place.
        kept_bytes: Bytes of the originals of planted parquet files.
    """

    host: HostOptions
    members: tuple[PlantedTrap, ...]
    sources: Sources
    found: Survey
    plan: Plan
    tokens: TokenStarts | None
    planted: list[PlantedDocument] = field(default_factory=list)
    added: int = 0
    largest: tuple[float, str] = (0.0, "")
    shortest: tuple[int, int, str] = (0, 0, "")
    kept_bytes: int = 0

    def needs_originals(self) -> bool:
        """Whether a parquet file gets copies."""
        return any(file.kind == "parquet" and self._chosen(number) for number, file in enumerate(self.sources.files))

    def write(self, work: Path | None, originals: Path | None, progress: Progress) -> list[PlantedFile]:
        """Goes through all files once.

        Args:
            work: File or folder to write, as the source is; None: nothing is written.
            originals: Folder for the originals of planted parquet files, when there are any.
            progress: Told in MiB.

        Raises:
            DataError: A file changed since the first reading, or cannot hold the copies.
            InstrumentError: A parquet file did not keep what it must.
            StorageError: Something cannot be written.
        """
        stage, done = "planting (MiB)", 0
        total = max(1, sum(file.n_bytes for file in self.sources.files) // MIB)
        progress(stage, 0, total)
        records = []
        for number, file in enumerate(self.sources.files):
            target = None
            if work is not None:
                target = work if self.sources.is_file else work / file.name
                make_folder(target.parent)
            records.append(self._write_file(number, file, target, originals))
            done += file.n_bytes
            progress(stage, min(done // MIB, total - 1), total)
        progress(stage, total, total)
        return records

    def _chosen(self, number: int) -> Plan:
        """What is planned for a file."""
        firsts = self.found.firsts
        following = firsts[number + 1] if number + 1 < len(firsts) else len(self.found.sizes)
        return {number: self.plan[number] for number in range(firsts[number], following) if number in self.plan}

    def _write_file(self, number: int, file: SourceFile, target: Path | None, originals: Path | None) -> PlantedFile:
        chosen = self._chosen(number)
        if chosen and file.kind == "parquet":
            before, after = self._write_parquet(number, file, chosen, target, originals)
        else:
            with _writer(target) as stream:
                before, after = put_in(file.path, stream, self._insertions(number, file, chosen))
        if before.sha256 != self.found.sha256[number]:
            raise DataError(f"{file.path} changed while it was read. Start again when nothing writes to it.")
        return PlantedFile(
            path=file.name,
            kind=file.kind,
            original_sha256=before.sha256,
            original_bytes=before.n_bytes,
            planted_sha256=after.sha256,
            planted_bytes=after.n_bytes,
            blocks=after.blocks if chosen else "",
        )

    def _insertions(self, number: int, file: SourceFile, chosen: Plan) -> Iterator[Insertion]:
        """What is inserted in a file, by offset; each document's record is made when it is reached."""
        shift = 0  # bytes that were inserted before
        for document, copies in self._documents(number, file, chosen):
            insertions = document.insertions([(placed.start, placed.content) for placed in copies])
            bytes_: dict[int, tuple[int, int]] = {}
            quotes = []
            for insertion in insertions:
                if insertion.copy is None:
                    quotes.append(insertion.at + shift)
                else:
                    bytes_[insertion.copy] = (insertion.at + shift, len(insertion.content))
                shift += len(insertion.content)
            self._record(number, document, copies, bytes_, tuple(quotes))
            yield from insertions

    def _write_parquet(
        self, number: int, file: SourceFile, chosen: Plan, target: Path | None, originals: Path | None
    ) -> tuple[Fingerprint, Fingerprint]:
        added: dict[int, int] = {}

        def changed() -> Iterator[tuple[int, str]]:
            for document, copies in self._documents(number, file, chosen):
                self._record(number, document, copies, {}, ())
                added[document.first] = sum(len(placed.content) for placed in copies)
                yield document.first, _planted_text(document, copies)

        before, _ = put_in(file.path, None, ())
        self.kept_bytes += file.n_bytes
        if target is None or originals is None:
            for _ in changed():
                pass
            return before, before
        with atomic_writer(target) as stream:
            parquet.rewrite(file.path, stream, self.host.field, changed())
        parquet.check_rewritten(file.path, target, self.host.field, added)
        with atomic_writer(originals / f"{before.sha256}.parquet", secret=True) as stream:
            put_in(file.path, stream, ())
        return before, put_in(target, None, ())[1]

    def _documents(self, number: int, file: SourceFile, chosen: Plan) -> Iterator[tuple[Document, list[Placed]]]:
        """The documents that get copies, and the copies by offset."""
        if not chosen:
            return
        last = max(chosen)
        for index, document in enumerate(documents(file, self.host), start=self.found.firsts[number]):
            if index not in chosen:
                continue
            starts = document.starts()
            if len(starts) != self.found.sizes[index]:
                raise DataError(f"{file.path} changed while it was read. Start again when nothing writes to it.")
            copies = [
                Placed(starts[slot], document.inserted(self.members[trap].text_of(copy)), trap, copy)
                for slot, trap, copy in chosen[index]
            ]
            size = (len(starts), len(copies), document.place)
            self.shortest = min(self.shortest, size) if self.shortest[1] else size
            yield document, copies
            if index == last:
                return

    def _record(
        self,
        number: int,
        document: Document,
        copies: list[Placed],
        bytes_: dict[int, tuple[int, int]],
        quotes: tuple[int, ...],
    ) -> None:
        """Keeps where the copies of a document stand in its planted text and in the planted file."""
        text = document.text or ""
        hashes = hashes_before(text, [(placed.start, placed.content) for placed in copies])
        tokens = None if self.tokens is None else self.tokens(_planted_text(document, copies))
        records = []
        added = 0
        for place, (start, content, trap, copy) in enumerate(copies):
            offset = start + added
            token = None if tokens is None else bisect_left(tokens, offset)
            byte, n_bytes = bytes_.get(place, (None, None))
            records.append(PlantedCopy(trap, copy, offset, len(content), byte, n_bytes, token, hashes[place]))
            added += len(content)
        self.planted.append(
            PlantedDocument(file=number, id=document.id, place=document.place, quotes=quotes, copies=tuple(records))
        )
        self.added += added
        self.largest = max(self.largest, (added / (added + len(text)), document.place))


@contextmanager
def _writer(target: Path | None) -> Iterator[IO[bytes] | None]:
    if target is None:
        yield None
        return
    with atomic_writer(target) as stream:
        yield stream


def _planted_text(document: Document, copies: list[Placed]) -> str:
    return with_copies(document.text or "", [(placed.start, placed.content) for placed in copies])


def token_starts(folder: Path) -> tuple[TokenStarts, str]:
    """The tokenizer of a checkpoint, for the token offset of copies, and the SHA-256 of its file.

    Strings such as "</s>" inside a text are read as text, and nothing is put before or after it.

    Raises:
        InputError: The folder has no tokenizer.json, or one that cannot be read.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise InputError(f"{folder} has no tokenizer.json. Give the folder of a checkpoint with a fast tokenizer.")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing more precise
        raise InputError(f"{path} is no tokenizer: {quoted(str(error))}. Copy it again.") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True

    def starts(text: str) -> list[int]:
        return [start for start, _ in tokenizer.encode(text, add_special_tokens=False).offsets]

    return starts, sha256_file(path)
