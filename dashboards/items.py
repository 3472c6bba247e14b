"""Tables of items, read a page at a time: of the columns that are shown, the rows that are shown.

A table of a million rows is never held whole. Filters and the sorted column are read by ``pyarrow.dataset``, which
gives the places of the rows that pass; of the other columns only the rows of the page are kept.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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

MOST_ROWS: Final = 300  # of one page
_BATCH = 16_384
_BUFFER = 1 << 20  # bytes of a column that are read at a time
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
            DataError: It is no plain file, no parquet, or damaged.
        """
        path = run.items_path(name)
        with _damage(path):
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:
                return None
            if not stat.S_ISREG(mode):
                raise DataError(f"items/{path.name} is no plain file. Restore it from a copy.")
            with path.open("rb") as stream, pq.ParquetFile(stream) as file:
                schema = file.schema_arrow
                return cls(path, dict(zip(schema.names, schema.types, strict=True)), file.metadata.num_rows)

    def count(self, where: Sequence[Where] = ()) -> int:
        """How many rows pass; only the columns of the conditions are read. Errors as in `order`."""
        if not where:
            return self.n_rows
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
            DataError: The file is damaged, or a condition does not fit its column.
        """
        if not where and sort is None:
            return np.arange(self.n_rows)
        projected = {"passes": self._expression(where) if where else pc.scalar(True)}
        if sort is not None:
            self._require([sort])
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
            DataError: The file is damaged.
        """
        self._require(columns)
        if len(places) > MOST_ROWS:
            raise InputError(f"{len(places):,} rows were asked for; a page holds at most {MOST_ROWS}.")
        wanted = np.unique(places)
        with _damage(self.path):
            kept = list(self._batches(list(columns), wanted))
            table = pa.Table.from_batches(kept, pa.schema([(name, self.columns[name]) for name in columns]))
            return table.take(pa.array(np.searchsorted(wanted, places)))

    def _batches(self, columns: list[str], wanted: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
        """The wanted rows (ascending), batch by batch."""
        # Opened here, because pyarrow cannot open a path that is not UTF-8.
        with (
            self.path.open("rb") as stream,
            pq.ParquetFile(stream, page_checksum_verification=True, buffer_size=_BUFFER, pre_buffer=False) as file,
        ):
            schema = pa.schema([(name, self.columns[name]) for name in columns])
            begin = 0
            for group in range(file.num_row_groups):
                end = begin + file.metadata.row_group(group).num_rows
                inside = wanted[np.searchsorted(wanted, begin) : np.searchsorted(wanted, end)]
                if len(inside):
                    at = begin
                    for batch in file.iter_batches(_BATCH, row_groups=[group], columns=columns):
                        here = inside[(inside >= at) & (inside < at + len(batch))] - at
                        if len(here):
                            yield batch.select(columns).take(pa.array(here)).cast(schema)
                        at += len(batch)
                        if at > inside[-1]:
                            break
                begin = end

    def numbers(self, column: str, where: Sequence[Where] = ()) -> NDArray[np.float64]:
        """One column of numbers of the rows that pass, NaN where there is no value; shape (n,). Errors as `order`."""
        self._require([column])
        with _damage(self.path):
            read = self._dataset().to_table(
                columns={"value": ds.field(column).cast(pa.float64())},
                filter=self._expression(where) if where else None,
            )
            values: NDArray[np.float64] = read["value"].fill_null(float("nan")).to_numpy()
            return values

    def table(self, columns: Sequence[str], where: Sequence[Where] = ()) -> pa.Table:
        """Those columns of every row that passes, for what is counted at once. Errors as in `order`."""
        self._require(columns)
        with _damage(self.path):
            return self._dataset().to_table(list(columns), filter=self._expression(where) if where else None)

    def distinct(self, column: str, most: int = 200) -> list[str | float | bool]:
        """The values of a column, ascending; the first ``most`` where there are more. Errors as in `order`."""
        self._require([column])
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
