r"""The strongest of several ways to ask, with an interval that knows that it was looked for.

    r_v = (remedied_v - gold_v) / (subject_v - gold_v)          of each way of asking v, means over the same items

0: the remedied model says there what gold says. 1: it still says what the subject says. The largest of many r_v is
large by chance alone, so all intervals hold at once (max-t bootstrap; whole clusters are drawn, the same ones for every
way and model):

    T_b = max over v of |r_v^b - r_v| / s_v,    c = the level's quantile of T_b,    r_v in r_v -+ c s_v for all v

s_v is the draws' interquartile range over 1.349, because a ratio's draws have long tails, times sqrt(u / (u - 1)) for u
clusters. Whenever all of them cover, max_v low_v to max_v high_v covers the largest true r_v: that is the interval of
`Residuals.largest`. Its value is the largest r_v seen, which is too high on average; its lower bound is not. c is never
below the Bonferroni quantile of Student's t with u - 1 degrees of freedom (with 20 clusters and without that, all of 15
intervals covered in 87% of 300 simulations). Beside it stands the pooled residual, which nothing was chosen for:
sum_v (remedied_v - gold_v) / sum_v (subject_v - gold_v).

A way has a residual only where the subject clearly knows more than gold, and by at least `LEAST_GAP` of the largest
gap: a ratio over a small gap is noise, and a subject that says less than gold has nothing to give away.

The intervals speak of these models. Training gold again moves r_v too, and more under odd forms than under the plain
question (docs/methods/verification.md: up to 0.3). With a second gold, the reference is the higher of the two in each
draw: a way counts only as far as the remedied model says more than both. With one, ask what `residuals` says of a
second gold in the remedied model's place, before a largest residual is believed.

Source: Westfall & Young 1993 and Romano & Wolf 2005 (max-t); as a measure of forgetting ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from scipy.stats import t as student

from audit.errors import InputError
from audit.forgetting.gap import ROUNDING
from audit.forgetting.measured import Measured, difference, joined
from audit.stats.checks import Floats, Integers, Seed, count, generator, label_codes, open_unit
from audit.stats.estimate import Estimate
from audit.text.safe import counted

N_DRAWS: Final = 4_000
LEAST_GAP: Final = 0.1  # of the largest gap
NORMAL_IQR: Final = 1.349  # interquartile range of the normal distribution, in standard deviations


class Known(NamedTuple):
    """One measure of one way of asking, taken on the models alike.

    Attributes:
        subject: Before the remedy.
        remedied: After it.
        gold: Retrained without the forget set.
        gold_2: Another seed of gold, or None.
    """

    subject: Measured
    remedied: Measured
    gold: Measured
    gold_2: Measured | None = None

    @property
    def golds(self) -> tuple[Measured, ...]:
        return (self.gold,) if self.gold_2 is None else (self.gold, self.gold_2)


@dataclass(frozen=True, slots=True)
class Residual:
    """What is left under one way of asking.

    Attributes:
        way: Its name.
        gap: Subject less gold; a way without a gap has no residual.
        excess: Remedied less gold, in the measure's unit; defined without a gap too.
        residual: r_v with its simultaneous interval.
    """

    way: str
    gap: Estimate
    excess: Estimate
    residual: Estimate


@dataclass(frozen=True, slots=True)
class Residuals:
    """All ways of asking.

    Attributes:
        each: In the order given.
        largest: Of those that have one; see the head of this file.
        pooled: Of the same ways together.
        strongest: The way whose residual is the largest; None where none has one.
    """

    each: tuple[Residual, ...]
    largest: Estimate
    pooled: Estimate
    strongest: str | None


def residuals(
    known: Mapping[str, Known],
    *,
    rng: Seed,
    more_is_known: bool = True,
    level: float = 0.95,
    n_draws: int = N_DRAWS,
) -> Residuals:
    """Residual of each way of asking, the largest, and all together.

    Args:
        known: By way: the measure on subject, remedied and gold. Clusters (passages) are called alike in all.
        rng: Generator or seed.
        more_is_known: Whether a larger value says that more is known; of a loss, False.
        level: Of all intervals at once, in (0, 1); those of gap, excess and pooled hold one by one.
        n_draws: Of clusters, at least 1,000.

    Raises:
        InputError: There is no way, or as `measured.joined`.
    """
    if not known:
        raise InputError("there is no way of asking to compare; expected one or more.")
    open_unit(level, "level")
    count(n_draws, "n_draws", least=1_000)
    draws = generator(rng)
    gaps: dict[str, Estimate] = {}
    excesses: dict[str, Estimate] = {}
    lacking: dict[str, str] = {}
    for way, models in known.items():
        if not all(len(one.ids) for one in (models.subject, models.remedied, *models.golds)):
            lacking[way] = "nothing was measured on one of the models"
            gaps[way] = excesses[way] = Estimate.undefined(method=f"residual, {way}", why=lacking[way], level=level)
            continue
        gaps[way] = difference(models.subject, models.gold, rng=draws, level=level)
        excesses[way] = difference(models.remedied, models.gold, rng=draws, level=level)
        against = [gaps[way], *(difference(models.subject, one, rng=draws, level=level) for one in models.golds[1:])]
        why = next((told for one in against if (told := _no_gap(one, more_is_known))), None)
        if why is not None:
            lacking[way] = why
    sizes = {way: abs(gaps[way].value or 0.0) for way in known if way not in lacking}
    for way, size in sizes.items():
        if size < LEAST_GAP * max(sizes.values()):
            lacking[way] = f"its gap of {size:.4g} is below {LEAST_GAP:.0%} of the largest, {max(sizes.values()):.4g}"
    tables = {way: _table(models, more_is_known) for way, models in known.items() if way not in lacking}
    if not tables:
        why = f"none of {counted(len(known), 'way')} of asking has a gap between subject and gold"
        none = Estimate.undefined(method="residual over ways of asking", why=why, level=level)
        each = tuple(Residual(way, gaps[way], excesses[way], _undefined(way, lacking[way], gaps[way])) for way in known)
        return Residuals(each, none, none, None)
    drawn = _drawn(tables, draws, n_draws)
    found = _simultaneous(drawn, level)
    method = f"over {len(tables)} ways of asking, max-t bootstrap of clusters, {n_draws:,} draws"
    each = tuple(
        Residual(
            way,
            gaps[way],
            excesses[way],
            _undefined(way, lacking[way], gaps[way])
            if way in lacking
            else _said(found[way], drawn[way].n, level, f"residual, {way}, simultaneous {method}", tables[way].note),
        )
        for way in known
    )
    strongest = max(drawn, key=lambda way: drawn[way].point)
    note = f"{counted(len(lacking), 'way')} of asking without a gap left out" if lacking else None
    return Residuals(
        each,
        _said(_largest(found, strongest), drawn[strongest].n, level, f"largest residual {method}", note),
        _pooled(drawn, level, n_draws, note),
        strongest,
    )


class _Table(NamedTuple):
    """A way's items: their clusters, the values of the subject, the remedied and the golds, and what was lost."""

    clusters: tuple[str, ...]
    subject: Floats
    remedied: Floats
    golds: tuple[Floats, ...]
    note: str | None


