"""Tables of items, read a page at a time: of the columns that are shown, the rows that are shown.

A table of a million rows is never held whole. Filters and the sorted column are read by ``pyarrow.dataset``, which
gives the places of the rows that pass; of the other columns only the rows of the page are kept.

A file of some kilobytes can say one long text a million times: parquet keeps a text once, and memory does not. So
texts are read as they lie, by number, and what a column would take in memory is measured before it is read whole.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from numpy.typing import NDArray

from audit.errors import DataError, InputError
from audit.runs.store import Run
from audit.text.safe import printable

MOST_ROWS: Final = 300  # of one page
_BATCH = 16_384
_BUFFER = 1 << 20  # bytes of a column that are read at a time
_BATCH_BYTES = 64 << 20  # of a batch, about
MOST_BYTES: Final = 1 << 30  # in memory, of what is read at once; more where the file itself is large
_MOST_TIMES: Final = 10  # so many times its own size a file may take
_PAGE_BYTES: Final = 512 << 20  # in memory, of one page's rows
_CHECKED = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
)


class Where(NamedTuple):
    """A condition on one column; a row without a value fails it, but for "is null".

    ``contains`` looks for a text in a text, whatever its case.
    """

    column: str
    operator: Literal["==", ">=", "<=", ">", "<", "contains", "is null"]
    value: str | float | bool | None = None


@dataclass(frozen=True, slots=True)
class Items:
    """One table of items of a run.

    Attributes:
        path: ``items/<name>.parquet``.
        columns: Name -> type, in the file's order.
        n_rows: Rows in all.
    """

    path: Path
    columns: dict[str, pa.DataType]
    n_rows: int

    @classmethod
    def of(cls, run: Run, name: str) -> Items | None:
        """The table of that name; None where the run holds none. Reads the file's footer.

        Raises:
            DataError: It is no plain file, lies behind a link, is no parquet, or damaged.
        """
        path = run.items_path(name)
        with _damage(path):
            if not _is_there(path):
                return None
            with path.open("rb") as stream, pq.ParquetFile(stream) as file:
                schema = file.schema_arrow
                return cls(path, dict(zip(schema.names, schema.types, strict=True)), file.metadata.num_rows)

    def count(self, where: Sequence[Where] = ()) -> int:
        """How many rows pass; only the columns of the conditions are read. Errors as in `order`."""
        if not where:
            return self.n_rows
        self._require_room([one.column for one in where])
        with _damage(self.path):
            return int(self._dataset().count_rows(filter=self._expression(where)))

    def order(
        self, where: Sequence[Where] = (), sort: str | None = None, *, descending: bool = False
    ) -> NDArray[np.int64]:
        """Places of the rows that pass, sorted by one column; shape (n,).

        Equal values keep the file's order; rows without a value come last. Reads the columns of the conditions and
        the sorted one.

        Raises:
            InputError: There is no such column.
            DataError: The file is damaged, a condition does not fit its column, or what has to be read does not fit
                into memory.
        """
        self._require_room([*(one.column for one in where), *([] if sort is None else [sort])])
        if not where and sort is None:
            return np.arange(self.n_rows)
        projected = {"passes": self._expression(where) if where else pc.scalar(True)}
        if sort is not None:
            projected["key"] = ds.field(sort)
        with _damage(self.path):
            read = self._dataset().to_table(columns=projected)
            places = np.flatnonzero(read["passes"].fill_null(False).to_numpy())
            if sort is None:
                return places
            keys = read.select(["key"]).take(pa.array(places))
            direction: Literal["ascending", "descending"] = "descending" if descending else "ascending"
            ranks = pc.sort_indices(keys, sort_keys=[("key", direction, "at_end")])
            ordered: NDArray[np.int64] = places[ranks.to_numpy()]
            return ordered

    def rows(self, columns: Sequence[str], places: NDArray[np.int64]) -> pa.Table:
        """Those columns of the rows at ``places``, in that order.

        Row groups without such a row are not read, and nothing behind the last one is; of what is read no more than
        a batch is held at a time.

        Args:
            columns: Names.
            places: At most `MOST_ROWS`, shape (n,).

        Raises:
            InputError: There is no such column, or more rows are asked for.
            DataError: The file is damaged, or the rows do not fit into memory.
        """
        self._require(columns)
        if len(places) > MOST_ROWS:
            raise InputError(f"{len(places):,} rows were asked for; a page holds at most {MOST_ROWS}.")
        wanted = np.unique(places)
        with _damage(self.path):
            kept, size = [], 0
            for batch in self._batches(list(columns), wanted):
                size += sum(map(_size, batch.columns))
                if size > _PAGE_BYTES:
                    raise DataError(self._too_large(f"the {len(wanted):,} rows of this page"))
                kept.append(batch.cast(pa.schema([(name, self.columns[name]) for name in columns])))
            table = pa.Table.from_batches(kept, pa.schema([(name, self.columns[name]) for name in columns]))
            return table.take(pa.array(np.searchsorted(wanted, places)))

    def _batches(self, columns: list[str], wanted: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
        """The wanted rows (ascending), batch by batch; columns that do not fit into memory as a dictionary."""
        large = [name for name in columns if _decoded(self.path, _mark(self.path), name) > _room(self.path)]
        with _opened(self.path, large) as file:
            begin = 0
            for group in range(file.num_row_groups):
                end = begin + file.metadata.row_group(group).num_rows
                inside = wanted[np.searchsorted(wanted, begin) : np.searchsorted(wanted, end)]
                if len(inside):
                    at = begin
                    for batch in _batches_of(file, group, columns):
                        here = inside[(inside >= at) & (inside < at + len(batch))] - at
                        if len(here):
                            yield batch.select(columns).take(pa.array(here))
                        at += len(batch)
                        if at > inside[-1]:
                            break
                begin = end

    def numbers(self, column: str, where: Sequence[Where] = ()) -> NDArray[np.float64]:
        """One column of numbers of the rows that pass, NaN where there is no value; shape (n,). Errors as `order`."""
        self._require_room([column, *(one.column for one in where)])
        with _damage(self.path):
            read = self._dataset().to_table(
                columns={"value": ds.field(column).cast(pa.float64())},
                filter=self._expression(where) if where else None,
            )
            values: NDArray[np.float64] = read["value"].fill_null(float("nan")).to_numpy()
            return values

    def table(self, columns: Sequence[str], where: Sequence[Where] = ()) -> pa.Table:
        """Those columns of every row that passes, for what is counted at once. Errors as in `order`."""
        self._require_room([*columns, *(one.column for one in where)])
        with _damage(self.path):
            return self._dataset().to_table(list(columns), filter=self._expression(where) if where else None)

    def distinct(self, column: str, most: int = 200) -> list[str | float | bool]:
        """The values of a column, ascending; the first ``most`` where there are more. Errors as in `order`."""
        self._require_room([column])
        with _damage(self.path):
            values = pc.unique(self._dataset().to_table(columns=[column])[column]).drop_null()
            found: list[str | float | bool] = pc.take(values, pc.array_sort_indices(values))[:most].to_pylist()
            return found

    def _dataset(self) -> ds.Dataset:
        return ds.dataset(self.path, format=_CHECKED)

    def _expression(self, where: Sequence[Where]) -> pc.Expression:
        self._require([one.column for one in where])
        found = pc.scalar(True)
        for one in where:
            found = found & _condition(one)
        return found

    def _require(self, columns: Sequence[str]) -> None:
        for name in columns:
            if name not in self.columns:
                raise InputError(f"items/{self.path.name} has no column {name}; it has {', '.join(self.columns)}.")

    def _require_room(self, columns: Sequence[str]) -> None:
        """Refuses to read whole columns that do not fit into memory, the places of the rows among them."""
        self._require(columns)
        with _damage(self.path):
            size = 8 * self.n_rows + sum(_decoded(self.path, _mark(self.path), name) for name in set(columns))
            if size > _room(self.path):
                raise DataError(self._too_large(", ".join(dict.fromkeys(columns)) or "its rows"))

    def _too_large(self, what: str) -> str:
        return (
            f"items/{self.path.name} is too large to be shown: of {what}, more would have to be held in memory than "
            "the dashboard allows."
        )


def require_sound(run: Run) -> None:
    """Refuses a run whose items must not be read whole, by the report's own drawing for example.

    Raises:
        DataError: A table lies behind a link, is no plain file, is damaged, or has a column that is many times larger
            in memory than the file.
    """
    folder = run.folder / "items"
    if not folder.is_dir():
        return
    for path in sorted(folder.glob("*.parquet")):
        with _damage(path):
            if not _is_there(path):
                continue
            require_room(path)


def require_room(path: Path, *, whole: bool = False) -> None:
    """Refuses a parquet file that is many times larger in memory than it is; errors as pyarrow's.

    Args:
        path: The file.
        whole: Whether all of its columns are held at once; else one is.

    Raises:
        DataError: A column is too large, or all of them are.
    """
    with path.open("rb") as stream, pq.ParquetFile(stream) as file:
        names, size = file.schema_arrow.names, 8 * file.metadata.num_rows
    for name in names:
        column = _decoded(path, _mark(path), name)
        if size + column > _room(path):
            raise DataError(
                f"{printable(path.name)} is too large to be read here: with its column {printable(name)} it would take "
                "more memory than the dashboard allows."
            )
        size += column if whole else 0


def _is_there(path: Path) -> bool:
    """Whether there is such a table of items. Neither it nor the folder of items may be a link."""
    try:
        modes = [one.lstat().st_mode for one in (path.parent, path)]
    except FileNotFoundError:
        return False
    if not (stat.S_ISDIR(modes[0]) and stat.S_ISREG(modes[1])):
        raise DataError(
            f"items/{printable(path.name)} is no plain file, or lies behind a link. Restore it from a copy."
        )
    return True


def _room(path: Path) -> int:
    """Bytes of memory that a read of this file may take."""
    return max(MOST_BYTES, _MOST_TIMES * path.stat().st_size)


def _mark(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


@lru_cache(maxsize=1_024)
def _decoded(path: Path, mark: tuple[int, ...], column: str) -> int:
    """Bytes that a whole column takes in memory; ``mark`` changes with the file.

    Columns of numbers are not read for it, and of texts no more than a batch of places in a dictionary is held.
    """
    total = 0
    with _opened(path, [column]) as file:
        schema = file.schema
        widths = {leaf.path: leaf.length or 8 for leaf in map(schema.column, range(len(schema)))}
        for group in range(file.num_row_groups):
            about = file.metadata.row_group(group)
            chunks = [one for one in map(about.column, range(about.num_columns)) if _is_of(one.path_in_schema, column)]
            if any("DELTA_BYTE_ARRAY" in one.encodings for one in chunks):  # written by nothing of Palimpsest
                raise pa.ArrowInvalid(f"the column {column} is encoded as Palimpsest does not")
            stored = sum(int(one.total_uncompressed_size) for one in chunks)
            total += sum(int(one.num_values) * max(8, widths[one.path_in_schema]) for one in chunks)
            if (least := total + stored) > _room(path):
                return least
            if any(one.physical_type == "BYTE_ARRAY" for one in chunks):
                total += sum(sum(map(_size, batch.columns)) for batch in _batches_of(file, group, [column]))
    return total


def _size(array: pa.Array) -> int:
    """Bytes that the array takes when its dictionaries are written out."""
    if pa.types.is_dictionary(array.type):
        if not (pa.types.is_binary(kind := array.type.value_type) or pa.types.is_string(kind)
                or pa.types.is_large_binary(kind) or pa.types.is_large_string(kind)):  # fmt: skip
            return 8 * len(array)
        return int(pc.sum(pc.binary_length(array.dictionary).cast(pa.int64()).take(array.indices)).as_py() or 0)
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        return 8 * len(array) + _size(array.flatten())
    if pa.types.is_struct(array.type):
        return sum(map(_size, array.flatten()))
    return int(array.nbytes)


@contextmanager
def _opened(path: Path, columns: Sequence[str]) -> Iterator[pq.ParquetFile]:
    """The file; texts of ``columns`` are read as a dictionary and places in it, which is slower than as texts."""
    # Opened here, because pyarrow cannot open a path that is not UTF-8.
    with path.open("rb") as stream:
        about = pq.read_metadata(stream)
        leaves = map(about.schema.column, range(len(about.schema)))
        texts = [
            one.path for one in leaves
            if one.physical_type == "BYTE_ARRAY" and any(_is_of(one.path, name) for name in columns)
        ]  # fmt: skip
        with pq.ParquetFile(
            stream, metadata=about, read_dictionary=texts, page_checksum_verification=True, buffer_size=_BUFFER,
            pre_buffer=False,
        ) as file:  # fmt: skip
            yield file


def _batches_of(file: pq.ParquetFile, group: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The rows of one group, in batches that are the smaller the more a row holds."""
    about = file.metadata.row_group(group)
    chunks = [
        one
        for one in map(about.column, range(about.num_columns))
        if any(_is_of(one.path_in_schema, name) for name in columns)
    ]
    stored = sum(max(one.total_uncompressed_size, 8 * one.num_values) for one in chunks)
    rows = max(1, min(_BATCH, _BATCH_BYTES * about.num_rows // max(1, stored)))
    yield from file.iter_batches(rows, row_groups=[group], columns=columns)


def _is_of(path: str, column: str) -> bool:
    """Whether a path of the file's schema is of the column, or of a part of it."""
    return f"{path}.".startswith(f"{column}.")


def _condition(one: Where) -> pc.Expression:
    column = ds.field(one.column)
    match one.operator:
        case "==":
            return column == one.value
        case ">=":
            return column >= one.value
        case "<=":
            return column <= one.value
        case ">":
            return column > one.value
        case "<":
            return column < one.value
        case "contains":
            return pc.match_substring(column, str(one.value), ignore_case=True)
        case "is null":
            return column.is_null(nan_is_null=True)


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise DataError(
            f"could not read items/{path.name}: {str(error).splitlines()[0] if str(error) else type(error).__name__}. "
            "It is damaged or of another version; restore it from a copy."
        ) from error
