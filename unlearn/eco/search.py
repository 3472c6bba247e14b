"""How strong the corruption has to be for the metrics to come where a model would be that never learnt.

Source: arXiv:2406.07933 and spec of ECO, section 4. Methods by name:

    scan         log grid, then halvings and nevergrad's NGOpt inside the first bracket found (default)
    grid         9 strengths of a log grid, then 7 bisections, for reference
    distance     the finite difference on d(sigma), as the abstract describes it
    published    the finite difference on the raw metric, as the released script does it

Departures: the metrics change with log sigma if at all, and linear steps stand still where they are flat, so that the
default searches log10 sigma. Every strength is measured under at least three noise seeds, common to all strengths; the
script has one draw, of its own at each. "scan" and "grid" measure the three nearest strengths again under seeds that
the search never saw and take the nearest by their mean; "distance" and "published" give the strength that they end
with. What is reported was measured under seeds that neither searched nor chose.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike

from audit.errors import InputError
from audit.stats.checks import Floats, choice, count, finite_vector, open_unit
from audit.stats.estimate import Estimate
from audit.text.safe import quoted

from .brackets import Bracket, brackets, depends_on_strength, noise_band
from .search_ledger import Ledger, Measure, Measurement, Metric, Stage
from .search_methods import Proposals, bisection, descent, log_grid, ngopt
from .search_result import Candidate, MetricFound, Outcome, SearchResult, Sensitivity, distance_of, over_seeds

Method: TypeAlias = Literal["scan", "grid", "distance", "published"]
METHODS: Final[tuple[str, ...]] = get_args(Method)

LEAST_SEEDS: Final = 3
_STRONGEST: Final = 1e12
_FACTORS: Final = (0.8, 1.0, 1.2)
_TOP: Final = 3


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How strengths are searched.

    Raises:
        InputError: A setting is out of range.
    """

    method: Method = "scan"
    lower: float = 0.1
    """Weakest strength, above 0."""
    upper: float = 1e4
    """Strongest; no more than the dtype of the model holds, see `corruptions.FUNCTIONS`."""
    scan_points: int = 12
    """Of "scan", at least 3."""
    local_points: int = 12
    """Of "scan": strengths measured inside the bracket, at least 1."""
    halvings: int = 4
    """How many of these halve the bracket before NGOpt is asked, 0 or more."""
    grid_points: int = 9
    bisections: int = 7
    n_seeds: int = 3
    """Noise seeds at each strength, at least 3."""
    n_fresh: int = 8
    """Noise seeds of the confirmation, and as many others of the report, at least 3."""
    enough: float = 0.005
    """Distance at which the search inside a bracket stops, in units of the metric, 0 or more."""
    close: float = 0.05
    """A target is reached where each metric is as near as this in the report, above 0."""
    sensitivity_points: int = 3
    """Strengths that may be measured more for each of 0.8 and 1.2 times the targets, 0 or more."""
    start: float = 0.1
    """sigma_0 of "distance" and "published"; these five are the released script's."""
    mu: float = 0.0999
    eta: float = 100.0
    steps: int = 10
    stop_below: float | None = 0.27
    """ "published" alone."""
    seed: int = 0
    """Decides the noise seeds and nevergrad's."""
    level: float = 0.95

    def __post_init__(self) -> None:
        choice(self.method, "method", METHODS)
        open_unit(self.level, "level")
        if not 0 < self.lower < self.upper <= _STRONGEST:
            raise InputError(
                f"strengths from {self.lower:g} to {self.upper:g}; expected 0 < lower < upper <= {_STRONGEST:g}."
            )
        for name, least in (
            ("scan_points", 3),
            ("local_points", 1),
            ("grid_points", 3),
            ("bisections", 0),
            ("halvings", 0),
            ("sensitivity_points", 0),
            ("steps", 1),
            ("seed", 0),
            ("n_seeds", LEAST_SEEDS),
            ("n_fresh", LEAST_SEEDS),
        ):
            count(getattr(self, name), name, least=least)
        for name in ("close", "mu", "eta"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)!r}; expected a number above 0.")
        if not self.enough >= 0:
            raise InputError(f"enough is {self.enough!r}; expected a number of at least 0.")
        if not self.lower <= self.start <= self.upper:
            raise InputError(f"start is {self.start:g}; expected a strength from {self.lower:g} to {self.upper:g}.")

    @property
    def seeds(self) -> dict[str, tuple[int, ...]]:
        """Noise seeds by use: "search", "confirm", "report"; no seed has two."""
        total = self.n_seeds + 2 * self.n_fresh
        drawn = np.random.default_rng(self.seed).choice(2**31, size=total, replace=False).tolist()
        a, b = self.n_seeds, self.n_seeds + self.n_fresh
        return {"search": tuple(drawn[:a]), "confirm": tuple(drawn[a:b]), "report": tuple(drawn[b:])}


