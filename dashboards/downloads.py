"""What of a run can be taken away: its report, its findings, its items as Parquet or CSV."""

from __future__ import annotations

import html
import re
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import streamlit as st

from audit.errors import AuditError, DataError
from audit.report.content import read_report
from audit.report.write import Format, rendered
from audit.runs.store import Run
from audit.text.safe import counted
from audit.text.tables import read_parquet, write_table

from .address import kept
from .items import require_room, require_sound
from .parts import without_folder
from .plain import cell, plain
from .shown import UNREADABLE
from .store import Opened, told

_MOST_CSV: Final = 1_000_000  # rows made into CSV at once, in memory
_MOST_BYTES: Final = 512 * 2**20  # of a file that is handed out, in memory
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")  # of a table of items that is handed out


def downloads(opened: Opened) -> None:
    """Buttons for every file; large ones are read when they are asked for."""
    st.subheader("Report", anchor=False)
    _report(opened)
    st.subheader("Findings and record", anchor=False)
    with st.container(horizontal=True):
        for name, kind in (("findings.json", "application/json"), ("run.json", "application/json"),
                           ("plan.toml", "application/toml"), ("seal.json", "application/json")):  # fmt: skip
            if (path := opened.file(name)) is not None:
                _whole(opened, path, name, kind, key=f"get-{name}")
    st.subheader("Items", anchor=False)
    _items(opened)


def _report(opened: Opened) -> None:
    if opened.findings is None or opened.run is None:
        st.markdown("There is no report without findings.")
        return
    st.markdown(
        "The report as one page, for people who decide. It is drawn anew from the run's files; texts are quoted only "
        "where the plan asked for it."
    )
    run = opened.run
    kinds: tuple[tuple[Format, str, str], ...] = (
        ("html", "Report (HTML)", "text/html"),
        ("md", "Report (Markdown)", "text/markdown"),
        ("json", "Report (JSON)", "application/json"),
    )
    with st.container(horizontal=True):
        for kind, label, mime in kinds:
            st.download_button(label, _Made(opened, partial(_drawn, run, kind)), f"report.{kind}", mime,
                               key=f"report-{kind}", on_click="ignore", icon=":material/download:")  # fmt: skip


def _drawn(run: Run, kind: Format) -> bytes:
    require_sound(run)
    return rendered(read_report(run), kind)


class _Made:
    """Makes a file when its button is pressed; what is wrong with the run's files stands in the file then, as text."""

    def __init__(self, opened: Opened, make: Callable[[], bytes]) -> None:
        self._folder, self._make = opened.folder or Path(), make

    def __call__(self) -> bytes:
        try:
            return self._make()
        except (AuditError, *UNREADABLE) as error:
            says = html.escape(told(error, self._folder))  # the browser may read it as a page
            return f"This file could not be made: {says}\n".encode()


def _whole(opened: Opened, path: Path, name: str, kind: str, *, key: str, label: str = "") -> None:
    """A button for a file as it lies in the run."""
    try:
        size = path.stat().st_size
    except OSError as error:
        st.caption(f"{plain(name, 80)} cannot be read: {plain(told(error, opened.folder or path.parent), 300)}")
        return
    if size > _MOST_BYTES:
        st.caption(f"{plain(name, 80)} holds {size / 2**20:,.0f} MiB: take the file from the run's folder itself.")
        return
    st.download_button(label or name, _Made(opened, path.read_bytes), name, kind, key=key, on_click="ignore",
                       icon=":material/download:")  # fmt: skip


def _items(opened: Opened) -> None:
    folder = None if opened.folder is None else opened.folder / "items"
    names = sorted(path.stem for path in folder.glob("*.parquet")) if folder is not None and folder.is_dir() else []
    names = [name for name in names if opened.file("items", f"{name}.parquet") is not None]
    if others := [name for name in names if not _NAME.fullmatch(name)]:
        names = [name for name in names if _NAME.fullmatch(name)]
        st.caption(
            f"{counted(len(others), 'table')} left out: Palimpsest names tables of items with letters, digits, - and _ "
            "alone."
        )
    if not names:
        st.markdown("The run holds no items.")
        return
    name = st.selectbox("Table", names, format_func=lambda name: cell(name, 80), **kept("items", names[0], names))
    path = opened.file("items", f"{name}.parquet")
    if path is None:
        return
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            about = pq.read_metadata(stream)
            schema = about.schema.to_arrow_schema()
    except (pa.ArrowException, OSError) as error:
        st.warning(f"This table cannot be read: {plain(error, 400)}", icon=":material/warning:")
        return
    rows = about.num_rows
    st.caption(f"{counted(rows, 'row')}, {counted(len(schema.names), 'column')}, {size / 2**20:,.1f} MiB.")
    with st.container(horizontal=True):
        _whole(opened, path, f"{name}.parquet", "application/vnd.apache.parquet", key="items-parquet", label="Parquet")
        if rows <= _MOST_CSV:
            st.download_button("CSV", _Made(opened, partial(as_csv, path)), f"{name}.csv", "text/csv", key="items-csv",
                               on_click="ignore", icon=":material/download:")  # fmt: skip
    if rows > _MOST_CSV:
        st.caption(f"More than {_MOST_CSV:,} rows: take the Parquet file.")
    st.caption(
        "In the CSV an apostrophe stands before texts that a spreadsheet would run as a formula, and columns that hold "
        "lists are left out. The Parquet file has all of it unchanged."
    )
    frame = pd.DataFrame({"Column": [cell(one) for one in schema.names], "Type": [str(one) for one in schema.types]})
    st.dataframe(frame, hide_index=True, alt="Columns of the table")


def as_csv(path: Path) -> bytes:
    """A table of items as CSV whose cells no spreadsheet runs, without its nested columns.

    Raises:
        AuditError: The file is damaged, too large in memory, or holds what a CSV cannot.
    """
    require_room(path, whole=True)
    table = read_parquet(path)
    flat = [
        name for name, kind in zip(table.column_names, table.schema.types, strict=True)
        if not pa.types.is_nested(kind) and not pa.types.is_binary(kind) and not pa.types.is_large_binary(kind)
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "items.csv")
        try:
            write_table(out, table.select(flat))
        except AuditError as error:
            raise DataError(without_folder(error, Path(folder))) from error
        return out.read_bytes()
