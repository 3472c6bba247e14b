"""Files of variants, as `palimpsest traps fuzz` writes them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from ...errors import DataError, InputError
from ...text.rows import BadLine, jsonl_rows
from ...text.safe import quoted
from ...text.sources import require_exists
from ...text.tables import read_parquet


def read_variants(path: Path, members: Collection[str], *, whole: bool = False) -> dict[str, list[str]]:
    """The variants of each member that has any, in the file's order.

    Args:
        path: .jsonl or .parquet with the texts ``trap_id`` and ``text``.
        members: Ids of the ledger's members.
        whole: Whether a piece of a scattered trap is refused, because it is to stand in place of a copy.

    Raises:
        InputError: There is no such file, or it ends otherwise.
        DataError: A row is malformed, of no member, a piece that is refused, or there is none.
    """
    suffix = path.suffix.lower()
    if suffix not in (".jsonl", ".parquet"):
        raise InputError(f"--variants {path} ends in {path.suffix or 'nothing'}; expected .jsonl or .parquet.")
    require_exists(path)
    rows: list[tuple[str, dict[str, Any]]] = []
    if suffix == ".parquet":
        table = read_parquet(path)
        table = table.select([name for name in ("trap_id", "text", "piece") if name in table.column_names])
        rows = [(f"row {number}", row) for number, row in enumerate(table.to_pylist(), 1)]
    else:
        for row in jsonl_rows(path):
            if isinstance(row, BadLine):
                raise DataError(f"--variants {path}, {row.place}: {row.reason}. Write the file anew with `traps fuzz`.")
            rows.append((row.place, row.values))
    found: dict[str, list[str]] = {}
    for place, values in rows:
        trap_id, text = values.get("trap_id"), values.get("text")
        if not isinstance(trap_id, str) or not isinstance(text, str) or not text.strip():
            raise DataError(f"--variants {path}, {place}: expected the texts trap_id and text, neither of them blank.")
        if trap_id not in members:
            raise DataError(
                f"--variants {path}, {place}: the ledger has no member {quoted(trap_id)}. Give the variants that "
                "`traps fuzz` made of this ledger."
            )
        if whole and values.get("piece") is not None:
            raise DataError(
                f"--variants {path}, {place}: this is a piece of a scattered trap (`traps fuzz --kind scatter`), not a "
                "copy of it, and would count as one. `traps inject` plants whole copies only: give variants of another "
                "kind (replace, insert or shuffle). Pieces go into the documents by hand, each at a place of its own, "
                "before the source is planted."
            )
        found.setdefault(trap_id, []).append(text)
    if not found:
        raise DataError(f"--variants {path} holds no variants. Leave it out, or write it anew with `traps fuzz`.")
    return found
