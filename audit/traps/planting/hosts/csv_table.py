"""CSV and TSV: a copy goes into a cell, its quotation marks doubled; a cell that had none gets marks around it.

`csv.reader` says what the cells are. It does not say where they stand, so a record is cut once more by a regular
expression, and a record of which the two do not agree is refused.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ....errors import DataError
from ....text.rows import open_stream, read_lines, require_field
from ....text.safe import quoted
from .document import Document, HostOptions, Insertion, byte_offsets, id_of


@dataclass(frozen=True, slots=True)
class CsvDocument(Document):
    """``first`` is the byte at which ``record`` begins; ``delimiter`` and ``column`` find the cell in it."""

    record: str
    delimiter: str
    column: int

    def insertions(self, copies: Sequence[tuple[int, str]]) -> list[Insertion]:
        text = self.text or ""
        raw, start = cell(self.record, self.delimiter, self.column)
        was_quoted = raw.startswith('"')
        if (raw[1:-1].replace('""', '"') if was_quoted else raw) != text:
            raise DataError(
                f"{self.place}: its cells cannot be told apart by their quotation marks. Save the file anew."
            )
        edits: list[tuple[int, str, int | None]] = []  # (place in the record, what is inserted, copy)
        if not was_quoted:  # an unquoted cell becomes a quoted one
            edits.append((start, '"', None))
            edits += [(start + at + 1, '"', None) for at, character in enumerate(text) if character == '"']
            edits.append((start + len(raw), '"', None))
        inside = start + was_quoted
        for copy, (offset, content) in enumerate(copies):
            at = inside + offset + (text.count('"', 0, offset) if was_quoted else 0)
            edits.append((at, content.replace('"', '""'), copy))
        edits.sort(key=lambda edit: (edit[0], edit[2] is not None))  # the mark that opens the cell stands first
        offsets = byte_offsets(self.record, [at for at, _, _ in edits], self.first)
        return [Insertion(at, content.encode(), copy) for at, (_, content, copy) in zip(offsets, edits, strict=True)]


def cell(record: str, delimiter: str, column: int) -> tuple[str, int]:
    """A cell of a record as it is written (RFC 4180), and where it begins in it."""
    pattern = re.compile(rf'"[^"]*(?:""[^"]*)*"|[^{re.escape(delimiter)}\r\n]*')
    at = 0
    for _ in range(column):
        found = pattern.match(record, at)
        at = (found.end() if found else at) + 1
    found = pattern.match(record, at)
    return (found[0] if found else ""), at


def documents(path: Path, name: str, options: HostOptions, delimiter: str) -> Iterator[Document]:
    """One for each row below the header; blank lines are passed over.

    Raises:
        InputError: There is no such column.
        DataError: A line is not UTF-8, a record malformed or of another width than the header, or has no identifier.
    """
    before = csv.field_size_limit(sys.maxsize)  # a setting of the whole process, so it is put back
    try:
        yield from _documents(path, name, options, delimiter)
    finally:
        csv.field_size_limit(before)


def _documents(path: Path, name: str, options: HostOptions, delimiter: str) -> Iterator[Document]:
    taken: list[str] = []  # physical lines of the record that is being read
    with open_stream(path) as stream:
        offset = stream.tell()

        def physical_lines() -> Iterator[str]:
            for number, line, problem in read_lines(stream):
                if problem:
                    raise DataError(f"{name}, line {number}: {problem}.")
                taken.append(line)
                yield line

        reader = csv.reader(physical_lines(), delimiter=delimiter, strict=True)
        header: list[str] | None = None
        while True:
            number = reader.line_num + 1
            place = f"{name}, line {number}"
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise DataError(f"{place}: malformed CSV: {str(error).rstrip('?')}. Mend the record there.") from error
            record = "".join(taken)
            taken.clear()
            if header is None:
                header = cells or None
                if header is not None:
                    _check_header(header, name, options)
            elif cells:
                if len(cells) != len(header):
                    raise DataError(f"{place}: {len(cells)} cells; the header has {len(header)}. Mend the record.")
                column = header.index(options.field)
                identifier = f"{name}:{number}"
                if options.id_field is not None:
                    identifier = id_of(cells[header.index(options.id_field)], place, options.id_field)
                yield CsvDocument(
                    identifier, place, cells[column], offset, options.separator, record, delimiter, column
                )
            offset += len(record.encode())


def _check_header(header: list[str], name: str, options: HostOptions) -> None:
    for field in (options.field, options.id_field):
        if field is not None:
            require_field(field, header, name)
            if header.count(field) > 1:
                raise DataError(f"{name}: the header names {quoted(field)} twice. Give each column its own name.")
