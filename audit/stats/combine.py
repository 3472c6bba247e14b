"""One p-value from several tests of one hypothesis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.optimize import brentq
from scipy.stats import combine_pvalues, landau

from ..errors import InputError
from .checks import Floats, choice
from .estimate import PValue

LANDAU_LOCATION = 1 - np.euler_gamma - math.log(2 / math.pi)  # 0.874..., Wilson (2019)


def fisher(p_values: Sequence[PValue]) -> PValue:
    """Fisher's combination: -2 sum log p_i is chi-squared with 2K degrees of freedom, through scipy.

    Exact for *independent* uniform p-values and conservative for independent discrete ones (permutation
    p-values). Scores of the same texts under several methods are not independent: use `harmonic_mean`, or
    the joint permutation of `permutation.stratified_permutation_max`.

    Worked: two p-values of 0.1: x = -2 log 0.01 = 9.21; exp(-x/2) (1 + x/2) = 0.01 x 5.605 = 0.0561.

    Args:
        p_values: K >= 1 results of independent tests, each value in (0, 1].

    Returns:
        The combined p-value; ``attainable`` combines the tests' own attainable values, ``n`` is K.

    Raises:
        InputError: No p-value was given, or one is 0.
    """
    values, attainable = _columns(p_values)
    return PValue(
        float(combine_pvalues(values, method="fisher").pvalue),
        float(combine_pvalues(attainable, method="fisher").pvalue),
        len(values),
        f"Fisher's combination of {len(values)} independent p-values",
    )


def harmonic_mean(
    p_values: Sequence[PValue], *, calibration: Literal["guaranteed", "independent"] = "guaranteed"
) -> PValue:
    """Harmonic mean H of K p-values, calibrated so that it is again a p-value.

    "guaranteed": min(1, a_K H), valid for every K and *any* dependence (Vovk & Wang 2020, "Combining
    p-values via averaging", Biometrika 107, section on the harmonic mean). a_1 = 1, a_2 = 2, and for K > 2
    a_K = (K + y) log(1 + y) / y at the y > 0 where y² = K((1 + y) log(1 + y) - y). Why it holds, for every
    y > 0, with b = K/(K + y): f(p) = min(1, max(0, (eps/p - b) / (K(1 - b)))) sums to 1 or more over the tests
    whenever H <= eps, so by Markov P(H <= eps) <= K E f(U), and K E f(U) <= eps (K + y) log(1 + y) / y.
    a_10 = 4.56 and a_100 = 7.46 (Bonferroni multiplies the smallest p-value by K instead).

    "independent": the asymptotically exact test of Wilson (2019), PNAS 116:1195, with its correction: as K
    grows, 1/H tends to a Landau distribution with location log K + 1 + digamma(1) - log(2/pi) = log K + 0.874
    and scale pi/2, the constants of the author's R package harmonicmeanp. It reproduces his critical values
    of H at 5%: 0.040, 0.036, 0.034 for K = 10, 100, 1,000. For independent uniform p-values and small results:
    at 5% it rejected 4.6% (K = 2), 4.9% (K = 10) and 5.0% (K = 100) of 400,000 nulls; at p = 0.5 and K = 2 it is
    too small (52% of nulls). Robustness to positive dependence is claimed by its author and not proven; under the
    worst dependence it rejected 17% at 5% (K = 10).
    For K = 1 the p-value itself is returned.

    Args:
        p_values: K >= 1 results for one hypothesis, each value in (0, 1].
        calibration: As above.

    Returns:
        The combined p-value; ``attainable`` combines the tests' own attainable values, ``n`` is K.

    Raises:
        InputError: No p-value was given, one is 0, or ``calibration`` is unknown.
    """
    choice(calibration, "calibration", ("guaranteed", "independent"))
    values, attainable = _columns(p_values)
    k = len(values)
    if calibration == "guaranteed":
        factor = harmonic_factor(k)
        value, least = (min(1.0, factor * _harmonic(p)) for p in (values, attainable))
        return PValue(value, least, k, f"harmonic mean of {k} p-values x {factor:.4g}, any dependence (Vovk & Wang)")
    value, least = (_landau_tail(_harmonic(p), k) for p in (values, attainable))
    return PValue(value, least, k, f"harmonic mean of {k} independent p-values, asymptotic (Wilson)")


def harmonic_factor(k: int) -> float:
    """The smallest multiplier a_K that makes the harmonic mean of ``k`` p-values valid under any dependence."""
    if k <= 2:
        return float(k)
    y = brentq(lambda y: y * y - k * ((1 + y) * math.log1p(y) - y), 1e-2, 10.0 * k * k)
    return float((k + y) * math.log1p(y) / y)


def _harmonic(p: Floats) -> float:
    return float(len(p) / np.sum(1 / p))


def _landau_tail(mean: float, k: int) -> float:
    if k == 1:
        return mean
    return float(min(1.0, landau.sf(1 / mean, loc=math.log(k) + LANDAU_LOCATION, scale=math.pi / 2)))


def _columns(p_values: Sequence[PValue]) -> tuple[Floats, Floats]:
    """The values and the attainable values, each of shape (K,)."""
    if len(p_values) == 0:
        raise InputError("p_values is empty; expected at least one PValue to combine.")
    for i, p in enumerate(p_values):
        if p.value == 0 or p.attainable == 0:
            raise InputError(
                f"p_values[{i}] ({p.method}) is {p.value}, attainable {p.attainable}; expected numbers above 0. "
                "A permutation p-value counts the observed draw too: (1 + exceedances) / (1 + draws)."
            )
    return np.array([p.value for p in p_values]), np.array([p.attainable for p in p_values])
