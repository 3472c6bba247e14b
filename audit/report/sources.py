"""What figures are drawn from: tables of the findings, and tables of items with no more columns than are drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..runs.schema import Findings, Table
from ..runs.store import Run


def tables_of(findings: Findings, audit: str) -> dict[str, Table]:
    """Name -> table, of all sections of one audit; of two tables of one name the later."""
    return {table.name: table for section in findings.sections if section.audit == audit for table in section.tables}


def table_rows(findings: Findings, audit: str, name: str) -> list[Mapping[str, Any]]:
    """Rows of one table; none where the findings hold no such table."""
    table = tables_of(findings, audit).get(name)
    return [] if table is None else list(table.rows)


def items_of(run: Run, name: str, columns: Iterable[str] | None = None) -> pd.DataFrame | None:
    """A table of items, with those of ``columns`` that it has (None: with all); None where the run holds none.

    Raises:
        DataError: The file is damaged.
    """
    path = run.items_path(name)
    if not path.exists():
        return None
    present = None
    if columns is not None:
        try:
            known = pq.read_schema(path).names
        except (pa.ArrowException, OSError):
            known = None  # read_items says what is wrong with it
        present = None if known is None else [one for one in dict.fromkeys(columns) if one in known]
    frame: pd.DataFrame = run.read_items(name, present).to_pandas()
    return frame
