"""The threshold of a hit, set on texts that the model cannot have learnt, and checked on others of them.

What counts is the *maximum* of a text's similarity over all N training rows, not the similarity of one pair: a
pair-level error of 1e-7 is 9.5% for each text at N = 1e6. So the null distribution is that of the maxima of negatives:
held-out rows of the same source and, where there are, generations of the base model.

    tau = max over sources and halves of calibration of the ceil((n+1)(1-alpha))-th smallest maximum
    hit: maximum > tau

The threshold comes from one half of the negatives, the false-positive rate that is reported from the other, which had
no part in it; of near-duplicates one alone counts. The paper gives no numeric procedure for its 0.95, which belongs to
its encoder alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from ..stats.checks import finite_vector, generator
from ..stats.conformal import SLACK, conformal_threshold
from ..stats.estimate import Estimate
from ..stats.proportion import wilson

LEAST_IN_BUCKET = 500  # negatives of a length bucket that get a threshold of their own
N_BUCKETS = 4


@dataclass(frozen=True, slots=True)
class Negatives:
    """Maxima of texts that were not trained on, of one source.

    Attributes:
        source: Where they come from: "held-out rows", "generations of the base model".
        maxima: Largest similarity of each to any training row, shape (n,).
        lengths: Length of each text in tokens or characters, shape (n,).
    """

    source: str
    maxima: NDArray[np.float64]
    lengths: NDArray[np.int64]

    @classmethod
    def one_each(
        cls,
        source: str,
        maxima: NDArray[np.float64],
        lengths: NDArray[np.int64],
        clusters: NDArray[np.int64],
        *,
        seed: int,
    ) -> Negatives:
        """One text of each cluster, drawn at random: alike ones count once, or the rate would err more than it says."""
        order = np.random.default_rng(seed).permutation(len(maxima))
        chosen = np.sort(order[np.unique(clusters[order], return_index=True)[1]])
        return cls(source, maxima[chosen], lengths[chosen])


@dataclass(frozen=True, slots=True)
class Bucket:
    """The threshold of texts of some lengths.

    Attributes:
        shortest: Smallest length that it is for.
        longest: Largest, or None for no bound.
        threshold: A text is a hit when its maximum is *above* this.
        n: Negatives that set it, over all sources.
    """

    shortest: int
    longest: int | None
    threshold: float
    n: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """Thresholds by length, and how often negatives that had no part in them are above.

    Attributes:
        target: False-positive rate asked for, in (0, 1).
        buckets: By length, ascending, without gaps.
        achieved: Source -> measured false-positive rate, on the other half of its negatives.
        fixed: Whether the threshold was given, not calibrated.
    """

    target: float
    buckets: tuple[Bucket, ...]
    achieved: Mapping[str, Estimate]
    fixed: bool = False

    def thresholds(self, lengths: ArrayLike) -> NDArray[np.float64]:
        """Threshold of texts of these lengths, shape (n,)."""
        starts = [bucket.shortest for bucket in self.buckets[1:]]
        values = np.array([bucket.threshold for bucket in self.buckets])
        return values[np.searchsorted(starts, np.asarray(lengths), side="right")]

    def hits(self, maxima: NDArray[np.float64], lengths: ArrayLike) -> NDArray[np.bool_]:
        """Which texts are hits, shape (n,); NaN, a text that was not compared, is none."""
        return np.asarray(maxima > self.thresholds(lengths))

    @property
    def worst(self) -> Estimate:
        """The largest measured false-positive rate of any source: what is subtracted from a rate."""
        return max(self.achieved.values(), key=lambda estimate: (estimate.value is not None, estimate.value or 0.0))


def calibrate(negatives: Sequence[Negatives], *, target: float, seed: int, level: float = 0.95) -> Calibration:
    """Set the threshold on half of the negatives, and measure its false-positive rate on the others.

    Lengths fall into at most `N_BUCKETS` buckets at the quantiles of the calibrating half, as many as leave
    `LEAST_IN_BUCKET` negatives, and enough for the target, in each of every source. A bucket's threshold is the largest
    over sources, so that none of them exceeds the target on average.

    Args:
        negatives: Maxima by source, at least one source.
        target: False-positive rate, in (0, 1): 0.01 is the 99% quantile of the maxima.
        seed: Seed of the halves.
        level: Level of the intervals.

    Raises:
        InputError: There are no negatives, too few for the target, or a maximum is not a finite number.
    """
    if not negatives:
        raise InputError("there are no negatives to set a threshold on; expected held-out rows.")
    if not 0 < target < 1:
        raise InputError(f"the false-positive rate is {target}; expected above 0 and below 1.")
    halves = []
    for place, source in enumerate(negatives):
        finite_vector(source.maxima, f"the maxima of {source.source}")
        halves.append(_half(source, seed=[seed, place]))
    needed = int(np.ceil(1 / target - SLACK)) - 1
    for source, half in zip(negatives, halves, strict=True):
        if half.sum() < needed:
            raise InputError(
                f"{source.source}: {int(half.sum())} texts (half of {len(half)}) cannot hold a false-positive rate of "
                f"{target:g}; expected at least {needed} in each half. Hold out more rows, or raise the rate."
            )
    pooled = np.concatenate([source.lengths[half] for source, half in zip(negatives, halves, strict=True)])
    edges = _edges(pooled, [source.lengths[half] for source, half in zip(negatives, halves, strict=True)], needed)
    buckets = []
    for at, start in enumerate(edges):
        end = edges[at + 1] if at + 1 < len(edges) else None
        found, n = [], 0
        for source, half in zip(negatives, halves, strict=True):
            inside = half & (source.lengths >= start) & (source.lengths < (np.inf if end is None else end))
            found.append(conformal_threshold(source.maxima[inside], alpha=target).threshold)
            n += int(inside.sum())
        buckets.append(Bucket(start, None if end is None else end - 1, max(found), n))
    unchecked = Calibration(target, tuple(buckets), {})
    return Calibration(target, tuple(buckets), _achieved(unchecked, negatives, [~half for half in halves], level))


def fixed(threshold: float, negatives: Sequence[Negatives], *, target: float, level: float = 0.95) -> Calibration:
    """A threshold that was given beforehand; its false-positive rate is measured on all negatives.

    A text is a hit when its maximum is at or above it, as in the paper.
    """
    below = float(np.nextafter(threshold, -np.inf))
    calibration = Calibration(target, (Bucket(0, None, below, 0),), {}, fixed=True)
    everything = [np.ones(len(source.maxima), dtype=bool) for source in negatives]
    return Calibration(target, calibration.buckets, _achieved(calibration, negatives, everything, level), fixed=True)


def _achieved(
    calibration: Calibration, negatives: Sequence[Negatives], checked: Sequence[NDArray[np.bool_]], level: float
) -> dict[str, Estimate]:
    found = {}
    for source, half in zip(negatives, checked, strict=True):
        hits = calibration.hits(source.maxima[half], source.lengths[half])
        found[source.source] = wilson(int(hits.sum()), int(half.sum()), level=level)
    return found


def _half(source: Negatives, *, seed: Sequence[int]) -> NDArray[np.bool_]:
    """A random half of the negatives, shape (n,), the larger one where they are odd."""
    n = len(source.maxima)
    half = np.zeros(n, dtype=bool)
    half[generator(np.random.default_rng(seed)).permutation(n)[: (n + 1) // 2]] = True
    return half


def _edges(pooled: NDArray[np.int64], sources: Sequence[NDArray[np.int64]], needed: int) -> list[int]:
    """Smallest length of each bucket, ascending, the first 0."""
    least = max(LEAST_IN_BUCKET, needed)
    for n_buckets in range(N_BUCKETS, 1, -1):
        inner = sorted({int(np.ceil(edge)) for edge in np.quantile(pooled, np.arange(1, n_buckets) / n_buckets)})
        counts = [
            np.bincount(np.searchsorted(inner, lengths, side="right"), minlength=len(inner) + 1) for lengths in sources
        ]
        if inner and all(count.min() >= least for count in counts):
            return [0, *inner]
    return [0]