class _Drawn(NamedTuple):
    """r_v; numerator and denominator of each draw, and on the items; number of clusters."""

    point: float
    above: Floats
    below: Floats
    whole: tuple[float, float]
    n: int

    @property
    def ratios(self) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):  # a draw without a gap, or without items of this way
            return np.asarray(self.above / self.below)


class _Interval(NamedTuple):
    value: float
    low: float | None
    high: float | None


def _no_gap(spread: Estimate, more_is_known: bool) -> str | None:
    """Why subject less gold is no gap in the direction of knowing more, or None."""
    if spread.value is None:
        return f"subject less gold is undefined: {spread.why}"
    sign = 1.0 if more_is_known else -1.0
    interval = "has no interval"
    if spread.low is not None and spread.high is not None:
        if min(sign * spread.low, sign * spread.high) > 0:
            return None
        interval = f"lies in [{spread.low:.4g}, {spread.high:.4g}]"
    elif spread.n > 1 and sign * spread.value > ROUNDING:
        return None
    return f"subject less gold is {spread.value:.4g} and {interval}: the subject does not clearly know more than gold"


def _table(models: Known, more_is_known: bool) -> _Table:
    values, clusters, note = joined([models.subject, models.remedied, *models.golds])
    sign = 1.0 if more_is_known else -1.0
    subject, remedied, *golds = (sign * one for one in values)
    return _Table(clusters, subject, remedied, tuple(golds), note)


