"""The table of dealt traps that an audit starts from: one row per trap, decoys included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from ..errors import DataError
from .generate import Trap

REQUIRED = {"trap_id": str, "text": str, "arm": str, "n_rep": int, "length": int, "stratum": str}


def to_table(traps: Sequence[Trap]) -> pa.Table:
    """One row per trap, with everything that the audit and a later reader need."""
    rows: list[dict[str, Any]] = [
        {
            "trap_id": trap.candidate.id,
            "text": trap.candidate.text,
            "arm": trap.arm,
            "n_rep": trap.n_rep,
            "length": trap.candidate.length,
            "bucket": trap.candidate.bucket,
            "stratum": trap.candidate.stratum,
            "generator_perplexity": trap.candidate.perplexity,
        }
        for trap in traps
    ]
    return pa.Table.from_pylist(rows)


def check_table(table: pa.Table, *, source: str) -> pd.DataFrame:
    """The table as a data frame, once it is certain that the tests can be made on it.

    Args:
        table: At least the columns ``trap_id, text, arm, n_rep, length, stratum``.
        source: Where it came from, for the message.

    Raises:
        DataError: A column is missing, an id occurs twice, an arm is neither "member" nor "decoy", a member has no
            copies or a decoy has some, or a stratum with members has no decoys.
    """
    missing = [name for name in REQUIRED if name not in table.column_names]
    if missing:
        raise DataError(
            f"{source} lacks the columns {', '.join(missing)}; a table of traps needs {', '.join(REQUIRED)}."
        )
    frame = table.to_pandas()
    if frame[list(REQUIRED)].isna().any(axis=None):
        place = frame[list(REQUIRED)].isna().any()
        raise DataError(f"{source}: column {place.idxmax()} has empty cells; fill them or leave the rows out.")
    for name, kind in REQUIRED.items():
        wrong = [value for value in frame[name].tolist() if not isinstance(value, kind)]
        if wrong:
            raise DataError(f"{source}: column {name} holds {wrong[0]!r}; expected {kind.__name__} in every row.")
    twice = frame["trap_id"][frame["trap_id"].duplicated()]
    if len(twice):
        raise DataError(f"{source}: trap {twice.iloc[0]} occurs more than once; every trap needs an id of its own.")
    unknown = frame[~frame["arm"].isin(["member", "decoy"])]
    if len(unknown):
        raise DataError(f'{source}: arm is {unknown["arm"].iloc[0]!r}; expected "member" or "decoy".')
    member = frame["arm"] == "member"
    if not member.any():
        raise DataError(f"{source} has no members; there is nothing to test.")
    if (frame.loc[member, "n_rep"] < 1).any() or (frame.loc[~member, "n_rep"] != 0).any():
        raise DataError(f"{source}: members need n_rep of 1 or more, and decoys n_rep 0.")
    alone = sorted(set(frame.loc[member, "stratum"]) - set(frame.loc[~member, "stratum"]))
    if alone:
        raise DataError(
            f"{source}: stratum {alone[0]!r} has members but no decoys, so nothing there can be tested; "
            "every stratum needs unplanted controls from the same draw."
        )
    return frame
