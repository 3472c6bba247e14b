"""Intervals of a proportion, against hand arithmetic, and their exact coverage summed over the binomial."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta, binom

from audit.errors import InputError
from audit.stats.estimate import Estimate
from audit.stats.proportion import clopper_pearson, difference, wilson

RATES = np.linspace(0.001, 0.999, 999)


def exact_coverage(function: Callable[..., Estimate], n: int, rates: Any) -> Any:
    """Chance that the interval holds the rate: the binomial probabilities of the counts for which it does."""
    found = [function(k, n) for k in range(n + 1)]
    low, high = np.array([e.low for e in found]), np.array([e.high for e in found])
    held = (low[:, None] <= rates) & (rates <= high[:, None])
    return (binom.pmf(np.arange(n + 1)[:, None], n, rates) * held).sum(axis=0)


def test_wilson_by_hand() -> None:
    """5 of 10, z = 1.96: half-width z sqrt(0.025 + z²/400) / (1 + z²/10) = 0.2634."""
    estimate = wilson(5, 10)
    assert (estimate.value, estimate.n) == (0.5, 10)
    assert (estimate.low, estimate.high) == pytest.approx((0.2366, 0.7634), abs=1e-4)


def test_clopper_pearson_by_hand() -> None:
    """0 of 10: (1 - high)^10 = 0.025. 3 of 10: beta quantiles."""
    none = clopper_pearson(0, 10)
    assert (none.low, none.high) == pytest.approx((0.0, 1 - 0.025**0.1), abs=1e-9)
    some = clopper_pearson(3, 10)
    assert (some.low, some.high) == pytest.approx((beta.ppf(0.025, 3, 8), beta.ppf(0.975, 4, 7)), abs=1e-9)


@pytest.mark.parametrize("function", [wilson, clopper_pearson])
@pytest.mark.parametrize("successes", [0, 7])
def test_none_and_all_keep_an_interval_of_positive_width(function: Callable[..., Estimate], successes: int) -> None:
    estimate = function(successes, 7)
    assert estimate.high - estimate.low > 0.3  # type: ignore[operator]


@pytest.mark.parametrize("n", [5, 20, 100])
def test_clopper_pearson_covers_at_least_its_level_at_every_rate(n: int) -> None:
    assert exact_coverage(clopper_pearson, n, RATES).min() >= 0.95


@pytest.mark.parametrize("n", [20, 100])
def test_wilson_covers_its_level_on_average_over_rates(n: int) -> None:
    assert 0.945 < exact_coverage(wilson, n, RATES).mean() < 0.96


def test_wilson_dips_where_the_docstring_says() -> None:
    """Below the lower bound of 1 success in 100, which is 0.00177, only 0 successes cover: 0.9983^100 = 0.844."""
    assert exact_coverage(wilson, 100, np.array([0.0017]))[0] == pytest.approx(0.844, abs=1e-3)


@pytest.mark.parametrize("function", [wilson, clopper_pearson])
def test_no_trials_is_undefined_rather_than_zero(function: Callable[..., Estimate]) -> None:
    estimate = function(0, 0)
    assert estimate.value is None
    assert estimate.why == "no trials: a proportion of 0 rows is undefined"


@pytest.mark.parametrize("function", [wilson, clopper_pearson])
@pytest.mark.parametrize(
    ("successes", "n", "message"),
    [
        (3, 2, "successes is 3, more than n = 2"),
        (-1, 2, "successes is -1; expected a whole number of at least 0"),
        (0.5, 2, "successes is 0.5; expected a whole number"),
        (1, 2.0, "n is 2.0; expected a whole number"),
        (True, 2, "successes is True; expected a whole number"),
    ],
)
def test_counts_that_are_not_counts_are_refused(
    function: Callable[..., Estimate], successes: Any, n: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        function(successes, n)


def test_numpy_counts_are_taken() -> None:
    assert wilson(np.int64(5), np.int32(10)) == wilson(5, 10)  # type: ignore[arg-type]


def test_difference_by_newcombes_own_example() -> None:
    """Newcombe 1998, method 10: 56 of 70 less 48 of 80."""
    found = difference(wilson(56, 70), wilson(48, 80))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)
    assert found.n == 150


def test_a_difference_with_an_undefined_side_is_undefined_and_levels_must_agree() -> None:
    assert difference(wilson(0, 0), wilson(1, 2)).value is None
    with pytest.raises(InputError, match="expected the same"):
        difference(wilson(1, 2, level=0.9), wilson(1, 2))
