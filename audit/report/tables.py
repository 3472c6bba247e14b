"""Tables of results as people read them: every number with its interval, its n and, in a note, its method.

`shown` does the work once; the HTML template, `as_text` and `as_markdown` only lay it out.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from itertools import zip_longest

from ..runs.schema import Cell, Column, EstimateRecord, PValueRecord, Table
from .numbers import NOT_ESTIMABLE, estimate, method_note, p_value, plain
from .safe_text import clean, one_line, padded, width

_NO_VALUE = "-"
_NO_VALUE_NOTE = "no value was recorded"


@dataclass(frozen=True, slots=True)
class ShownCell:
    """One cell. ``text`` may hold hostile characters, but no line breaks; escape it for its medium.

    Attributes:
        text: The number with its interval, or the words.
        n: Independent units that the number rests on; None for plain values.
        notes: Numbers (from 1) of the notes below the table that this cell refers to.
        is_number: Whether it is set flush right.
    """

    text: str
    n: int | None = None
    notes: tuple[int, ...] = ()
    is_number: bool = False

    @property
    def suffix(self) -> str:
        """What follows ``text`` in plain media: ", n 40 (1)"."""
        marks = "".join(f" ({number})" for number in self.notes)
        return ("" if self.n is None else f", n {self.n:,}") + marks


@dataclass(frozen=True, slots=True)
class ShownColumn:
    """A heading, its explanation ("" when there is none) and whether the cells are flush right."""

    label: str
    help: str
    is_number: bool


@dataclass(frozen=True, slots=True)
class ShownTable:
    """A table ready to be laid out: ``rows`` are as wide as ``columns``; ``notes`` are numbered from 1."""

    title: str
    note: str
    columns: tuple[ShownColumn, ...]
    rows: tuple[tuple[ShownCell, ...], ...]
    notes: tuple[str, ...]


class Notes:
    """Numbers notes in the order of their first use; the same text gets the same number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers) + 1)

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(self._numbers)


def shown_cell(cell: Cell, notes: Notes, landmarks: Collection[float] = ()) -> ShownCell:
    """A cell as it is read; its method, and why a number is missing or weak, go to ``notes``."""
    if isinstance(cell, EstimateRecord):
        marks = [notes.number(one_line(method_note(cell), limit=1_000))]
        text = estimate(cell, landmarks)
        if cell.why:
            prefix = f"{NOT_ESTIMABLE}: " if text == NOT_ESTIMABLE else ""
            marks.append(notes.number(prefix + one_line(cell.why, limit=1_000)))
        return ShownCell(text, cell.n, tuple(marks), is_number=True)
    if isinstance(cell, PValueRecord):
        mark = notes.number(one_line(cell.method, limit=1_000))
        return ShownCell(p_value(cell, landmarks), cell.n, (mark,), is_number=True)
    if cell is None:
        return ShownCell(_NO_VALUE, None, (notes.number(_NO_VALUE_NOTE),))
    if isinstance(cell, bool):
        return ShownCell("yes" if cell else "no")
    if isinstance(cell, int):
        return ShownCell(f"{cell:,}", is_number=True)
    if isinstance(cell, float):
        return ShownCell(plain(cell, landmarks), is_number=True)
    return ShownCell(one_line(cell))


def shown(table: Table, landmarks: Collection[float] = ()) -> ShownTable:
    """The table as it is read, in every medium. A key that a row lacks counts as "no value was recorded".

    No number is rounded onto one of ``landmarks``.
    """
    notes = Notes()
    rows = tuple(
        tuple(shown_cell(row.get(column.key), notes, landmarks) for column in table.columns) for row in table.rows
    )
    columns = tuple(_column(column, rows, at) for at, column in enumerate(table.columns))
    return ShownTable(one_line(table.title), clean(table.note), columns, rows, notes.texts)


def _column(column: Column, rows: tuple[tuple[ShownCell, ...], ...], at: int) -> ShownColumn:
    is_number = any(row[at].is_number for row in rows)
    return ShownColumn(one_line(column.label), one_line(column.help, limit=1_000), is_number)


def as_text(table: Table) -> str:
    """The table in plain characters for a terminal, columns aligned, notes below; ends without a newline."""
    ready = shown(table)
    head = [column.label for column in ready.columns]
    body = [[cell.text + cell.suffix for cell in row] for row in ready.rows]
    widths = [max(map(width, column)) for column in zip_longest(head, *body, fillvalue="")]
    rights = [column.is_number for column in ready.columns]

    def line(cells: list[str]) -> str:
        laid = (padded(c, w, right=r) for c, w, r in zip(cells, widths, rights, strict=True))
        return "  ".join(laid).rstrip()

    lines = [ready.title, "", line(head), "  ".join("-" * w for w in widths), *map(line, body)]
    if not body:
        lines.append("(no rows)")
    return "\n".join([*lines, *_remarks(ready)])


def _remarks(ready: ShownTable) -> list[str]:
    notes = [f"({number}) {text}" for number, text in enumerate(ready.notes, start=1)]
    helps = [f"{column.label}: {column.help}" for column in ready.columns if column.help]
    return [
        line
        for part in ([one_line(ready.note, limit=3_000)] if ready.note else [], helps, notes)
        if part
        for line in ("", *part)
    ]


def markdown_escaped(text: str, *, limit: int = 3_000) -> str:
    """Text that Markdown and the HTML inside it show as it is: no markup, no formula, no link, no cell border.

    Names that a web site may link by itself, such as "@name" or ":smile:" in a comment, cannot be escaped in Markdown.
    """
    escaped = re.sub(
        r"[\\`*_{}\[\]<>#|~&@$]|:(?=//)|(?<=www)\.|(?<=mailto):|(?<=xmpp):",
        r"\\\g<0>",
        one_line(text, limit=limit),
        flags=re.IGNORECASE,
    )
    return re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", escaped)  # a list or a heading, at a line's beginning


def as_markdown(table: Table) -> str:
    """The table in GitHub's Markdown; text from data is escaped. Ends without a newline."""
    return markdown_table(shown(table))


def markdown_table(ready: ShownTable, *, limit: int = 3_000) -> str:
    """A table that is ready to be laid out in GitHub's Markdown, as `as_markdown`."""
    head = [markdown_escaped(column.label, limit=limit) for column in ready.columns]
    rule = ["---:" if column.is_number else "---" for column in ready.columns]
    body = [
        [(cell.text if cell.is_number else markdown_escaped(cell.text, limit=limit)) + cell.suffix for cell in row]
        for row in ready.rows
    ]
    lines = [f"| {' | '.join(cells)} |" for cells in (head, rule, *body)]
    remarks = [line and f"{markdown_escaped(line, limit=limit)}  " for line in _remarks(ready)]
    return "\n".join([f"**{markdown_escaped(ready.title, limit=limit)}**", "", *lines, *remarks]).rstrip()
