"""Between which strengths a metric crosses its target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy.stats import f as f_distribution

from audit.stats.checks import Floats


class Bracket(NamedTuple):
    """Neighbouring measured strengths; ``how`` the metric goes between them.

    "falls" from knowing too much to knowing too little, "rises" back, "arrives" at the target and stays for all
    stronger ones, "touches" the target and turns back.
    """

    low: float
    high: float
    how: Literal["falls", "rises", "arrives", "touches"]


def noise_band(values: Floats) -> float:
    """Three standard errors of a mean over noise seeds, pooled over strengths; values (n_strengths, n_seeds).

    Of 12 means without a gap one is outside in 1 scan of 14 (t, 24 degrees of freedom); with two errors in every other.
    """
    return 3 * float(np.sqrt(values.var(axis=1, ddof=1).mean() / values.shape[1]))


def brackets(strengths: Sequence[float], gaps: Floats, band: float) -> list[Bracket]:
    """All crossings, in ascending order.

    A mean within ``band`` of its target is at it, neither above nor below: noise about a target that the metric
    reaches and keeps (chance level) is no crossing.

    Args:
        strengths: Ascending, n of them.
        gaps: The metric less its target at each, shape (n,), above 0 where the model knows too much.
        band: From `noise_band`.
    """
    states = [0 if abs(gap) <= band else 1 if gap > 0 else -1 for gap in gaps]
    found: list[Bracket] = []
    last: int | None = None  # the last place that was clearly on one side
    for place, state in enumerate(states):
        if state == 0:
            continue
        if last is not None and (state != states[last] or place > last + 1):
            how: Literal["falls", "rises", "touches"] = (
                "touches" if state == states[last] else "falls" if state < 0 else "rises"
            )
            found.append(Bracket(strengths[last], strengths[place], how))
        last = place
    if last is not None and last + 1 < len(states):
        found.append(Bracket(strengths[last], strengths[last + 1], "arrives"))
    return found


def depends_on_strength(values: Floats, *, alpha: float = 0.001) -> bool:
    """Whether an F test with the seeds as blocks tells strengths apart; values (n_strengths, n_seeds).

    The seeds are common to all strengths, so that what a seed does everywhere is no noise (two-way analysis of
    variance without replication).
    """
    n_strengths, n_seeds = values.shape
    if n_strengths < 2:
        return False
    by_strength = values.mean(axis=1, keepdims=True)
    by_seed = values.mean(axis=0, keepdims=True)
    between = n_seeds * float(((by_strength - values.mean()) ** 2).sum()) / (n_strengths - 1)
    rest = values - by_strength - by_seed + values.mean()
    within = float((rest**2).sum()) / ((n_strengths - 1) * (n_seeds - 1))
    rounding = 1e-20 * max(1.0, float(np.abs(values).max()) ** 2)
    if between <= rounding:
        return False
    if within <= rounding:
        return True
    degrees = n_strengths - 1, (n_strengths - 1) * (n_seeds - 1)
    return bool(f_distribution.sf(between / within, *degrees) < alpha)
