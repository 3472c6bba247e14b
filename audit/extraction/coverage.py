"""How much of a training set the generations hold, and how that grows with their number.

    k_j = hits on training row j among G generations
    coverage      C    = mean_j [k_j >= 1]
    at g <= G     C(g) = mean_j [1 - binom(G - k_j, g) / binom(G, g)]

C(g) is the exact mean over all sets of g of the G generations; nothing is resampled. The quotient is taken as

    prod_{i < k} (1 - g / (G - i)) = prod_{i < g} (1 - k / (G - i)),

in logarithms, by whichever has fewer terms: those of the binomials cancel, for G = 1e8 all digits. The paper's own
formula was not readable (docs/methods/extraction.md).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from ..stats.bootstrap import bootstrap
from ..stats.estimate import Estimate
from ..stats.proportion import clopper_pearson

_NONE: Final = 40.0  # exp(-40) from 1 is 1


def hits_by_row(rows: NDArray[np.int64], n_rows: int) -> NDArray[np.int64]:
    """k_j from the training row of each hit, shape (N,): of every pair (rule "any") or of the best alone ("best")."""
    return np.bincount(rows, minlength=n_rows).astype(np.int64)


def coverage(hits: NDArray[np.int64], clusters: Sequence[Hashable], *, seed: int, level: float = 0.95) -> Estimate:
    """Share of training rows with at least one hit; the interval draws whole clusters of near-duplicates anew.

    It speaks of other training rows of the same source under the same generations, not of other generations. Where all
    rows or none are covered the bootstrap has no spread, and the exact interval over clusters stands in its place.

    Args:
        hits: k_j, shape (N,).
        clusters: A label for each row.
        seed: Seed of the draws.
        level: Level of the interval.
    """
    covered = (hits > 0).astype(np.float64)
    if covered.min() == covered.max():
        n = len(set(clusters))
        return clopper_pearson(n if covered[0] else 0, n, level=level)
    return bootstrap(_mean, covered, clusters=list(clusters), rng=seed, level=level)


def _mean(values: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    return np.asarray(values.mean(axis=axis))


def coverage_curve(hits: NDArray[np.int64], n_generations: int, at: ArrayLike) -> NDArray[np.float64]:
    """C(g) for each g of ``at``, shape like ``at``.

    Raises:
        InputError: A g is not from 1 to G, or a row has more hits than there are generations.
    """
    sizes = np.atleast_1d(np.asarray(at, dtype=np.int64))
    if len(sizes) and not (sizes.min() >= 1 and sizes.max() <= n_generations):
        raise InputError(f"the curve was asked for at {sizes.min()} to {sizes.max()}; expected 1 to {n_generations}.")
    if len(hits) == 0 or hits.max() > n_generations:
        raise InputError("a row has more hits than there are generations; expected each generation to count once.")
    values, counts = np.unique(hits, return_counts=True)
    curve = [(counts * -np.expm1(_log_missed(values, n_generations, size))).sum() for size in sizes.tolist()]
    return np.array(curve, dtype=np.float64) / len(hits)


def _log_missed(hits: NDArray[np.int64], n_generations: int, size: int) -> NDArray[np.float64]:
    """log of the share of sets of that size without a generation that hits, for each number of hits; ascending."""
    n_terms = min(int(hits[-1]), int(_NONE * n_generations / size) + 1)  # further ones leave nothing
    with np.errstate(divide="ignore"):  # log 0, where every set has such a generation
        if len(hits) * size < n_terms:
            left = n_generations - np.arange(size, dtype=np.float64)
            return np.asarray(np.log1p(-np.minimum(hits[:, None] / left, 1)).sum(axis=1))
        left = n_generations - np.arange(n_terms, dtype=np.float64)
        sums = np.concatenate([[0.0], np.cumsum(np.log1p(-np.minimum(size / left, 1)))])
    return np.asarray(sums[np.minimum(hits, n_terms)])


def curve_points(n_generations: int, n_points: int = 25) -> NDArray[np.int64]:
    """1 to G, evenly spaced on a log scale, each once."""
    return np.unique(np.round(np.geomspace(1, max(1, n_generations), n_points)).astype(np.int64))
