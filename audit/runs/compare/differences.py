"""How far an estimate of one run lies from that of another: paired where both rest on the same items, else not.

No difference is given without an interval.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from ...stats.auc import stratified_auc
from ...stats.bootstrap import bootstrap
from ...stats.checks import Floats
from ...stats.estimate import Estimate
from ...text.safe import counted, quoted
from ..schema import EstimateRecord

How = Literal["paired", "unpaired", "none"]
FEW: Final = 20  # units, below which a bootstrap's interval is said to be too narrow
N_DRAWS: Final = 2000
_SIZES = re.compile(
    r"\d[\d,]*(?: \+ \d[\d,]*)*(?= (?:disjoint )?(?:pairs|clusters|rows|strata|traps|items|passages|effective|tests)\b)"
)
_CLOSE = 1e-9  # between a value that was recorded and the same made again from its items


@dataclass(frozen=True, slots=True)
class Values:
    """What a mean is taken of: a value for each item; items of one cluster are resampled together."""

    ids: tuple[str, ...]
    clusters: tuple[str, ...]
    values: Floats

    @property
    def value(self) -> float:
        return float(np.mean(self.values))


@dataclass(frozen=True, slots=True)
class Ranked:
    """What an AUC inside strata is taken of (`audit.stats.auc.stratified_auc`); one stratum is a plain AUC."""

    ids: tuple[str, ...]
    positive: tuple[bool, ...]
    strata: tuple[str, ...]
    scores: Floats

    @property
    def value(self) -> float | None:
        return stratified_auc(self.scores, np.array(self.positive), self.strata).value


Items = Values | Ranked


@dataclass(frozen=True, slots=True)
class Difference:
    """An estimate less the first run's, and how it was made; ``estimate.why`` says why there is none."""

    how: How
    estimate: Estimate


def difference(
    first: EstimateRecord, other: EstimateRecord, items: tuple[Items | None, Items | None], *, seed: int
) -> Difference:
    """``other`` less ``first``.

    Args:
        first: Of the first run.
        other: Of another.
        items: What each rests on, where that is known.
        seed: Of the bootstrap.
    """
    if first.value is None or other.value is None:
        run = "the first run" if first.value is None else "this run"
        why = first.why if first.value is None else other.why
        return _none(f"{run} has no value: {why}", first.level)
    if first.level != other.level:
        return _none(f"the intervals have different levels, {first.level:g} and {other.level:g}", first.level)
    found, note = _paired(first, other, items, seed=seed)
    if found is not None and found.low is not None:
        return Difference("paired", found)
    apart = unpaired(first, other)
    if found is not None and apart.low is not None:
        note = f"both rest on the same items, but {found.why}; so the interval is that of unpaired runs"
    if note is not None:
        apart = replace(apart, why="; ".join(part for part in (apart.why, note) if part))
    return Difference("unpaired" if apart.low is not None else "none", apart)


def _paired(
    first: EstimateRecord, other: EstimateRecord, items: tuple[Items | None, Items | None], *, seed: int
) -> tuple[Estimate | None, str | None]:
    """The paired difference, or None; and why there is none where both runs have items."""
    mine, theirs = items
    if mine is None or theirs is None:
        return None, None
    if set(mine.ids) != set(theirs.ids):
        n = len(set(mine.ids) & set(theirs.ids))
        return None, f"not paired: only {n:,} of {counted(len(set(mine.ids) | set(theirs.ids)), 'item')} are in both"
    for record, one in ((first, mine), (other, theirs)):
        again = one.value
        if again is None or not math.isclose(again, record.value or 0.0, rel_tol=_CLOSE, abs_tol=_CLOSE):
            return None, f"not paired: the items give {again}, and {record.value} was recorded"
    order = {identifier: place for place, identifier in enumerate(theirs.ids)}
    places = [order[identifier] for identifier in mine.ids]
    if isinstance(mine, Values) and isinstance(theirs, Values):
        if mine.clusters != tuple(theirs.clusters[place] for place in places):
            return None, "not paired: an item lies in different clusters in the two runs"
        return paired_mean(mine.values, theirs.values[places], mine.clusters, level=first.level, seed=seed), None
    if isinstance(mine, Ranked) and isinstance(theirs, Ranked):
        labels = tuple(zip(mine.positive, mine.strata, strict=True))
        if labels != tuple((theirs.positive[place], theirs.strata[place]) for place in places):
            return None, "not paired: an item has different labels in the two runs"
        return paired_auc(mine, theirs.scores[places], level=first.level, seed=seed), None
    return None, None


def paired_mean(
    first: Floats, other: Floats, clusters: Sequence[str], *, level: float, seed: int, n_draws: int = N_DRAWS
) -> Estimate:
    """Mean of (other - first) over the same items, whole clusters resampled.

    Args:
        first: Values of the first run, shape (n,).
        other: Of the other, on the same items in the same order.
        clusters: A label for each item.
        level: Confidence level.
        seed: Of the draws.
        n_draws: Their number.
    """

    def mean_difference(x: Floats, y: Floats, axis: int = -1) -> Floats:
        return np.asarray((y - x).mean(axis=axis))

    found = bootstrap(
        mean_difference, first, other, paired=True, clusters=clusters, level=level, n_draws=n_draws, rng=seed
    )
    few = _few(found.n) if found.low is not None else None
    return replace(
        found,
        method=f"paired difference of means, {found.method}",
        why="; ".join(part for part in (found.why, few) if part) or None,
    )


