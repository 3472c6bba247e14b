"""What a run says, as parts of a page: findings with their numbers, tables with their notes, texts with marks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec

import pandas as pd
import pyarrow as pa
import streamlit as st

from audit.errors import AuditError
from audit.report.content import without_quotes
from audit.report.drawing import quoted_for
from audit.report.figures import Comparison, MarkedPiece, MarkedText, MarkedTexts, Piece
from audit.report.layout import number_rows, numbers_table, reading
from audit.report.sections import GRAVITY, Judged, judged
from audit.report.tables import ShownTable, shown
from audit.runs.schema import AuditSection, Findings, Table
from audit.text.safe import counted

from .items import require_sound
from .parts import Part, changed_since, note_change, without_folder
from .plain import cell, plain
from .theme import verdict_badge

P = ParamSpec("P")
_MOST_ROWS = 500  # of one table of findings
_MOST_FINDINGS = 60
_FEW_NUMBERS = 8  # of a finding: more stand in a box that opens
_MOST_CHARACTERS = 8_000  # of one text
# Of a text that is marked: level -> how, beside the words of the legend.
_MARKS: Final = {1: ":blue-background[{}]", 2: ":orange-background[{}]", 3: ":red-background[**{}**]"}
_DIFFERS: Final = ":orange-background[**{}**]"
# What reading a file of another version, a damaged or a doctored one can raise.
UNREADABLE: Final = (
    ArithmeticError, AssertionError, AttributeError, LookupError, OSError, TypeError, ValueError, RecursionError,
    pa.ArrowException,
)  # fmt: skip


@contextmanager
def told(part: Part, what: str) -> Iterator[None]:
    """Says on the page what is wrong with a run's files, where that part of the page would stand."""
    try:
        yield
    except AuditError as error:
        st.warning(f"{plain(what)}: {plain(without_folder(error, part.run.folder), 2_000)}", icon=":material/warning:")
    except UNREADABLE as error:
        st.warning(
            f"{plain(what)}: the run's files are not as this version of Palimpsest writes them "
            f"({plain(f'{type(error).__name__}: {error}', 200)}). They were changed, are damaged, or are of another "
            "version.",
            icon=":material/warning:",
        )


def told_apart(what: str) -> Callable[[Callable[Concatenate[Part, P], None]], Callable[Concatenate[Part, P], None]]:
    """Makes a function draw a part of a page that is drawn alone when one of its own widgets changes.

    Where the run's files have changed since the page was drawn, the whole page is drawn anew.

    Args:
        what: What is said where the run's files do not allow it, as in `told`.
    """

    def made(draw: Callable[Concatenate[Part, P], None]) -> Callable[Concatenate[Part, P], None]:
        def safely(is_new: list[bool], part: Part, /, *args: P.args, **named: P.kwargs) -> None:
            if not is_new and changed_since(part):
                note_change()
                st.rerun()  # the whole application: the seal, the findings and every other part are of old files
            is_new.clear()
            with told(part, what):
                draw(part, *args, **named)

        apart = st.fragment(wraps(draw)(safely))

        @wraps(draw)
        def at_first(part: Part, /, *args: P.args, **named: P.kwargs) -> None:
            apart([True], part, *args, **named)  # emptied when it is drawn; drawn again alone it is empty

        return at_first

    return made


def quoted(part: Part, audit: str) -> MarkedTexts | None:
    """What the report would quote of an audit, of a run whose items can be read whole. Raises DataError."""
    require_sound(part.run)
    return quoted_for(part.run, audit)


def asks_for_text(page: str, what: str) -> bool:
    """A switch that shows texts; off until somebody asks, and never part of an address.

    Args:
        page: Name of the page.
        what: The texts, in the plural: "Generations and training rows".
    """
    return st.toggle(
        "Show texts",
        key=f"show-texts-{page}",
        help=f"{what} may be private, protected or offensive. They are hidden until you ask, as in the report.",
    )


def told_findings(findings: Findings, *, show_text: bool) -> Findings:
    """The findings, quoted prompts and passages hidden unless texts are asked for."""
    return findings if show_text else without_quotes(findings)


def each_section(part: Part, audits: Collection[str], *, show_text: bool) -> Iterator[tuple[int, AuditSection]]:
    """The sections of some audits, each between its title and how it was measured.

    Yields:
        Its place among them, which numbers its widgets' names (two sections can be of one audit), and the section.
    """
    told_ones = told_findings(part.findings, show_text=show_text).sections
    for place, section in enumerate(one for one in told_ones if one.audit in audits):
        st.header(plain(section.title), anchor=False)
        yield place, section
        show_section_notes(section)


def show_findings(section: AuditSection, landmarks: Collection[float]) -> None:
    """The section's findings, the gravest first, those without a verdict in a box that opens; landmarks as below."""
    listed = sorted(judged(section), key=lambda one: GRAVITY.index(one.verdict))
    if not listed:
        st.info("No finding: this is not a pass.", icon=":material/info:")
    told_first = [one for one in listed[:_MOST_FINDINGS] if one.verdict != "information"]
    others = [one for one in listed[:_MOST_FINDINGS] if one.verdict == "information"]
    for one in told_first or others:
        _finding(one, landmarks)
    if told_first and others:
        with st.expander(f"{counted(len(others), 'finding')} without a verdict"):
            for one in others:
                _finding(one, landmarks)
    if len(listed) > _MOST_FINDINGS:
        st.caption(f"{len(listed) - _MOST_FINDINGS:,} more findings stand in findings.json.")


