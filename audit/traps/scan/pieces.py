"""The texts of a file as a stream of pieces, so that memory grows neither with a corpus nor with a text.

A piece is a whole text, or a part of one that is long; parts overlap, so that whatever
is looked for lies whole in one of them. Only a .json and an .html file are read whole.

Markdown is read as it is. Of HTML the source is looked through, its character references resolved: text that is shown
or hidden, attributes, comments and scripts alike. A text with a tag in the middle of it is not in there letter for
letter. Places are counted in the resolved source, in which a reference is one character and CRLF is LF.
"""

from __future__ import annotations

import codecs
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from ...errors import DataError
from ...text.csv_rows import csv_rows
from ...text.references import resolved
from ...text.rows import (
    BadLine,
    Row,
    _parsed,
    json_rows,
    jsonl_rows,
    nul_problem,
    open_stream,
    parquet_rows,
    read_lines,
    require_field,
)
from ...text.safe import printable, quoted
from .shards import HTML, PLAIN, Part, extension

PIECE: Final = 2**18  # characters; longer texts are cut
_BLOCK: Final = 2**20  # bytes read at once of a file that is one text


class Piece(NamedTuple):
    """A text, or a part of a long one.

    Attributes:
        line: Where its record begins: line, row or item, from 1, counted from the beginning of the `Part`.
        identifier: What the record calls itself, if anything.
        text: The characters.
        start: Place of the first of them in the whole text.
        whole: Whether it is the whole text.
    """

    line: int
    identifier: str | None
    text: str
    start: int
    whole: bool


class Reading:
    """What a `Part` was found to hold; complete when its pieces have been read to the end.

    Attributes:
        n_texts: Records with a text.
        n_without: Records whose text is absent, null or blank: no trap can stand there.
        n_bad: Records that could not be read.
        n_lines: Lines of a range of JSON lines, or 0.
        bad: The first few of the bad ones.
    """

    def __init__(self) -> None:
        self.n_texts = self.n_without = self.n_bad = self.n_lines = 0
        self.bad: list[BadLine] = []

    def add_bad(self, row: BadLine) -> None:
        self.n_bad += 1
        if len(self.bad) < 5:
            self.bad.append(row)


def pieces(part: Part, reading: Reading, *, field: str, id_field: str | None, overlap: int) -> Iterator[Piece]:
    """The texts of a part; what else it holds is counted in ``reading``.

    Args:
        part: What to read.
        reading: Filled while the pieces are read.
        field: Field or column that holds the text; not used where the whole file is the text.
        id_field: Field that holds the identifier; None: "id" where there is one.
        overlap: Characters that two parts of a long text share.

    Raises:
        InputError: No record has the field, or the file may not be read.
        DataError: The file is damaged, not UTF-8, or changed since the scan was planned.
    """
    path = Path(part.path)
    _require_unchanged(part)
    if extension(path.name) in PLAIN:
        reading.n_texts += 1
        yield from _plain(path, overlap)
    elif extension(path.name) in HTML:
        reading.n_texts += 1
        yield from _cut(1, None, resolved("".join(_decoded(path))), overlap)
    else:
        yield from _of_rows(part, _rows(part, reading, field, id_field), reading, field, id_field, overlap)
    _require_unchanged(part)


def _require_unchanged(part: Part) -> None:
    try:
        state = os.stat(part.path)
    except OSError as error:
        raise DataError(f"{part.shard} is gone: {error.strerror}. Put it back.") from error
    if (state.st_size, state.st_mtime_ns) != (part.size, part.changed):
        raise DataError(f"{part.shard} changed while the corpus was scanned. Scan again when nothing writes to it.")


def _rows(part: Part, reading: Reading, field: str, id_field: str | None) -> Iterator[Row | BadLine]:
    path = Path(part.path)
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".parquet"):
        return parquet_rows(path, field, id_field)
    if name.endswith(".jsonl"):
        return jsonl_rows(path) if (part.begin, part.end) == (0, part.size) else _range_rows(part, reading)
    if name.endswith(".json"):
        return json_rows(path)
    return csv_rows(path, "," if name.endswith(".csv") else "\t")


