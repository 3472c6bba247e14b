"""The files that ``palimpsest score`` writes beside each other, and what stands there already."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import InputError
from ..text.safe import printable

SUFFIXES = (".parquet", ".jsonl", ".csv")
ROLES = ("subject", "reference")


def meta_path(out: Path) -> Path:
    """Where it is told how the scores in ``out`` were made."""
    return out.with_name(f"{out.name}.meta.json")


def parts_folder(out: Path) -> Path:
    """Where finished parts lie until the scores are written."""
    return out.with_name(f"{out.name}.parts")


def check_out(out: Path, texts: str) -> None:
    """Refuses an --out that could not be written in the end, or whose writing would destroy something else.

    Raises:
        InputError: What is wrong with it, or with the files that will be written beside it.
    """
    if printable(out) != str(out):
        raise InputError(f"--out {printable(out)} is not UTF-8. Give a path in UTF-8.")
    if out.is_dir():
        raise InputError(f"--out {out} is a folder. Give the path of a file, such as {out / 'scores.parquet'}.")
    if out.suffix.lower() not in SUFFIXES:
        raise InputError(f"--out {out} ends in {out.suffix or 'nothing'}; expected one of {', '.join(SUFFIXES)}.")
    if not out.absolute().parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.absolute().parent}. Make it first.")
    if out.exists() and not out.is_file():
        raise InputError(f"--out {out} is a device or a pipe. Give the path of a file.")
    for path in (out, meta_path(out)):
        if path.exists() and Path(texts).exists() and path.samefile(texts):
            raise InputError(f"--out {out}: {path} is the file of texts, which would be lost. Choose another --out.")
    _check_meta(out)
    _check_parts(out)


def _check_meta(out: Path) -> None:
    meta = meta_path(out)
    if not meta.exists():
        return
    try:
        content = json.loads(meta.read_bytes()) if meta.is_file() else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or "palimpsest" not in content:
        raise InputError(
            f"--out {out}: {meta} would be written as well, and the one that is there is not from Palimpsest. "
            "Move it away, or choose another --out."
        )


def _check_parts(out: Path) -> None:
    parts = parts_folder(out)
    for path in (parts, *(parts / role for role in ROLES)):
        if path.is_symlink():
            raise InputError(
                f"--out {out}: {path}, where parts are kept meanwhile, is a link to somewhere else. "
                "Remove the link, or choose another --out."
            )
