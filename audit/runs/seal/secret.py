"""``seal.secret``: what the rows' salts are derived from. 64 hexadecimal digits and a line feed, mode 600."""

from __future__ import annotations

import os
import re
import secrets
import stat
from pathlib import Path

from ...errors import DataError
from ...text.files import storage_errors, write_bytes
from .record import SECRET_NAME


def make_secret(folder: Path) -> bytes:
    """The secret of a seal to be made: drawn now, or what an earlier sealing left that did not come to its end."""
    path = folder / SECRET_NAME
    if path.exists():
        with storage_errors(path, kept="nothing was changed", doing="read"):
            private = not stat.S_IMODE(os.lstat(path).st_mode) & 0o077
        if private:
            return read_secret(folder)
    secret = secrets.token_bytes(32)
    write_bytes(path, secret.hex().encode() + b"\n", secret=True)
    return secret


def read_secret(folder: Path) -> bytes:
    """The 32 bytes of the secret.

    Raises:
        DataError: It is not there or holds something else.
        StorageError: It cannot be read.
    """
    path = folder / SECRET_NAME
    if not path.is_file():
        raise DataError(
            f"{folder} has no {SECRET_NAME}, without which no row can be disclosed. Restore it from a copy."
        )
    with storage_errors(path, kept="nothing was changed", doing="read"):
        content = path.read_bytes()
    if not re.fullmatch(rb"[0-9a-f]{64}\n", content):
        raise DataError(f"{path} does not hold the 64 hexadecimal digits that sealing wrote. Restore it from a copy.")
    return bytes.fromhex(content.decode())
