r"""Dataset inference: many weak scores of many texts, put together into one test of the two sets.

Paper: Maini, Jia, Papernot & Dziedzic 2024, *LLM Dataset Inference*, arXiv:2406.06443, after its released code. With
features x (one for each score) of suspect texts (y = 1) and validation texts (y = 0), both sets cut at random into a
training half A and a held-out half B:

    x'      = (clip(x, low_A, high_A) - mean_A) / sd_A             2.5% clipped on each side
    w, b    = argmin_A  mean BCE(sigmoid(w x' + b), y)             Adam, rate 0.01, 1,000 steps on the whole half
    p       = P(t > t_B),  t_B Student's t of w x' + b on B, suspect minus validation, one-sided
    decision: p < 0.1

Departures: (1) bounds, mean and standard deviation come from the training half alone (theirs: from all texts, and
each set clipped by bounds of its own), so that nothing of the held-out half, and no label of it, has touched its own
score; bounds are those of both sets of that half, mean and deviation those of its suspect texts. (2) The split is
drawn many times and the p-values are put together by twice their median. (3) The p-value is never given below 0.001.
(4) Suspect texts have label 1, so that a higher score speaks for membership; theirs have 0. (5) Double precision.

Their feature "k_min_probs" is the mean of a text's *lowest losses*; Min-K% is their "k_max_probs". Here ``min_k`` is
Min-K%, and their k_min_probs is not computed.

The classifier learns which way the sets differ, so a small p-value says that they differ in these scores, not that
suspect texts score higher: sets that differ the other way pass as well. Read it beside the AUC of each score.

**The p-value holds only if suspect and validation texts are independent draws from one distribution (IID).** Nothing
in this file can show that they are. The false-positive check cuts the validation set against itself, where it is true
by construction; so it tests the arithmetic on data of this kind, not the assumption.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import ttest_ind

from ..stats.checks import finite_array
from ..stats.estimate import Estimate, PValue
from ..stats.proportion import clopper_pearson

Floats = NDArray[np.float64]

DECISION = 0.1  # as published
TAIL = 0.025  # share clipped on each side, as published
LEARNING_RATE = 0.01  # as published
STEPS = 1_000  # as published
BETAS, EPSILON = (0.9, 0.999), 1e-8  # of Adam, as published: the defaults of torch
SMALLEST = 0.001  # a p-value below is given as this: so far out, a t distribution is an extrapolation
LEAST_TEXTS = 20  # on each side; the false-positive check then tests 5 texts against 5
CHECK_LEVEL = 0.99  # a sound check is refused once in 100 times at most
_MOST_NUMBERS = 4_000_000  # features held at once, over all splits of a batch

IID = "valid only if the two sets are IID"


@dataclass(frozen=True, slots=True)
class Inference:
    """What dataset inference says of two sets of texts.

    Attributes:
        p_value: Twice the median over the splits, or None when it is refused; then ``why`` says so.
        below: Whether it is below `DECISION`, or None.
        split_p: The p-value of each split, shape (K,); dependent, because all splits share their texts.
        false_positives: Share of splits of the validation set against itself with p < 0.1, 99% Clopper-Pearson.
        n_suspect: Suspect texts.
        n_validation: Validation texts.
        why: Why there is no p-value.
    """

    p_value: PValue | None
    below: bool | None
    split_p: Floats
    false_positives: Estimate
    n_suspect: int
    n_validation: int
    why: str | None = None


def infer(
    suspect: Floats,
    validation: Floats,
    *,
    n_splits: int,
    n_checks: int,
    seed: int,
    on_done: Callable[[int], None] | None = None,
) -> Inference:
    """The aggregated test of suspect against validation texts, with its false-positive check.

    Refused, with the reason, when a side has fewer than `LEAST_TEXTS` texts, or when the 99% interval of the
    false-positive share leaves out 10%.

    Args:
        suspect: Features of the suspect texts, shape (n1, F), finite.
        validation: Features of the validation texts, shape (n0, F), finite.
        n_splits: Random splits whose p-values are put together, >= 1; an odd number has a median of its own.
        n_checks: Random splits of the validation set against itself, >= 1.
        seed: Of all splits and first weights.
        on_done: Called with the number of splits finished, batch by batch; ``n_splits + n_checks`` in all.

    Raises:
        InputError: A feature is not finite.
    """
    finite_array(suspect, "suspect")
    finite_array(validation, "validation")
    n1, n0 = len(suspect), len(validation)
    name = "share of random splits of the validation set against itself with p < 0.1, Clopper-Pearson"
    if min(n1, n0) < LEAST_TEXTS:
        why = f"{n1} suspect and {n0} validation texts; dataset inference needs {LEAST_TEXTS} on each side"
        nothing = Estimate.undefined(method=name, why=why, level=CHECK_LEVEL)
        return Inference(None, None, np.array([]), nothing, n1, n0, why)
    own, check = np.random.default_rng(seed).spawn(2)
    split_p = split_p_values(suspect, validation, n_splits=n_splits, rng=own, on_done=on_done)
    null_p = null_p_values(validation, n_checks=n_checks, rng=check, on_done=on_done)
    share = clopper_pearson(int((null_p < DECISION).sum()), n_checks, level=CHECK_LEVEL)
    share = Estimate(share.value, share.low, share.high, share.level, share.n, name)
    if share.low is None or share.high is None or not share.low <= DECISION <= share.high:
        why = (
            f"of {n_checks} splits of the validation set against itself, {share.value:.1%} gave p < 0.1 "
            "instead of about 10%, so p-values of such data are not what they claim to be"
        )
        return Inference(None, None, split_p, share, n1, n0, why)
    p = twice_the_median(split_p, n=n1 + n0)
    return Inference(p, p.value < DECISION, split_p, share, n1, n0)


def twice_the_median(split_p: Floats, *, n: int) -> PValue:
    """One p-value from those of K splits of the same texts: min(1, 2 median), not below `SMALLEST`.

    Valid under any dependence (Rüger 1978; Meinshausen, Meier & Bühlmann 2009, arXiv:0811.2177, gamma = 1/2): the
    median is at most a/2 only if at least half of the p-values are; their expected share is at most a/2, so by Markov
    the chance of one half or more is at most a. It errs on the safe side: the price of not picking a split.

    Args:
        split_p: P-values, shape (K,), in [0, 1].
        n: Texts that they rest on.
    """
    value = float(np.clip(2 * np.median(split_p), SMALLEST, 1.0))
    method = (
        f"dataset inference: one-sided Student t-test on held-out texts, twice the median of {len(split_p)} random "
        f"splits, not given below {SMALLEST:g}; {IID}"
    )
    return PValue(value, SMALLEST, n, method)


def split_p_values(
    suspect: Floats,
    validation: Floats,
    *,
    n_splits: int,
    rng: np.random.Generator,
    on_done: Callable[[int], None] | None = None,
) -> Floats:
    """P-value of each of ``n_splits`` random splits into halves, shape (n_splits,).

    All classifiers are fitted side by side; none knows of another. Arguments as in `infer`.
    """
    return p_values(lambda: (suspect, validation), n_splits, rng=rng, on_done=on_done)


def null_p_values(
    validation: Floats, *, n_checks: int, rng: np.random.Generator, on_done: Callable[[int], None] | None = None
) -> Floats:
    """As `split_p_values`, of one random half of the validation texts against the other, drawn anew for each."""

    def halves() -> tuple[Floats, Floats]:
        order = rng.permutation(len(validation))
        half = len(order) // 2
        return validation[order[:half]], validation[order[half:]]

    return p_values(halves, n_checks, rng=rng, on_done=on_done)


def p_values(
    draw: Callable[[], tuple[Floats, Floats]],
    n_splits: int,
    *,
    rng: np.random.Generator,
    on_done: Callable[[int], None] | None = None,
) -> Floats:
    """P-value of one random split of each of ``n_splits`` pairs of sets, shape (n_splits,).

    Args:
        draw: Gives the next pair: features of suspect and of validation texts, always of the same shapes.
        n_splits: How many.
        rng: For the halves and the first weights.
        on_done: As in `infer`.
    """
    found: list[Floats] = []
    splits: list[tuple[Halves, Halves]] = []
    held = 0
    for number in range(n_splits):
        suspect, validation = draw()
        splits.append(_split(suspect, validation, rng))
        held += suspect.size + validation.size
        if held >= _MOST_NUMBERS or number == n_splits - 1:
            found.append(_test(_stacked([train for train, _ in splits]), _stacked([rest for _, rest in splits]), rng))
            if on_done:
                on_done(len(splits))
            splits, held = [], 0
    return np.concatenate(found)


Halves = tuple[Floats, Floats]  # suspect, validation


def _split(suspect: Floats, validation: Floats, rng: np.random.Generator) -> tuple[Halves, Halves]:
    """Training half and held-out half of both sets."""
    one, other = rng.permutation(len(suspect)), rng.permutation(len(validation))
    a, b = len(one) // 2, len(other) // 2
    return (suspect[one[:a]], validation[other[:b]]), (suspect[one[a:]], validation[other[b:]])


def _stacked(halves: Sequence[Halves]) -> Halves:
    """The same half of S splits, each array of shape (S, texts, F)."""
    return np.stack([suspect for suspect, _ in halves]), np.stack([validation for _, validation in halves])


def _test(train: Halves, held_out: Halves, rng: np.random.Generator) -> Floats:
    """P-value of each split: scale, fit, score, test. Each array has shape (S, texts of that half, F)."""
    n1 = train[0].shape[1]
    x = np.concatenate(train, axis=1)
    low, high = tail_bounds(x)
    mean = np.clip(train[0], low, high).mean(axis=1, keepdims=True)
    deviation = np.clip(train[0], low, high).std(axis=1, keepdims=True)

    def scaled(values: Floats) -> Floats:
        """A feature that does not vary in the training half tells nothing, and becomes 0."""
        even = (np.clip(values, low, high) - mean) / np.where(deviation > 0, deviation, 1.0)
        return np.where(deviation > 0, even, 0.0)

    weights, bias = fit_linear(scaled(x), n1, rng)
    one, other = (np.einsum("snf,sf->sn", scaled(half), weights) + bias[:, None] for half in held_out)
    varies = (np.ptp(one, axis=1) > 0) | (np.ptp(other, axis=1) > 0)
    p = np.ones(len(varies))  # scores that do not vary at all say nothing
    if varies.any():
        p[varies] = ttest_ind(one[varies], other[varies], axis=1, alternative="greater").pvalue
    return p


def tail_bounds(x: Floats) -> tuple[Floats, Floats]:
    """The m-th smallest and m-th largest value of each feature, m = floor(0.025 n), at least the extremes.

    Args:
        x: Features, shape (S, n, F).

    Returns:
        Bounds, each of shape (S, 1, F); what lies beyond is clipped to them.
    """
    n = x.shape[1]
    m = max(1, int(n * TAIL))
    in_order = np.sort(x, axis=1)
    return in_order[:, m - 1 : m], in_order[:, n - m : n - m + 1]


def fit_linear(x: Floats, n_suspect: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Logistic classifiers of S data sets, each fitted as published; the sum of their losses keeps them apart.

    Args:
        x: Scaled features, shape (S, n, F); the first ``n_suspect`` texts of each are suspect.
        n_suspect: Number of suspect texts.
        rng: For the first weights, uniform in ±1/sqrt(F) as in torch's linear layer.

    Returns:
        Weights, shape (S, F), and biases, shape (S,).
    """
    n_sets, n, n_features = x.shape
    theta = rng.uniform(-1, 1, (n_sets, n_features + 1)) / np.sqrt(max(1, n_features))
    features = np.ascontiguousarray(np.concatenate([x, np.ones((n_sets, n, 1))], axis=2).transpose(0, 2, 1))
    first, second = np.zeros_like(theta), np.zeros_like(theta)  # moments of the gradient
    for step in range(1, STEPS + 1):
        residual = expit(np.matmul(theta[:, None, :], features)[:, 0, :])
        residual[:, :n_suspect] -= 1.0
        gradient = np.matmul(features, residual[:, :, None])[:, :, 0] / n
        first = BETAS[0] * first + (1 - BETAS[0]) * gradient
        second = BETAS[1] * second + (1 - BETAS[1]) * gradient**2
        even = np.sqrt(second / (1 - BETAS[1] ** step)) + EPSILON
        theta = theta - LEARNING_RATE * first / (1 - BETAS[0] ** step) / even
    return theta[:, :-1], theta[:, -1]