def search(
    measure: Measure,
    metrics: Sequence[Metric],
    bare: ArrayLike,
    settings: SearchSettings,
    *,
    done: Iterable[Measurement] = (),
    on_measured: Callable[[Measurement], None] | None = None,
) -> SearchResult:
    """Search a strength; deterministic, given the settings and what is measured.

    Args:
        measure: The metrics at a strength under some seeds. Measure on questions kept for it: reported on the same
            questions, a fitted strength looks better than it is.
        metrics: At least one.
        bare: The metrics without the guard, shape (n_metrics,).
        settings: How.
        done: Measurements of an earlier search of the same thing that was cut off: they are not made again, and the
            result is the same to the bit.
        on_measured: Told each new measurement as soon as it is made, to keep it.

    Raises:
        InputError: There is no metric, a measured value is missing or not finite, a measurement of ``done`` does not
            fit, or "published" is asked to bring a metric up.
    """
    began = time.perf_counter()
    if not metrics:
        raise InputError("metrics is empty; expected at least one metric with its target.")
    rising = [metric.name for metric in metrics if not metric.falls]
    if settings.method == "published" and rising:
        raise InputError(
            f"method 'published' brings metrics down, and {quoted(rising[0])} has to rise; expected metrics that "
            "fall. Use 'scan' or 'distance'."
        )
    without = finite_vector(bare, "bare")
    if len(without) != len(metrics):
        raise InputError(f"bare has {len(without)} numbers for {len(metrics)} metrics; expected one for each.")
    return _Search(Ledger(measure, metrics, done, on_measured), metrics, without, settings).result(began)


