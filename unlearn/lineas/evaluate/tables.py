"""Rows of two tables: support against gamma, and rates against the number of sentences.

Both take what was fitted and measured elsewhere, so that any method can stand in them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.stats import t

from audit.errors import InputError
from audit.stats.estimate import Estimate

from ..maps import Maps, support_share
from .judges import Judge
from .points import Point
from .sweep import Goal, SweepRow, sweep_rows


@dataclass(frozen=True, slots=True)
class SupportRow:
    """The maps of one gamma.

    Attributes:
        gamma: Weight of the sparse group lasso.
        support: Share of neurons, over all sites, that are changed.
        by_site: Site -> share.
        empty_sites: Sites at which nothing is changed.
        measured: Rate and perplexities, where the arm was measured.
    """

    gamma: float
    support: Estimate
    by_site: dict[str, float]
    empty_sites: int
    measured: SweepRow | None

    def to_record(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SizeRow:
    """Fits from one number of sentences.

    Attributes:
        n: Sentences of each side.
        rate: Mean over fits, with an interval over fits.
        perplexity_change: Set of texts -> mean change in percent, likewise.
        fits: Each fit's own row.
    """

    n: int
    rate: Estimate
    perplexity_change: dict[str, Estimate]
    fits: tuple[SweepRow, ...]

    def to_record(self) -> dict[str, Any]:
        return asdict(self)


def support_rows(by_gamma: Mapping[float, Maps], measured: Mapping[float, SweepRow] | None = None) -> list[SupportRow]:
    """A row for each gamma, in ascending order.

    Args:
        by_gamma: Gamma -> maps.
        measured: Gamma -> row of its arm, for those that were measured.

    Raises:
        InputError: Maps have other sites than the first, or measured has a gamma that is not fitted.
    """
    strange = sorted(set(measured or ()) - set(by_gamma))
    if strange:
        raise InputError(f"gamma {strange[0]:g} was measured, but there are no maps of it.")
    rows = []
    sites = set(next(iter(by_gamma.values()), {}))
    for gamma, maps in sorted(by_gamma.items()):
        if set(maps) != sites:
            raise InputError(f"the maps of gamma {gamma:g} have other sites than the first; fit all at the same sites.")
        by_site = {site: support_share({site: one}) for site, one in maps.items()}
        n = sum(len(one) for one in maps.values())
        value = support_share(maps)
        why = "counted on all neurons: nothing was sampled, and other sentences would give other maps"
        support = Estimate(value, None, None, 0.95, n, "share of neurons with |w - 1| or |b| above 1e-5", why)
        empty = sum(share == 0 for share in by_site.values())
        rows.append(SupportRow(gamma, support, by_site, empty, (measured or {}).get(gamma)))
    return rows


def rises(rows: Sequence[SupportRow]) -> list[tuple[float, float]]:
    """Neighbouring gammas between which the support grows; a path that is sound has none."""
    shares = [(row.gamma, row.support.value or 0.0) for row in rows]
    return [(a, b) for (a, before), (b, after) in pairwise(shares) if after > before]


def size_rows(
    by_size: Mapping[int, Sequence[Point]], plain: Point, judge: Judge, goal: Goal, *, rng: int = 0, level: float = 0.95
) -> list[SizeRow]:
    """A row for each number of sentences, in ascending order.

    Args:
        by_size: Sentences of each side -> one point for each fit: other sentences, another seed.
        plain: The unsteered model on the same prompts and texts.
        judge: Who judges.
        goal: Whether the rate is to rise or to fall.
        rng: Seed of the bootstraps.
        level: Confidence level, in (0, 1).

    Raises:
        InputError: A number has no fits.
    """
    rows = []
    for n, points in sorted(by_size.items()):
        if not points:
            raise InputError(f"there are no fits from {n:,} sentences.")
        fits = sweep_rows([plain, *points], judge, goal, rng=rng, level=level)[1:]
        changes = {
            name: over_fits([fit.perplexity_change[name]["per token"] for fit in fits], level=level)
            for name in plain.losses
        }
        rows.append(SizeRow(n, over_fits([fit.rate.rate for fit in fits], level=level), changes, fits))
    return rows


def over_fits(estimates: Sequence[Estimate], *, level: float = 0.95) -> Estimate:
    """Mean of one number over several fits, with Student's interval: it covers other sentences and seeds of fits.

    Worked: 0.4, 0.5, 0.6: mean 0.5, standard error 0.1 / sqrt(3) = 0.0577, t(2) at 95% 4.303, so 0.5 ± 0.248.

    Args:
        estimates: One for each fit; a fit without a value leaves the mean undefined.
        level: Confidence level, in (0, 1).
    """
    method = f"mean of {len(estimates)} fits, Student's interval between them"
    values = [one.value for one in estimates if one.value is not None]
    if not values or len(values) < len(estimates):
        why = next((one.why for one in estimates if one.value is None), "there are no fits")
        return Estimate.undefined(method=method, why=f"a fit has no value: {why}", n=len(estimates), level=level)
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(mean, None, None, level, 1, method, "one fit shows no spread; its own interval is in its row")
    reach = float(t.isf((1 - level) / 2, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Estimate(mean, mean - reach, mean + reach, level, len(values), method)
