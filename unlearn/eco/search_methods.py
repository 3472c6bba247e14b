r"""How strengths are proposed: each method yields a strength and is sent what was measured there.

    published, distance    sigma <- max(sigma - eta g, lower),  g = [h(sigma + mu) - h(sigma - mu)] / (2 mu)
    bisection              halves a bracket of log10 sigma
    ngopt                  nevergrad's NGOpt on log10 sigma inside a bracket

h is the raw metric in the released script and the distance d in the abstract of arXiv:2406.07933. sigma - mu is
replaced by 1e-8 where it is less, and the divisor stays 2 mu, as in that script.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np

Proposals = Generator[float, float, None]

_LEAST: Final = 1e-8


def descent(
    *, start: float, mu: float, eta: float, steps: int, lower: float, upper: float, stop_below: float | None
) -> Generator[float, float, tuple[float, int]]:
    """The finite difference. Sent h, it returns the strength that it ends with and how often ``upper`` held it back.

    It stops after the step in which h(sigma + mu) < ``stop_below``; that step is still taken, as in the script.
    Departure: the script has no ``upper``.
    """
    sigma, held = start, 0
    for _ in range(steps):
        ahead_at = min(sigma + mu, upper)
        ahead = yield ahead_at
        behind = yield max(sigma - mu, _LEAST)
        sigma = max(sigma - eta * (ahead - behind) / (2 * mu), lower)
        if sigma > upper:
            sigma, held = upper, held + 1
        if stop_below is not None and ahead < stop_below:
            break
    return sigma, held


def log_grid(lower: float, upper: float, n: int) -> list[float]:
    """n strengths, both ends included, even in log10.

    nevergrad's one-shot ScrHammersleySearch is an even grid too in one dimension, but leaves out the ends.
    """
    return [within(u, lower, upper) for u in np.linspace(math.log10(lower), math.log10(upper), n)]


def bisection(low: float, high: float, *, falls: bool, steps: int) -> Proposals:
    """Sent the gap (above 0: knows too much) at each strength; ``falls`` from ``low`` to ``high``, or rises."""
    a, b = math.log10(low), math.log10(high)
    for _ in range(steps):
        middle = (a + b) / 2
        gap = yield within(middle, low, high)
        if (gap > 0) == falls:
            a = middle
        else:
            b = middle


def ngopt(low: float, high: float, *, start: float, budget: int, seed: int) -> Proposals:
    """Sent the distance at each strength. Whatever nevergrad raises comes out of ``next`` and ``send``.

    One worker, and the function said to be deterministic, which it is under common random numbers: with more workers
    its last release raises TypeError under numpy 2.4, and a noisy function needs a package that it does not declare.
    Its solver runs in a thread of its own between a ``tell`` and the next ``ask``, so that both stand together under
    one filter of warnings; close the generator, or the thread waits for ever.
    """
    with _quiet():
        import nevergrad

        place = nevergrad.p.Scalar(init=math.log10(start), lower=math.log10(low), upper=math.log10(high))
        place.random_state = np.random.RandomState(seed)
        optimizer = nevergrad.optimizers.NGOpt(parametrization=place, budget=budget, num_workers=1)
        candidate = optimizer.ask()
    for left in range(budget - 1, -1, -1):
        distance = yield within(float(candidate.value), low, high)
        if left:
            with _quiet():
                optimizer.tell(candidate, distance)
                candidate = optimizer.ask()


def within(log10_strength: float, low: float, high: float) -> float:
    """A strength of four significant digits, so that nearly equal ones are measured once; inside [low, high]."""
    return min(max(float(f"{10**log10_strength:.4g}"), low), high)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
