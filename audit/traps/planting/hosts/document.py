"""What every format gives: documents in their order, where a copy may stand in each, and the bytes to insert."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ....errors import DataError
from ....text.rows import nul_problem, open_stream
from ....text.safe import quoted
from ..inject import word_starts

Html = Literal["visible", "hidden"]


@dataclass(frozen=True, slots=True)
class HostOptions:
    """How a source is read and what is written around a copy.

    Attributes:
        separator: Written on both sides of each copy.
        field: Field or column that holds the text, in .jsonl, .csv, .tsv and .parquet.
        id_field: Field that names the document; None: ``file:line`` (row in parquet).
        html: Copies in HTML are "visible", or "hidden" in a span that browsers do not show.
    """

    separator: str
    field: str = "text"
    id_field: str | None = None
    html: Html = "visible"


class Insertion(NamedTuple):
    """Bytes that go into a file.

    Attributes:
        at: Byte offset in the file as it was.
        content: What is inserted there.
        copy: Which of the document's copies it is, from 0, in order of offset; None for a quotation mark of CSV.
    """

    at: int
    content: bytes
    copy: int | None


@dataclass(frozen=True, slots=True)
class Document:
    """A text that can hold copies; a format overrides what differs in it.

    Attributes:
        id: Unique in its file.
        place: For a person: "a.jsonl, line 3".
        text: As a reader of the format gets it; None when there is none, and then it is no host.
        first: Byte offset in the file of what the format needs it for.
        separator: As this document writes it.
    """

    id: str
    place: str
    text: str | None
    first: int
    separator: str

    def starts(self) -> list[int]:
        """Character offsets at which a copy may stand, increasing."""
        return word_starts(self.text or "")

    def inserted(self, trap: str) -> str:
        """What a copy of a trap adds to ``text``."""
        return f"{self.separator}{trap}{self.separator}"

    def insertions(self, copies: Sequence[tuple[int, str]]) -> list[Insertion]:
        """The bytes that put copies in.

        Args:
            copies: (one of ``starts``, what is added to ``text``), by offset.

        Returns:
            By offset in the file.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class WholeFile(Document):
    """A file that is one text: .txt. Line ends of the separator are written as the file's first one is."""

    def insertions(self, copies: Sequence[tuple[int, str]]) -> list[Insertion]:
        offsets = byte_offsets(self.text or "", [start for start, _ in copies], self.first)
        return [
            Insertion(at, content.encode(), copy)
            for copy, (at, (_, content)) in enumerate(zip(offsets, copies, strict=True))
        ]


def read_whole(path: Path, name: str) -> tuple[str, int]:
    """The text of a file, and how many bytes its byte order mark takes.

    Raises:
        InputError: It cannot be opened.
        DataError: It is not UTF-8, or holds a NUL; line and byte are named.
    """
    with open_stream(path) as stream:
        before = stream.tell()
        content = stream.read()
    if problem := nul_problem(content, before):
        raise DataError(f"{name}, line {content[: content.index(0)].count(10) + 1}: {problem}.")
    try:
        return content.decode(), before
    except UnicodeDecodeError as error:
        line = content[: error.start].count(10) + 1
        raise DataError(
            f"{name}, line {line}: byte 0x{content[error.start]:02x} at offset {before + error.start} is not UTF-8. "
            "Save it as UTF-8."
        ) from error


def like_the_file(separator: str, text: str) -> str:
    """``separator`` with its line ends as the first one of ``text``, so that no other kind comes into a file."""
    found = re.search(r"\r\n|\n|\r", text)
    return re.sub(r"\r\n|\n|\r", found[0] if found else "\n", separator)


def text_of(value: Any, place: str, field: str) -> str | None:
    """The text that a row's value is; None for null and for one with half a surrogate pair, which no text can hold.

    Raises:
        DataError: It is a number, a list or another thing that is no text.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise DataError(
            f"{place}: {quoted(field)} is {quoted(value)} ({type(value).__name__}), not a text. Name another --field."
        )
    return value if is_utf8(value) else None


def is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def id_of(value: Any, place: str, field: str) -> str:
    """The identifier that a row's value is.

    Raises:
        DataError: It is missing, blank, or neither a text nor a whole number.
    """
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).strip():
        raise DataError(
            f"{place}: {quoted(field)} is {quoted(value)}; expected a text or a whole number as identifier."
        )
    if not is_utf8(str(value)):
        raise DataError(f"{place}: {quoted(field)} is {quoted(value)}, which holds half a surrogate pair.")
    return str(value)


def byte_offsets(text: str, offsets: Sequence[int], first: int) -> list[int]:
    """Byte offsets in UTF-8 of increasing character offsets of ``text``, which begins at byte ``first``."""
    found = []
    done = 0
    for offset in offsets:
        first += len(text[done:offset].encode())
        found.append(first)
        done = offset
    return found


def with_copies(text: str, copies: Sequence[tuple[int, str]]) -> str:
    """The planted text; ``copies`` as in `Document.insertions`."""
    pieces, done = [], 0
    for start, content in copies:
        pieces += [text[done:start], content]
        done = start
    return "".join([*pieces, text[done:]])


def hashes_before(text: str, copies: Sequence[tuple[int, str]]) -> list[str]:
    """SHA-256 of the planted text before each copy; ``copies`` as in `Document.insertions`."""
    digest = hashlib.sha256()
    found = []
    done = 0
    for start, content in copies:
        digest.update(text[done:start].encode())
        found.append(digest.hexdigest())
        digest.update(content.encode())
        done = start
    return found
