"""The interval that the verdict on retraining rests on: one arm less another, for other rows and other trainings."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # quantile of Student's t

from ..stats.checks import label_codes, open_unit
from ..stats.estimate import Estimate

Floats = NDArray[np.float64]
#: Clusters of held-out rows at least, each counted by its weight (`effective_number`). With fewer, some rows that would
#: come out otherwise are too easily missed altogether, and no interval can know of them.
LEAST_CLUSTERS = 100
#: The limits over rows leave out this share of what the level leaves out on each side; see `over_both`.
STRICTER = 0.1


def effective_number(weights: Floats, clusters: Sequence[Hashable] | None = None) -> float:
    """How many clusters of one weight would show as much: (sum of the weights)^2 / sum of their squares (Kish 1965).

    Worked: weights 1, 1, 2 in clusters of their own count as 16 / 6 = 2.7.

    Args:
        weights: Of the rows, shape (rows,), each above 0; tokens, or ones.
        clusters: A label for each row; None: each on its own.
    """
    return _effective(_by_cluster(weights, clusters))


def over_trainings(gaps: Floats, level: float) -> Estimate:
    """Student's interval for the mean difference of independent trainings, shape (trainings,)."""
    n, mean = len(gaps), float(np.mean(gaps))
    name = f"mean of {n} paired trainings, Student's interval over seeds"
    if n < 2:
        return Estimate(mean, None, None, level, n, name, "one training shows nothing of how trainings differ")
    half = float(stdtrit(n - 1, (1 + level) / 2) * np.std(gaps, ddof=1) / math.sqrt(n))
    return Estimate(mean, mean - half, mean + half, level, n, name)


def over_both(
    sums: Floats, weights: Floats, clusters: Sequence[Hashable] | None = None, *, level: float = 0.95
) -> Estimate:
    """One arm less another with an interval for other held-out rows and other trainings at once.

    On either side the distance from the value is the root of the sum of two squares (Zou & Donner 2008). One is that of
    `over_trainings`. The other is over clusters of rows, values averaged over the trainings: t quantile times jackknife
    standard error of the ratio of sums, moved outward by Hall's cubic for skewness (1992, JRSS B 54:221), never inward,
    and at a tenth of the level's tail (`STRICTER`), since skewness is not known well from the rows that show it.

    Measured for level 0.95 (`tests/benchmarks/calibrate_retraining.py`, 2,000 experiments in each of 219 cells), no
    difference between the arms: the upper limit lies below 0 at most 1.9% of the time where rows count, for the 2.5%
    that it says, and 2.1-2.8% (2.5% within the noise) where hardly anything but trainings does. Cells: 100 and 300
    clusters, of one weight or (300) of lognormal ones; 2, 3 and 10 trainings; none, half or nearly all of the variance
    theirs; rows normal, or exponential, lognormal or 5% or 10% of them much worse, skewed to either side. Rows that
    are too rare to be seen are not guarded against (2% of 100 clusters much worse: 6.4%), and trainings have to differ
    about normally (exponentially: 7-12%). The price: over rows, half the width is 2.9 standard errors and more, not 2.

    Args:
        sums: Differences summed over each row's tokens, shape (trainings, rows).
        weights: Tokens of each row, or ones, shape (rows,).
        clusters: A label for each row; near-duplicates share one. None: each on its own.
        level: In (0, 1).

    Returns:
        Mean difference a token; ``n`` is the number of clusters. No interval for one training, for fewer than
        `LEAST_CLUSTERS` effective clusters, or where all clusters show the same difference.
    """
    open_unit(level, "level")
    total, whole = _by_cluster(np.stack([sums.mean(axis=0), weights]), clusters) / weights.sum()  # (clusters,) each
    trainings = over_trainings(sums.sum(axis=1) / weights.sum(), level)
    value, n, effective = float(total.sum()), len(whole), _effective(whole)
    name = (
        f"{n:,} clusters of rows, {effective:,.0f} effective, limits corrected for skewness (Hall) and at a tenth of "
        f"the tail, and {len(sums)} paired trainings (Student); squares of the two added"
    )
    if trainings.low is None or trainings.high is None:
        return Estimate(value, None, None, level, n, name, trainings.why)
    if effective < LEAST_CLUSTERS - 1e-6:
        why = f"the held-out rows count as {effective:,.1f} equal clusters, and {LEAST_CLUSTERS} are needed"
        return Estimate(value, None, None, level, n, name, why)
    influence = (total - value * whole) / (1 - whole)  # what leaving the cluster out changes
    squares = float(np.sum(influence**2))
    error = math.sqrt(squares * (n - 1) / n)
    if error <= 1e-12 * abs(value):
        return Estimate(value, None, None, level, n, name, "every cluster shows the same difference")
    skewness = float(np.sum(influence**3)) / squares**1.5
    quantile = -float(stdtrit(effective - 1, STRICTER * (1 - level) / 2))
    of_trainings = trainings.high - value
    low = math.hypot(error * _outward(quantile, -skewness), of_trainings)
    high = math.hypot(error * _outward(quantile, skewness), of_trainings)
    return Estimate(value, value - low, value + high, level, n, name)


def _outward(quantile: float, skewness: float) -> float:
    """Standard errors to the limit on the side of the longer tail; ``quantile`` where the tail is on the other side.

    Hall's transformation of Student's t, solved for t; ``skewness`` is that of the mean, sum of cubes over the sum of
    squares to the power 3/2.
    """
    if skewness < 1e-6:
        return quantile
    return max(quantile, 3 / skewness * (1 - float(np.cbrt(1 - skewness * (quantile + skewness / 6)))))


def _effective(weights: Floats) -> float:
    return float(weights.sum() ** 2 / np.sum(weights**2))


def _by_cluster(values: Floats, clusters: Sequence[Hashable] | None) -> Floats:
    """Sums over the rows of each cluster: of shape (..., rows), (..., clusters)."""
    if clusters is None:
        return values
    codes, names = label_codes(clusters, "clusters", n=values.shape[-1])
    found = np.zeros((*values.shape[:-1], len(names)))
    np.add.at(found.T, codes, values.T)
    return found
