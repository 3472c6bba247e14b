"""Support along gammas, and rates against the number of sentences.

Both take what was fitted and measured elsewhere, so that any method can stand in them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.stats import t

from audit.errors import InputError
from audit.stats.estimate import Estimate

from .sweep import SweepRow


@dataclass(frozen=True, slots=True)
class SizeRow:
    """Fits from one number of sentences.

    Attributes:
        n: Sentences of each side.
        n_fits: How many fits.
        rate: Mean over fits, with an interval over fits.
        perplexity_change: Set of texts -> mean change in percent, likewise.
    """

    n: int
    n_fits: int
    rate: Estimate
    perplexity_change: dict[str, Estimate]


def rises(supports: Mapping[float, float]) -> list[tuple[float, float]]:
    """Neighbouring gammas between which the support grows; a path that is sound has none.

    Args:
        supports: Gamma -> share of neurons that are changed.
    """
    return [(a, b) for (a, before), (b, after) in pairwise(sorted(supports.items())) if after > before]


def size_rows(by_size: Mapping[int, Sequence[SweepRow]], *, level: float = 0.95) -> list[SizeRow]:
    """A row for each number of sentences, in ascending order.

    Args:
        by_size: Sentences of each side -> a row for each fit (other sentences, another seed), by one judge.
        level: Confidence level, in (0, 1).

    Raises:
        InputError: A number has no fits.
    """
    rows = []
    for n, fits in sorted(by_size.items()):
        if not fits:
            raise InputError(f"there are no fits from {n:,} sentences.")
        changes = {
            name: over_fits([fit.perplexity_change[name]["per token"] for fit in fits], level=level)
            for name in fits[0].perplexity_change
        }
        rows.append(SizeRow(n, len(fits), over_fits([fit.rate.rate for fit in fits], level=level), changes))
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
