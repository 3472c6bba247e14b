"""Exact tests of membership: they rest on a draw that was made at random and recorded, and on nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest, permutation_test

from ..errors import InputError
from .checks import Alternative, Floats, Seed, choice, count, finite_array, finite_vector, generator
from .estimate import PValue

SIDES: tuple[Alternative, ...] = ("greater", "less", "two-sided")


def rank_p_value(
    score: float, controls: ArrayLike, *, ties: Literal["against", "random"] = "against", rng: Seed | None = None
) -> PValue:
    """How high one published sequence ranks among the controls from the same draw, one-sided.

    p = (1 + #{controls >= score}) / (1 + n). Exact (P(p <= alpha) <= alpha at any n) when the published
    sequence was chosen uniformly at random among all n + 1 and the model did not see the controls.

    Worked: score 5 among controls (1, 5, 7): (1 + 2) / 4 = 0.75; the least attainable is 1/4.

    Args:
        score: Score of the published sequence, higher = more suspicious.
        controls: Scores of the unpublished ones, shape (n,).
        ties: "against" counts a tied control as above (conservative). "random" gives the score a uniform place
            among those tied with it (exact also with ties, but the result depends on ``rng``). The mid-p
            ("half") is not offered: it does not keep the level.
        rng: Generator or seed, needed for "random" alone.

    Raises:
        InputError: A score is not finite, there are no controls, or ``ties`` is unknown or lacks its ``rng``.
    """
    controls = finite_vector(controls, "controls")
    score = float(finite_vector([score], "score")[0])
    choice(ties, "ties", ("against", "random"))
    above, tied = int(np.sum(controls > score)), int(np.sum(controls == score))
    if ties == "against":
        above += tied
    elif rng is None:
        raise InputError("ties is 'random' and rng is None; expected a Generator or a seed to break the ties with.")
    else:
        above += int(generator(rng).integers(0, tied + 1))
    n = len(controls)
    return PValue((1 + above) / (1 + n), 1 / (1 + n), n, f"rank among {n:,} controls, ties {ties}, one-sided")


def rank_p_values(scores: ArrayLike, controls: ArrayLike) -> Floats:
    """`rank_p_value` for many scores, ties against.

    Args:
        scores: Shape (k,), higher = more suspicious.
        controls: Shape (n,), shared by all scores, or (k, n), a row of its own for each score. With shared controls
            the p-values are positively dependent: `multiplicity.benjamini_hochberg` and `multiplicity.holm` hold,
            `combine.fisher` does not (Bates et al. 2023, Annals of Statistics 51:149).

    Returns:
        P-values, shape (k,); each can be as small as 1 / (1 + n).

    Raises:
        InputError: A number is not finite, there are no controls, or the shapes do not fit.
    """
    scores, controls = finite_vector(scores, "scores"), finite_array(controls, "controls")
    k = len(scores)
    if controls.ndim not in (1, 2) or controls.shape[-1] == 0 or (controls.ndim == 2 and len(controls) != k):
        raise InputError(
            f"controls has shape {controls.shape} for {k} scores; expected (n,) or ({k}, n), n at least 1."
        )
    n = controls.shape[-1]
    if controls.ndim == 1:
        at_least = n - np.searchsorted(np.sort(controls), scores, side="left")
    else:
        at_least = np.sum(controls >= scores[:, None], axis=1)
    return np.asarray((1 + at_least) / (1 + n), dtype=np.float64)


def permutation_two_sample(
    a: ArrayLike,
    b: ArrayLike,
    *,
    statistic: Callable[..., Any] | None = None,
    alternative: Alternative = "greater",
    n_draws: int = 9999,
    rng: Seed,
) -> PValue:
    """Exchange the labels of two samples, through scipy.stats.permutation_test.

    Exact enumeration when C(n_a + n_b, n_a) <= ``n_draws``, else p = (1 + #{T_b >= T_obs}) / (n_draws + 1).
    "two-sided" is twice the smaller tail, at most 1.

    Worked: a = (4, 5, 6), b = (1, 2, 3): the largest of C(6, 3) = 20 differences of means, p = 1/20.

    Args:
        a: Scores, shape (n_a,), n_a >= 1.
        b: Scores, shape (n_b,), n_b >= 1.
        statistic: T(a, b), or T(a, b, axis) for speed, as scipy takes it; None is mean(a) - mean(b).
        alternative: "greater": ``a`` is larger.
        n_draws: Number of draws, at least 19.
        rng: Generator or seed.

    Returns:
        ``n`` is the number of assignments or draws; ``attainable`` that of scores without ties, twice as much
        two-sided.

    Raises:
        InputError: A sample is not a finite vector, an option is out of range, or the statistic is not finite on
            every assignment.
    """
    a, b = finite_vector(a, "a"), finite_vector(b, "b")
    choice(alternative, "alternative", SIDES)
    count(n_draws, "n_draws", least=19)
    result = permutation_test(
        (a, b),
        statistic or _mean_difference,
        n_resamples=n_draws,
        batch=max(1, 4_000_000 // (len(a) + len(b))),
        alternative=alternative,
        rng=generator(rng),
    )
    null = np.asarray(result.null_distribution, dtype=np.float64)
    bad = int(np.sum(~np.isfinite(null))) + (not np.isfinite(result.statistic))
    if bad:
        raise InputError(
            f"the statistic is not finite on {bad:,} of {len(null) + 1:,} assignments; expected it on all."
        )
    exact = math.comb(len(a) + len(b), len(a)) <= n_draws  # scipy's own rule
    sides = 2 if alternative == "two-sided" else 1
    attainable = min(1.0, sides / (len(null) if exact else n_draws + 1))
    words = f"{len(null):,} assignments, exact" if exact else f"{n_draws:,} draws"
    return PValue(float(result.pvalue), attainable, len(null), f"two-sample permutation, {words}, {alternative}")


def sign_test(differences: ArrayLike, *, alternative: Alternative = "greater") -> PValue:
    """Exact binomial test at 1/2 that pairs differ in either direction alike (Dixon & Mood 1946).

    Exact when it was tossed at random which text of each pair was published. Pairs with difference 0 are left
    out, which keeps the test exact, and ``method`` counts them.

    Worked: 5 of 5 differences above 0: p = 2^-5 = 0.03125.

    Args:
        differences: Score of the published text minus that of its twin, shape (n,).
        alternative: "greater": published texts score higher.

    Returns:
        ``n`` is the number of untied pairs; with none, p and ``attainable`` are 1.

    Raises:
        InputError: The differences are not a finite vector or ``alternative`` is unknown.
    """
    d = finite_vector(differences, "differences")
    choice(alternative, "alternative", SIDES)
    n, above = int(np.sum(d != 0)), int(np.sum(d > 0))
    name = f"sign test, {n:,} pairs, {len(d) - n:,} ties left out, {alternative}"
    if n == 0:
        return PValue(1.0, 1.0, 0, name)
    p = float(binomtest(above, n, 0.5, alternative=alternative).pvalue)
    return PValue(p, min(1.0, (2 if alternative == "two-sided" else 1) * 0.5**n), n, name)


def _mean_difference(a: Floats, b: Floats, axis: int) -> Floats:
    return np.asarray(np.mean(a, axis=axis) - np.mean(b, axis=axis))
