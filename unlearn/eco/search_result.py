"""What a search found, as it is recorded and drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from scipy.stats import t as student

from audit.stats.checks import Floats
from audit.stats.estimate import Estimate

from .brackets import Bracket
from .search_ledger import Measurement
from .surrogates import Surrogate

Outcome: TypeAlias = Literal["reached", "crossed, not met", "never reached", "flat", "nothing to corrupt"]


@dataclass(frozen=True, slots=True)
class MetricFound:
    """One metric at the chosen strength.

    Attributes:
        name, falls, target: As of the `Metric`.
        bare: Without the guard.
        value: At the chosen strength under the seeds of the report; undefined where nothing was chosen.
        brackets: All between which it crosses its target, ascending, under the seeds of the search.
    """

    name: str
    falls: bool
    target: Surrogate
    bare: float
    value: Estimate
    brackets: tuple[Bracket, ...]


class Candidate(NamedTuple):
    """A strength that was measured again; ``fresh`` is None where it was the only one, and nothing was chosen."""

    strength: float
    searched: float | None
    fresh: float | None


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What the search would have given for ``factor`` times the targets.

    Attributes:
        factor: 0.8, 1 or 1.2.
        strength: None where the bare model is there already.
        values: Of each metric there; under the seeds of the report for factor 1, else under those of the search, of
            which the best strength was picked, so that they look a little better than they are.
        distance: To the scaled targets.
        why: What stands in the way, if anything.
    """

    factor: float
    strength: float | None
    values: tuple[Estimate, ...]
    distance: float | None
    why: str | None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A strength, how far it brings the metrics, and everything that was measured on the way.

    Attributes:
        outcome: "reached": every metric within ``settings.close`` of its target in the report. Otherwise the nearest
            strength was taken, and ``warnings`` say what was seen.
        strength: None where there is nothing to corrupt.
        metrics: One by one.
        distance: d at that strength, interval from those of the metrics.
        bracket: Of the strengths that were searched inside, if any.
        candidates: Strengths measured again, the nearest of the search first.
        tried: Strengths measured under the seeds of the search.
        trace: Every measurement, in order.
        evaluations: Stage -> strengths measured, each with all its seeds.
        passes: Pairs of strength and seed used, those of an earlier, killed search included.
        reused: How many of these were of an earlier search.
        seconds: Of this call, measuring included.
        fallbacks: What took another's place, and why.
        warnings: What a reader must know.
    """

    settings: Mapping[str, Any]
    seeds: Mapping[str, tuple[int, ...]]
    outcome: Outcome
    strength: float | None
    metrics: tuple[MetricFound, ...]
    distance: Estimate
    bracket: tuple[float, float] | None
    candidates: tuple[Candidate, ...]
    tried: tuple[float, ...]
    trace: tuple[Measurement, ...]
    evaluations: Mapping[str, int]
    passes: int
    reused: int
    seconds: float
    sensitivity: tuple[Sensitivity, ...]
    fallbacks: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def reached(self) -> bool:
        return self.outcome == "reached"

    @property
    def n_evaluations(self) -> int:
        return sum(self.evaluations.values())

    def to_record(self) -> dict[str, Any]:
        """Plain JSON."""
        record = asdict(self)
        record |= {
            "settings": dict(self.settings),
            "seeds": {use: list(seeds) for use, seeds in self.seeds.items()},
            "evaluations": dict(self.evaluations),
            "n_evaluations": self.n_evaluations,
            "reached": self.reached,
            "bracket": list(self.bracket) if self.bracket else None,
            "tried": list(self.tried),
            "candidates": [one._asdict() for one in self.candidates],
            "trace": [asdict(one) | {"values": list(one.values)} for one in self.trace],
            "fallbacks": list(self.fallbacks),
            "warnings": list(self.warnings),
            "metrics": [
                asdict(one) | {"brackets": [bracket._asdict() for bracket in one.brackets]} for one in self.metrics
            ],
            "sensitivity": [
                asdict(one) | {"values": [asdict(value) for value in one.values]} for one in self.sensitivity
            ],
        }
        return record

    def rows(self) -> list[dict[str, Any]]:
        """A row for each metric and strength under the seeds of the search, ascending: for a chart against log10."""
        seeds = self.seeds["search"]
        known = {(one.strength, one.seed): one.values for one in self.trace}
        stages = {one.strength: one.stage for one in reversed(self.trace)}
        return [
            {
                "metric": metric.name,
                "strength": strength,
                "log10_strength": math.log10(strength),
                "mean": found.value,
                "low": found.low,
                "high": found.high,
                "n_seeds": found.n,
                "target": metric.target.value,
                "stage": stages[strength],
                "chosen": strength == self.strength,
            }
            for place, metric in enumerate(self.metrics)
            for strength in self.tried
            for found in [over_seeds(np.array([known[strength, seed][place] for seed in seeds]), "search")]
        ]


def over_seeds(values: Floats, which: str, *, level: float = 0.95) -> Estimate:
    """Mean over noise seeds with Student's interval, values (n_seeds,); the questions are taken as given."""
    n, mean, spread = len(values), float(values.mean()), float(values.std(ddof=1))
    method = f"mean over {n} noise seeds of the {which}, Student t; the noise alone, questions as given"
    if np.ptp(values) == 0:
        return Estimate(mean, None, None, level, n, method, "every noise seed gave the same value")
    half = float(student.ppf((1 + level) / 2, n - 1)) * spread / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, level, n, method)


def distance_of(found: list[Estimate], targets: Floats) -> Estimate:
    """Mean over metrics of |m - v|, as wide as the intervals of the metrics allow; targets taken as given."""
    ends = []
    for one, target in zip(found, targets, strict=True):
        assert one.value is not None
        low, high = (one.value if bound is None else bound for bound in (one.low, one.high))
        nearest = 0.0 if low <= target <= high else min(abs(low - target), abs(high - target))
        ends.append((abs(one.value - target), nearest, max(abs(low - target), abs(high - target))))
    value, low, high = (float(end) for end in np.mean(ends, axis=0))
    return Estimate(value, low, high, found[0].level, found[0].n, "mean |metric - target|; from the metrics' intervals")
