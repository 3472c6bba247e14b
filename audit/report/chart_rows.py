"""Rows on their way into a chart: checked, named as the chart shows them, free of numpy's types."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import altair as alt
import numpy as np
import pandas as pd

from ..errors import InputError
from .palette import QUIET
from .safe_text import one_line

Rows: TypeAlias = Sequence[Mapping[str, Any]] | pd.DataFrame

CONTROL = "control"
_LABEL_LIMIT = 28


def records(rows: Rows, fields: Sequence[str]) -> list[dict[str, Any]]:
    """The rows as dicts of ``fields`` alone, with Python's own numbers.

    Raises:
        InputError: A row lacks one of the fields.
    """
    listed: Sequence[Mapping[Any, Any]] = rows.to_dict("records") if isinstance(rows, pd.DataFrame) else rows
    return [_record(at, row, fields) for at, row in enumerate(listed)]


def _record(at: int, row: Mapping[Any, Any], fields: Sequence[str]) -> dict[str, Any]:
    missing = [field for field in fields if field not in row]
    if missing:
        raise InputError(f"row {at} to draw has no {', '.join(missing)}; it has {', '.join(map(str, row))}")
    return {f: row[f].item() if isinstance(row[f], np.generic) else row[f] for f in fields}


def frame(rows: Rows, fields: Sequence[str]) -> pd.DataFrame:
    """The rows as a table with at least ``fields``.

    Raises:
        InputError: The rows lack one of the fields.
    """
    table = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    missing = [field for field in fields if field not in table]
    if missing and len(table):
        raise InputError(f"the rows to draw have no {', '.join(missing)}; they have {', '.join(map(str, table))}")
    return table


def grouped(rows: Iterable[dict[str, Any]], field: str) -> dict[Any, list[dict[str, Any]]]:
    """Value of ``field`` -> its rows, in the order of first appearance."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row[field], []).append(row)
    return groups


def inline(rows: Iterable[Mapping[str, Any]]) -> alt.Chart:
    """A chart without a mark that carries its rows with it; strings are cleaned, whatever field they stand in."""
    values = [{key: one_line(v) if isinstance(v, str) else v for key, v in row.items()} for row in rows]
    # As one string, for altair checks and copies every value of a list many times over.
    text = json.dumps(values, ensure_ascii=False, allow_nan=False)
    return alt.Chart(alt.InlineData(values=text, format=alt.JsonDataFormat(type="json")))


def chance_rule(y: float) -> alt.Chart:
    """A dashed horizontal line at ``y``."""
    rule: alt.Chart = inline([{"value": y}]).mark_rule(strokeDash=[5, 4], color=QUIET, strokeWidth=1.2)
    return rule


def is_number(value: object) -> bool:
    """Whether ``value`` is a finite number."""
    return isinstance(value, int | float | np.number) and math.isfinite(value)


def label(value: object, *, limit: int = _LABEL_LIMIT) -> str:
    """A group's name as a chart shows it: one line, at most ``limit`` characters."""
    text = one_line(str(value), limit=10 * _LABEL_LIMIT)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def labels(values: Iterable[Hashable]) -> dict[Any, str]:
    """Value -> `label`, in order of first appearance; different values never share a label."""
    named: dict[Any, str] = {}
    for value in dict.fromkeys(values):
        text, times = label(value), 1
        while text in named.values():
            times += 1
            text = f"{label(value)} ({times})"
        named[value] = text
    return named


def length_label(length: object) -> str:
    """A panel's title for traps of one length: "25 tokens"; "all lengths"."""
    return "all lengths" if length == "all" else f"{label(length)} tokens"


def copies_label(n_rep: object) -> str:
    """A panel's title for one number of copies: "1 copy"; "64 copies"."""
    return f"{label(n_rep)} {'copy' if n_rep == 1 else 'copies'}"


def by_repetition(n_rep: object) -> tuple[int, float, str]:
    """Sorting key: "control", then numbers of copies from few to many, then anything else by name."""
    name = str(n_rep)
    return (0, 0, "") if name == CONTROL else (1, float(name), "") if name.isdecimal() else (2, 0, name)
