"""How much more the embedding arm finds than the string arm, on the same generations.

    U = R_embed / R_string

At the published thresholds the two arms err at different rates on negatives, so U at an equal false-positive rate
stands beside it: both thresholds are the same quantile of the maxima of the same negatives. The interval draws
generations, and for the equal rate also the negatives with the thresholds that they set, anew. With no string hit U is
infinite, and a lower bound is told instead: the embedding rate's lower bound over the string rate's upper bound, each
at half of the error. "At least tenfold" is the paper's; its numerator, denominator and thresholds were not readable.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from ..stats.checks import generator
from ..stats.conformal import conformal_threshold
from ..stats.estimate import Estimate
from ..stats.proportion import clopper_pearson

Floats = NDArray[np.float64]
BELOW = "is a similarity below"
N_DRAWS = 2000
CELLS = 2_000_000  # numbers drawn at once


def undercount(embed: NDArray[np.bool_], string: NDArray[np.bool_], *, seed: int, level: float = 0.95) -> Estimate:
    """U of two rules on the same generations, the thresholds taken as given.

    Args:
        embed: Whether each generation is a hit of the embedding arm, shape (G,).
        string: Likewise of the string arm.
        seed: Seed of the draws.
        level: Level of the interval.
    """
    rng = generator(seed)
    draws = []
    for _ in range(N_DRAWS):
        rows = rng.integers(0, len(embed), len(embed))
        draws.append((embed[rows].sum(), string[rows].sum()))
    name = f"ratio of hits, paired percentile bootstrap over generations, {N_DRAWS:,} draws"
    return _ratio(embed, string, draws, name, level)


def undercount_at_equal_rate(
    embed: Floats,
    string: Floats,
    embed_negatives: Floats,
    string_negatives: Floats,
    *,
    target: float,
    floor: float,
    seed: int,
    level: float = 0.95,
) -> Estimate:
    """U where both arms have the same false-positive rate.

    Args:
        embed: Largest similarity of each generation in the embedding arm, NaN where it was not compared, shape (G,).
        string: Likewise in the string arm.
        embed_negatives: Maxima of the negatives in the embedding arm, shape (n,).
        string_negatives: Of the same negatives in the string arm.
        target: The false-positive rate.
        floor: String similarities below it were not computed. A threshold there is not known, so U is undefined.
        seed: Seed of the draws.
        level: Level of the interval.
    """

    rank = conformal_threshold(embed_negatives, alpha=target).rank  # also refuses too few negatives

    def n_hits(values: Floats, negatives: Floats) -> NDArray[np.int64]:
        """Values above the rank-th smallest of the negatives, draw by draw."""
        thresholds = np.partition(negatives, rank - 1, axis=1)[:, rank - 1]
        return np.asarray((values > thresholds[:, None]).sum(axis=1))

    name = (
        f"ratio of hits at a false-positive rate of {target:g}, paired percentile bootstrap over generations and "
        f"negatives, {N_DRAWS:,} draws"
    )
    n, m = len(embed), len(embed_negatives)
    # Of the negatives that are drawn anew, as many thresholds may fall below the floor as lie beyond the interval.
    above = float(np.mean(string_negatives >= floor))
    if binom.cdf(m - rank, m, above) > (1 - level) / 2:
        why = f"at this rate the threshold of strings {BELOW} {floor:g}, which was not computed"
        return Estimate.undefined(method=name, why=why, n=n, level=level)
    rng = generator(seed)
    draws = []
    for start in range(0, N_DRAWS, at_once := max(1, CELLS // (n + m))):
        size = min(at_once, N_DRAWS - start)
        rows, held = rng.integers(0, n, (size, n)), rng.integers(0, m, (size, m))
        pairs = ((embed, embed_negatives), (string, string_negatives))
        draws += list(zip(*(n_hits(values[rows], negatives[held]) for values, negatives in pairs), strict=True))
    found = [
        values > conformal_threshold(negatives, alpha=target).threshold
        for values, negatives in ((embed, embed_negatives), (string, string_negatives))
    ]
    return _ratio(found[0], found[1], draws, name, level)


def _ratio(
    embed: NDArray[np.bool_], string: NDArray[np.bool_], draws: list[tuple[int, int]], name: str, level: float
) -> Estimate:
    n, n_embed, n_string = len(embed), int(embed.sum()), int(string.sum())
    if n_embed == 0 and n_string == 0:
        return Estimate.undefined(method=name, why="neither arm has a hit", n=n, level=level)
    if n_string == 0:
        # Each two-sided bound errs at (1 - level) / 2 on the side that is used, so that both hold together with level.
        top, low = clopper_pearson(0, n, level=level).high, clopper_pearson(n_embed, n, level=level).low
        least = (low or 0.0) / (top or 1.0)
        why = f"the string arm has no hit, so the ratio is infinite; it is above {least:.3g} with {level:.0%}"
        return Estimate.undefined(method=name, why=why, n=n, level=level)
    table = np.array(draws, dtype=np.float64)
    defined = table[:, 1] > 0
    ratios = np.where(defined, table[:, 0] / np.where(defined, table[:, 1], 1), np.inf)
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    if np.isinf(high):
        why = f"the string arm has {n_string} hits, too few for an upper bound; the lower bound is {low:.3g}"
        return Estimate(n_embed / n_string, None, None, level, n, name, why)
    return Estimate(n_embed / n_string, float(low), float(high), level, n, name)
