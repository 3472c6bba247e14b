"""The answers of all searches of a comparison: kept as items, and given again without texts, encoder or rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from ..errors import DataError
from ..runs.store import Run
from .config import Arm, View
from .sides import Floats, Nearest, Rows, Searched, Side

NEAREST = "extraction-nearest"
Key = tuple[str, str, str, str, float | None]  # view, index, set, arm, floor of strings where not the plan's


@dataclass(slots=True)
class Maxima:
    """What was found, by what was looked for.

    Attributes:
        nearest: Of the texts that were compared: their places, similarities and rows, each of shape (n,).
        hits_any: View and arm -> k_j of the rule "any", shape (N,).
    """

    nearest: dict[Key, tuple[Rows, Floats, Rows]] = field(default_factory=dict)
    hits_any: dict[tuple[View, Arm], Rows] = field(default_factory=dict)

    def of(self, view: View, name: str) -> Searched:
        """The index of that name, as far as it was asked."""
        return _Kept(self, view, name)

    def keeping(self, view: View, name: str, index: Searched) -> Searched:
        """The same index; its answers are kept here."""
        return _Keeping(self, view, name, index)

    def table(self) -> pa.Table:
        """One row for each text, index and arm: ``view, index, set, arm, floor, place, similarity, row``."""
        pieces = []
        for (view, index, side, arm, floor), (places, similarity, rows) in self.nearest.items():
            n = len(places)
            pieces.append(
                pa.table(
                    {
                        "view": pa.array([view] * n, pa.string()),
                        "index": pa.array([index] * n, pa.string()),
                        "set": pa.array([side] * n, pa.string()),
                        "arm": pa.array([arm] * n, pa.string()),
                        "floor": pa.array([floor] * n, pa.float64()),
                        "place": places,
                        "similarity": similarity,
                        "row": rows,
                    }
                )
            )
        return pa.concat_tables(pieces)

    @classmethod
    def read(cls, run: Run, hits_any: Mapping[tuple[View, Arm], Rows]) -> Maxima:
        """What `table` wrote.

        Raises:
            DataError: The table is missing or damaged.
        """
        table = run.read_items(NEAREST).to_pandas()
        found = cls(hits_any=dict(hits_any))
        names = ["view", "index", "set", "arm"]
        for (view, index, side, arm, floor), own in table.groupby([*names, "floor"], sort=False, dropna=False):
            key = (str(view), str(index), str(side), str(arm), None if np.isnan(floor) else float(floor))
            found.nearest[key] = (own["place"].to_numpy(), own["similarity"].to_numpy(), own["row"].to_numpy())
        return found


class _Keeping:
    def __init__(self, kept: Maxima, view: View, name: str, index: Searched) -> None:
        self._kept, self._view, self._name, self._index = kept, view, name, index

    def nearest(self, side: Side, arm: Arm, *, floor: float | None = None) -> Nearest:
        found = self._index.nearest(side, arm, floor=floor)
        places = np.flatnonzero(side.compared)
        key = (self._view, self._name, side.name, arm, floor)
        self._kept.nearest[key] = (places, found.similarity[places], found.rows[places])
        return found

    def hits_any(self, side: Side, arm: Arm, thresholds: Floats) -> Rows:
        found = self._index.hits_any(side, arm, thresholds)
        self._kept.hits_any[self._view, arm] = found
        return found


class _Kept:
    def __init__(self, kept: Maxima, view: View, name: str) -> None:
        self._kept, self._view, self._name = kept, view, name

    def nearest(self, side: Side, arm: Arm, *, floor: float | None = None) -> Nearest:
        key = (self._view, self._name, side.name, arm, floor)
        none = np.empty(0, dtype=np.int64)
        places, similarity, rows = self._kept.nearest.get(key, (none, np.empty(0), none))
        if not np.array_equal(places, np.flatnonzero(side.compared)):
            raise DataError(
                f"items/{NEAREST}.parquet: what was looked for in the view {self._view} ({self._name}, {side.name}, "
                f"{arm}) is not what stands in the other items. One of them was changed; restore them from a copy."
            )
        return side.spread(similarity, rows)

    def hits_any(self, side: Side, arm: Arm, thresholds: Floats) -> Rows:
        return self._kept.hits_any[self._view, arm]