class _Search:
    """The stages of one search, in order, and what they noticed."""

    def __init__(self, ledger: Ledger, metrics: Sequence[Metric], bare: Floats, settings: SearchSettings) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._bare = bare
        self._settings = settings
        self._seeds = settings.seeds
        self._targets = ledger.targets
        self._looked_at: list[float] = []
        self._curves = np.empty((0, settings.n_seeds, len(metrics)))
        self._brackets: list[list[Bracket]] = [[] for _ in metrics]
        self._searched: tuple[float, float] | None = None
        self._fallbacks: list[str] = []
        self._warnings: list[str] = []

    def result(self, began: float) -> SearchResult:
        still = self._ledger.gaps(self._bare[None], self._targets)
        for metric, gap, value in zip(self._metrics, still, self._bare, strict=True):
            if gap <= 0:
                self._warnings.append(
                    f"{quoted(metric.name)} of the bare model is {value:.4g}, already at or beyond its target "
                    f"{metric.target.value:.4g}: nothing to corrupt for it"
                )
        if (still <= 0).all():
            return self._finished(began, "nothing to corrupt", None, ())
        method = self._settings.method
        finalists = self._descended() if method in ("distance", "published") else self._scanned()
        candidates = self._confirmed(finalists)
        chosen = min(candidates, key=lambda one: (one.fresh or 0.0, one.strength)).strength
        values = self._ledger.values(chosen, self._seeds["report"], "report")
        off = np.abs(values.mean(axis=0) - self._targets)
        return self._finished(began, self._outcome(off), chosen, candidates)

    # --- the stages --------------------------------------------------------------------------------------------------

    def _scanned(self) -> list[float]:
        """Of "scan" and "grid": the grid, the first bracket, the three nearest strengths of all."""
        settings, seeds = self._settings, self._seeds["search"]
        n = settings.scan_points if settings.method == "scan" else settings.grid_points
        for strength in log_grid(settings.lower, settings.upper, n):
            self._ledger.values(strength, seeds, "scan")
        self._look(self._ledger.strengths(seeds))
        first = [found[0] for found in self._brackets if found]
        if first:
            low, high = min(one.low for one in first), max(one.high for one in first)
            self._searched = low, high
            if settings.method == "grid":
                falls, _ = self._sides(low, high)
                self._follow(bisection(low, high, falls=falls, steps=settings.bisections), self._gap)
            else:
                self._local(low, high)
        return self._nearest()[:_TOP]

    def _local(self, low: float, high: float) -> None:
        """Halvings, then NGOpt from where a straight line meets the target; bisection where it fails.

        The halvings come first because the distance is as flat as the metric: NGOpt, started where nothing changes,
        stays there.
        """
        left = self._settings.local_points
        falls, crossed = self._sides(low, high)
        if crossed:
            halvings = min(self._settings.halvings, left)
            left -= halvings
            self._follow(bisection(low, high, falls=falls, steps=halvings), self._gap)
            low, high = self._halved(low, high, falls)
        if not left or self._distance(self._nearest()[0], "local") <= self._settings.enough:
            return
        start = next(one for one in self._nearest() if low <= one <= high)
        if crossed:
            a, b = self._gap(low, "local"), self._gap(high, "local")
            along = min(max(a / (a - b), 0.1), 0.9)
            start = low ** (1 - along) * high**along
        asked = self._follow(ngopt(low, high, start=start, budget=left, seed=self._settings.seed), self._distance)
        if asked is not None:
            self._follow(bisection(low, high, falls=falls, steps=left - asked), self._gap)

    def _sides(self, low: float, high: float) -> tuple[bool, bool]:
        """Whether the mean gap is above 0 at ``low``, and whether it is on the other side at ``high``."""
        falls = self._gap(low, "local") > 0
        return falls, (self._gap(high, "local") > 0) != falls

    def _halved(self, low: float, high: float, falls: bool) -> tuple[float, float]:
        """The neighbours among measured strengths between which the mean gap changes its sign first."""
        inside = [one for one in self._ledger.strengths(self._seeds["search"]) if low <= one <= high]
        for a, b in pairwise(inside):
            if (self._gap(a, "local") > 0) == falls and (self._gap(b, "local") > 0) != falls:
                return a, b
        return low, high

    def _follow(self, proposals: Proposals, answer: Callable[[float, Stage], float]) -> int | None:
        """Measures what is proposed until it is near enough; how many were asked for where the method failed."""
        asked = 0
        with closing(proposals):
            reply: float | None = None
            while True:
                try:
                    strength = next(proposals) if reply is None else proposals.send(reply)
                except StopIteration:
                    return None
                except Exception as error:  # nevergrad's own: measuring happens outside
                    what = quoted(str(error), limit=200)
                    self._fallbacks.append(f"NGOpt failed ({type(error).__name__}: {what}); bisection took its place")
                    return asked
                asked += 1
                reply = answer(strength, "local")
                if self._distance(strength, "local") <= self._settings.enough:
                    return None

    def _descended(self) -> list[float]:
        """Of "distance" and "published": the strength that the finite difference ends with."""
        settings, raw = self._settings, self._settings.method == "published"
        steps = descent(
            start=settings.start,
            mu=settings.mu,
            eta=settings.eta,
            steps=settings.steps,
            lower=settings.lower,
            upper=settings.upper,
            stop_below=settings.stop_below if raw else None,
        )
        strength = next(steps)
        while True:
            values = self._ledger.values(strength, self._seeds["search"], "descent")
            try:
                strength = steps.send(float(values.mean()) if raw else self._ledger.off(values, self._targets))
            except StopIteration as end:
                last, held = end.value
                if held:
                    self._warnings.append(f"{held} of the steps went beyond the strongest allowed, {settings.upper:g}")
                self._look(self._ledger.strengths(self._seeds["search"]))
                return [last]

    def _confirmed(self, finalists: list[float]) -> tuple[Candidate, ...]:
        known = set(self._ledger.strengths(self._seeds["search"]))
        found = []
        for strength in finalists:
            fresh = None
            if len(finalists) > 1:
                fresh = self._ledger.distance(strength, self._seeds["confirm"], "confirm")
            searched = self._distance(strength, "local") if strength in known else None
            found.append(Candidate(strength, searched, fresh))
        return tuple(found)

    def _sensitivity(self, chosen: float, report: tuple[Estimate, ...]) -> tuple[Sensitivity, ...]:
        found = []
        for factor in _FACTORS:
            targets = factor * self._targets
            if factor == 1:
                distance = self._ledger.distance(chosen, self._seeds["report"], "report")
                found.append(Sensitivity(factor, chosen, report, distance, None))
            elif (self._ledger.gaps(self._bare[None], targets) <= 0).all():
                found.append(Sensitivity(factor, None, (), None, "the bare model is there already"))
            else:
                found.append(self._scaled(factor, targets))
        return tuple(found)

    def _scaled(self, factor: float, targets: Floats) -> Sensitivity:
        """The nearest strength to other targets; a few bisections where they are crossed between measured ones."""
        seeds, why = self._seeds["search"], None

        def off(strength: float) -> float:
            return self._ledger.off(self._ledger.values(strength, seeds, "sensitivity"), targets)

        def gap(strength: float) -> float:
            return self._ledger.gap(strength, seeds, "sensitivity", targets)

        tried = self._ledger.strengths(seeds)
        crossed = [(low, high) for low, high in pairwise(tried) if gap(low) > 0 >= gap(high)]
        if not crossed:
            why = "no strength measured lies beyond these targets; the nearest is given"
        elif min(map(off, tried)) > self._settings.enough:
            proposals = bisection(*crossed[0], falls=True, steps=self._settings.sensitivity_points)
            strength = next(proposals, None)
            while strength is not None and off(strength) > self._settings.enough:
                try:
                    strength = proposals.send(gap(strength))
                except StopIteration:
                    strength = None
        best = min(self._ledger.strengths(seeds), key=lambda one: (off(one), one))
        values = self._ledger.values(best, seeds, "sensitivity")
        return Sensitivity(factor, best, self._estimates(values, "search"), off(best), why)

    # --- what was seen -----------------------------------------------------------------------------------------------

    def _outcome(self, off: Floats) -> Outcome:
        """What is said of the targets, and the warnings that go with it."""
        tried = self._looked_at
        moved = [depends_on_strength(self._curves[:, :, place]) for place in range(len(self._metrics))]
        for place, metric in enumerate(self._metrics):
            if not moved[place]:
                as_bare = abs(self._curves[:, :, place].mean() - self._bare[place]) <= self._gaps_of(place)[1]
                hint = "corrupt more dims or tokens, or raise `upper`" if as_bare else "lower `lower`"
                self._warnings.append(
                    f"{quoted(metric.name)} does not depend on the strength from {tried[0]:g} to {tried[-1]:g} as far "
                    f"as its noise lets one see, and is {'that' if as_bare else 'not that'} of the bare model: {hint}"
                )
        for place, (metric, crossings) in enumerate(zip(self._metrics, self._brackets, strict=True)):
            name = quoted(metric.name)
            if len(crossings) > 1:
                where = ", ".join(f"{one.low:g} to {one.high:g} ({one.how})" for one in crossings)
                self._warnings.append(f"{name} is not monotone and meets its target more than once: {where}")
            gaps, band = self._gaps_of(place)
            if (np.abs(gaps) > band).all() and not crossings:
                side = "beyond it at all" if gaps[0] < 0 else "short of it at all"
                strengths = ", ".join(f"{strength:g}" for strength in tried)
                hint = "; lower `lower`" if gaps[0] < 0 else ""
                self._warnings.append(
                    f"{name} never comes to its target {metric.target.value:.4g}: {side} strengths tried "
                    f"({strengths}){hint}"
                )
        if (off <= self._settings.close).all():
            return "reached"
        if not any(moved):
            return "flat"
        if not any(self._brackets):
            return "never reached"
        self._warnings.append(
            f"the target is crossed, but under fresh seeds no strength is within {self._settings.close:g} of it: the "
            "metric jumps there, or its noise is too large for this many seeds"
        )
        return "crossed, not met"

    def _look(self, strengths: list[float]) -> None:
        """Where the metrics cross their targets, on strengths that were not chosen for being near them."""
        self._looked_at = strengths
        self._curves = np.array([self._ledger.values(one, self._seeds["search"], "scan") for one in strengths])
        for place in range(len(self._metrics)):
            self._brackets[place] = brackets(strengths, *self._gaps_of(place))

    def _gaps_of(self, place: int) -> tuple[Floats, float]:
        """One metric's gaps at the strengths looked at, and the band inside which they are noise."""
        gaps = np.array([self._ledger.gaps(values, self._targets)[place] for values in self._curves])
        return gaps, noise_band(self._curves[:, :, place])

    def _nearest(self) -> list[float]:
        tried = self._ledger.strengths(self._seeds["search"])
        return sorted(tried, key=lambda one: (self._distance(one, "local"), one))

    def _distance(self, strength: float, stage: Stage) -> float:
        return self._ledger.distance(strength, self._seeds["search"], stage)

    def _gap(self, strength: float, stage: Stage) -> float:
        return self._ledger.gap(strength, self._seeds["search"], stage, self._targets)

    def _estimates(self, values: Floats, which: str) -> tuple[Estimate, ...]:
        return tuple(over_seeds(column, which, level=self._settings.level) for column in values.T)

    def _finished(
        self, began: float, outcome: Outcome, chosen: float | None, candidates: tuple[Candidate, ...]
    ) -> SearchResult:
        nothing = Estimate.undefined(method="search", why="nothing to corrupt", level=self._settings.level)
        values, distance = (nothing,) * len(self._metrics), nothing
        sensitivity: tuple[Sensitivity, ...] = ()
        if chosen is not None:
            values = self._estimates(self._ledger.values(chosen, self._seeds["report"], "report"), "report")
            distance = distance_of(list(values), self._targets)
            sensitivity = self._sensitivity(chosen, values)
        return SearchResult(
            settings=asdict(self._settings),
            seeds=self._seeds,
            outcome=outcome,
            strength=chosen,
            metrics=tuple(
                MetricFound(metric.name, metric.falls, metric.target, float(value), estimate, tuple(own))
                for metric, value, estimate, own in zip(self._metrics, self._bare, values, self._brackets, strict=True)
            ),
            distance=distance,
            bracket=self._searched,
            candidates=candidates,
            tried=tuple(self._ledger.strengths(self._seeds["search"])),
            trace=tuple(self._ledger.trace),
            evaluations=dict(self._ledger.evaluations),
            passes=self._ledger.passes,
            reused=self._ledger.reused,
            seconds=time.perf_counter() - began,
            sensitivity=sensitivity,
            fallbacks=tuple(self._fallbacks),
            warnings=tuple(self._warnings),
        )
