"""What Palimpsest itself writes and nobody may publish: such a file in a source would be copied out with it."""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import DataError
from ..ledger.records import DISCLOSURE_FORMAT, LEDGER_FORMAT
from .corpus import Sources
from .placements import PLACEMENTS_FORMAT

_FORMATS = {
    LEDGER_FORMAT: "a ledger of traps",
    DISCLOSURE_FORMAT: "a disclosure of traps",
    PLACEMENTS_FORMAT: "placements of traps",
}
_MARKER = re.compile(rb'\s*\{\s*"format"\s*:\s*"(%s)"' % "|".join(_FORMATS).encode())
_TRAP_ID = re.compile(r"trap-[0-9a-f]{12}")
_OF_TRAPS = {"arm", "n_rep", "variant"}  # beside trap_id: tables for an audit, to be planted, of variants, of hits
_HEAD = 1 << 16  # bytes in which a marker or the first row stands
_MOST = 1 << 26  # bytes of a packed table that are unpacked; a table of traps has fewer


def refuse_secrets(sources: Sources) -> None:
    """Refuses a corpus with a ledger, placements, a disclosure or a table of traps in it, this ledger's or another's.

    They are known by their content, whatever their name, and also when packed with gzip.

    Raises:
        DataError: The file, and what it is.
    """
    for file in sources.files:
        what = secret_content(file.path)
        if what is not None:
            raise DataError(
                f"{file.path} is {what}, and would go out with the planted files. Move it out of the source, to where "
                "only you can read it."
            )


def secret_content(path: Path) -> str | None:
    """What a file is that nobody may publish, or None."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
        if not head.startswith(b"\x1f\x8b"):
            return _what(head, stream)
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, _HEAD)
            stream.seek(0)
            whole = gzip.GzipFile(fileobj=stream).read(_MOST) if head.startswith(b"PAR1") else b""
        except (OSError, EOFError, zlib.error):  # not sound gzip
            return None
        return _what(head, io.BytesIO(whole))


def _what(head: bytes, whole: IO[bytes]) -> str | None:
    head = head.removeprefix(b"\xef\xbb\xbf")
    marker = _MARKER.match(head)
    if marker:
        return _FORMATS[marker[1].decode()]
    if head.startswith(b"PAR1"):
        is_table = _is_parquet_of_traps(whole)
    else:
        is_table = _is_row_of_traps(head.lstrip().split(b"\n", 1)[0])
    return "a table of traps" if is_table else None


def _is_row_of_traps(line: bytes) -> bool:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and _is_of_traps(row, row.get("trap_id"))


def _is_parquet_of_traps(stream: IO[bytes]) -> bool:
    try:
        with pq.ParquetFile(stream) as file:
            names = file.schema_arrow.names
            if not _OF_TRAPS & set(names) or "trap_id" not in names:
                return False
            first = next(file.iter_batches(batch_size=1, columns=["trap_id"]), None)
            return first is not None and _is_of_traps(names, first.column(0)[0].as_py())
    except (pa.ArrowException, OSError):  # not sound parquet
        return False


def _is_of_traps(names: Collection[str], trap_id: Any) -> bool:
    return isinstance(trap_id, str) and bool(_TRAP_ID.fullmatch(trap_id) and _OF_TRAPS & set(names))
