"""The exact sign test of pairs: its level with and without ties, counted and simulated."""

from __future__ import annotations

from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from audit.stats.permutation import sign_test


def by_hand(differences: list[float]) -> float:
    """Sum of binomial coefficients over 2^n, pairs without a difference left out."""
    untied = [d for d in differences if d != 0]
    above = sum(d > 0 for d in untied)
    return sum(comb(len(untied), k) for k in range(above, len(untied) + 1)) / 2 ** len(untied)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40))
def test_it_is_the_share_of_tosses_with_as_many_wins(differences: list[int]) -> None:
    p = sign_test(np.array(differences, dtype=float))
    assert p.value == pytest.approx(by_hand([float(d) for d in differences]))
    assert p.value >= p.attainable * (1 - 1e-12)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.integers(1, 30))
def test_more_tied_pairs_change_nothing(differences: list[int], ties: int) -> None:
    with_ties = sign_test(np.array([*differences, *[0] * ties], dtype=float))
    alone = sign_test(np.array(differences, dtype=float))
    assert (with_ties.value, with_ties.attainable, with_ties.n) == (alone.value, alone.attainable, alone.n)


@pytest.mark.parametrize("n", [1, 5, 9])
def test_over_all_tosses_no_p_value_comes_more_often_than_it_says(n: int) -> None:
    """All 2^n sign patterns, each as likely: the share with p <= t is exactly t at every attainable t."""
    values = np.array([sign_test(np.array(signs, dtype=float)).value for signs in product([-1, 1], repeat=n)])
    for t in np.unique(values):
        assert np.mean(values <= t + 1e-12) == pytest.approx(t)
    assert values.min() == 2.0**-n


def test_with_ties_a_true_null_is_still_rejected_at_most_as_often_as_the_level() -> None:
    """4,000 audits of 25 pairs whose scores take four values: about a quarter of the pairs are tied."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 4, size=(4_000, 25, 2)).astype(float)
    p = [sign_test(pairs[:, 0] - pairs[:, 1]) for pairs in drawn]
    assert 15 < np.mean([one.n for one in p]) < 22
    rejected = sum(one.value <= 0.05 for one in p)
    assert rejected <= binom.ppf(0.995, 4_000, 0.05)
    # the exact rate, over the number of untied pairs: P(n) times the size of the test at that n
    sizes = [binom.sf(binom.isf(0.05, n, 0.5), n, 0.5) if n else 0.0 for n in range(26)]
    rate = float(np.dot(binom.pmf(np.arange(26), 25, 0.75), sizes))
    assert binom.ppf(0.005, 4_000, rate) <= rejected <= binom.ppf(0.995, 4_000, rate)


def test_counting_ties_as_losses_would_be_far_too_timid() -> None:
    """Why they are left out: 12 wins, 2 losses and 14 ties are p = 0.006 without the ties and 0.83 with them lost."""
    differences = np.repeat([1.0, -1.0, 0.0], [12, 2, 14])
    assert sign_test(differences).value == pytest.approx((comb(14, 2) + comb(14, 1) + 1) / 2**14)
    assert binom.sf(11, 28, 0.5) > 0.8
