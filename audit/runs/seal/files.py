"""Which files a seal covers, and their hashes.

Covered: every regular file of the run's folder and its subfolders, but ``seal.json`` and ``.lock`` at the top (the lock
only names who holds the folder, and sealing itself takes it) and temporary files of an interrupted write
(`audit.text.files.is_temporary`).
Links, pipes and devices are no evidence and refused. Empty folders are nothing. A name must be UTF-8.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock

from ...progress import Progress, silent
from ...text.files import is_temporary, storage_errors
from ..lock import LOCK_NAME
from .record import SEAL_NAME, FileEntry, path_order

_BLOCK = 1 << 20
_SHOWN_FROM = 128 << 20  # bytes from which progress is worth a bar
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """What stands in a folder: paths with ``/`` of regular files, and of what cannot be sealed with the reason."""

    files: tuple[str, ...]
    strange: tuple[tuple[str, str], ...]


def find_files(folder: Path) -> Found:
    """Walks the folder without following a link; both lists in order of the paths' bytes.

    Raises:
        StorageError: A folder in it cannot be read.
    """
    files: list[str] = []
    strange: list[tuple[str, str]] = []
    for path, entry in _walk(folder, ""):
        why = _why_strange(path, entry)
        if why is not None:
            strange.append((path, why))
        elif not _left_out(path, entry):
            files.append(path)
    strange.sort(key=lambda pair: path_order(pair[0]))
    return Found(tuple(sorted(files, key=path_order)), tuple(strange))


def _walk(folder: Path, above: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    with storage_errors(folder, kept="nothing was changed", doing="read"), os.scandir(folder) as entries:
        listed = list(entries)
    for entry in listed:
        path = above + entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), f"{path}/")
        else:
            yield path, entry


def _why_strange(path: str, entry: os.DirEntry[str]) -> str | None:
    if entry.is_symlink():
        return "is a symbolic link"
    if not entry.is_file(follow_symlinks=False):
        return "is a pipe, socket or device"
    try:
        path.encode()
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    return None


def _left_out(path: str, entry: os.DirEntry[str]) -> bool:
    return path in (SEAL_NAME, LOCK_NAME) or is_temporary(Path(entry.name))


def hash_files(
    folder: Path, paths: Sequence[str], *, threads: int | None = None, progress: Progress = silent
) -> list[FileEntry]:
    """Size and SHA-256 of each file, read in blocks by several threads: memory does not grow with the files.

    Args:
        folder: The run's folder.
        paths: Paths inside it with ``/``.
        threads: How many; default: one for each core, at most 8.
        progress: Told in MiB, where there are more than 128.

    Raises:
        StorageError: A file cannot be read.
    """
    with storage_errors(folder, kept="nothing was changed", doing="read"):
        sizes = {path: (folder / path).lstat().st_size for path in paths}
    counter = _Counter(sum(sizes.values()), progress)
    largest_first = sorted(paths, key=lambda path: -sizes[path])  # so that no thread ends alone with the largest
    with ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1)) as pool:
        futures = {path: pool.submit(_hash_file, folder, path, counter) for path in largest_first}
        try:
            entries = [futures[path].result() for path in paths]
        except BaseException:  # Ctrl-C, or a file that cannot be read: the others need not be read to their end
            counter.stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
    counter.end()
    return entries


def _hash_file(folder: Path, path: str, counter: _Counter) -> FileEntry:
    full, digest, size = folder / path, hashlib.sha256(), 0
    with storage_errors(full, kept="nothing was changed", doing="read"):
        descriptor = os.open(full, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb", buffering=0) as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(0, "it is no plain file any more")
            block = memoryview(bytearray(_BLOCK))
            while not counter.stopped.is_set() and (n := stream.readinto(block)):
                digest.update(block[:n])
                size += n
                counter.add(n)
    return FileEntry(path=path, sha256=digest.hexdigest(), size=size)


class _Counter:
    """Bytes read by all threads, told as MiB."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._total, self._progress, self._told = total, progress if total > _SHOWN_FROM else silent, 0
        self._done, self._lock = 0, Lock()
        self.stopped = Event()

    def add(self, n: int) -> None:
        with self._lock:
            self._done += n
            mib = min(self._done, self._total - 1) // _MIB
            if mib >= self._told + 16:
                self._told = mib
                self._progress("hash, MiB", mib, max(1, self._total // _MIB))

    def end(self) -> None:
        whole = max(1, self._total // _MIB)
        self._progress("hash, MiB", whole, whole)
