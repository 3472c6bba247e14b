"""Adjusted and combined p-values, against hand arithmetic and scipy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats

from audit.errors import InputError
from audit.stats.combine import fisher, harmonic_factor, harmonic_mean
from audit.stats.estimate import PValue
from audit.stats.multiplicity import benjamini_hochberg, holm


def p_values(*values: float, attainable: float = 1e-6) -> list[PValue]:
    return [PValue(value, attainable, 99, "test") for value in values]


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.2]) == pytest.approx([0.2])


def test_benjamini_hochberg_by_hand() -> None:
    assert benjamini_hochberg([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.04, 0.04])


def test_holm_rejects_what_bonferroni_rejects_and_bh_rejects_what_holm_does() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        p = rng.beta(0.3, 1, 12)
        bonferroni, stepped, screened = np.minimum(12 * p, 1), holm(p), benjamini_hochberg(p)
        assert (screened <= stepped + 1e-12).all()
        assert (stepped <= bonferroni + 1e-12).all()
        assert (p <= screened + 1e-12).all()


def test_adjusted_p_values_keep_the_order_given() -> None:
    p = np.array([0.2, 0.001, 0.04, 0.5])
    shuffled = np.array([2, 0, 3, 1])
    for adjust in (holm, benjamini_hochberg):
        assert adjust(p[shuffled]) == pytest.approx(adjust(p)[shuffled])


@pytest.mark.parametrize("bad", [1.5, -0.1])
def test_numbers_that_are_no_p_values_are_refused(bad: float) -> None:
    for adjust in (holm, benjamini_hochberg):
        with pytest.raises(InputError, match=rf"p_values\[1\] is {bad}; expected a p-value from 0 to 1"):
            adjust([0.5, bad])


def test_fisher_by_hand() -> None:
    """Two of 0.1: x = -2 log 0.01; with 4 degrees of freedom exp(-x/2) (1 + x/2) = 0.01 (1 + 4.605) = 0.0561."""
    combined = fisher(p_values(0.1, 0.1, attainable=0.01))
    assert combined.value == pytest.approx(0.01 * (1 - math.log(0.01)))
    assert combined.attainable == pytest.approx(1e-4 * (1 - math.log(1e-4)))
    assert combined.n == 2


@pytest.mark.parametrize("calibration", ["guaranteed", "independent"])
def test_one_p_value_combined_is_itself(calibration: Any) -> None:
    assert harmonic_mean(p_values(0.03), calibration=calibration).value == pytest.approx(0.03)
    assert fisher(p_values(0.03)).value == pytest.approx(0.03)


def test_independent_calibration_reproduces_published_critical_values() -> None:
    """Wilson (2019), table 1: at 5% the critical harmonic mean is 0.040, 0.036, 0.034 for K = 10, 100, 1,000."""
    for k, critical in ((10, 0.040), (100, 0.036), (1000, 0.034)):
        below, above = (
            harmonic_mean(p_values(*[critical + shift] * k), calibration="independent").value for shift in (-5e-4, 5e-4)
        )
        assert below < 0.05 < above


def test_landau_tail_agrees_with_its_integral() -> None:
    """P(1/H > x), x with location log K + 0.874 and scale pi/2: 1 - integral of the density of Wilson (2019)."""
    k, h = 20, 0.05
    combined = harmonic_mean(p_values(*[h] * k), calibration="independent").value
    z = (1 / h - math.log(k) - 1 + np.euler_gamma + math.log(2 / math.pi)) / (math.pi / 2)
    t = np.linspace(1e-9, 40, 2_000_001)
    tail = np.exp(-t * z - 2 / math.pi * t * np.log(t)) * np.sin(2 * t) / t  # the density integrated over x > z
    assert combined == pytest.approx(np.trapezoid(tail, t) / math.pi, rel=1e-4)


@pytest.mark.parametrize(("k", "factor"), [(1, 1.0), (2, 2.0)])
def test_the_guarantee_costs_no_more_than_bonferroni_for_one_or_two(k: int, factor: float) -> None:
    assert harmonic_factor(k) == factor


@pytest.mark.parametrize("k", [3, 4, 10, 100, 5000])
def test_the_guarantees_factor_is_the_least_of_its_proof(k: int) -> None:
    """Every y > 0 proves the factor (K + y) log(1 + y) / y; no y on a fine grid proves a smaller one."""
    grid = np.geomspace(1e-3, 1e3 * k, 200_001)
    proven = (k + grid) * np.log1p(grid) / grid
    assert harmonic_factor(k) == pytest.approx(proven.min(), rel=1e-6)
    assert harmonic_factor(k) < min(k, math.e * math.log(k))


def test_the_guarantees_proof_holds_for_random_p_values() -> None:
    """f(p) = min(1, max(0, (eps/p - b) / (K(1 - b)))) sums to at least 1 whenever the harmonic mean is <= eps."""
    rng = np.random.default_rng(0)
    k, eps, y = 7, 0.02, 5.0
    b = k / (k + y)
    p = np.exp(-rng.exponential(4, size=(20_000, k)))
    small = p[k / (1 / p).sum(axis=1) <= eps]
    f = np.clip((eps / small - b) / (k * (1 - b)), 0, 1)
    assert len(small) > 1000
    assert f.sum(axis=1).min() >= 1 - 1e-12


def test_guaranteed_is_never_smaller_than_independent() -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        p = p_values(*(rng.random(8) * rng.random()))
        guaranteed, independent = harmonic_mean(p), harmonic_mean(p, calibration="independent")
        assert guaranteed.value >= independent.value or independent.value > 0.3


def test_methods_say_what_they_suppose() -> None:
    p = p_values(0.01, 0.2, 0.3)
    assert fisher(p).method == "Fisher's combination of 3 independent p-values"
    assert harmonic_mean(p).method == "harmonic mean of 3 p-values x 2.746, any dependence (Vovk & Wang)"
    independent = harmonic_mean(p, calibration="independent")
    assert independent.method == "harmonic mean of 3 independent p-values, asymptotic (Wilson)"


def test_fisher_agrees_with_scipy() -> None:
    p = np.random.default_rng(2).random(9)
    assert fisher(p_values(*p)).value == pytest.approx(scipy.stats.combine_pvalues(p).pvalue)


def test_nothing_and_zero_cannot_be_combined() -> None:
    for combine in (fisher, harmonic_mean):
        with pytest.raises(InputError, match="p_values is empty; expected at least one PValue"):
            combine([])
        with pytest.raises(InputError, match=r"p_values\[1\] \(test\) is 0.0, attainable .*; expected numbers above 0"):
            combine(p_values(0.5, 0.0))
    with pytest.raises(InputError, match="calibration is 'wilson'; expected one of 'guaranteed', 'independent'"):
        harmonic_mean(p_values(0.5), calibration="wilson")  # type: ignore[arg-type]
