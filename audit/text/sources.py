"""Paths that hold texts: are they there, what lies in a folder, what is their hash, did they change meanwhile."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..errors import InputError
from .safe import did_you_mean, printable, quoted


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What of a folder was not read: files of ``others`` kinds, ``hidden`` files and folders, ``links`` to folders."""

    others: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    links: tuple[str, ...] = ()

    @classmethod
    def under(
        cls, folder: Path, *, others: Iterable[str] = (), hidden: Iterable[str] = (), links: Iterable[str] = ()
    ) -> LeftOut:
        """From paths inside ``folder``; as they would be typed, in order."""
        paths = (tuple(printable(folder / name) for name in sorted(names)) for names in (others, hidden, links))
        return cls(*paths)

    def __add__(self, other: LeftOut) -> LeftOut:
        return LeftOut(self.others + other.others, self.hidden + other.hidden, self.links + other.links)


NOTHING: Final = LeftOut()


def list_folder(folder: Path, is_read: Callable[[str], bool]) -> tuple[list[Path], LeftOut]:
    """The files at any depth whose name ``is_read`` takes, in order of path, and what is left out.

    Hidden files and folders are left out, and links to folders are not followed.

    Raises:
        InputError: A folder cannot be read.
    """

    def fail(error: OSError) -> None:
        raise InputError(f"could not read the folder {error.filename}: {error.strerror}. Check its permissions.")

    taken: list[str] = []
    others: list[str] = []
    hidden: list[str] = []
    links: list[str] = []
    for parent, folders, files in os.walk(folder, onerror=fail):
        for name in (*folders, *files):
            if name.startswith("."):
                hidden.append((Path(parent) / name).relative_to(folder).as_posix())
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if (path := Path(parent) / name).is_symlink():
                links.append(path.relative_to(folder).as_posix())
        for name in files:
            if not name.startswith("."):
                inside = (Path(parent) / name).relative_to(folder).as_posix()
                (taken if is_read(name) else others).append(inside)
    found = [folder / inside for inside in sorted(taken)]
    return found, LeftOut.under(folder, others=others, hidden=hidden, links=links)


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
