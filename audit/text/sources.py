"""Paths that hold texts: are they there, what is their hash, did they change meanwhile."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ..errors import InputError
from .safe import did_you_mean, quoted


def require_exists(path: Path) -> None:
    """Refuses what is neither a file nor a folder, and names the nearest thing that is there.

    Raises:
        InputError: There is no such path, it may not be read, or it is a device or a pipe.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        there = path.parent
        while not there.exists():
            there = there.parent
        missing = path.relative_to(there).parts[0]
        names = [other.name for other in there.iterdir()] if there.is_dir() else []
        where = "the working folder" if there == Path() else there
        raise InputError(f"there is no {quoted(missing)} in {where}.{did_you_mean(missing, names)}") from error
    except OSError as error:
        raise InputError(f"could not read {path}: {error.strerror}. Check the path and its permissions.") from error
    if not (path.is_file() or path.is_dir()):
        raise InputError(f"{path} is a device or a pipe. Give a file or a folder.")


def states(files: list[Path]) -> list[tuple[int, int, int] | None]:
    """What changes when a file is written: inode, size (bytes), time of change (ns); None where there is no file."""
    found: list[tuple[int, int, int] | None] = []
    for file in files:
        try:
            state = file.stat()
        except OSError:
            found.append(None)
        else:
            found.append((state.st_ino, state.st_size, state.st_mtime_ns))
    return found


def hash_of_files(path: Path, files: list[Path]) -> str:
    """SHA-256 of the one file, or of the list of those files of a folder that can be read.

    Raises:
        InputError: The one file cannot be read.
    """
    digests = []
    for file in files:
        try:
            with file.open("rb") as stream:
                digests.append((hashlib.file_digest(stream, "sha256").hexdigest(), file))
        except OSError as error:
            if not path.is_dir():
                raise InputError(f"could not read {file}: {error.strerror}. Check its permissions.") from error
    if not path.is_dir():
        return digests[0][0]
    lines = b"".join(f"{digest}  ".encode() + os.fsencode(file.relative_to(path)) + b"\n" for digest, file in digests)
    return hashlib.sha256(lines).hexdigest()
