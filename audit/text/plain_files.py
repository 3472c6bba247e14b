"""Plain .txt files, one or a folder of them, cut into files, lines or paragraphs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from ..errors import InputError
from .rows import BadLine, Row, nul_problem, open_stream, read_lines
from .sources import LeftOut, list_folder

Unit = Literal["file", "line", "paragraph"]
EXTENSIONS = (".txt", ".txt.gz")


def text_files(folder: Path) -> tuple[list[Path], LeftOut]:
    """Every .txt and .txt.gz under ``folder``, and what is left out there; see `list_folder`.

    Raises:
        InputError: There is none, or a folder cannot be read.
    """
    found, left_out = list_folder(folder, lambda name: name.lower().endswith(EXTENSIONS))
    if not found:
        suffixes = sorted({Path(name).suffix or Path(name).name for name in left_out.others})
        held = f"it holds files named *{', *'.join(suffixes[:5])}" if suffixes else "it holds no files"
        raise InputError(
            f"{folder} is a folder without .txt files: {held}. Give a folder of .txt files, or the path of one file."
        )
    return found, left_out


def text_rows(path: Path, *, name: str | None, field: str, unit: Unit) -> Iterator[Row | BadLine]:
    """Texts of one file.

    CRLF becomes LF; nothing else is changed. A paragraph ends at a blank line. Blank lines are no texts.

    Args:
        path: A .txt or .txt.gz file.
        name: Path inside the folder, put before places and labels; None for a file on its own.
        field: Name under which the text stands in the rows.
        unit: What is one text.
    """
    if unit == "file":
        yield _whole(path, name or path.name, field)
        return
    prefix = f"{name}, " if name else ""
    block: list[str] = []
    start = 1
    problem: str | None = None

    def cut() -> Row | BadLine:
        place = f"{prefix}line {start}"
        if problem:
            return BadLine(start, problem, place)
        return Row(start, place, f"{name}:{start}" if name else str(start), {field: "\n".join(block)})

    with open_stream(path) as stream:
        for number, raw, fault in read_lines(stream):
            text = raw.removesuffix("\n").removesuffix("\r")
            if text.strip():
                start = start if block else number
                block.append(text)
                problem = problem or fault
            if block and (unit == "line" or not text.strip()):
                yield cut()
                block, problem = [], None
    if block:
        yield cut()


def _whole(path: Path, name: str, field: str) -> Row | BadLine:
    """A file as one text."""
    with open_stream(path) as stream:
        before = stream.tell()
        content = stream.read()
    if reason := nul_problem(content, before):
        line = content[: content.index(0)].count(b"\n") + 1
        return BadLine(line, reason, f"{name}, line {line}")
    try:
        return Row(1, name, name, {field: content.decode().replace("\r\n", "\n")})
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        byte = f"byte 0x{content[error.start]:02x} at offset {before + error.start}"
        return BadLine(line, f"{byte} of the file's text is not UTF-8", f"{name}, line {line}")
