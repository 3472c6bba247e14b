"""Cut a corpus into units of work: some small files, one file, or a range of a large file of JSON lines.

A unit is what one process does at a time, and what is kept when the next one fails.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from ...errors import InputError
from ...text.safe import printable, quoted
from ...text.sources import require_exists

KNOWN: Final = (".jsonl", ".json", ".csv", ".tsv", ".txt")  # each also with .gz
_RANGE: Final = 16 * 2**20  # bytes of a file of JSON lines that are one unit
_TOGETHER: Final = 16 * 2**20  # bytes of files that are one unit


class Part(NamedTuple):
    """A file, or a range of its bytes.

    Attributes:
        path: The file.
        shard: What it is called in the hits.
        begin: First byte; a line belongs to the range in which it begins.
        end: One past the last byte.
        size: Bytes of the whole file when the scan was planned.
        changed: When it was last written, nanoseconds.
    """

    path: str
    shard: str
    begin: int
    end: int
    size: int
    changed: int


Unit = tuple[Part, ...]


def plan_units(corpus: Sequence[Path]) -> list[Unit]:
    """The units of a corpus, in order of the paths given and, inside a folder, of path.

    Args:
        corpus: Files, and folders of which every file of a known format at any depth is taken; hidden ones are not.

    Raises:
        InputError: A path is absent or not known, a folder holds no such file, or a file is given twice.
    """
    parts: list[Part] = []
    seen: dict[str, str] = {}
    for path in corpus:
        require_exists(path)
        for file in _files(path) if path.is_dir() else [path]:
            if not _is_known(file.name):
                raise InputError(
                    f"{file}: the extension {quoted(Path(file.name.lower().removesuffix('.gz')).suffix)} is not known; "
                    f"expected {', '.join(KNOWN)} (each also with .gz) or .parquet."
                )
            real = os.path.realpath(file)
            if real in seen:
                raise InputError(
                    f"{printable(file)} is given twice, also as {seen[real]}; its copies would count twice."
                )
            seen[real] = printable(file)
            parts += _parts(file)
    return _grouped(parts)


def _is_known(name: str) -> bool:
    lowered = name.lower()
    return lowered.endswith(".parquet") or lowered.removesuffix(".gz").endswith(KNOWN)


def _files(folder: Path) -> list[Path]:
    def fail(error: OSError) -> None:
        raise InputError(f"could not read the folder {error.filename}: {error.strerror}. Check its permissions.")

    found: list[Path] = []
    for parent, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent) / name for name in files if not name.startswith(".") and _is_known(name)]
    if not found:
        raise InputError(
            f"{folder} holds no file of a known format: {', '.join(KNOWN)} (each also with .gz), .parquet."
        )
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _parts(file: Path) -> list[Part]:
    state = file.stat()
    size = state.st_size
    step = _RANGE if file.name.lower().endswith(".jsonl") else max(1, size)
    return [
        Part(str(file), printable(file), begin, min(begin + step, size), size, state.st_mtime_ns)
        for begin in range(0, max(1, size), step)
    ]


def _grouped(parts: list[Part]) -> list[Unit]:
    """Small files behind each other are one unit."""
    units: list[list[Part]] = []
    size = 0
    for part in parts:
        n_bytes = part.end - part.begin
        if not units or size + n_bytes > _TOGETHER:
            units.append([])
            size = 0
        units[-1].append(part)
        size += n_bytes
    return [tuple(unit) for unit in units]
