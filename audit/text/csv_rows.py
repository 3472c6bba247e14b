"""CSV and TSV as streams of rows."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

from ..errors import DataError
from .rows import BadLine, Line, Row, open_stream, read_lines
from .safe import quoted


def csv_rows(path: Path, delimiter: str) -> Iterator[Row | BadLine]:
    """CSV or TSV (RFC 4180 quotes) whose first line names the columns; blank lines are passed over."""
    before = csv.field_size_limit(sys.maxsize)  # a setting of the whole process, so it is put back
    try:
        with open_stream(path) as stream:
            yield from _csv_records(path, read_lines(stream), delimiter)
    finally:
        csv.field_size_limit(before)


def _csv_records(path: Path, lines: Iterator[Line], delimiter: str) -> Iterator[Row | BadLine]:
    broken: dict[int, str] = {}
    ended = False

    def physical_lines() -> Iterator[str]:
        nonlocal ended
        for number, text, problem in lines:
            if problem:
                broken[number] = problem
            yield text
        ended = True

    reader = csv.reader(physical_lines(), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        first = reader.line_num + 1
        reason = None
        cells: list[str] = []
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if ended:
                raise DataError(f"{path}, line {first}: a quote is opened and never closed. Close it.") from error
            reason = f"malformed CSV: {error}"
        last = reader.line_num
        place = f"line {first}" if first == last else f"lines {first} to {last}"
        problems = [f"line {number}: {broken.pop(number)}" for number in sorted(broken)]
        reason = "; ".join(problems) or reason
        if header is None:
            header = _header(path, cells, reason, place)
        elif reason:
            yield BadLine(first, reason, place)
        elif cells and len(cells) != len(header):
            yield BadLine(first, f"{len(cells)} cells; the header has {len(header)}", place)
        elif cells:
            yield Row(first, place, str(first), dict(zip(header, cells, strict=True)))


def _header(path: Path, cells: list[str], reason: str | None, place: str) -> list[str] | None:
    if reason:
        raise DataError(f"{path}, {place}: the header cannot be read: {reason}.")
    twice = sorted({name for name in cells if cells.count(name) > 1})
    if twice:
        raise DataError(f"{path}, {place}: the header names {quoted(twice[0])} twice. Give each column its own name.")
    return cells or None
