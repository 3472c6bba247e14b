"""Intervals for a proportion: successes out of n independent trials."""

from __future__ import annotations

import math
from typing import Literal

from scipy.stats import binomtest

from ..errors import InputError
from .checks import count, open_unit
from .estimate import Estimate


def wilson(successes: int, n: int, *, level: float = 0.95) -> Estimate:
    """Proportion with the score interval of Wilson (1927), no continuity correction, through scipy.

    It holds its level on average over the true rate, and dips below at some rates near 0 and 1: to 84% for
    n = 100 at a rate of 0.0017. Where the level must hold at every rate, use `clopper_pearson`.

    Worked: 5 of 10 at 95%, z = 1.96: centre (0.5 + z²/20) / (1 + z²/10) = 0.5, half-width
    z sqrt(0.25/10 + z²/400) / (1 + z²/10) = 0.263, so [0.237, 0.763].

    Args:
        successes: Number of successes, 0 to ``n``.
        n: Number of independent trials; 0 gives an undefined estimate.
        level: Confidence level, in (0, 1).

    Raises:
        InputError: A count is negative or not whole, ``successes`` exceeds ``n``, or ``level`` is not in (0, 1).
    """
    return _interval(successes, n, level, "wilson", "proportion, Wilson score interval")


def clopper_pearson(successes: int, n: int, *, level: float = 0.95) -> Estimate:
    """Proportion with the exact interval of Clopper & Pearson (1934), through scipy.

    Its coverage is at least ``level`` at every true rate, by construction, and often more.

    Worked: 0 of 10 at 95%: high solves (1 - high)^10 = 0.025, so [0, 0.308].

    Args, Raises: as `wilson`.
    """
    return _interval(successes, n, level, "exact", "proportion, Clopper-Pearson exact interval")


def difference(a: Estimate, b: Estimate) -> Estimate:
    """Difference of two independent proportions, a - b, with the hybrid interval of Newcombe (1998, method 10).

    low = d - sqrt((a - a_low)^2 + (b_high - b)^2), high = d + sqrt((a_high - a)^2 + (b - b_low)^2), from the Wilson
    intervals of the two.

    Worked (Newcombe's example): 56 of 70 less 48 of 80 is 0.2 with [0.0524, 0.3339].

    Args:
        a: From `wilson`.
        b: Likewise, of the same level.

    Raises:
        InputError: The levels differ.
    """
    name = "difference of proportions, Newcombe's interval from Wilson's"
    if a.level != b.level:
        raise InputError(f"the levels are {a.level} and {b.level}; expected the same.")
    numbers = (a.value, a.low, a.high, b.value, b.low, b.high)
    if None in numbers:
        why = a.why or b.why or "one of the proportions is undefined"
        return Estimate.undefined(method=name, why=why, n=a.n + b.n, level=a.level)
    first, first_low, first_high, second, second_low, second_high = (float(number or 0) for number in numbers)
    value = first - second
    low = value - math.hypot(first - first_low, second_high - second)
    high = value + math.hypot(first_high - first, second - second_low)
    return Estimate(value, low, high, a.level, a.n + b.n, name)


def _interval(successes: int, n: int, level: float, method: Literal["wilson", "exact"], name: str) -> Estimate:
    successes, n = count(successes, "successes", least=0), count(n, "n", least=0)
    open_unit(level, "level")
    if successes > n:
        raise InputError(f"successes is {successes}, more than n = {n}; expected at most n. Were they swapped?")
    if n == 0:
        return Estimate.undefined(method=name, why="no trials: a proportion of 0 rows is undefined", level=level)
    interval = binomtest(successes, n).proportion_ci(confidence_level=level, method=method)
    return Estimate(successes / n, float(interval.low), float(interval.high), level, n, name)
