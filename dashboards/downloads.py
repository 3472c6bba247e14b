"""What of a run can be taken away: its report, its findings, its items as Parquet or CSV."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import streamlit as st

from audit.errors import AuditError
from audit.report.content import read_report
from audit.report.write import Format, rendered
from audit.runs.store import Run
from audit.text.safe import counted
from audit.text.tables import read_parquet, write_table

from .address import kept
from .plain import cell, plain
from .store import Opened

_MOST_CSV: Final = 1_000_000  # rows made into CSV at once, in memory


def downloads(opened: Opened) -> None:
    """Buttons for every file; large ones are read when they are asked for."""
    st.subheader("Report", anchor=False)
    _report(opened)
    st.subheader("Findings and record", anchor=False)
    with st.container(horizontal=True):
        for name, kind in (("findings.json", "application/json"), ("run.json", "application/json"),
                           ("plan.toml", "application/toml"), ("seal.json", "application/json")):  # fmt: skip
            if (path := opened.file(name)) is not None:
                st.download_button(name, path.read_bytes, name, kind, key=f"get-{name}", on_click="ignore",
                                   icon=":material/download:")  # fmt: skip
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
            st.download_button(label, _Drawn(run, kind), f"report.{kind}", mime, key=f"report-{kind}",
                               on_click="ignore", icon=":material/download:")  # fmt: skip
        if (path := opened.file("report.html")) is not None:
            st.download_button("report.html as it lies in the run", path.read_bytes, "report.html", "text/html",
                               key="report-own", on_click="ignore", icon=":material/download:")  # fmt: skip


class _Drawn:
    """Draws the report when the button is pressed."""

    def __init__(self, run: Run, kind: Format) -> None:
        self._run, self._kind = run, kind

    def __call__(self) -> bytes:
        return rendered(read_report(self._run), self._kind)


def _items(opened: Opened) -> None:
    folder = None if opened.folder is None else opened.folder / "items"
    names = sorted(path.stem for path in folder.glob("*.parquet")) if folder is not None and folder.is_dir() else []
    names = [name for name in names if opened.file("items", f"{name}.parquet") is not None]
    if not names:
        st.markdown("The run holds no items.")
        return
    name = st.selectbox("Table", names, format_func=lambda name: cell(name, 80), **kept("items", names[0], names))
    path = opened.file("items", f"{name}.parquet")
    if path is None:
        return
    try:
        with path.open("rb") as stream:
            about = pq.read_metadata(stream)
            schema = about.schema.to_arrow_schema()
    except (pa.ArrowException, OSError) as error:
        st.warning(f"This table cannot be read: {plain(error, 400)}", icon=":material/warning:")
        return
    rows = about.num_rows
    st.caption(
        f"{counted(rows, 'row')}, {counted(len(schema.names), 'column')}, {path.stat().st_size / 2**20:,.1f} MiB."
    )
    with st.container(horizontal=True):
        st.download_button("Parquet", path.read_bytes, f"{name}.parquet", "application/vnd.apache.parquet",
                           key="items-parquet", on_click="ignore", icon=":material/download:")  # fmt: skip
        if rows <= _MOST_CSV:
            st.download_button("CSV", _AsCsv(path), f"{name}.csv", "text/csv", key="items-csv", on_click="ignore",
                               icon=":material/download:")  # fmt: skip
    if rows > _MOST_CSV:
        st.caption(f"More than {_MOST_CSV:,} rows: take the Parquet file.")
    st.caption(
        "In the CSV an apostrophe stands before texts that a spreadsheet would run as a formula, and columns that hold "
        "lists are left out. The Parquet file has all of it unchanged."
    )
    frame = pd.DataFrame({"Column": [cell(one) for one in schema.names], "Type": [str(one) for one in schema.types]})
    st.dataframe(frame, hide_index=True, alt="Columns of the table")


class _AsCsv:
    """Makes the CSV when the button is pressed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self) -> bytes:
        return as_csv(self._path)


def as_csv(path: Path) -> bytes:
    """A table of items as CSV whose cells no spreadsheet runs, without its nested columns."""
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
            return f"This table cannot be written as CSV: {error}\n".encode()
        return out.read_bytes()
