"""Rows that are kept as they come: one JSON object a line, flushed to the disk."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audit.errors import DataError


def append_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows; a process killed in between leaves at worst one line without its end."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    with path.open("ab") as stream:
        stream.write(text.encode())
        stream.flush()
        os.fsync(stream.fileno())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All whole rows; a last line without its end is cut off the file, so that rows can be added.

    Raises:
        DataError: A line is no JSON object.
    """
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    rows = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number} is no JSON object. It was changed; restore it, or remove the file.")
        rows.append(row)
    if len(whole) < len(content):
        with path.open("r+b") as stream:
            stream.truncate(len(whole))
    return rows