class _LinesOf:
    """The lines of an open file that begin before byte ``end``, from where it stands; in any case the file's first."""

    def __init__(self, stream: io.BufferedReader, end: int, *, is_first: bool) -> None:
        self._stream, self._at, self._end, self._is_first = stream, stream.tell(), end, is_first

    def tell(self) -> int:
        return self._at

    def __iter__(self) -> Iterator[bytes]:
        first = self._is_first  # behind a byte order mark, which a range may end before
        while (first or self._at < self._end) and (line := self._stream.readline()):
            first = False
            self._at += len(line)
            yield line


def _range_rows(part: Part, reading: Reading) -> Iterator[Row | BadLine]:
    """As `audit.text.rows.jsonl_rows`, of a range; lines are counted from its beginning."""
    with open_stream(Path(part.path)) as stream:
        if part.begin:
            stream.seek(part.begin - 1)
            stream.readline()  # the rest of a line that begins earlier, or the end of the one before
        lines = _LinesOf(cast("io.BufferedReader", stream), part.end, is_first=not part.begin)
        for number, text, problem in read_lines(cast("io.BufferedReader", lines)):
            reading.n_lines = number
            value: dict[str, Any] | str = problem or (_parsed(text.rstrip("\r\n")) if text.strip() else "")
            if isinstance(value, dict):
                yield Row(number, f"line {number}", str(number), value)
            elif value:
                yield BadLine(number, value, f"line {number}")


def _of_rows(
    part: Part,
    rows: Iterator[Row | BadLine],
    reading: Reading,
    field: str,
    id_field: str | None,
    overlap: int,
) -> Iterator[Piece]:
    key = "id" if id_field is None else id_field
    known: dict[str, None] = {}
    for row in rows:
        if isinstance(row, BadLine):
            reading.add_bad(row)
            continue
        known.update(dict.fromkeys(row.values))
        text = row.values.get(field)
        if text is not None and not isinstance(text, str):
            kind = type(text).__name__
            reading.add_bad(BadLine(row.line, f"{quoted(field)} is {quoted(text)} ({kind}), not a text", row.place))
            continue
        if text is None or not text.strip():
            reading.n_without += 1
            continue
        identifier = row.values.get(key)
        if id_field is not None and identifier is None:
            reading.add_bad(BadLine(row.line, f"no {quoted(id_field)}", row.place))
            continue
        reading.n_texts += 1
        yield from _cut(row.line, None if identifier is None else printable(identifier), text, overlap)
    if known:
        require_field(field, list(known), part.shard)
        if id_field is not None:
            require_field(id_field, list(known), part.shard)


def _cut(line: int, identifier: str | None, text: str, overlap: int) -> Iterator[Piece]:
    if len(text) <= PIECE:
        yield Piece(line, identifier, text, 0, True)
        return
    for start in range(0, max(1, len(text) - overlap), PIECE):
        yield Piece(line, identifier, text[start : start + PIECE + overlap], start, False)


def _plain(path: Path, overlap: int) -> Iterator[Piece]:
    """A file as one text, CRLF as LF, a piece at a time."""
    start = 0
    text = ""
    whole = True
    for block in _decoded(path):
        text += block
        while len(text) > PIECE + overlap:
            whole = False
            yield Piece(1, None, text[: PIECE + overlap], start, False)
            text = text[PIECE:]
            start += PIECE
    if whole or len(text) > overlap:
        yield Piece(1, None, text, start, whole)


def _decoded(path: Path) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    held = ""  # a CR that may be followed by LF
    with open_stream(path) as stream:
        offset = stream.tell()
        while True:
            raw = stream.read(_BLOCK)
            problem = nul_problem(raw, offset)
            if problem:
                raise DataError(f"{printable(path)}: {problem}.")
            pending = len(decoder.getstate()[0])
            try:
                block = held + decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                byte = f"byte 0x{error.object[error.start]:02x} at offset {offset - pending + error.start}"
                raise DataError(
                    f"{printable(path)}: {byte} of the file's text is not UTF-8. Save it as UTF-8."
                ) from error
            offset += len(raw)
            held = "\r" if raw and block.endswith("\r") else ""
            yield block.removesuffix(held).replace("\r\n", "\n")
            if not raw:
                return
