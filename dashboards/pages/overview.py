"""Every run as one row: what was found, of which model, when, and which findings stand in the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final

import pandas as pd
import streamlit as st

from audit.report.sections import GRAVITY, VERDICT_WORDS
from audit.text.safe import counted, printable

from ..address import RUN, kept, open_page
from ..demo import demo_under_way, first_run
from ..plain import cell, plain
from ..sealing import seal_of
from ..store import Row, Store

_VERDICTS = [VERDICT_WORDS[verdict][0] for verdict in GRAVITY]
_OTHER = "Without a result"
_PICKED: Final = "picked-row"
_SEALS: Final = {"intact": "holds", "broken": "broken", "unchecked": "not checked yet", "": ""}
_FILTERS: Final = ("find", "verdict", "kind")
_LAST_FILTERS: Final = "overview-filters"


def page(shop: Store) -> None:
    """Draws the page."""
    if (picked := st.session_state.pop(_PICKED, None)) is not None:
        open_page("run", **{RUN: picked})
    if (problem := shop.unlisted()) is not None:
        st.title("Runs", anchor=False)
        st.error(plain(problem, 600), icon=":material/warning:")
        st.caption(f"Folder of runs: {plain(_from_home(shop.root.absolute()))}")
        return
    rows = shop.rows()
    if not rows:
        first_run(shop)
        return
    _bring_filters_back()
    st.title("Runs", anchor=False)
    st.markdown(
        "Each row is a recorded run of an audit or a remedy, the newest first. Select a row to open it. "
        "A verdict is that of the gravest finding; only **Not found** is no reason to stop."
    )
    demo_under_way(shop)
    rows = _checked(shop, rows)
    _tiles(rows)
    shown = _filtered(rows)
    _table(shown, len(rows))
    _list(f"{counted(len([row for row in shown if row.wrong]), 'run')} with a problem", ":material/report:",
          [(row.id, row.wrong) for row in shown if row.wrong])  # fmt: skip
    _list("Not read for this list", ":material/info:", [(row.id, row.note) for row in shown if row.note])
    st.caption(f"Folder of runs: {plain(_from_home(shop.root.absolute()))}")


def _list(title: str, icon: str, told: Sequence[tuple[str, str]]) -> None:
    if not told:
        return
    with st.expander(title, icon=icon):
        for id_, says in told[:50]:
            st.markdown(f"**{plain(id_, 80)}**: {plain(says, 600)}")
        if len(told) > 50:
            st.caption(f"And {len(told) - 50:,} more; the filters above reach them.")


def _checked(shop: Store, rows: list[Row]) -> list[Row]:
    """The rows, after seals were checked for whoever asks: to read every file of every run is not done unasked."""
    unchecked = [row.id for row in rows if row.seal == "unchecked"]
    if not unchecked or not st.button(
        f"Check {counted(len(unchecked), 'seal')}", icon=":material/verified:", key="check-seals",
        help="Reads every file of the sealed runs that were not checked since they changed; of runs above 512 MiB the "
        "seal is checked on the page Run.",
    ):  # fmt: skip
        return rows
    for id_ in unchecked:
        opened = shop.open(id_)
        state = seal_of(opened).state
        if state != "none":
            shop.remember_seal(opened, state)
    return shop.rows()


def _bring_filters_back() -> None:
    """Back leads over ``/?run=...``, which Streamlit leaves between two pages and where no filter stands."""
    query = st.query_params
    if RUN in query and not any(name in query for name in _FILTERS):
        query.from_dict(st.session_state.get(_LAST_FILTERS, {}))
    st.session_state[_LAST_FILTERS] = {name: query.get_all(name) for name in _FILTERS if name in query}


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
        ("With damaged files", sum(_is_damaged(row) or row.seal == "broken" for row in rows),
         "Damaged, changed by hand, with a broken seal, or written by another version. What is wrong stands below the "
         "table."),
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
            "Verdict": [row.verdict or ("not read" if row.note else "-") for row in rows],
            "Model": [cell(row.model, 120) for row in rows],
            "Begun": pd.to_datetime([row.date or None for row in rows], utc=True, errors="coerce", format="ISO8601"),
            "Block": [len(row.blocking) for row in rows],
            "Findings that block": [_blocking(row) for row in rows],
            "Kind": [cell(row.kind, 60) for row in rows],
            "State": [_state(row) for row in rows],
            "Seal": [_SEALS[row.seal] for row in rows],
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
        "Seal": st.column_config.TextColumn(
            width=110, help="Whether its files are as they were sealed, as far as it was checked since they changed."
        ),
    }
    # The browser names a row by its number. The number is of the rows that it drew, which these ids are, whatever
    # the folder holds by then; and other rows are another table.
    ids = tuple(row.id for row in rows)
    key = f"runs-{sha256(repr(ids).encode()).hexdigest()[:16]}"
    st.dataframe(
        frame,
        hide_index=True,
        column_config=config,
        height=min(38 + 35 * len(rows), 560),
        on_select=partial(_row_was_picked, key, ids),
        selection_mode="single-row",
        key=key,
        alt="The runs: name, verdict, findings that block, model, date, kind, state, seal",
    )
    if len(rows) < n_all:
        st.caption(f"{counted(len(rows), 'run')} of {n_all:,} shown.")
    with st.sidebar:
        picked = st.selectbox(
            "Open a run", [row.id for row in rows], index=None, format_func=lambda id_: cell(id_, 60),
            placeholder="Choose a run", key="open-run",
        )  # fmt: skip
    if picked is not None:
        open_page("run", **{RUN: picked})


def _row_was_picked(key: str, ids: Sequence[str]) -> None:
    """Keeps the id of the row that was selected among those that were drawn; the page opens it when it is drawn."""
    numbers = st.session_state[key]["selection"]["rows"]
    if numbers and 0 <= numbers[0] < len(ids):
        st.session_state[_PICKED] = ids[numbers[0]]


def _blocking(row: Row) -> str:
    if not row.blocking:
        return ""
    counts = Counter(verdict for _, verdict in row.blocking)
    told = ", ".join(f"{number:,} {verdict}" for verdict, number in counts.items())
    names = ", ".join(name for name, _ in row.blocking[:6])
    return cell(f"{told}: {names}{' ...' if len(row.blocking) > 6 else ''}")


def _is_damaged(row: Row) -> bool:
    return row.problem is not None and row.state in ("complete", "unreadable")


def _state(row: Row) -> str:
    if _is_damaged(row):
        return "damaged"
    return cell(row.state, 40)
