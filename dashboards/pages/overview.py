"""Every run as one row: what was found, of which model, when, and which findings stand in the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import streamlit as st

from audit.report.sections import GRAVITY, VERDICT_WORDS
from audit.text.safe import counted, printable

from ..address import RUN, kept, open_page
from ..demo import first_run
from ..plain import cell, plain
from ..store import Row, Store, short_model

_VERDICTS = [VERDICT_WORDS[verdict][0] for verdict in GRAVITY]
_OTHER = "Without a result"


def page(shop: Store) -> None:
    """Draws the page."""
    rows = shop.rows()
    if not rows:
        first_run(shop)
        return
    st.title("Runs", anchor=False)
    st.markdown(
        "Each row is a recorded run of an audit or a remedy, the newest first. Select a row to open it. "
        "A verdict is that of the gravest finding; only **Not found** is no reason to stop."
    )
    _tiles(rows)
    shown = _filtered(rows)
    _table(shown, len(rows))
    broken = [row for row in shown if row.problem]
    if broken:
        with st.expander(f"{counted(len(broken), 'run')} with a problem", icon=":material/report:"):
            for row in broken[:50]:
                st.markdown(f"**{plain(row.id, 80)}**: {plain(row.problem, 600)}")
    st.caption(f"Folder of runs: {plain(_from_home(shop.root.absolute()))}")


def _from_home(folder: Path) -> str:
    """The path with ``~`` for the home folder: a name of a user is nobody's business in a picture."""
    try:
        return printable(Path("~") / folder.relative_to(Path.home()))
    except (ValueError, RuntimeError):  # not below it, or there is none
        return printable(folder)


def _tiles(rows: Sequence[Row]) -> None:
    tiles = (
        ("Runs", len(rows), None),
        ("With findings that block", sum(bool(row.blocking) for row in rows),
         "Findings that say found, confounded or inconclusive. Whether a release is blocked is decided by a policy: "
         "see the page Gate."),
        ("Not complete", sum(row.state not in ("complete", "unreadable") for row in rows),
         "Runs that go on now, were interrupted, or failed."),
        ("With damaged files", sum(row.problem is not None and row.state in ("complete", "unreadable") for row in rows),
         "Damaged, changed by hand, or written by another version. What is wrong stands below the table."),
    )  # fmt: skip
    for column, (label, number, help_) in zip(st.columns(4), tiles, strict=True):
        column.metric(label, f"{number:,}", help=help_, border=True)


def _filtered(rows: Sequence[Row]) -> list[Row]:
    kinds = sorted({row.kind for row in rows if row.kind})
    left, middle, right = st.columns([2, 2, 1])
    text = left.text_input("Find", placeholder="Name, model or finding", **kept("find", ""))
    verdicts = middle.multiselect(
        "Verdict", [*_VERDICTS, _OTHER], placeholder="All", **kept("verdict", [], [*_VERDICTS, _OTHER])
    )
    kind = right.selectbox(
        "Kind", ["", *kinds], format_func=lambda kind: cell(kind, 40) or "All", **kept("kind", "", kinds)
    )
    sought = text.casefold().split()
    return [
        row
        for row in rows
        if (not kind or row.kind == kind)
        and (not verdicts or (row.verdict if row.verdict in _VERDICTS else _OTHER) in verdicts)
        and all(word in _haystack(row) for word in sought)
    ]


def _haystack(row: Row) -> str:
    return " ".join((row.id, row.model, row.kind, row.verdict, *(name for name, _ in row.blocking))).casefold()


def _table(rows: Sequence[Row], n_all: int) -> None:
    if not rows:
        st.info(f"None of {counted(n_all, 'run')} fits these filters.", icon=":material/info:")
        return
    frame = pd.DataFrame(
        {
            "Run": [cell(row.id, 120) for row in rows],
            "Verdict": [row.verdict or "-" for row in rows],
            "Model": [cell(short_model(row.model), 120) for row in rows],
            "Begun": pd.to_datetime([row.date or None for row in rows], utc=True, errors="coerce", format="ISO8601"),
            "Block": [len(row.blocking) for row in rows],
            "Findings that block": [_blocking(row) for row in rows],
            "Kind": [cell(row.kind, 60) for row in rows],
            "State": [_state(row) for row in rows],
            "Sealed": [row.sealed for row in rows],
        }
    )
    config = {
        "Run": st.column_config.TextColumn(width=170),
        "Verdict": st.column_config.TextColumn(width=105, help="Of the gravest finding."),
        "Model": st.column_config.TextColumn(width=130, help="The last part of its name."),
        "Begun": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm", width=135, help="In UTC."),
        "Block": st.column_config.NumberColumn(
            width=60, help="How many findings say found, confounded or inconclusive."
        ),
        "Findings that block": st.column_config.TextColumn(width=330, help="How many of each verdict, and which."),
        "Kind": st.column_config.TextColumn(width=110),
        "State": st.column_config.TextColumn(width=100),
        "Sealed": st.column_config.CheckboxColumn(
            width=70, help="It carries a seal; whether the seal holds stands on the page Run."
        ),
    }
    chosen = st.dataframe(
        frame,
        hide_index=True,
        column_config=config,
        height=min(38 + 35 * len(rows), 560),
        on_select="rerun",
        selection_mode="single-row",
        key="runs",
        alt="The runs: name, verdict, findings that block, model, date, kind, state, seal",
    )
    if len(rows) < n_all:
        st.caption(f"{counted(len(rows), 'run')} of {n_all:,} shown.")
    if chosen.selection.rows:
        open_page("run", **{RUN: rows[chosen.selection.rows[0]].id})
    with st.sidebar:
        picked = st.selectbox(
            "Open a run", [row.id for row in rows], index=None, format_func=lambda id_: cell(id_, 60),
            placeholder="Choose a run", key="open-run",
        )  # fmt: skip
    if picked is not None:
        open_page("run", **{RUN: picked})


def _blocking(row: Row) -> str:
    if not row.blocking:
        return ""
    counts = Counter(verdict for _, verdict in row.blocking)
    told = ", ".join(f"{number:,} {verdict}" for verdict, number in counts.items())
    names = ", ".join(name for name, _ in row.blocking[:6])
    return cell(f"{told}: {names}{' ...' if len(row.blocking) > 6 else ''}")


def _state(row: Row) -> str:
    if row.state in ("complete", "unreadable") and row.problem:
        return "damaged"
    return cell(row.state, 40)
