"""Cut a corpus into units of work: some small files, one file, or a range of a large file of JSON lines.

A unit is what one process does at a time, and what is kept when the next one fails.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from ...errors import InputError
from ...text.safe import printable, quoted
from ...text.sources import NOTHING, LeftOut, list_folder, require_exists

PLAIN: Final = (".txt", ".md", ".markdown")  # read as they are; a file is one text, as one of HTML is
HTML: Final = (".html", ".htm")
KNOWN: Final = (".jsonl", ".json", ".csv", ".tsv", *PLAIN, *HTML)  # each also with .gz
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


class Corpus(NamedTuple):
    """What is scanned.

    Attributes:
        units: In order of the paths given and, inside a folder, of path.
        places: The paths given, links resolved.
        left_out: What of the folders among them is not scanned.
    """

    units: list[Unit]
    places: list[str]
    left_out: LeftOut


def plan_corpus(paths: Sequence[Path]) -> Corpus:
    """Lists a corpus and cuts it into units.

    Args:
        paths: Files, and folders of which every file of a known format at any depth is taken; hidden ones are not.

    Raises:
        InputError: A path is absent, not known or no plain file, a folder holds no known file, or a file is given
            twice.
    """
    parts: list[Part] = []
    left_out = NOTHING
    seen: dict[str, str] = {}
    for path in paths:
        require_exists(path)
        files = [path]
        if path.is_dir():
            files, others = _files(path)
            left_out += others
        for file in files:
            if extension(file.name) is None:
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
    return Corpus(_grouped(parts), [printable(os.path.realpath(path)) for path in paths], left_out)


def extension(name: str) -> str | None:
    """What tells the format of a file: its extension in small letters without .gz; None where it is not known."""
    lowered = name.lower()
    if lowered.endswith(".parquet"):
        return ".parquet"
    return next((known for known in KNOWN if lowered.removesuffix(".gz").endswith(known)), None)


def _files(folder: Path) -> tuple[list[Path], LeftOut]:
    found, left_out = list_folder(folder, lambda name: extension(name) is not None)
    if not found:
        raise InputError(
            f"{folder} holds no file of a known format: {', '.join(KNOWN)} (each also with .gz), .parquet."
        )
    return found, left_out


def _parts(file: Path) -> list[Part]:
    try:
        state = file.stat()
    except OSError as error:
        raise InputError(
            f"could not read {printable(file)}: {error.strerror}. Mend it, or move it out of the corpus."
        ) from error
    if not stat.S_ISREG(state.st_mode):
        raise InputError(f"{printable(file)} is a device or a pipe. Move it out of the corpus.")
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
