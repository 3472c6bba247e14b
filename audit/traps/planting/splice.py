"""Put bytes into a file and cut them out again, in one pass, and tell where a file was changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ...errors import DataError
from .hosts.document import Insertion

BLOCK = 4096  # bytes of a file for which one short hash is kept
HASH_BYTES = 8  # of each block's SHA-256; the whole file has a full one
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is known of a file's bytes.

    Attributes:
        sha256: Of all of them.
        n_bytes: How many there are.
        blocks: The first 8 bytes of the SHA-256 of every 4,096 bytes, in hexadecimal digits, one after the other; only
            for finding the place of a change.
    """

    sha256: str
    n_bytes: int
    blocks: str


class Hashed:
    """Passes bytes on to a stream, or to none, and takes their fingerprint."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        self._stream = stream
        self._whole = hashlib.sha256()
        self._block = bytearray()
        self._blocks = bytearray()
        self.n_bytes = 0

    def write(self, content: bytes) -> int:
        if self._stream is not None:
            self._stream.write(content)
        self._whole.update(content)
        self.n_bytes += len(content)
        self._block += content
        whole = len(self._block) // BLOCK * BLOCK
        for start in range(0, whole, BLOCK):
            self._add(self._block[start : start + BLOCK])
        del self._block[:whole]
        return len(content)

    def fingerprint(self) -> Fingerprint:
        if self._block:
            self._add(self._block)
            self._block.clear()
        return Fingerprint(self._whole.hexdigest(), self.n_bytes, self._blocks.hex())

    def _add(self, block: bytearray) -> None:
        self._blocks += hashlib.sha256(block).digest()[:HASH_BYTES]


def put_in(source: Path, stream: IO[bytes] | None, insertions: Iterable[Insertion]) -> tuple[Fingerprint, Fingerprint]:
    """Copies a file with bytes inserted.

    Args:
        source: File to read.
        stream: Where the copy goes; None: nowhere, only the fingerprints are taken.
        insertions: By offset in the file; taken one by one.

    Returns:
        Fingerprints of the file and of the copy.
    """
    before, after = Hashed(None), Hashed(stream)
    with source.open("rb") as original:
        for insertion in insertions:
            for piece in _pieces(original, insertion.at - before.n_bytes, source):
                before.write(piece)
                after.write(piece)
            after.write(insertion.content)
        for piece in _pieces(original, None, source):
            before.write(piece)
            after.write(piece)
    return before.fingerprint(), after.fingerprint()


def cut_out(
    planted: Path, stream: IO[bytes] | None, cuts: Iterable[tuple[int, int]]
) -> tuple[Fingerprint, Fingerprint]:
    """Copies a file without some of its bytes.

    Args:
        planted: File to read.
        stream: As in `put_in`.
        cuts: (byte offset, number of bytes), by offset, none over another.

    Returns:
        Fingerprints of the file and of the copy.
    """
    before, after = Hashed(None), Hashed(stream)
    with planted.open("rb") as original:
        for at, n_bytes in cuts:
            for piece in _pieces(original, at - before.n_bytes, planted):
                before.write(piece)
                after.write(piece)
            for piece in _pieces(original, n_bytes, planted):
                before.write(piece)
        for piece in _pieces(original, None, planted):
            before.write(piece)
            after.write(piece)
    return before.fingerprint(), after.fingerprint()


def first_change(path: Path, expected: Fingerprint) -> tuple[int, int]:
    """The bytes within which a file differs for the first time from one whose fingerprint is known.

    Returns:
        First and last byte of that block, from 1; the last lies where the shorter of the two files ends at most.
    """
    found, _ = put_in(path, None, ())
    digits = 2 * HASH_BYTES
    n_same = 0
    while (own := found.blocks[n_same * digits : (n_same + 1) * digits]) and own == expected.blocks[
        n_same * digits : (n_same + 1) * digits
    ]:
        n_same += 1
    last = min((n_same + 1) * BLOCK, max(found.n_bytes, expected.n_bytes))
    return n_same * BLOCK + 1, last


def _pieces(stream: IO[bytes], n_bytes: int | None, path: Path) -> Iterator[bytes]:
    """The next bytes of a stream; None: all that are left."""
    while n_bytes is None or n_bytes > 0:
        piece = stream.read(_CHUNK if n_bytes is None else min(_CHUNK, n_bytes))
        if not piece:
            if n_bytes is None:
                return
            raise DataError(f"{path} became shorter while it was read. Start again when nothing writes to it.")
        if n_bytes is not None:
            n_bytes -= len(piece)
        yield piece
