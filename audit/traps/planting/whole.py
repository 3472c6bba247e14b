"""An output, file or folder, that is there as a whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import InputError
from ...text.files import storage_errors
from ..ledger.files import refuse_taken


@contextmanager
def whole_output(out: Path) -> Iterator[Path]:
    """A path beside ``out`` at which a file or a folder is made; when the block ends well, it becomes ``out``.

    When the block fails, what was made is removed. A process that was killed leaves it under a hidden name, which
    `left_over` finds.

    Raises:
        InputError: Something stands at ``out`` by then.
        StorageError: The folder cannot be written.
    """
    work = out.with_name(f".{out.name}.unfinished-{os.getpid()}-{secrets.token_hex(4)}")
    with storage_errors(work, kept="nothing was changed", doing="create the folder"):
        work.mkdir()
    try:
        yield work / out.name
        with storage_errors(out, kept="nothing was left behind"):
            refuse_taken(out, "nothing is overwritten")
            os.rename(work / out.name, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def left_over(out: Path) -> list[Path]:
    """What killed processes left of unfinished outputs of that name; they can be deleted when none runs any more."""
    return sorted(out.absolute().parent.glob(f".{_literal(out.name)}.unfinished-*"))


def check_output(flag: str, path: Path, *, outside: dict[str, Path]) -> None:
    """Refuses an output that could not be written in the end, would overwrite something, or lies where it must not.

    Args:
        flag: How the user names it.
        path: Where it is to go.
        outside: Name -> path; when that is a folder, ``path`` may not lie in it.

    Raises:
        InputError: As said.
    """
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(f"{flag} {path}: there is no folder {folder}. Make it first.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{flag} {path}: the folder {folder} cannot be written. Change its permissions.")
    real = Path(os.path.realpath(path))
    for name, other in outside.items():
        place = Path(os.path.realpath(other))
        if real == place or place in real.parents:
            raise InputError(f"{flag} {path} lies in {name} {other}. Choose a place outside it.")
    refuse_taken(path, "nothing is overwritten here")


def _literal(name: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)
