"""Split-conformal thresholds: flag a new text while at most a share alpha of clean texts is flagged."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import beta

from ..errors import InputError
from .checks import Floats, Labels, finite_vector, label_codes, open_unit

SLACK = 1e-9  # (n + 1) * alpha must not lose 1 to rounding


@dataclass(frozen=True, slots=True)
class ConformalThreshold:
    """A threshold and what is known about the rate at which it flags clean texts.

    Attributes:
        threshold: Flag a text when its score is *above* this.
        alpha: Highest rate allowed, averaged over calibration sets.
        n: Number of calibration scores.
        rank: The threshold is the rank-th smallest calibration score, 1 to n.
        expected_rate: (n + 1 - rank) / (n + 1), <= alpha: the rate averaged over calibration sets.
        beta_low: Lower bound of this threshold's own rate, the (1 - level)/2 quantile of Beta(n+1-rank, rank).
        beta_high: Upper bound likewise; often above alpha, because alpha holds on average only.
        level: Level of [beta_low, beta_high].
    """

    threshold: float
    alpha: float
    n: int
    rank: int
    expected_rate: float
    beta_low: float
    beta_high: float
    level: float


def conformal_threshold(calibration_scores: ArrayLike, *, alpha: float, level: float = 0.95) -> ConformalThreshold:
    """The ceil((n+1)(1-alpha))-th smallest calibration score.

    For exchangeable calibration and new clean scores, P(new score > threshold) <= alpha, at any n (Vovk et al.
    2005; Angelopoulos & Bates 2021, arXiv:2107.07511, section 1). For independent continuous scores the rate of
    one such threshold is Beta(n + 1 - rank, rank) distributed (there, section 3.2, written for the coverage);
    with ties it is lower.

    Worked: scores 1..19, alpha 0.1: ceil(20 x 0.9) = 18, so the threshold is 18; expected rate 2/20.

    Args:
        calibration_scores: Scores of clean texts, shape (n,), higher = more suspicious, not used to fit anything.
        alpha: Highest rate allowed, in (0, 1).
        level: Level of the interval of the threshold's own rate, in (0, 1).

    Raises:
        InputError: The scores are empty, not 1-D or not finite; a rate is not in (0, 1); or there are fewer
            than ceil(1/alpha) - 1 scores, so that no finite threshold keeps the promise.
    """
    scores = finite_vector(calibration_scores, "calibration_scores")
    open_unit(alpha, "alpha")
    open_unit(level, "level")
    return _threshold(scores, alpha, level, "calibration_scores")


def conformal_thresholds_by_group(
    calibration_scores: ArrayLike, groups: Labels, *, alpha: float, level: float = 0.95
) -> dict[Hashable, ConformalThreshold]:
    """One threshold for each group, each keeping its promise inside its group (Mondrian; Vovk et al. 2005, 4.5).

    Args:
        calibration_scores: As `conformal_threshold`, shape (n,).
        groups: Label of each score, n of them; each group needs ceil(1/alpha) - 1 scores.
        alpha: Highest rate allowed in each group, in (0, 1).
        level: As `conformal_threshold`.

    Returns:
        Group label -> threshold, in order of first appearance.

    Raises:
        InputError: As `conformal_threshold`, the group named; labels missing or not one for each score.
    """
    scores = finite_vector(calibration_scores, "calibration_scores")
    open_unit(alpha, "alpha")
    open_unit(level, "level")
    codes, labels = label_codes(groups, "groups", n=len(scores))
    return {
        label: _threshold(scores[codes == code], alpha, level, f"group {label!r}") for code, label in enumerate(labels)
    }


def _threshold(scores: Floats, alpha: float, level: float, name: str) -> ConformalThreshold:
    n = len(scores)
    above = int(np.floor((n + 1) * alpha + SLACK))  # calibration scores that may lie above, plus 1
    if above < 1:
        needed = int(np.ceil(1 / alpha - SLACK)) - 1
        raise InputError(
            f"{name}: {n} calibration scores cannot hold a rate of {alpha:g}; expected at least {needed}. "
            "Score more clean texts or raise alpha."
        )
    rank = n + 1 - above
    low, high = (float(beta.ppf(q, above, rank)) for q in ((1 - level) / 2, (1 + level) / 2))
    threshold = float(np.sort(scores)[rank - 1])
    return ConformalThreshold(threshold, alpha, n, rank, above / (n + 1), low, high, level)
