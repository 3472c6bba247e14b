r"""How much likelier post-training made the questions that it was given, and questions that it was not.

    Delta(D) = mean over the questions of D of log p_post(q) - log p_base(q)

and what is reported is Delta(trained) - Delta(held out): the template's familiarity and the ways of asking raise both.
The paper plots, for reinforcement learning, how many prompts lie above each likelihood before and after; here is the
same curve for both halves. The likelihoods are those of `audit.extraction.likelihood`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..stats.bootstrap import bootstrap
from ..stats.checks import finite_vector, label_codes
from ..stats.estimate import Estimate, PValue
from ..stats.stratified import stratified_permutation

Floats = NDArray[np.float64]
MOST_THRESHOLDS = 100
N_DRAWS = 9_999


@dataclass(frozen=True, slots=True)
class Curve:
    """How many questions are at least so likely.

    Attributes:
        log10: Thresholds, powers of ten from likely to unlikely.
        base: Questions at or above each under the base model.
        post: Under the post-trained model.
        n: Questions in all.
    """

    log10: tuple[float, ...]
    base: tuple[int, ...]
    post: tuple[int, ...]
    n: int


@dataclass(frozen=True, slots=True)
class LikelihoodShift:
    """What post-training did to the likelihood of questions; all shifts in nats a question.

    Attributes:
        trained: Mean shift of the trained questions.
        held_out: Of the held-out ones.
        difference: The first less the second; its interval draws clusters of near-duplicates anew in both halves.
        median_difference: The same of the two medians.
        p_value: Re-dealing of whole clusters to the halves, one-sided; valid where the division was random.
        trained_curve: Counts above each likelihood.
        held_out_curve: Likewise, at the same likelihoods.
    """

    trained: Estimate
    held_out: Estimate
    difference: Estimate
    median_difference: Estimate
    p_value: PValue
    trained_curve: Curve
    held_out_curve: Curve


def likelihood_shift(
    base: Floats,
    post: Floats,
    trained: NDArray[np.bool_],
    clusters: Sequence[Hashable],
    *,
    seed: int,
    level: float = 0.95,
) -> LikelihoodShift:
    """Delta of the trained questions less that of the held-out ones, with interval and exact test.

    Args:
        base: log p under the base model, shape (n,).
        post: Under the post-trained model, shape (n,).
        trained: Whether each question was trained on, shape (n,).
        clusters: A label for each; near-duplicates share one, and a cluster lies in one half.
        seed: Seed of draws and dealings.
        level: Level of the intervals.

    Raises:
        InputError: The columns do not fit each other, a half is empty, or a cluster lies in both.
    """
    base, post = finite_vector(base, "base"), finite_vector(post, "post")
    if not len(base) == len(post) == len(trained):
        raise InputError(f"{len(base):,} base, {len(post):,} post and {len(trained):,} trained; expected one of each.")
    codes, names = label_codes(clusters, "clusters", n=len(base))
    sizes, n_trained = np.bincount(codes), np.bincount(codes, weights=trained)
    if trained.all() or not trained.any():
        raise InputError("all questions are of one half; expected trained and held-out ones.")
    if ((n_trained > 0) & (n_trained < sizes)).any():
        raise InputError("a cluster of near-duplicates lies in both halves; divide the questions by cluster.")
    shift = post - base
    inside = n_trained > 0  # by cluster
    sums = np.bincount(codes, weights=shift)
    # A cluster's deviation from the mean of all questions: their sum over the trained half orders the dealings.
    p_value = stratified_permutation(sums - sizes * shift.mean(), inside, n_draws=N_DRAWS, rng=seed)
    p_value = PValue(
        p_value.value,
        p_value.attainable,
        p_value.n,
        f"re-dealing of {len(names):,} clusters to the halves, {p_value.method}",
    )
    columns = (sums * inside, sizes * inside, sums * ~inside, sizes * ~inside)
    halves = np.where(inside, "trained", "held out")
    halfwise = [
        bootstrap(_ratio, sums[half], sizes[half], paired=True, rng=seed, level=level) for half in (inside, ~inside)
    ]
    labels, at = np.array(codes), powers(base, post)
    return LikelihoodShift(
        trained=halfwise[0],
        held_out=halfwise[1],
        difference=bootstrap(_difference, *columns, paired=True, strata=halves.tolist(), rng=seed, level=level),
        median_difference=bootstrap(
            _median_difference,
            shift[trained],
            shift[~trained],
            clusters=[labels[trained].tolist(), labels[~trained].tolist()],
            rng=seed,
            level=level,
        ),
        p_value=p_value,
        trained_curve=curve(base[trained], post[trained], at),
        held_out_curve=curve(base[~trained], post[~trained], at),
    )


def powers(*values: Floats) -> Floats:
    """Powers of ten from 1 down to where every value counts, as exponents; at most `MOST_THRESHOLDS` or so."""
    lowest = math.floor(min(float(one.min()) for one in values) / math.log(10))
    step = max(1, math.ceil(-lowest / (MOST_THRESHOLDS - 1)))
    return -np.arange(0, -lowest + step, step, dtype=np.float64)


def curve(base: Floats, post: Floats, log10: Floats) -> Curve:
    """Questions at or above each power of ten."""
    counts = [(values[:, None] >= log10 * math.log(10)).sum(axis=0) for values in (base, post)]
    return Curve(tuple(log10.tolist()), tuple(int(n) for n in counts[0]), tuple(int(n) for n in counts[1]), n=len(base))


def _ratio(sums: Floats, sizes: Floats, axis: int = -1) -> Floats:
    return np.asarray(sums.sum(axis=axis) / sizes.sum(axis=axis))


def _difference(sums: Floats, sizes: Floats, other_sums: Floats, other_sizes: Floats, axis: int = -1) -> Floats:
    return np.asarray(_ratio(sums, sizes, axis) - _ratio(other_sums, other_sizes, axis))


def _median_difference(trained: Floats, held_out: Floats, axis: int = -1) -> Floats:
    return np.asarray(np.median(trained, axis=axis) - np.median(held_out, axis=axis))