def _drawn(tables: Mapping[str, _Table], rng: np.random.Generator, n_draws: int) -> dict[str, _Drawn]:
    """Each draw takes as many clusters as there are, the same for every way; means over the items drawn."""
    homes = [cluster for table in tables.values() for cluster in table.clusters]
    codes, names = label_codes(homes, "clusters", n=len(homes))
    u = len(names)
    weights = np.vstack([np.ones(u), rng.multinomial(u, np.full(u, 1 / u), size=n_draws)])  # (1 + draws, u)
    found, start = {}, 0
    for way, table in tables.items():
        mine = codes[start : start + len(table.clusters)]
        start += len(table.clusters)

        def means(values: Floats, mine: Integers = mine) -> Floats:
            with np.errstate(invalid="ignore"):  # a draw without items of this way
                n = weights @ np.bincount(mine, minlength=u)
                return np.asarray(weights @ np.bincount(mine, values, minlength=u) / n)

        gold = np.max([means(one) for one in table.golds], axis=0)
        above, below = means(table.remedied) - gold, means(table.subject) - gold
        whole = float(above[0]), float(below[0])
        found[way] = _Drawn(whole[0] / whole[1], above[1:], below[1:], whole, len(set(mine.tolist())))
    return found


def _scale(values: Floats, n_clusters: int) -> float:
    """Standard error from the draws' interquartile range; 0 where the draws do not differ."""
    kept = values[np.isfinite(values)]
    if n_clusters < 2 or not len(kept) or np.ptp(kept) <= 1e-12:
        return 0.0
    spread = float(np.subtract(*np.quantile(kept, [0.75, 0.25]))) / NORMAL_IQR or float(kept.std())
    return spread * math.sqrt(n_clusters / (n_clusters - 1))


def _width(away: Floats, n_ways: int, n_clusters: int, level: float) -> float:
    """c from the draws' largest distance, shape (n_draws,), and not below Student's quantile."""
    least = float(student.ppf(1 - (1 - level) / (2 * n_ways), n_clusters - 1))
    return max(float(np.nanquantile(away, level)), least)


def _simultaneous(drawn: Mapping[str, _Drawn], level: float) -> dict[str, _Interval]:
    scales = {way: scale for way, one in drawn.items() if (scale := _scale(one.ratios, one.n))}
    found = {way: _Interval(one.point, None, None) for way, one in drawn.items()}
    if scales:
        away = np.stack([np.abs(drawn[way].ratios - drawn[way].point) / scale for way, scale in scales.items()])
        largest = np.where(np.isfinite(away), away, -np.inf).max(axis=0)
        c = _width(largest, len(scales), min(drawn[way].n for way in scales), level)
        for way, scale in scales.items():
            point = drawn[way].point
            found[way] = _Interval(point, point - c * scale, point + c * scale)
    return found


def _largest(found: Mapping[str, _Interval], strongest: str) -> _Interval:
    """Without an interval where the strongest way has none."""
    value, low, _ = found[strongest]
    lows = [one.low for one in found.values() if one.low is not None]
    highs = [one.high for one in found.values() if one.high is not None]
    return _Interval(value, None, None) if low is None else _Interval(value, max(lows), max(highs))


def _pooled(drawn: Mapping[str, _Drawn], level: float, n_draws: int, note: str | None) -> Estimate:
    above, below = (sum(one.whole[place] for one in drawn.values()) for place in (0, 1))
    n = max(one.n for one in drawn.values())
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = sum(one.above for one in drawn.values()) / sum(one.below for one in drawn.values())
    point, scale = above / below, _scale(np.asarray(ratios), n)
    method = f"pooled residual of {len(drawn)} ways of asking, bootstrap of clusters, {n_draws:,} draws"
    if not scale:
        return _said(_Interval(point, None, None), n, level, method, note)
    away = np.abs(ratios - point) / scale
    c = _width(np.where(np.isfinite(away), away, np.nan), 1, n, level)
    return _said(_Interval(point, point - c * scale, point + c * scale), n, level, method, note)


def _said(one: _Interval, n: int, level: float, method: str, note: str | None) -> Estimate:
    if one.low is None:
        why = "there is a single cluster" if n < 2 else "every draw of clusters gave the same value"
        return Estimate(one.value, None, None, level, n, method, "; ".join(part for part in (why, note) if part))
    return Estimate(one.value, one.low, one.high, level, n, method, note)


def _undefined(way: str, why: str, gap: Estimate) -> Estimate:
    return Estimate.undefined(method=f"residual, {way}", why=why, n=gap.n, level=gap.level)
