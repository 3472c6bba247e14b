"""Coverage and its curve, against enumeration and simulation."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from audit.errors import InputError
from audit.extraction.coverage import coverage, coverage_curve, curve_points, hits_by_row


def test_the_curve_is_the_mean_over_all_subsets_of_the_generations() -> None:
    hits_of = [{0}, {0, 1}, {2}, set()]  # generations that hit rows
    hits = hits_by_row(np.array([row for rows in hits_of for row in rows]), 4)
    for g in range(1, 5):
        exact = np.mean([len(set().union(*(hits_of[i] for i in some))) / 4 for some in combinations(range(4), g)])
        assert coverage_curve(hits, 4, [g])[0] == pytest.approx(exact)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30))
def test_the_curve_rises_and_ends_at_the_coverage(hits: list[int]) -> None:
    counts = np.array(hits)
    curve = coverage_curve(counts, 50, np.arange(1, 51))
    assert (np.diff(curve) >= -1e-12).all()
    assert curve[-1] == pytest.approx((counts > 0).mean())
    assert curve[0] == pytest.approx(counts.mean() / 50)


def test_the_curve_does_not_overflow_with_many_generations() -> None:
    curve = coverage_curve(np.array([0, 1, 1_000_000]), 1_000_000, [1, 500_000, 1_000_000])
    assert curve == pytest.approx([(1e-6 + 1) / 3, 1.5 / 3, 2 / 3])


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(0, n), min_size=1, max_size=9))))
def test_the_curve_is_that_of_exact_fractions(drawn: tuple[int, list[int]]) -> None:
    n_generations, hits = drawn
    sizes = range(1, n_generations + 1)
    exact = [
        1 - sum(Fraction(comb(n_generations - k, g), comb(n_generations, g)) for k in hits) / len(hits) for g in sizes
    ]
    curve = coverage_curve(np.array(hits), n_generations, list(sizes))
    assert curve == pytest.approx([float(value) for value in exact], rel=1e-13)


@pytest.mark.parametrize("n_generations", [10**7, 10**8, 10**12])
def test_the_curve_does_not_cancel_with_many_generations(n_generations: int) -> None:
    """One row with k hits among rows with fewer; the quotient of binomials as a fraction of products of few terms."""
    hits = np.array([0, 1, 2, 7, 300])
    for size in (1, 2, 150, n_generations // 1000, n_generations // 2, n_generations - 5, n_generations):
        missed = Fraction(0)
        for k in hits.tolist():
            part = Fraction(1)
            for i in range(min(k, size)):
                part *= 1 - Fraction(max(k, size), n_generations - i)
            missed += max(part, Fraction(0)) if max(k, size) + min(k, size) <= n_generations else 0
        exact = float(1 - missed / len(hits))
        assert coverage_curve(hits, n_generations, [size])[0] == pytest.approx(exact, rel=1e-12)


def test_both_products_give_the_same() -> None:
    """At 1e6 generations: hits and set sizes on either side of where the other product is shorter."""
    hits = np.array([0, 3, 5_000, 400_000])
    for size in (1, 3, 50, 2_000, 30_000, 700_000):
        part = [0.0 if k + size > 10**6 else missed(10**6, k, size) for k in hits.tolist()]
        assert coverage_curve(hits, 10**6, [size])[0] == pytest.approx(1 - np.mean(part), rel=1e-9)


def missed(n_generations: int, k: int, size: int) -> float:
    """binom(G - k, g) / binom(G, g), from all terms of the longer product."""
    terms = np.log1p(-min(k, size) / (n_generations - np.arange(max(k, size), dtype=np.float64)))
    return float(np.exp(terms.sum()))


def test_points_are_log_spaced_and_end_at_all_generations() -> None:
    points = curve_points(1000)
    assert (points[0], points[-1]) == (1, 1000)
    assert (np.diff(points) > 0).all()
    assert curve_points(1).tolist() == [1]


def test_the_interval_of_coverage_draws_clusters_and_covers() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(100):
        per_cluster = rng.random(120) < 0.3
        hits = np.repeat(per_cluster, 3).astype(np.int64)
        found = coverage(hits, np.repeat(np.arange(120), 3).tolist(), seed=seed)
        held += (found.low or 0) <= 0.3 <= (found.high or 1)
        assert found.n == 120
    assert held >= binom.ppf(0.001, 100, 0.93)


@pytest.mark.parametrize("value", [0, 3])
def test_all_or_nothing_keeps_an_interval(value: int) -> None:
    found = coverage(np.full(40, value), list(range(40)), seed=0)
    assert found.value == (value > 0)
    assert found.high is not None
    assert found.low is not None
    assert found.high - found.low > 0.05


def test_a_curve_beyond_the_generations_is_refused() -> None:
    with pytest.raises(InputError, match="expected 1 to 10"):
        coverage_curve(np.array([1]), 10, [11])
    with pytest.raises(InputError, match="more hits than there are generations"):
        coverage_curve(np.array([11]), 10, [1])
