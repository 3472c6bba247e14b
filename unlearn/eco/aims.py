"""What a search brings its metrics to, row by row: the values that a target comes from, and the bare model's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from audit.stats.checks import Floats
from audit.stats.estimate import Estimate

from .search_ledger import Metric
from .surrogates import Surrogate, chance, where_not_learnt

GIVEN: Final = "given"
CHANCE: Final = "chance level"


class ByRow(NamedTuple):
    """Values of some rows, n of each."""

    ids: tuple[str, ...]
    clusters: tuple[str, ...]
    values: Floats


@dataclass(frozen=True, slots=True)
class Aim:
    """One metric's target and where it starts.

    Attributes:
        name: Of the metric.
        source: "given", "chance level", "entities never learnt" or "base model".
        target: What the target is the mean of: the metric of rows that were never learnt, or the number of options of
            each question; of a given one, itself.
        bare: The metric of the tuning rows without the guard.
    """

    name: str
    source: str
    target: ByRow
    bare: ByRow

    def metric(self, *, seed: int) -> Metric:
        """The metric with its target; the seed is of the interval's draws."""
        values = self.target.values
        if self.source == GIVEN:
            value = float(values[0])
            return Metric(self.name, Surrogate(Estimate(value, value, value, 0.95, 1, "given by the user"), GIVEN))
        if self.source == CHANCE:
            return Metric(self.name, chance(values.astype(int).tolist()))
        found = where_not_learnt(values, clusters=list(self.target.clusters), source=self.source, rng=seed)
        return Metric(self.name, found)

    @property
    def without(self) -> float:
        """The metric without the guard."""
        return float(np.mean(self.bare.values))
