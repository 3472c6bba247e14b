"""What the verbs of ``palimpsest extract`` read: generations, and what to tell of rows that were left out."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pyarrow as pa
import pyarrow.json as pa_json

from ...errors import DataError, InputError
from ...extraction.parse import Reason
from ...extraction.sample import FAILED, SCHEMA
from ...text.safe import counted, for_terminal, quoted
from ...text.sources import require_exists
from ...text.tables import read_parquet

if TYPE_CHECKING:
    from ...extraction.rows import Rows

REASONS = frozenset({*get_args(Reason), FAILED})


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
        options = pa_json.ParseOptions(explicit_schema=SCHEMA)  # no text is taken for a date
        is_parquet = path.suffix.lower() == ".parquet"
        table = read_parquet(path) if is_parquet else pa_json.read_json(path, parse_options=options)
        missing = [name for name in SCHEMA.names if name not in table.column_names]
        if not missing:
            table = table.select(SCHEMA.names).cast(SCHEMA)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as generations: {str(error)[:200].rstrip('.')}.") from error
    if missing:
        raise DataError(f"{path} lacks the columns {', '.join(missing)}; expected what `extract sample` wrote.")
    _check(path, table)
    return table


def _check(path: Path, table: pa.Table) -> None:
    """Refuses what `extract sample` does not write: a generation is named once, and parsed or rejected."""
    if not table.num_rows:
        raise DataError(f"{path} holds no generations. Sample some with `palimpsest extract sample`.")
    ids = table["id"].to_pylist()
    again = next((name for name, n in Counter(ids).items() if n > 1 or name is None), "")
    if again != "":
        raise DataError(
            f"{path}: {'a generation has no id' if again is None else f'two generations have the id {quoted(again)}'}. "
            "Match the files of several jobs one by one, or name every generation anew."
        )
    for number, row in enumerate(table.select(["question", "answer", "whole", "reject"]).to_pylist()):
        reason = row["reject"]
        parts = [row[name] for name in ("question", "answer", "whole")]
        if (any(parts) if reason is not None else not all(parts)) or (
            reason is not None and reason.partition(":")[0] not in REASONS
        ):
            raise DataError(
                f"{path}: generation {quoted(ids[number])} is neither parsed (question, answer and whole, no reject) "
                "nor rejected for a reason that `extract sample` knows. The file was changed; sample again."
            )


def tell_left_out(rows: Rows) -> None:
    """How many rows are not compared, and why."""
    for note in rows.notes:
        print(for_terminal(f"note: {rows.source}: {note}"), file=sys.stderr)
    if rows.left_out:
        reasons = "; ".join(f"{reason}: {n:,}" for reason, n in rows.reasons.items())
        said = f"{rows.source}: {counted(len(rows.left_out), 'row')} left out ({reasons})"
        print(for_terminal(said), file=sys.stderr)
