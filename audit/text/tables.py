"""Write a table for people and other programs, as parquet, JSON Lines or CSV."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from ..errors import DataError, InputError
from .files import atomic_writer
from .safe import did_you_mean, quoted

# OWASP, "CSV Injection": a spreadsheet runs a cell that begins with one of these as a formula.
_FORMULA = r"^[=+\-@\t\r]"


def write_table(path: str | Path, table: pa.Table) -> None:
    """Writes ``table`` atomically in the format that the extension names: .parquet, .jsonl or .csv.

    CSV: an apostrophe is put before every text cell and heading that begins with ``= + - @``, tab or carriage
    return, so that no spreadsheet runs it as a formula (OWASP, CSV Injection); numbers stay as they are. An absent
    value is an empty cell, an empty text is ``""``. To get texts back unchanged, choose .parquet or .jsonl.

    Args:
        path: File to write; its folder exists. An earlier file is replaced.
        table: Any table for .parquet; columns of numbers, texts, truth values and times for .csv; the same and
            nested ones for .jsonl.

    Raises:
        InputError: Unknown extension, or a column or value that the format cannot hold.
        StorageError: The file cannot be written.
    """
    path = Path(path)
    writers: dict[str, Callable[[Path, pa.Table], None]] = {
        ".parquet": write_parquet,
        ".jsonl": _write_jsonl,
        ".csv": _write_csv,
    }
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise InputError(
            f"{path}: cannot write a table as {path.suffix or 'a file without extension'}; "
            "name it *.parquet, *.jsonl or *.csv."
        )
    _refuse_repeated_columns(path, table)
    writer(path, table)


def write_parquet(path: str | Path, table: pa.Table, *, secret: bool = False) -> None:
    """Writes ``table`` atomically as parquet, with a checksum on each page; ``secret`` as in `atomic_writer`.

    Raises:
        StorageError: The file cannot be written.
    """
    with atomic_writer(path, secret=secret) as stream:
        pq.write_table(table, stream, write_page_checksum=True)


def read_parquet(path: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Reads a parquet file, or some of its columns, and checks each page that has a checksum.

    Raises:
        InputError: There is no such file or column; files and columns that exist are named.
        DataError: The file cannot be read, is no parquet, or is damaged.
    """
    path = Path(path)
    if not path.is_file():
        if path.is_dir():
            raise InputError(f"could not read {path}: it is a folder. Give a parquet file.")
        near = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, near)
        raise InputError(f"could not read {path}: there is no such file.{hint} Give a parquet file.")
    try:
        # Opened here, because pyarrow cannot open a path that is not UTF-8.
        with path.open("rb") as stream, pq.ParquetFile(stream, page_checksum_verification=True) as file:
            known = file.schema_arrow.names
            for column in columns or ():
                if column not in known:
                    raise InputError(
                        f"{path} has no column {quoted(column)}; it has {', '.join(known)}."
                        f"{did_you_mean(column, known)}"
                    )
            return file.read(columns=None if columns is None else list(columns))
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"could not read {path} as parquet: {str(error).rstrip('.')}. Give a parquet file; if it is one, it is "
            "damaged: restore it from a copy."
        ) from error


def _refuse_repeated_columns(path: Path, table: pa.Table) -> None:
    names = table.column_names
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"{path}: column {quoted(repeated[0])} stands more than once; give columns one name each.")


def _write_jsonl(path: Path, table: pa.Table) -> None:
    with atomic_writer(path) as stream:
        row_number = 0
        for batch in table.to_batches(max_chunksize=10_000):
            for row in batch.to_pylist():
                row_number += 1
                _write_json_line(stream, row, f"{path}, row {row_number}")


def _write_json_line(stream: IO[bytes], row: dict[str, Any], where: str) -> None:
    for name, value in row.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(
                f"{where}: column {quoted(name)} is {value}, which JSON cannot hold. "
                "Write null for an undefined number, or choose .parquet."
            )
    try:
        line = json.dumps(row, ensure_ascii=False, allow_nan=False, default=_json_time)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: JSON cannot hold it: {error}. Choose .parquet.") from error
    stream.write(line.encode() + b"\n")


def _json_time(value: object) -> str:
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    raise TypeError(f"a value of type {type(value).__name__}")


def _write_csv(path: Path, table: pa.Table) -> None:
    names, columns = [], []
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_nested(column.type) or _is_binary(column.type):
            raise InputError(
                f"{path}: column {quoted(name)} holds {column.type}, which a CSV cell cannot. "
                "Choose .parquet, or drop the column."
            )
        names.append("'" + name if name[:1] in tuple("=+-@\t\r") else name)
        columns.append(_defused(column) if _is_text(column.type) else column)
    with atomic_writer(path) as stream:
        pa_csv.write_csv(pa.table(columns, names=names), stream)


def _defused(column: pa.ChunkedArray) -> pa.ChunkedArray:
    column = column.cast(pa.large_string())
    with_mark = pc.binary_join_element_wise(pa.scalar("'", pa.large_string()), column, pa.scalar("", pa.large_string()))
    return pc.if_else(pc.match_substring_regex(column, _FORMULA), with_mark, column)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )
