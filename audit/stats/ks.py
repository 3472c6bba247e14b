"""Two-sample Kolmogorov-Smirnov: do two sets of scores come from one distribution?"""

from __future__ import annotations

import math
import sys
import warnings
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln
from scipy.stats import ks_2samp

from .checks import Alternative, choice, finite_vector, open_unit
from .estimate import Estimate, PValue

EXACT_UP_TO = 10_000  # scipy's own limit: above it, the asymptotic distribution


def ks_two_sample(
    a: ArrayLike, b: ArrayLike, *, alternative: Alternative = "two-sided", level: float = 0.95
) -> tuple[Estimate, PValue]:
    """The largest gap D between two empirical distribution functions, and its p-value, through scipy.

    D = sup |F_a - F_b| ("two-sided"), sup (F_a - F_b) ("greater": ``a`` tends to be *smaller*), or
    sup (F_b - F_a) ("less": ``a`` tends to be *larger*); this is scipy's orientation.

    The interval of D is the band of Dvoretzky, Kiefer & Wolfowitz with the constant of Massart (1990),
    half of the error for each sample: D ± sqrt(log(4/(1-level)) / 2) (1/sqrt(n_a) + 1/sqrt(n_b)), cut to
    [0, 1]. It needs no assumption but independence, and is wide: it covers at least ``level``.

    The p-value is exact for continuous scores up to 10,000 per sample, asymptotic above and where scipy cannot count
    the paths (its method says which), and conservative with ties. It supposes independent scores; one model's scores
    of found text are seldom that.

    Args:
        a: Scores, shape (n_a,).
        b: Scores, shape (n_b,).
        alternative: Which gap, as above.
        level: Confidence level of the interval of D, in (0, 1).

    Returns:
        D in [0, 1] with its interval, and the p-value; its ``attainable`` is that of two fully
        separated samples, 2 / C(n_a + n_b, n_a) two-sided and half of that one-sided.

    Raises:
        InputError: A sample is empty, not 1-D or not finite; an option is not one of those above.
    """
    a, b = finite_vector(a, "a"), finite_vector(b, "b")
    choice(alternative, "alternative", ("greater", "less", "two-sided"))
    open_unit(level, "level")
    how: Literal["exact", "asymp"] = "exact" if max(len(a), len(b)) <= EXACT_UP_TO else "asymp"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        result = ks_2samp(a, b, alternative=alternative, method=how)
    if any("unsuccessful" in str(one.message) for one in said):  # equal samples, or a table too large for scipy
        how = "asymp"
    n = len(a) + len(b)
    margin = math.sqrt(math.log(4 / (1 - level)) / 2) * (1 / math.sqrt(len(a)) + 1 / math.sqrt(len(b)))
    distance = float(result.statistic)
    estimate = Estimate(
        distance,
        max(0.0, distance - margin),
        min(1.0, distance + margin),
        level,
        n,
        f"KS distance, {alternative}, DKW band (conservative)",
    )
    separated = math.exp(gammaln(len(a) + 1) + gammaln(len(b) + 1) - gammaln(n + 1))
    sides = 2 if alternative == "two-sided" else 1
    attainable = float(np.clip(sides * separated, sys.float_info.min, 1.0))
    words = "exact" if how == "exact" else "asymptotic"
    value = float(np.clip(result.pvalue, attainable, 1.0))
    return estimate, PValue(value, attainable, n, f"two-sample KS, {words}, {alternative}")
