"""Which rows a bootstrap draw takes: rows or whole clusters, within strata, from one table or several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .checks import Integers, Labels, label_codes

Rows: TypeAlias = NDArray[np.int64]
Draws: TypeAlias = Rows | list[Rows]  # row numbers of each draw: (n_draws, n), or a list when lengths differ


@dataclass(frozen=True, slots=True)
class Stratum:
    """Units that stand in for one another.

    Attributes:
        units: Row numbers of each unit; a unit is a row, or a cluster of rows.
        same_size: The units as a matrix, shape (u, rows per unit), or None when they differ in size.
    """

    units: tuple[Rows, ...]
    same_size: Rows | None

    def draw(self, n_draws: int, rng: np.random.Generator) -> Draws:
        """Row numbers of ``n_draws`` resamples; each takes as many units as there are, with replacement."""
        picks = rng.integers(0, len(self.units), (n_draws, len(self.units)))
        if self.same_size is not None:
            return self.same_size[picks].reshape(n_draws, -1)
        return [np.concatenate([self.units[i] for i in pick]) for pick in picks]


@dataclass(frozen=True, slots=True)
class ResamplingTable:
    """The strata of one table of rows; paired samples share a table, independent samples have one each."""

    strata: tuple[Stratum, ...]
    n_rows: int

    @property
    def n_units(self) -> int:
        return sum(len(stratum.units) for stratum in self.strata)

    def draw(self, n_draws: int, rng: np.random.Generator) -> Draws:
        """Row numbers of ``n_draws`` resamples of the whole table."""
        parts = [stratum.draw(n_draws, rng) for stratum in self.strata]
        if len(parts) == 1:
            return parts[0]
        matrices = [part for part in parts if isinstance(part, np.ndarray)]
        if len(matrices) == len(parts):
            return np.concatenate(matrices, axis=1)
        return [np.concatenate(rows) for rows in zip(*parts, strict=True)]

    def all_but(self, unit: Rows) -> Rows:
        """Every row but those of one unit, for the jackknife."""
        return np.delete(np.arange(self.n_rows), unit)


def resampling_table(n: int, strata: Labels | None, clusters: Labels | None) -> ResamplingTable:
    """Sort ``n`` rows into strata and units.

    Raises:
        InputError: There is not one label for each row, or a cluster lies in two strata.
    """
    stratum_of, _ = label_codes(strata, "strata", n=n) if strata is not None else (np.zeros(n, dtype=np.int64), None)
    if clusters is None:
        return ResamplingTable(tuple(_rows_stratum(rows) for rows in _rows_by_code(stratum_of)), n)
    cluster_of, names = label_codes(clusters, "clusters", n=n)
    members: dict[int, list[Rows]] = {}
    for code, rows in enumerate(_rows_by_code(cluster_of)):
        first = int(stratum_of[rows[0]])
        if (stratum_of[rows] != first).any():
            raise InputError(
                f"cluster {names[code]!r} lies in more than one stratum; expected each cluster inside one. "
                "Stratify by something that is constant within a cluster."
            )
        members.setdefault(first, []).append(rows)
    return ResamplingTable(tuple(_cluster_stratum(tuple(units)) for units in members.values()), n)


def _rows_by_code(codes: Integers) -> list[Rows]:
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.cumsum(np.bincount(codes))[:-1])


def _rows_stratum(rows: Rows) -> Stratum:
    matrix: NDArray[Any] = rows[:, None]
    return Stratum(tuple(matrix), matrix)


def _cluster_stratum(units: tuple[Rows, ...]) -> Stratum:
    same = len({len(unit) for unit in units}) == 1
    return Stratum(units, np.stack(units) if same else None)
