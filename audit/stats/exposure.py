"""Exposure of a planted sequence: how many bits its rank among unplanted ones is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .checks import Floats, finite_vector, open_unit
from .estimate import Estimate, PValue
from .permutation import rank_p_value, rank_p_values
from .proportion import clopper_pearson


@dataclass(frozen=True, slots=True)
class Exposure:
    """Exposure of one sequence, and the p-value that says the same.

    Attributes:
        bits: log2 M - log2 rank, in [0, ``most``].
        most: log2 M, what the top rank is worth.
        p_value: Rank test; its value is 2^-bits.
    """

    bits: Estimate
    most: float
    p_value: PValue


def exposure(score: float, decoys: ArrayLike, *, level: float = 0.95) -> Exposure:
    """log2 M - log2 rank of ``score`` among M = 1 + decoys (Carlini et al. 2019, arXiv:1802.08232).

    There, exposure = log2 |R| - log2 rank over the whole space R of candidates; with M of them sampled it is
    estimated by log2 M - log2 rank, and cannot exceed log2 M. The rank counts from the highest score, and a tied decoy
    ranks before the claimant, so p = rank / M is `permutation.rank_p_value` and exposure = -log2 p.

    Interval: for -log2 of the share of *all* candidates that score at least as high, which is what the sample stands
    for: Clopper & Pearson for k of n decoys. With k = 0 the sample sets no upper bound and no interval is given; the
    lower bound is then told in ``why``.

    Worked: score 5 among decoys (1, 5, 7, 2): 2 are at least 5, rank 3 of M = 5, log2(5/3) = 0.737 bits, p = 3/5.

    Args:
        score: Of the planted sequence, higher = more suspicious.
        decoys: Of unplanted ones from the same draw, shape (n,).
        level: Confidence level, in (0, 1).

    Raises:
        InputError: A score is not finite, there are no decoys, or ``level`` is not in (0, 1).
    """
    decoys = finite_vector(decoys, "decoys")
    open_unit(level, "level")
    p = rank_p_value(score, decoys)
    n, rank = len(decoys), round(p.value * (1 + len(decoys)))
    most = math.log2(n + 1)
    bits = most - math.log2(rank)
    share = clopper_pearson(rank - 1, n, level=level)
    name = f"exposure, rank among {n:,} decoys, ties against"
    least = 0.0 - math.log2(share.high or 1.0)  # high is above 0: a share of 0 in n has a bound too
    if rank == 1:
        why = f"no decoy scores as high, so there is no upper bound; at least {least:.3g} bits"
        return Exposure(Estimate(bits, None, None, level, n, name, why), most, p)
    low, high = min(bits, least), max(bits, -math.log2(share.low or 1.0))
    return Exposure(Estimate(bits, low, high, level, n, f"{name}; Clopper-Pearson for the share above"), most, p)


def exposures(scores: ArrayLike, decoys: ArrayLike) -> Floats:
    """Exposure of many sequences in bits, ``-log2`` of `permutation.rank_p_values`; shapes and errors as there."""
    return np.asarray(0.0 - np.log2(rank_p_values(scores, decoys)), dtype=np.float64)
