r"""How far a remedied model is ahead of gold while both relearn: excess over the steps, and steps to half.

    excess    r = mean over steps of (f_remedied - f_gold)  /  (f_subject - f_gold before any tuning)
    steps     T = first step at which f reaches f_gold(0) + (f_subject(0) - f_gold(0)) / 2,  linear between measurements
    ratio     sum over seeds of T_remedied  /  sum over seeds of T_gold

f is the mean familiarity of the unseen rows. r is 0 for a model that relearns as gold does and 1 for one that is ahead
of it by the subject's whole lead all the way. The mean over steps is the area under straight lines between the
measurements, divided by the last step.

The ratio is the specification's: "removed" only if it is at least 0.8, else "suppressed". A model that does not reach
half is censored at the last step, and the ratio is then a bound, or, where both are, nothing. The excess is always
defined where the subject had a lead, uses every measurement, and is linear in the values; so it is the one that a
verdict should rest on, and the ratio is told beside it (docs/methods/verification.md has the simulation).

Intervals: seeds and clusters are drawn again independently of each other, because a cluster is measured under most
seeds (crossed, not nested; Owen 2007, the pigeonhole bootstrap, arXiv:0712.1111), the same ones for all models; rows
stay with their cluster. They speak of these models: how two trainings of gold differ is seen only by giving the second
one as the remedied model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit.errors import InputError
from audit.forgetting.gap import ROUNDING
from audit.forgetting.measured import FEW_PASSAGES
from audit.stats.checks import Floats, Seed, count, generator, open_unit
from audit.stats.estimate import Estimate
from audit.text.safe import quoted

from ..measures import Measure
from ..residual import Ingredient
from .relearn import ENOUGH_SEEDS, Curve

HALF: Final = 0.5  # of the subject's lead over gold
ENOUGH: Final = 0.8  # of gold's steps; below, the text was suppressed and not removed
N_DRAWS: Final = 2000
MIN_CLUSTERS: Final = 2  # with one, nothing can be drawn
MAX_UNDEFINED: Final = 0.05  # share of draws
Bound = Literal["exact", "at most", "at least"]
Rule = Literal["removed", "suppressed", "undecided"]


MEASURES: Final = (
    Measure(
        key="relearning.excess",
        label="lead over gold while relearning, share of the subject's",
        axis="knowledge",
        direction="more is known",
        low=None,
        high=None,
        formula="mean over steps of (f_remedied - f_gold) / (f_subject - f_gold before tuning), rows not tuned on",
        source="ours, after Lynch et al. (arXiv:2402.16835) and Deeb and Roger (arXiv:2410.08827)",
        failure="a model pushed below gold at the start hides what comes back later: look at start and final beside it",
    ),
    Measure(
        key="relearning.ratio",
        label="steps to half of the subject's lead, remedied by gold",
        axis="knowledge",
        direction="less is known",
        low=0.0,
        high=None,
        formula="sum over seeds of T_remedied / sum over seeds of T_gold, T the first step at half of the lead",
        source="the project's specification of approximate unlearning, section 6",
        failure="a bound where one model never gets there, undefined where neither does; depends on the recipe",
    ),
)


@dataclass(frozen=True, slots=True)
class StepsToHalf:
    """Steps until half of the subject's lead is reached, seed by seed.

    Attributes:
        remedied: Of the remedied model; the last step where it was not reached.
        gold: Of gold, likewise.
        remedied_reached: Whether the remedied model did.
        gold_reached: Whether gold did.
    """

    remedied: tuple[float, ...]
    gold: tuple[float, ...]
    remedied_reached: tuple[bool, ...]
    gold_reached: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Relearned:
    """One kind of relearning, of a remedied model beside gold.

    Attributes:
        kind: Of the texts.
        measure: What familiarity is, and its unit.
        excess: r over all steps: what a verdict should rest on.
        start: The same before any tuning.
        final: The same after the last step.
        ratio: Steps to half, remedied by gold.
        bound: What the ratio is where a model was censored; None where it is undefined.
        by_steps: The specification's rule, on the interval of the ratio.
        steps: Seed by seed.
        seeds: Of the tuning, each with its own clusters and order.
        n: Clusters that are measured.
    """

    kind: str
    measure: str
    excess: Estimate
    start: Estimate
    final: Estimate
    ratio: Estimate
    bound: Bound | None
    by_steps: Rule
    steps: StepsToHalf
    seeds: tuple[int, ...]
    n: int


class CurveRow(NamedTuple):
    """One measurement of one model, for tables and charts."""

    model: str
    kind: str
    seed: int
    step: int
    value: float
    n: int


def curve_rows(curves: Sequence[Curve]) -> list[CurveRow]:
    """The mean of each curve at each of its steps; curves without a row are passed over."""
    return [
        CurveRow(one.model, one.kind, one.seed, step, float(values.mean()), len(one.ids))
        for one in curves
        if one.ids
        for step, values in zip(one.steps, one.values, strict=True)
    ]


def compare_relearning(
    remedied: Sequence[Curve],
    gold: Sequence[Curve],
    subject: Sequence[Curve],
    *,
    rng: Seed,
    level: float = 0.95,
    n_draws: int = N_DRAWS,
) -> Relearned:
    """One kind of relearning.

    Args:
        remedied: Curves of the model that is judged, one for each seed.
        gold: Of the model that never saw the text, under the same settings.
        subject: Of the model before the remedy; only what it knows before any tuning is used.
        rng: Generator or seed.
        level: Confidence level, in (0, 1).
        n_draws: Draws of the bootstrap.

    Raises:
        InputError: The curves are of several kinds, were not made under the same settings and seeds, or share no row.
    """
    open_unit(level, "level")
    count(n_draws, "n_draws", least=math.ceil(2 / (1 - level) - 1e-9))
    table = _Table.of(remedied, gold, subject)
    draws = table.draws(n_draws, generator(rng))
    made = _Made(table, draws, level)
    excess = made.residual("excess over all steps", lambda means: means @ table.over_steps)
    start = made.residual("excess before tuning", lambda means: means[..., 0])
    final = made.residual(f"excess after {table.steps[-1]} steps", lambda means: means[..., -1])
    ratio, bound, told = made.ratio()
    return Relearned(
        table.kind,
        table.measure,
        excess,
        start,
        final,
        ratio,
        bound,
        _rule(ratio, bound),
        told,
        table.seeds,
        table.n_clusters,
    )


def ingredient(remedied: Sequence[Curve], gold: Sequence[Curve], subject: Sequence[Curve], *, rng: int) -> Ingredient:
    """The excess of one kind of relearning, for a verdict; arguments as in `compare_relearning`."""
    table = _Table.of(remedied, gold, subject)

    def at(level: float) -> Estimate:
        n_draws = max(N_DRAWS, math.ceil(20 / (1 - level)))
        return compare_relearning(remedied, gold, subject, rng=rng, level=level, n_draws=n_draws).excess

    label = f"{table.measure}, relearned from {table.kind}"
    return Ingredient(key_of(table.kind), label, "relearning", at, n_seeds=len(table.seeds))


def key_of(kind: str) -> str:
    """Of the ingredient that a kind of relearning gives: ``relearning.forget-rows``."""
    return f"relearning.{'-'.join(re.findall(r'[a-z0-9]+', kind.lower()))}"


def _rule(ratio: Estimate, bound: Bound | None) -> Rule:
    """What the interval of the ratio allows to say; a bound speaks in its own direction alone."""
    if ratio.value is None or ratio.n < MIN_CLUSTERS or bound is None:
        return "undecided"
    low, high = (ratio.value if edge is None else edge for edge in (ratio.low, ratio.high))  # all draws alike
    if low >= ENOUGH and bound != "at most":
        return "removed"
    return "suppressed" if high < ENOUGH and bound != "at least" else "undecided"


@dataclass(frozen=True, slots=True)
class _Table:
    """The curves as sums over clusters.

    Attributes:
        kind: Of the texts.
        measure: What was measured.
        seeds: S of them.
        steps: T of them.
        sums: Of values, of remedied, gold and subject, shape (3, S, C, T): seed, cluster, step.
        counts: Rows behind them, shape (S, C); 0 where a seed tunes on a cluster.
        notes: What was left out.
    """

    kind: str
    measure: str
    seeds: tuple[int, ...]
    steps: tuple[int, ...]
    sums: Floats
    counts: Floats
    notes: tuple[str, ...]

    @classmethod
    def of(cls, *models: Sequence[Curve]) -> _Table:
        by_seed = [{curve.seed: curve for curve in curves} for curves in models]
        kinds = {(curve.kind, curve.name) for curves in models for curve in curves}
        if len(kinds) != 1 or any(len(one) < len(curves) for one, curves in zip(by_seed, models, strict=True)):
            raise InputError(
                f"relearning curves of {quoted(sorted(kinds))} were given, or two of one seed; expected one kind, one "
                "measure, and one curve for each seed and model."
            )
        seeds = tuple(sorted(by_seed[0]))
        for one in by_seed[1:]:
            if tuple(sorted(one)) != seeds:
                raise InputError(
                    f"relearning was done under the seeds {seeds} for one model and {tuple(sorted(one))} for another; "
                    "expected the same ones."
                )
        for seed in seeds:
            if len({one[seed].settings for one in by_seed}) > 1:
                names = [one[seed].model for one in by_seed]
                raise InputError(
                    f"the relearning curves of {quoted(names)} were made under different settings (seed {seed}): "
                    "texts, rows, tokenizer, recipe or measure. Make them anew under the same."
                )
        steps = by_seed[0][seeds[0]].steps
        every = sorted({cluster for curve in by_seed[0].values() for cluster in curve.clusters})
        place = {cluster: number for number, cluster in enumerate(every)}
        sums = np.zeros((len(models), len(seeds), len(every), len(steps)))
        counts = np.zeros((len(seeds), len(every)))
        lost = 0
        for s, seed in enumerate(seeds):
            curves = [one[seed] for one in by_seed]
            common = set(curves[0].ids).intersection(*(curve.ids for curve in curves[1:]))
            everything = {name for curve in curves for name in (*curve.ids, *curve.left_out)}
            lost += len(everything) - len(common)
            for m, curve in enumerate(curves):
                rows = [row for row, name in enumerate(curve.ids) if name in common]
                homes = np.array([place[curve.clusters[row]] for row in rows], dtype=np.int64)
                np.add.at(sums[m, s], homes, curve.values[:, rows].T)
                if m == 0:
                    np.add.at(counts[s], homes, 1.0)
        if not (counts.sum(axis=1) > 0).all():
            raise InputError("the relearning curves share no row under one of the seeds, so nothing can be compared.")
        notes = [f"{lost:,} values of rows that one of the models lacks were left out"] if lost else []
        ((kind, measure),) = kinds
        return cls(kind, measure, seeds, steps, sums, counts, tuple(notes))

    @property
    def n_clusters(self) -> int:
        return int((self.counts.sum(axis=0) > 0).sum())

    @property
    def over_steps(self) -> Floats:
        """Weights (T,) of the measurements in the mean over steps; the trapezoidal rule."""
        weights = np.zeros(len(self.steps))
        for place, (one, other) in enumerate(pairwise(self.steps)):
            weights[place : place + 2] += (other - one) / 2
        return weights / weights.sum() if weights.sum() else np.ones(1)

    def draws(self, n_draws: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """How often each seed (B, S) and each cluster (B, C) is drawn; the first draw is the data themselves.

        One fewer is drawn than there are, so that the draws' variance of a mean is not too small by (n - 1) / n (Rao
        and Wu 1988), which with three seeds is a third.
        """
        found = []
        for n in self.counts.shape:
            drawn = rng.multinomial(max(1, n - 1), np.full(n, 1 / n), size=n_draws).astype(np.float64)
            found.append(np.concatenate([np.ones((1, n)), drawn]))
        return found[0], found[1]


class _Made:
    """Statistics of a table's draws."""

    def __init__(self, table: _Table, draws: tuple[Floats, Floats], level: float) -> None:
        self.table, self.level = table, level
        self.of_seeds, of_clusters = draws
        sums = np.einsum("bc,msct->mbst", of_clusters, table.sums)  # (models, B, S, T)
        counts = np.einsum("bc,sc->bs", of_clusters, table.counts)
        weights = self.of_seeds * counts
        with np.errstate(divide="ignore", invalid="ignore"):  # a draw without any row is undefined
            self.by_seed = sums / counts[:, :, None]
            self.means = np.einsum("bs,mbst->mbt", self.of_seeds, sums) / weights.sum(axis=1)[:, None]
        self.n = table.n_clusters
        self.method = (
            f"{table.measure}, relearning from {table.kind}, crossed bootstrap of {len(table.seeds)} seeds and "
            f"{self.n} clusters, {len(self.of_seeds) - 1:,} draws"
        )
        self.few = []
        if len(table.seeds) < ENOUGH_SEEDS:
            self.few.append(f"only {len(table.seeds)} of the {ENOUGH_SEEDS} seeds that are needed")
        if self.n < FEW_PASSAGES:
            self.few.append(f"only {self.n} clusters: the interval is too narrow")

    def residual(self, what: str, over: Callable[[Floats], Floats]) -> Estimate:
        """(remedied - gold) under ``over``, (..., T) -> (...), by the subject's lead before tuning."""
        name = f"{what}, in leads of the subject over gold: {self.method}"
        lead = self.means[2, :, 0] - self.means[1, :, 0]
        if why := self._no_lead(lead):
            return Estimate.undefined(method=name, why=why, n=self.n, level=self.level)
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._estimate(name, over(self.means[0] - self.means[1]) / lead)

    def ratio(self) -> tuple[Estimate, Bound | None, StepsToHalf]:
        """Steps to half, remedied by gold, with what censoring leaves of it."""
        seeds = self.by_seed
        goal = seeds[1, :, :, 0] + HALF * (seeds[2, :, :, 0] - seeds[1, :, :, 0])  # (B, S)
        (mine, mine_reached), (golds, golds_reached) = (
            _steps_to(goal, seeds[model], np.array(self.table.steps, dtype=np.float64)) for model in (0, 1)
        )
        told = StepsToHalf(*(tuple(one[0].tolist()) for one in (mine, golds, mine_reached, golds_reached)))
        name = f"steps to half of the subject's lead, remedied by gold: {self.method}"

        def undefined(why: str) -> tuple[Estimate, None, StepsToHalf]:
            return Estimate.undefined(method=name, why=why, n=self.n, level=self.level), None, told

        if why := self._no_lead(self.means[2, :, 0] - self.means[1, :, 0]):
            return undefined(why)
        late, gold_late = ~mine_reached[0], ~golds_reached[0]
        n, last = len(self.table.seeds), self.table.steps[-1]
        if (late & gold_late).any():
            both = int((late & gold_late).sum())
            return undefined(f"under {both} of {n} seeds neither model reaches half within {last} steps")
        if late.any() and gold_late.any():
            return undefined(f"each of the two models fails to reach half within {last} steps under some of {n} seeds")
        with np.errstate(divide="ignore", invalid="ignore"):
            sums = [np.where(self.of_seeds > 0, self.of_seeds * one, 0.0).sum(axis=1) for one in (mine, golds)]
            ratios = sums[0] / sums[1]
        bound: Bound = "at least" if late.any() else "at most" if gold_late.any() else "exact"
        notes = []
        if bound != "exact":
            who, k = ("remedied", int(late.sum())) if late.any() else ("gold", int(gold_late.sum()))
            notes.append(
                f"{bound} this: under {k} of {n} seeds the {who} model does not reach half and was counted with the "
                f"last step, {last}"
            )
        return self._estimate(name, ratios, notes), bound, told

    def _no_lead(self, lead: Floats) -> str | None:
        spread = self._estimate("", lead)
        if spread.value is None:
            return f"the subject's lead over gold is undefined: {spread.why}"
        if spread.low is None or spread.high is None:
            return None if spread.value > ROUNDING else "the subject has no lead over gold"
        if spread.low <= 0:
            return (
                f"the subject's lead over gold before tuning is {spread.value:.4g}, [{spread.low:.4g}, "
                f"{spread.high:.4g}], so there is nothing that could come back"
            )
        return None

    def _estimate(self, name: str, values: Floats, notes: Sequence[str] = ()) -> Estimate:
        """From the value on the data, first, and on the draws."""
        value, drawn = float(values[0]), values[1:]
        said = [*notes, *self.few, *self.table.notes]
        if not math.isfinite(value):
            return Estimate.undefined(method=name, why=f"it is {value} on the data", n=self.n, level=self.level)
        defined = drawn[np.isfinite(drawn)]
        missing = len(drawn) - len(defined)
        if missing > MAX_UNDEFINED * len(drawn):
            why = f"undefined on {missing:,} of {len(drawn):,} draws; on the data it is {value:.6g}"
            return Estimate.undefined(method=name, why=why, n=self.n, level=self.level)
        if missing:
            said.append(f"undefined on {missing:,} of {len(drawn):,} draws, which were left out")
        if self.n < MIN_CLUSTERS or defined.min() == defined.max():
            few = self.n < MIN_CLUSTERS
            said.insert(0, "there are fewer than 2 clusters" if few else "every draw gave the same value")
            return Estimate(value, None, None, self.level, self.n, name, "; ".join(said))
        low, high = np.quantile(defined, [(1 - self.level) / 2, (1 + self.level) / 2])
        return Estimate(value, float(low), float(high), self.level, self.n, name, "; ".join(said) or None)


def _steps_to(goal: Floats, curves: Floats, steps: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """First crossing of ``goal`` (...) by ``curves`` (..., T), linear between ``steps`` (T,), and whether there is one.

    0 where the curve begins at the goal or above it, the last step where it never reaches it, NaN where it is NaN.
    """
    over = curves >= goal[..., None]
    reached = over.any(axis=-1)
    first = over.argmax(axis=-1)
    before = np.maximum(first - 1, 0)
    low, high = (np.take_along_axis(curves, place[..., None], axis=-1)[..., 0] for place in (before, first))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(first > 0, (goal - low) / (high - low), 0.0)
    found = steps[before] + share * (steps[first] - steps[before])
    found = np.where(reached, found, np.where(np.isnan(curves[..., 0]), np.nan, steps[-1]))
    return found, np.asarray(reached, dtype=np.bool_)
