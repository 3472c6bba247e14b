"""What a design of traps can see: the power of the tests that the audit makes, before or after it is run.

Binormal model: inside a stratum decoys score N(0, 1) and members N(delta, 1), all independent, so that

    AUC = P(member > decoy) = Phi(delta / sqrt 2)

Arm test (`audit.stats.stratified.stratified_permutation`). In a stratum of n1 members and n0 decoys, N in all, the
standardised scores of the members sum to T_s = sqrt(n1 n0) r_s, r_s = t_s / sqrt(N - 2 + t_s²) the correlation of
score and membership, where t_s is noncentral t with N - 2 degrees of freedom and delta sqrt(n1 n0 / N). Under
re-dealing T = sum_s T_s has mean 0 and variance sum_s n1 n0 / (N - 1). With the first two moments of r_s (quadrature)
and T taken as normal, for a one-sided test at level a:

    power = Phi((E T - z_{1-a} sd_0) / sd_1),   sd_0² = sum n1 n0/(N - 1),   sd_1² = sum n1 n0 Var r_s

Checked against the real test on simulated scores: within 0.035 from 20 members an arm on, and with fewer too low by up
to 0.09 rather than too high (`tests/benchmarks/calibrate_power.py`).

Holm over k arms rejects whatever p <= alpha / k rejects, so alpha / k gives a power that Holm's is never below.

Rank test of one trap among d decoys: p <= a when at most c = floor(a (1 + d)) - 1 decoys score as high;
power = E Binomial CDF(c; d, 1 - Phi(X)), X ~ N(delta, 1). Whatever d is, it stays below Phi(delta - z_{1-a}).

Sign test of n pairs (`audit.stats.permutation.sign_test`): a member beats its twin with probability AUC;
power = P(Binomial(n, AUC) >= c), c the least count with P(Binomial(n, 1/2) >= c) <= a.

Power is over the draw and the dealing of traps for a model that is what it is. Training again is not covered.
"""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import roots_hermitenorm, roots_legendre
from scipy.stats import binom, chi2, norm

from ...stats.checks import Floats, count, open_unit
from .design import Design

SLACK = 1e-9  # 0.05 * 20 is 1.0000000000000002, 0.29 * 100 is 28.999999999999996


def effect_size(auc: float) -> float:
    """delta = sqrt 2 Phi^-1(AUC): members above decoys, in standard deviations.

    Raises:
        InputError: The AUC is not in (0, 1).
    """
    return math.sqrt(2) * float(norm.ppf(open_unit(auc, "auc")))


def arm_power(auc: float, design: Design, *, alpha: float = 0.05, arms: int = 1, n_draws: int = 9_999) -> float:
    """Chance that the arm test finds members that score with this AUC, by the approximation above, in [0, 1].

    Args:
        auc: Binormal AUC, in (0, 1).
        design: Members and decoys of the arm.
        alpha: Error rate of the family of arms, in (0, 1).
        arms: Tests that Holm corrects for; counted as alpha / arms.
        n_draws: Re-dealings of the test; where alpha / arms lies below its smallest p-value, the power is 0.

    Raises:
        InputError: A number is out of range.
    """
    delta, level = effect_size(auc), open_unit(alpha, "alpha") / count(arms, "arms", least=1)
    if design.attainable(n_draws) > level * (1 + SLACK):
        return 0.0
    if set(zip(design.members, design.decoys, strict=True)) == {(1, 1)}:  # r is 1 or -1: T counts signs
        return sign_power(auc, design.n_members, alpha=level)
    mean = null = variance = 0.0
    for (n1, n0), times in Counter(zip(design.members, design.decoys, strict=True)).items():
        first, second = _moments(n1, n0, delta)
        mean += times * math.sqrt(n1 * n0) * first
        null += times * n1 * n0 / (n1 + n0 - 1)
        variance += times * n1 * n0 * second
    return float(norm.cdf((mean - norm.isf(level) * math.sqrt(null)) / math.sqrt(variance)))


def _moments(n1: int, n0: int, delta: float) -> tuple[float, float]:
    """Mean and variance of r = Z / sqrt(Z² + Q), Z ~ N(delta sqrt(n1 n0 / N), 1), Q ~ chi² with N - 2."""
    shift = delta * math.sqrt(n1 * n0 / (n1 + n0))
    if n1 + n0 == 2:
        mean = 2 * float(norm.cdf(shift)) - 1
        return mean, 1 - mean**2
    nodes, weights, levels, shares = _nodes()
    z, q = nodes[:, None] + shift, chi2.ppf(levels, n1 + n0 - 2)
    r = z / np.sqrt(z**2 + q)
    mean = float(weights @ r @ shares)
    return mean, max(float(weights @ (r - mean) ** 2 @ shares), 1e-12)


@lru_cache(maxsize=1)
def _nodes() -> tuple[Floats, Floats, Floats, Floats]:
    """Nodes and weights of the standard normal, and levels and weights of a uniform variable."""
    normal, normal_weights = roots_hermitenorm(40)
    uniform, uniform_weights = roots_legendre(40)
    return normal, normal_weights / normal_weights.sum(), (uniform + 1) / 2, uniform_weights / 2


def rank_power(auc: float, n_decoys: int, *, alpha: float = 0.05) -> float:
    """Chance that one trap's rank p-value is at most alpha, in [0, 1]; errors as `arm_power`."""
    delta, n_decoys = effect_size(auc), count(n_decoys, "n_decoys", least=1)
    most = math.floor(open_unit(alpha, "alpha") * (1 + n_decoys) + SLACK) - 1
    levels, shares = roots_legendre(500)
    x = delta + norm.ppf((levels + 1) / 2)
    return float(shares / 2 @ binom.cdf(most, n_decoys, norm.sf(x))) if most >= 0 else 0.0


def rank_power_limit(auc: float, *, alpha: float = 0.05) -> float:
    """What `rank_power` stays below with any number of decoys: Phi(delta - z_{1-alpha})."""
    return float(norm.cdf(effect_size(auc) - norm.isf(open_unit(alpha, "alpha"))))


def sign_power(auc: float, n_pairs: int, *, alpha: float = 0.05) -> float:
    """Chance that the sign test of so many untied pairs is significant, in [0, 1]; exact. Errors as `arm_power`.

    Worked: 5 pairs at 5%: P(5 of 5) = 1/32 is the only such result, so the power at AUC 0.9 is 0.9^5 = 0.590.
    """
    open_unit(auc, "auc")
    return float(sign_powers(auc, np.array([count(n_pairs, "n_pairs", least=1)]), open_unit(alpha, "alpha"))[0])


def sign_powers(auc: float, n_pairs: NDArray[np.int64], alpha: float) -> Floats:
    least = np.asarray(binom.isf(alpha, n_pairs, 0.5)) + 1
    least -= binom.sf(least - 2, n_pairs, 0.5) <= alpha * (1 + SLACK)  # isf may miss an equality by rounding
    return np.asarray(binom.sf(least - 1, n_pairs, auc), dtype=np.float64)