def _finding(one: Judged, landmarks: Collection[float]) -> None:
    finding = one.finding
    with st.container(border=True, gap="small"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            verdict_badge(one.verdict)
            st.caption(plain(finding.id, 120), width="content")
        st.markdown(plain(finding.claim, 2_000))
        if one.remark:
            st.markdown(plain(one.remark, 1_000))
        rows = number_rows(finding)
        if len(rows) > _FEW_NUMBERS:
            with st.expander(f"{len(rows):,} numbers"):
                show_table(numbers_table(rows, ""), landmarks, brief=True)
        elif rows:
            show_table(numbers_table(rows, ""), landmarks, brief=True)
        st.caption(plain(finding.how_to_read, 1_500))


def show_table(table: Table, landmarks: Collection[float] = (), *, brief: bool = False) -> None:
    """A table of findings: every number with its interval and n, methods and reasons below.

    Args:
        table: The table.
        landmarks: No number is rounded onto one of these.
        brief: Whether how to read it is left out, because it stands beside.
    """
    most = _MOST_ROWS
    ready = shown(table.model_copy(update={"rows": table.rows[:most]}), landmarks)
    if ready.title:
        st.markdown(f"**{plain(ready.title)}**")
    if not ready.rows:
        st.caption("The table has no rows.")
        return
    st.dataframe(_frame(ready), hide_index=True, width="stretch", column_config=_helps(ready))
    if len(table.rows) > most:
        st.caption(f"{len(table.rows) - most:,} more rows stand in findings.json.")
    notes = [ready.note, "" if brief else reading(table)]
    if any(notes):
        st.caption(plain(" ".join(filter(None, notes)), 3_000))
    if ready.notes:
        with st.expander(f"Methods and notes ({len(ready.notes):,})"):
            for number, note in enumerate(ready.notes, start=1):
                st.markdown(f"({number}) {plain(note, 1_500)}")


def _frame(ready: ShownTable) -> pd.DataFrame:
    names = _headings(ready)
    rows = ([cell(f"{one.text}{one.suffix}") for one in row] for row in ready.rows)
    return pd.DataFrame(rows, columns=names, dtype=str)


def _headings(ready: ShownTable) -> list[str]:
    """Headings, no two alike: a data frame names its columns."""
    names: list[str] = []
    for column in ready.columns:
        name, number = cell(column.label, 80) or "-", 2
        while name in names:
            name, number = f"{cell(column.label, 80)} ({number})", number + 1
        names.append(name)
    return names


def _helps(ready: ShownTable) -> dict[str, Any]:
    return {
        name: st.column_config.Column(help=plain(column.help, 600))
        for name, column in zip(_headings(ready), ready.columns, strict=True)
        if column.help
    }


def show_tables(
    section: AuditSection,
    landmarks: Collection[float],
    names: Sequence[str] | None = None,
    *,
    but: Sequence[str] = (),
) -> None:
    """Tables of a section, all or those of ``names``, in the section's order."""
    for table in section.tables:
        if (names is None or table.name in names) and table.name not in but and table.rows:
            show_table(table, landmarks)


def show_section_notes(section: AuditSection) -> None:
    """How the section was made, what it assumes and what it cannot show."""
    with st.expander("How this was measured, and what it cannot show"):
        st.markdown(plain(section.method, 5_000))
        for title, lines in (("Assumed", section.assumptions), ("Cannot show", section.cannot_show)):
            if lines:
                st.markdown(f"**{title}**")
                st.markdown("\n".join(f"- {plain(line, 1_000)}" for line in lines[:60]))


def show_comparison(one: Comparison) -> None:
    """Two texts side by side, one below the other on a telephone; words that differ are marked."""
    if one.note:
        st.caption(plain(one.note, 500))
    is_same = not any(differs for _, pieces in one.sides for _, differs in pieces)
    for column, (name, pieces) in zip(st.columns(len(one.sides)), one.sides, strict=True):
        with column, st.container(border=True):
            st.markdown(f"**{plain(name)}**")
            st.markdown(marked_words(pieces) or "(empty)")
    st.caption(
        "The two are the same, word for word." if is_same else "Bold on colour: words without a counterpart beside."
    )


def marked_words(pieces: Sequence[Piece]) -> str:
    """Pieces of a text as Markdown, those that differ in bold on colour."""
    return _joined((text, _DIFFERS if differs else "{}") for text, differs in pieces)


def show_marked(text: MarkedText) -> None:
    """A text with marks, under its title and note."""
    st.markdown(f"**{plain(text.title)}**")
    if text.note:
        st.caption(plain(text.note, 1_000))
    with st.container(border=True):
        st.markdown(marked_pieces(text.pieces) or "(empty)")


def marked_pieces(pieces: Sequence[MarkedPiece]) -> str:
    """Pieces of a text as Markdown, each on the colour of its level."""
    return _joined((piece.text, _MARKS.get(piece.level, "{}")) for piece in pieces)


def show_legend(legend: Sequence[tuple[int, str]]) -> None:
    """What the marks mean."""
    st.markdown(" · ".join(_MARKS.get(level, "{}").format(plain(words)) for level, words in legend))


def _joined(pieces: Iterator[tuple[str, str]]) -> str:
    """Marked pieces as Markdown: line ends stay, other white space stands outside of the marks as one space."""
    left, out = _MOST_CHARACTERS, []
    for text, mark in pieces:
        if left <= 0:
            out.append(f" {plain('... the rest is in the items of the run.')}")
            break
        lines = text[:left].split("\n")
        left -= len(text)
        for number, line in enumerate(lines):
            inner = plain(line, _MOST_CHARACTERS)
            before = "  \n" if number else " " if line[:1].isspace() else ""
            if not inner:
                out.append(before)
            else:
                out.append(before + mark.format(inner) + (" " if line[-1:].isspace() else ""))
    return "".join(out).strip()
