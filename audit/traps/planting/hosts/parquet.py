"""Parquet: the text column of the planted row groups is written anew, everything else as it was.

Kept: schema with its metadata, row groups, every other value, codec and dictionary encoding of each column, format
version. Not kept, because pyarrow does not write them or they would no longer be true: the name of the program that
wrote the file, Bloom filters, page sizes, and a sorting order in which the text column takes part. The file is read
again after it was written, and refused when anything else differs. Its bytes cannot be made from those of the planted
file (another writer, other compression), so the original is kept beside the placements; see
`audit.traps.planting.plant`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ....errors import DataError, InstrumentError
from ....text.rows import BadLine, parquet_rows
from .document import Document, HostOptions, id_of, text_of


@dataclass(frozen=True, slots=True)
class ParquetDocument(Document):
    """A row; ``first`` is its number, from 0."""


def documents(path: Path, name: str, options: HostOptions) -> Iterator[ParquetDocument]:
    """One for each row.

    Raises:
        InputError: There is no such column, or it holds no texts.
        DataError: The file is damaged, or a row is not UTF-8 or has no identifier.
    """
    for row in parquet_rows(path, options.field, options.id_field):
        place = f"{name}, {row.place}"
        if isinstance(row, BadLine):
            raise DataError(f"{place}: {row.reason}.")
        identifier = f"{name}:{row.line}"
        if options.id_field is not None:
            identifier = id_of(row.values[options.id_field], place, options.id_field)
        text = text_of(row.values[options.field], place, options.field)
        yield ParquetDocument(identifier, place, text, row.line - 1, options.separator)


def rewrite(path: Path, stream: IO[bytes], field: str, changed: Iterator[tuple[int, str]]) -> None:
    """Writes a copy of a file in which some texts are others.

    Args:
        path: The original.
        stream: Where the copy goes.
        field: The text column.
        changed: (row from 0, its new text), by row; taken as the rows are reached.

    Raises:
        DataError: The file has something that pyarrow can read but not write.
    """
    with opened(path) as file:
        schema = file.schema_arrow
        try:
            with pq.ParquetWriter(stream, schema, **_settings(file, field)) as writer:
                first = 0
                following = next(changed, None)
                for group in range(file.num_row_groups):
                    table = _read_group(file, group, path)
                    column = table.schema.get_field_index(field)
                    pieces: list[Any] = []
                    done = 0
                    old = table.column(column)
                    while following is not None and following[0] < first + table.num_rows:
                        at = following[0] - first
                        pieces += [*old.slice(done, at - done).chunks, _one(following[1], old.type)]
                        done = at + 1
                        following = next(changed, None)
                    if pieces:
                        new = pa.chunked_array([*pieces, *old.slice(done).chunks], type=old.type)
                        new = new.unify_dictionaries() if pa.types.is_dictionary(old.type) else new
                        table = table.set_column(column, schema.field(field), new)
                    first += table.num_rows
                    writer.write_table(table, row_group_size=max(1, table.num_rows))
        except (pa.ArrowException, NotImplementedError) as error:
            raise DataError(f"{path}: pyarrow cannot write this file again: {error}. Save it as .jsonl.") from error


def check_rewritten(original: Path, planted: Path, field: str, changed: dict[int, int]) -> None:
    """Compares a planted file with its original, row group by row group.

    Args:
        original: As it was.
        planted: As it was written.
        field: The text column.
        changed: Row from 0 -> characters that were added to its text.

    Raises:
        InstrumentError: More differs than the texts of those rows.
    """
    with opened(original) as one, opened(planted) as other:
        same = one.schema_arrow.equals(other.schema_arrow, check_metadata=True)
        same &= one.num_row_groups == other.num_row_groups
        first = 0
        for group in range(one.num_row_groups if same else 0):
            before, after = _read_group(one, group, original), _read_group(other, group, planted)
            same &= before.num_rows == after.num_rows
            for name, old, new in zip(before.column_names, before.columns, after.columns, strict=True):
                if name != field:
                    # Compared once more as written out, because a NaN is not equal to itself.
                    same = same and (old.equals(new) or str(old.to_pylist()) == str(new.to_pylist()))
                    continue
                rows = [row for row in changed if first <= row < first + before.num_rows]
                done = 0
                for row in sorted(rows):
                    at = row - first
                    same = same and _equal(old.slice(done, at - done), new.slice(done, at - done))
                    same = same and len(new[at].as_py()) - len(old[at].as_py()) == changed[row]
                    done = at + 1
                same = same and _equal(old.slice(done), new.slice(done))
            first += before.num_rows
            if not same:
                break
    if not same:
        raise InstrumentError(
            f"{original}: read again after planting, more than the planted texts had changed, so nothing was kept. "
            "Save the file as .jsonl and plant in that."
        )


def _equal(old: Any, new: Any) -> bool:
    if pa.types.is_dictionary(old.type):  # the same values may be numbered otherwise
        old, new = old.cast(old.type.value_type), new.cast(new.type.value_type)
    return bool(old.equals(new))


def _one(text: str, kind: Any) -> Any:
    if pa.types.is_dictionary(kind):
        return pa.DictionaryArray.from_arrays(pa.array([0], kind.index_type), pa.array([text], kind.value_type))
    return pa.array([text], kind)


def _settings(file: Any, field: str) -> dict[str, Any]:
    """How the file was written, as far as its metadata tell; of columns, as in the first row group."""
    metadata = file.metadata
    settings: dict[str, Any] = {
        "version": metadata.format_version,
        "store_schema": b"ARROW:schema" in (metadata.metadata or {}),
        "compression": "NONE",
        "use_dictionary": False,
    }
    if metadata.num_row_groups:
        group = metadata.row_group(0)
        columns = [group.column(number) for number in range(group.num_columns)]
        settings["compression"] = {
            column.path_in_schema: {"UNCOMPRESSED": "NONE", "LZ4_RAW": "LZ4"}.get(
                column.compression, column.compression
            )
            for column in columns
        }
        settings["use_dictionary"] = [
            column.path_in_schema for column in columns if any("DICTIONARY" in name for name in column.encodings)
        ] or False
        text_column = file.schema_arrow.get_field_index(field)
        sorting = group.sorting_columns
        if sorting and all(one.column_index != text_column for one in sorting):
            settings["sorting_columns"] = sorting
    return settings


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A parquet file, opened as a stream, because pyarrow cannot open a path that is not UTF-8."""
    with path.open("rb") as stream, pq.ParquetFile(stream) as file:
        yield file


def _read_group(file: Any, group: int, path: Path) -> Any:
    try:
        return file.read_row_group(group)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}, row group {group + 1} is damaged: {error}. Copy or download it again.") from error
