"""True-positive rate at a fixed false-positive rate, with an interval that knows the threshold was estimated."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import betainc
from scipy.stats import binom

from .checks import Floats, finite_vector, open_unit
from .estimate import Estimate

NAME = "TPR at FPR <= {:g}, Jeffreys mixed over the threshold's rank"
SLACK = 1e-9  # 0.29 * 100 is 28.999999999999996: the count allowed must not lose 1 to rounding


def tpr_at_fpr(positive: ArrayLike, negative: ArrayLike, *, fpr: float, level: float = 0.95) -> Estimate:
    """The largest share of positives flagged while at most ``fpr`` of the negatives are.

    With k = floor(fpr n0), a text is flagged when its score exceeds the (k+1)-th largest negative score, so that
    the observed FPR never exceeds ``fpr``, ties included. That is the point with the largest TPR on the empirical
    ROC curve among those with FPR <= fpr.

    **What the interval covers.** TPR at the threshold whose *true* FPR is ``fpr``. Where that threshold lies among
    the sorted negatives is unknown: the number J of negatives above it is Binomial(n0, fpr). Given J, it lies
    between the J-th and (J+1)-th largest negative, and s_J positives exceed it (the mean of the counts at the two
    ends), which gives TPR the Jeffreys distribution Beta(s_J + 1/2, n1 - s_J + 1/2). The interval runs between the
    (1 - level)/2 and (1 + level)/2 quantiles of the mixture of these over J. It uses ranks alone and no random
    draw. It is akin to the Bayesian bootstrap of the ROC curve (Gu, Ghosal & Roy 2008) and was chosen by its
    measured coverage, not for a proof. It is widened, where needed, to contain the point estimate.

    **Measured coverage at 95%** (10,000 data sets each; docs/methods/statistics.md): 95.6-96.8% with 500 or more texts
    on each side and n0 fpr >= 5, ties and a few far positives included. Elsewhere it errs wide: 97% with 100 a side
    at FPR 10%, 98-98.4% with 1 or 2 false positives allowed (n0 fpr from 1 to 2) and at a TPR of 0.01 or 0.997. The
    lowest seen is 94.2% (2,000 positives, 100 negatives, FPR 1%). In the same simulation, 100 + 100 texts at FPR 1%,
    the interval BTII of Zhou & Qin (2005) covered 80%, the stratified percentile bootstrap 80%, and a Wilson interval
    that takes the threshold as known 45%; with 500 + 500 they covered 93%, 92% and 48%.

    **Bias.** With few negatives the point estimate is too high: the true FPR of its threshold averages
    (k+1)/(n0+1), for example 2% for fpr = 1% and 100 negatives. Read the interval, not the point.

    Args:
        positive: Scores of members, shape (n1,), higher = more suspicious; independent.
        negative: Scores of non-members, shape (n0,); independent.
        fpr: Highest false-positive rate allowed, in (0, 1).
        level: Confidence level, in (0, 1).

    Returns:
        TPR in [0, 1]; ``n`` is n1 + n0. Undefined when n0 < 1/fpr: no threshold could show so small a rate.

    Raises:
        InputError: A sample is empty, not 1-D or not finite, or a rate is not in (0, 1).
    """
    positive, negative = finite_vector(positive, "positive"), finite_vector(negative, "negative")
    open_unit(fpr, "fpr")
    open_unit(level, "level")
    n1, n0 = len(positive), len(negative)
    name = NAME.format(fpr)
    allowed = int(np.floor(n0 * fpr + SLACK))
    if allowed < 1:
        needed = int(np.ceil(1 / fpr - SLACK))
        why = f"{n0} negatives cannot show a false-positive rate of {fpr:g}; it needs at least {needed}"
        return Estimate.undefined(method=name, why=why, n=n1 + n0, level=level)
    exceeding = _exceeding(positive, negative)
    value = float(exceeding[allowed + 1] / n1)
    ranks = np.arange(n0 + 1)
    weights = binom.pmf(ranks, n0, fpr)
    kept = weights > 1e-12
    weights = weights[kept] / weights[kept].sum()
    flagged = (exceeding[:-1][kept] + exceeding[1:][kept]) / 2
    low, high = (_quantile(q, flagged, n1, weights) for q in ((1 - level) / 2, (1 + level) / 2))
    return Estimate(value, min(low, value), max(high, value), level, n1 + n0, name)


def _exceeding(positive: Floats, negative: Floats) -> Floats:
    """Positives above the j-th largest negative, j = 0 (none: threshold +inf) to n0 + 1 (all: -inf); (n0 + 2,)."""
    descending = np.concatenate([[np.inf], np.sort(negative)[::-1], [-np.inf]])
    return len(positive) - np.searchsorted(np.sort(positive), descending, side="right").astype(np.float64)


def _quantile(q: float, flagged: Floats, n1: int, weights: Floats) -> float:
    """Quantile of the mixture of Beta(flagged + 1/2, n1 - flagged + 1/2) with these weights."""

    def excess(rate: float) -> float:
        return float(weights @ betainc(flagged + 0.5, n1 - flagged + 0.5, rate)) - q

    return float(brentq(excess, 0.0, 1.0, xtol=1e-10))
