"""The root over the rows of a table, each row hashed with a salt of its own.

    table_key = HMAC-SHA256(key = secret, message = "palimpsest-seal-table-v1:" || path of the table in UTF-8)
    salt_i    = HMAC-SHA256(key = table_key, message = i in decimal digits)         place i of the row, from 0
    leaf_i    = SHA-256(0x00 || salt_i || bytes of row i (canonical_rows.py))
    root      = tree (`audit.text.merkle`) over leaf_0 ... leaf_(n-1)

A row tells little more than a few numbers, so a bare hash of it could be guessed. With its salt, 32 bytes that only the
holder of the secret knows, the hash tells nothing, and one row's salt tells nothing of another's. The secret is drawn
for each seal and kept beside it in ``seal.secret`` (mode 600); whoever has it can confirm guesses at every row.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import DataError
from ...progress import Progress, silent
from ...text.merkle import LEAF, tree_root
from .canonical_rows import row_bytes, unencodable
from .record import TableEntry

_ROWS_AT_ONCE = 20_000
_SHOWN_FROM = 100_000


def table_key(secret: bytes, path: str) -> bytes:
    """Key of a table's salts, 32 bytes."""
    return hmac.digest(secret, b"palimpsest-seal-table-v1:" + path.encode(), "sha256")


def row_salt(key: bytes, place: int) -> bytes:
    """Salt of the row at ``place``, 32 bytes."""
    return hmac.digest(key, b"%d" % place, "sha256")


def row_leaf(salt: bytes, row: bytes) -> bytes:
    """Leaf hash of a row's canonical bytes, 32 bytes."""
    return hashlib.sha256(LEAF + salt + row).digest()


def table_entry(folder: Path, path: str, secret: bytes, *, progress: Progress = silent) -> TableEntry:
    """Number of rows and root of a table, or why it has no root: a type without an encoding, no readable parquet.

    A table that cannot be read is sealed as a file all the same; its rows alone cannot be disclosed.
    """
    try:
        leaves = row_leaves(folder, path, secret, progress=progress)
    except DataError as error:
        return TableEntry(path=path, root=None, rows=0, why=str(error))
    return TableEntry(path=path, root=tree_root(leaves).hex(), rows=len(leaves))


def row_leaves(
    folder: Path,
    path: str,
    secret: bytes,
    *,
    also: Callable[[int, bytes], None] | None = None,
    progress: Progress = silent,
) -> list[bytes]:
    """Leaf hash of every row, read in batches: of the table itself only some 20,000 rows are in memory.

    Args:
        folder: The run's folder.
        path: The table's path inside it.
        secret: The seal's secret.
        also: Called with each row's place and bytes.
        progress: Told in rows, where there are more than 100,000.

    Raises:
        DataError: The table cannot be read, or holds a type without an encoding.
    """
    key = table_key(secret, path)
    leaves: list[bytes] = []
    try:
        with (folder / path).open("rb") as stream, pq.ParquetFile(stream, page_checksum_verification=True) as file:
            if why := unencodable(file.schema_arrow):
                raise DataError(f"{path}: {why}.")
            total = file.metadata.num_rows
            tell = progress if total > _SHOWN_FROM else silent
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
                for row in row_bytes(batch):
                    if also is not None:
                        also(len(leaves), row)
                    leaves.append(row_leaf(row_salt(key, len(leaves)), row))
                tell(f"rows of {path}", len(leaves), total)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} could not be read as parquet: {' '.join(str(error).split())}.") from error
    return leaves
