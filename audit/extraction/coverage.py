"""How much of a training set the generations hold, and how that grows with their number.

    k_j = hits on training row j among G generations
    coverage      C    = mean_j [k_j >= 1]
    at g <= G     C(g) = mean_j [1 - binom(G - k_j, g) / binom(G, g)]

C(g) is the exact mean over all sets of g of the G generations; nothing is resampled. The paper's own formula was not
readable (docs/methods/extraction.md).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from ..errors import InputError
from ..stats.bootstrap import bootstrap
from ..stats.estimate import Estimate
from ..stats.proportion import clopper_pearson


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
    missed = _log_binomial(n_generations - values[:, None], sizes[None, :]) - _log_binomial(n_generations, sizes)
    return np.asarray((counts[:, None] * -np.expm1(missed)).sum(axis=0) / len(hits))


def _log_binomial(n: ArrayLike, k: NDArray[np.int64]) -> NDArray[np.float64]:
    """log binom(n, k), -inf where k > n."""
    n = np.asarray(n)
    with np.errstate(invalid="ignore"):
        value = gammaln(n + 1) - gammaln(k + 1) - gammaln(np.maximum(n - k, 0) + 1)
    return np.where(k > n, -np.inf, value)


def curve_points(n_generations: int, n_points: int = 25) -> NDArray[np.int64]:
    """1 to G, evenly spaced on a log scale, each once."""
    return np.unique(np.round(np.geomspace(1, max(1, n_generations), n_points)).astype(np.int64))
