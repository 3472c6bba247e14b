"""Files that are either whole or absent: atomic writes, and errors that say what was kept.

A write goes to a temporary file in the same folder, reaches the disk (fsync) and then takes the place of the
target in one step (rename). A process killed at any moment leaves the old file or the new one, never a half; at
worst it leaves a hidden temporary file, which `remove_leftovers` takes away.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ..errors import InputError, StorageError

_TEMPORARY = re.compile(r"\.palimpsest-(\d+)-[0-9a-f]{16}\.tmp")
_NO_SPACE = "Free some space there, or choose another folder"
_NOT_ALLOWED = "Change its permissions, or choose another folder"
_REMEDIES = {
    errno.ENOSPC: ("the disk is full", _NO_SPACE),
    errno.EDQUOT: ("the disk quota is used up", _NO_SPACE),
    errno.EFBIG: ("the file is larger than the system allows", "Raise the limit (ulimit -f), or write less"),
    errno.EACCES: ("permission denied", _NOT_ALLOWED),
    errno.EPERM: ("the operation is not permitted", _NOT_ALLOWED),
    errno.EROFS: ("the file system is read-only", "Choose a folder on a disk that can be written"),
    errno.EISDIR: ("it is a folder, not a file", "Give the path of a file"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "Choose another path"),
    errno.ENOENT: ("its folder does not exist", "Create the folder first, or choose another path"),
    errno.ENAMETOOLONG: ("the name is too long", "Choose a shorter name"),
    errno.EMFILE: ("too many files are open", "Raise the limit (ulimit -n)"),
}


@contextmanager
def storage_errors(path: Path, *, kept: str, doing: str = "write") -> Iterator[None]:
    """Turns an operating system's error about ``path`` into a `StorageError`.

    Args:
        path: The file or folder that is worked on.
        kept: What is still there, as a clause: "the earlier version is unchanged".
        doing: The verb, as in "could not write".

    Raises:
        StorageError: Says what failed, where, why, what was kept and how to mend it.
    """
    try:
        yield
    except OSError as error:
        why, remedy = why_and_remedy(error)
        message = f"could not {doing} {path}: {why}; {kept}. {remedy}, then run the same command again."
        raise StorageError(message) from error


def why_and_remedy(error: OSError) -> tuple[str, str]:
    """What an operating system's error means, as a clause, and what a user can do, as the start of a sentence."""
    unknown = (error.strerror or str(error), "Check the disk and the folder")
    return _REMEDIES.get(error.errno or 0, unknown)


@contextmanager
def atomic_writer(path: str | Path, *, secret: bool = False) -> Iterator[IO[bytes]]:
    """A binary stream whose content takes the place of ``path`` when the block ends without an exception.

    A symbolic link is followed. The new file gets the permissions that the umask gives, or is secret.

    Args:
        path: File to write; its folder exists.
        secret: Whether the file can be read by its owner alone (mode 0600), from its first byte on.

    Raises:
        StorageError: Disk full, no permission, no folder, or ``path`` is a folder, device or pipe.
    """
    path = Path(path)
    target = Path(os.path.realpath(path))
    kept = "the earlier version is unchanged" if os.path.isfile(target) else "nothing was left behind"
    with storage_errors(path, kept=kept):
        _refuse_special(target)
        temporary = target.parent / f".palimpsest-{os.getpid()}-{secrets.token_hex(8)}.tmp"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600 if secret else 0o666)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, target)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        _sync_folder(target.parent)


def _refuse_special(target: Path) -> None:
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(target))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a device or a pipe, not a plain file", str(target))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # some network file systems cannot sync a folder
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: str | Path, content: bytes, *, secret: bool = False) -> None:
    """Writes ``content`` atomically; ``secret`` and errors as in `atomic_writer`."""
    with atomic_writer(path, secret=secret) as stream:
        stream.write(content)


def write_text(path: str | Path, content: str) -> None:
    """Writes ``content`` atomically as UTF-8, line ends as given; errors as in `atomic_writer`.

    Raises:
        InputError: The text holds a lone surrogate, which UTF-8 cannot.
    """
    write_bytes(path, _utf8(path, content))


def write_json(path: str | Path, value: Any, *, secret: bool = False) -> None:
    """Writes ``value`` atomically as indented JSON in UTF-8; ``secret`` and errors as in `atomic_writer`.

    Raises:
        InputError: The value holds a NaN, an infinity or something that JSON has no form for.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} cannot hold this value: {error}. Give plain, finite JSON values.") from error
    write_bytes(path, _utf8(path, text + "\n"), secret=secret)


def _utf8(path: str | Path, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{path} cannot hold the text: character {error.start + 1} is {text[error.start]!a}, half of a "
            "surrogate pair, which UTF-8 cannot store. Remove or replace it."
        ) from error


def make_folder(folder: str | Path) -> Path:
    """Creates ``folder`` and its parents when absent, and returns it.

    Raises:
        StorageError: It cannot be made, or a file stands in its place.
    """
    folder = Path(folder)
    with storage_errors(folder, kept="nothing was changed", doing="create the folder"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, "a file stands in its place", str(folder)) from error
    return folder


def is_temporary(path: Path) -> bool:
    """Whether ``path`` is named like a temporary file of `atomic_writer`."""
    return _TEMPORARY.fullmatch(path.name) is not None


def remove_leftovers(folder: Path) -> int:
    """Removes temporary files of killed processes directly in ``folder``; returns how many.

    A file whose process still runs on this machine stays. Call it only while holding the folder's lock: a process
    on another machine cannot be seen.

    Raises:
        StorageError: The folder cannot be read or changed.
    """
    removed = 0
    with storage_errors(folder, kept="finished files are unchanged", doing="clean"):
        for path in sorted(folder.iterdir()):
            name = _TEMPORARY.fullmatch(path.name)
            if name and not _runs_elsewhere(int(name[1])):
                path.unlink(missing_ok=True)
                removed += 1
    return removed


def _runs_elsewhere(process: int) -> bool:
    """Whether another process than this one has that number now."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits, read in blocks, so memory does not grow with its size.

    Raises:
        StorageError: The file cannot be read.
    """
    path = Path(path)
    with storage_errors(path, kept="nothing was changed", doing="read"), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def expanded(path: str) -> Path:
    """``path`` with ``~`` and ``~user`` replaced by the home folder.

    Raises:
        InputError: There is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(f"no home folder for {path.split('/')[0]!r} in {path!r}; write the folder out.") from None
