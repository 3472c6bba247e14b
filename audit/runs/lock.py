"""One writer per folder: a lock that the kernel frees when its holder dies."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from pathlib import Path

from ..errors import InputError, StorageError
from ..text.files import storage_errors
from .moments import now

LOCK_NAME = ".lock"


class FolderLock:
    """An exclusive lock on a folder, held from `acquire` to `release` or the end of the process.

    The file ``.lock`` in the folder stays when the lock is released; only the kernel's lock on it counts (flock),
    so nothing has to be cleaned after a kill. Its text names the holder and serves the error message alone.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_NAME
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def acquire(self) -> None:
        """Takes the lock at once or fails; taking it twice is one taking.

        Raises:
            InputError: Another process, or another object of this one, holds it; the process is named.
            StorageError: The lock file cannot be made, or the file system has no locks.
        """
        if self.held:
            return
        with storage_errors(self._path, kept="nothing was changed", doing="lock"):
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _read_holder(descriptor)
            os.close(descriptor)
            raise self._refusal(error, holder) from error
        self._descriptor = descriptor
        text = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": now()})
        with storage_errors(self._path, kept="nothing was changed", doing="lock"):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, text.encode(), 0)

    def release(self) -> None:
        """Frees the lock; freeing a free one does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _refusal(self, error: OSError, holder: str) -> InputError | StorageError:
        folder = self._path.parent
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return InputError(
                f"{folder} is in use by {holder}. Wait until it ends or stop it; or choose another --out."
            )
        return StorageError(
            f"could not lock {folder}: {error.strerror}; nothing was changed. "
            "Choose an --out on a disk whose file system has locks."
        )


def is_locked(folder: Path) -> bool:
    """Whether a process holds the folder's lock now.

    A shared lock is taken for a moment, so a run that starts in just that moment is refused and can be started again.
    Where the file cannot be read or the file system has no locks, nobody is known to hold it.
    """
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EACCES)
    finally:
        os.close(descriptor)
    return False


def _read_holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        process, host, since = int(holder["pid"]), str(holder["host"]), str(holder["since"])
    except (ValueError, KeyError, TypeError):  # read while the holder was writing it
        return "another process"
    if process == os.getpid() and host == socket.gethostname():
        return f"this process itself (pid {process}, since {since})"
    return f"process {process} on {host} (since {since})"
