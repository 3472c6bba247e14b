"""A table of items on a page: sorted, filtered, a page at a time, never whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st
from numpy.typing import NDArray

from .address import Between, kept
from .items import Items, Where
from .parts import Part
from .plain import cell

PAGE: Final = 100  # rows
_CUT = 300  # characters of a text in a cell
_FILE_ORDER = "order of the file"


@st.cache_data(show_spinner=False, max_entries=6)
def _order(
    key: str, name: str, where: tuple[Where, ...], sort: str | None, descending: bool, _items: Items
) -> NDArray[np.int64]:
    return _items.order(where, sort, descending=descending)


@st.cache_data(show_spinner=False, max_entries=64)
def distinct(key: str, name: str, column: str, _items: Items) -> list[str | float | bool]:
    """Values of a column, as `Items.distinct`."""
    return _items.distinct(column)


def open_items(part: Part, name: str) -> Items | None:
    """The table of that name; None where the run holds none. Raises DataError."""
    return Items.of(part.run, name)


def show_items(
    part: Part,
    items: Items,
    name: str,
    columns: Mapping[str, str],
    *,
    prefix: str,
    where: Sequence[Where] = (),
    sort: str | None = None,
    descending: bool = False,
) -> pa.Table:
    """Draws one page of a table of items, with what it is sorted by.

    Args:
        part: The run.
        items: The table.
        name: Its name.
        columns: Column -> heading, of those that are shown; those that the file lacks are left out.
        prefix: Of the filters' names in the address, short.
        where: Conditions.
        sort: Column by which it is sorted at first; None for the order of the file.
        descending: Whether from great to small, at first.

    Returns:
        The rows that are shown, whole, with the columns that are shown.
    """
    present = [one for one in columns if one in items.columns]
    first = sort if sort in present else _FILE_ORDER
    options = [_FILE_ORDER, *present]
    by, which, at = st.columns([2, 2, 1], vertical_alignment="bottom")
    chosen = by.selectbox(
        "Sorted by",
        options,
        format_func=lambda one: one if one == _FILE_ORDER else cell(columns[one]),
        **kept(f"{prefix}-sort", first, options),
    )
    down = which.toggle("From great to small", **kept(f"{prefix}-down", descending), disabled=chosen == _FILE_ORDER)
    by_column = None if chosen == _FILE_ORDER else chosen
    conditions = tuple(where)
    places = _order(part.key, name, conditions, by_column, down and by_column is not None, items)
    n_pages = max(1, -(-len(places) // PAGE))
    number = at.number_input(
        f"Page of {n_pages:,}", 1, n_pages, step=1, **kept(f"{prefix}-page", 1, Between(1, n_pages))
    )
    rows = items.rows(present, places[(number - 1) * PAGE : number * PAGE])
    begin = (number - 1) * PAGE
    said = f"Rows {begin + 1:,} to {begin + rows.num_rows:,} of {len(places):,}" if rows.num_rows else "No row"
    st.dataframe(
        frame(rows, columns),
        hide_index=True,
        width="stretch",
        height=min(420, 38 + 35 * max(1, rows.num_rows)),
    )
    passed = f" that pass, of {items.n_rows:,} in all" if conditions else ""
    st.caption(f"{said}{passed}.")
    return rows


def frame(rows: pa.Table, columns: Mapping[str, str]) -> pd.DataFrame:
    """Rows as a data frame under their headings: texts cut and cleaned, lists joined, numbers as they are."""
    return pd.DataFrame({columns[name]: _shown(rows[name]) for name in rows.column_names})


def _shown(column: pa.ChunkedArray) -> list[Any]:
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = pc.utf8_slice_codeunits(column, 0, _CUT)
    values: list[Any] = column.to_pylist()
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return values
    return [None if one is None else _text(one) for one in values]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return cell(", ".join(map(str, value[:50])), _CUT)
    return cell(value, _CUT)