def paired_auc(first: Ranked, other: Floats, *, level: float, seed: int, n_draws: int = N_DRAWS) -> Estimate:
    """AUC inside strata of the other run's scores less that of the first's, on the same texts.

    Texts are drawn with replacement inside each stratum and side, the same ones for both runs. With c_ij the
    difference of [positive i above negative j], ties half, between the runs, a draw's value is
    sum_s (n1_s / n1) mean of c_ij over the drawn i and j of stratum s, which is the difference of
    `audit.stats.auc.stratified_auc`.

    Args:
        first: The first run's.
        other: The other's scores of the same texts in the same order.
        level: Confidence level.
        seed: Of the draws.
        n_draws: Their number.
    """
    positive, strata = np.array(first.positive), np.array(first.strata)
    tables: list[Floats] = []
    sides: tuple[list[str], list[str]] = ([], [])
    for stratum in sorted(set(first.strata)):
        ours, theirs = np.flatnonzero(positive & (strata == stratum)), np.flatnonzero(~positive & (strata == stratum))
        if not len(ours) or not len(theirs):
            continue
        wins = [np.sign(np.subtract.outer(s[ours], s[theirs])) / 2 for s in (other, first.scores)]
        tables.append((wins[0] - wins[1]) / len(theirs))
        sides[0].extend([stratum] * len(ours))
        sides[1].extend([stratum] * len(theirs))
    n1 = len(sides[0])

    def auc_difference(x: Floats, y: Floats, axis: int = -1) -> Floats:
        """Of draws of row numbers, shape (..., n1) and (..., n0)."""
        del axis
        rows, columns = _counts(x, n1), _counts(y, len(sides[1]))
        total, at, below = np.zeros(rows.shape[:-1]), 0, 0
        for table in tables:
            own, controls = rows[..., at : at + len(table)], columns[..., below : below + table.shape[1]]
            total += ((own @ table) * controls).sum(axis=-1)
            at, below = at + len(table), below + table.shape[1]
        return np.asarray(total / n1)

    found = bootstrap(
        auc_difference,
        np.arange(n1, dtype=float),
        np.arange(len(sides[1]), dtype=float),
        strata=sides,
        level=level,
        n_draws=n_draws,
        rng=seed,
    )
    least = min((min(table.shape) for table in tables), default=0)
    few = None
    if found.low is not None and least < FEW:
        few = f"a stratum has only {least} texts on a side, so the interval is a little too narrow"
    return replace(
        found,
        method=f"paired difference of AUCs inside strata, {found.method}",
        why="; ".join(part for part in (found.why, few) if part) or None,
    )


def _counts(drawn: Floats, n: int) -> Floats:
    """How often each of n rows was drawn; shape (..., n)."""
    rows = np.atleast_2d(drawn).astype(np.int64)
    flat = (rows + n * np.arange(len(rows))[:, None]).ravel()
    counts = np.bincount(flat, minlength=n * len(rows)).reshape(len(rows), n).astype(np.float64)
    return counts if drawn.ndim > 1 else counts[0]


def unpaired(first: EstimateRecord, other: EstimateRecord) -> Estimate:
    """The difference of two estimates from their two intervals alone, supposing that the runs are independent.

    With d = b - a for a [l_a, u_a] and b [l_b, u_b] of one level, the interval runs
    from d - sqrt((b - l_b)² + (u_a - a)²) to d + sqrt((u_b - b)² + (a - l_a)²)
    (Zou & Donner 2008, doi:10.1002/sim.3095, "method of variance estimates recovery"). For symmetric intervals this is
    the normal approximation d ± sqrt(h_a² + h_b²) of the half widths; for lopsided ones, as of a share near 0, each
    side keeps its own width.

    Runs on the same items are rarely independent; where they rise and fall together this is too wide.
    """
    what, how = _words(first.method), _words(other.method)
    if what != how:
        methods = " and ".join(quoted(one.method, limit=160) for one in (first, other))
        why = f"not comparable: the methods differ, {methods}"
        return Estimate.undefined(method="difference", why=why, level=first.level)
    if first.value is None or first.low is None or first.high is None:
        return Estimate.undefined(method="difference", why=f"the first run has no interval: {first.why}")
    if other.value is None or other.low is None or other.high is None:
        return Estimate.undefined(method="difference", why=f"this run has no interval: {other.why}")
    middle = other.value - first.value
    low = middle - math.hypot(other.value - other.low, first.high - first.value)
    high = middle + math.hypot(other.high - other.value, first.value - first.low)
    return Estimate(
        middle,
        low,
        high,
        first.level,
        min(first.n, other.n),
        "difference of two estimates from their intervals, which supposes independent runs (Zou & Donner 2008)",
    )


def _words(method: str) -> str:
    """A method without the sizes that it was applied to."""
    return _SIZES.sub("#", method)


def _few(n: int) -> str | None:
    return f"only {counted(n, 'cluster')}: the interval is too narrow" if n < FEW else None


def _none(why: str, level: float) -> Difference:
    return Difference("none", Estimate.undefined(method="difference", why=why, level=level))
