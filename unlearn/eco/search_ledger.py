"""What a search has measured: each strength under each noise seed once, and how much that was.

The distance to the targets v, for metrics M and the mean over noise seeds m(sigma):

    d(sigma) = mean over M of |m(sigma) - v|

Every strength is measured under the same seeds (common random numbers), so that two strengths differ by their strength
and not by their luck.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from audit.errors import InputError
from audit.stats.checks import Floats
from audit.text.safe import quoted

from .surrogates import Surrogate

Stage: TypeAlias = Literal["scan", "local", "descent", "confirm", "report", "sensitivity"]


@dataclass(frozen=True, slots=True)
class Metric:
    """What a search brings to its target.

    Attributes:
        name: For a reader.
        target: v, what a model that never learnt would score.
        falls: Whether forgetting lowers the metric (accuracy) or raises it (truth ratio, perplexity).
    """

    name: str
    target: Surrogate
    falls: bool = True


class Measure(Protocol):
    """The metrics at one strength under some noise seeds, shape (n_seeds, n_metrics).

    What it gives for a seed must not depend on the other seeds that it is asked for.
    """

    def __call__(self, strength: float, seeds: Sequence[int], /) -> NDArray[np.float64]: ...


@dataclass(frozen=True, slots=True)
class Measurement:
    """The metrics at a strength under one noise seed, and the stage of the search that asked first."""

    strength: float
    seed: int
    values: tuple[float, ...]
    stage: Stage


class Ledger:
    """Measures each pair of strength and seed once; see `search` for its arguments."""

    def __init__(
        self,
        measure: Measure,
        metrics: Sequence[Metric],
        done: Iterable[Measurement],
        on_measured: Callable[[Measurement], None] | None,
    ) -> None:
        self._measure = measure
        self._on_measured = on_measured
        self._metrics = metrics
        self.targets = np.array([metric.target.value for metric in metrics])
        self._signs = np.array([1.0 if metric.falls else -1.0 for metric in metrics])
        self._earlier: dict[tuple[float, int], tuple[float, ...]] = {}
        for one in done:
            values = self._checked(np.array([one.values], dtype=np.float64), one.strength, [one.seed])
            known = self._earlier.setdefault((one.strength, one.seed), tuple(values[0].tolist()))
            if known != tuple(values[0].tolist()):
                raise InputError(
                    f"what was done holds strength {one.strength:g} under seed {one.seed} twice, with other values; "
                    "expected each once. It mixes two searches: keep one."
                )
        self._known: dict[tuple[float, int], tuple[float, ...]] = {}
        self._evaluated: dict[tuple[float, tuple[int, ...]], None] = {}
        self.trace: list[Measurement] = []
        self.evaluations: dict[str, int] = {}
        self.reused = 0

    def values(self, strength: float, seeds: Sequence[int], stage: Stage) -> Floats:
        """The metrics at a strength, shape (n_seeds, n_metrics); what is not known yet is measured."""
        missing = [seed for seed in seeds if (strength, seed) not in self._known]
        if missing:
            self._learn(strength, missing, stage)
        if (strength, tuple(seeds)) not in self._evaluated:
            self._evaluated[strength, tuple(seeds)] = None
            self.evaluations[stage] = self.evaluations.get(stage, 0) + 1
        return np.array([self._known[strength, seed] for seed in seeds])

    def distance(self, strength: float, seeds: Sequence[int], stage: Stage) -> float:
        """d(sigma)."""
        return self.off(self.values(strength, seeds, stage), self.targets)

    def gap(self, strength: float, seeds: Sequence[int], stage: Stage, targets: Floats) -> float:
        """Mean over metrics of m - v, turned so that above 0 means that the model still knows too much."""
        return float(self.gaps(self.values(strength, seeds, stage), targets).mean())

    def off(self, values: Floats, targets: Floats) -> float:
        """Mean over metrics of |m - v|, from values of shape (n_seeds, n_metrics)."""
        return float(np.abs(values.mean(axis=0) - targets).mean())

    def gaps(self, values: Floats, targets: Floats) -> Floats:
        """m - v for each metric, turned likewise, shape (n_metrics,)."""
        turned: Floats = self._signs * (values.mean(axis=0) - targets)
        return turned

    def strengths(self, seeds: Sequence[int]) -> list[float]:
        """Those measured under these seeds, ascending."""
        return sorted(strength for strength, used in self._evaluated if used == tuple(seeds))

    @property
    def passes(self) -> int:
        """Pairs of strength and seed that the search used."""
        return len(self._known)

    def _learn(self, strength: float, seeds: Sequence[int], stage: Stage) -> None:
        new = [seed for seed in seeds if (strength, seed) not in self._earlier]
        found = dict(self._earlier)
        if new:
            measured = self._checked(np.asarray(self._measure(strength, new), dtype=np.float64), strength, new)
            found |= {(strength, seed): tuple(row.tolist()) for seed, row in zip(new, measured, strict=True)}
        for seed in seeds:
            values = found[strength, seed]
            self._known[strength, seed] = values
            self.trace.append(Measurement(strength, seed, values, stage))
            if seed not in new:
                self.reused += 1
            elif self._on_measured is not None:
                self._on_measured(self.trace[-1])

    def _checked(self, values: Floats, strength: float, seeds: Sequence[int]) -> Floats:
        expected = (len(seeds), len(self._metrics))
        if values.shape != expected:
            raise InputError(
                f"the metrics at strength {strength:g} have shape {values.shape}; expected {expected}: one row for "
                "each noise seed, one column for each metric."
            )
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            row, column = map(int, bad[0])
            raise InputError(
                f"metric {quoted(self._metrics[column].name)} is {values[row, column]} at strength {strength:g} under "
                f"seed {seeds[row]}; expected a finite number. Look at the rows behind it, or search to a lower upper."
            )
        return values
