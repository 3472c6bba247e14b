"""What the verbs of ``palimpsest extract`` read: generations, and what to tell of rows that were left out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.json as pa_json

from ...errors import DataError, InputError
from ...extraction.sample import SCHEMA
from ...text.safe import counted, for_terminal
from ...text.sources import require_exists
from ...text.tables import read_parquet

if TYPE_CHECKING:
    from ...extraction.rows import Rows


def read_generations(path: Path) -> pa.Table:
    """The table that `extract sample` wrote.

    Raises:
        InputError: There is no such file, or its extension is another.
        DataError: It is damaged or something else.
    """
    require_exists(path)
    if path.suffix.lower() not in (".parquet", ".jsonl"):
        raise InputError(f"{path} ends in {path.suffix or 'nothing'}; expected what `extract sample` wrote.")
    try:
        table = read_parquet(path) if path.suffix.lower() == ".parquet" else pa_json.read_json(path)
        missing = [name for name in SCHEMA.names if name not in table.column_names]
        if not missing:
            return table.select(SCHEMA.names).cast(SCHEMA)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as generations: {str(error)[:200].rstrip('.')}.") from error
    raise DataError(f"{path} lacks the columns {', '.join(missing)}; expected what `extract sample` wrote.")


def tell_left_out(rows: Rows) -> None:
    """How many rows are not compared, and why."""
    for note in rows.notes:
        print(for_terminal(f"note: {rows.source}: {note}"), file=sys.stderr)
    if rows.left_out:
        reasons = "; ".join(f"{reason}: {n:,}" for reason, n in rows.reasons.items())
        said = f"{rows.source}: {counted(len(rows.left_out), 'row')} left out ({reasons})"
        print(for_terminal(said), file=sys.stderr)
