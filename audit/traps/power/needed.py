"""How large a design must be, and what a design of a given size could have seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import norm

from ...errors import InputError
from ...stats.checks import count, open_unit
from .design import Design
from .model import SLACK, arm_power, effect_size, rank_power, rank_power_limit, sign_powers

MOST_MEMBERS = 1_000_000  # of an arm, that a design is looked for with
MOST_AUC = 0.99999


def members_needed(
    auc: float,
    *,
    power: float = 0.9,
    alpha: float = 0.05,
    arms: int = 1,
    strata: int = 10,
    decoys_per_member: float = 4.0,
    n_draws: int = 9_999,
) -> Design:
    """The smallest design of even strata whose arm test has that power at this AUC.

    Args:
        auc: Binormal AUC, in (0.5, 1).
        power: Wanted power, in (0, 1).
        alpha, arms, n_draws: As `arm_power`.
        strata: Number of (length, bucket) strata.
        decoys_per_member: Decoys of a stratum for each of its members in one arm, rounded up; above 0.

    Raises:
        InputError: A number is out of range, the test can never reach alpha / arms, or more than a million members
            would be needed.
    """
    open_unit(power, "power")
    _positive_effect(auc)
    if not 0 < decoys_per_member < math.inf:
        raise InputError(f"decoys_per_member is {decoys_per_member}; expected a number above 0, such as 4.")
    level = open_unit(alpha, "alpha") / count(arms, "arms", least=1)
    _above(power, level)
    if level < 1 / (n_draws + 1):
        raise InputError(
            f"alpha {alpha:g} over {arms} arms is {level:.3g}, below the smallest p-value of {n_draws:,} re-dealings, "
            f"{1 / (n_draws + 1):.3g}; no design can reach it. Plan more re-dealings (n_draws) or a larger alpha."
        )

    def even(members: int) -> Design:
        return Design.even(strata, members, math.ceil(members * decoys_per_member - SLACK))

    most = max(1, MOST_MEMBERS // count(strata, "strata", least=1))
    found = _least(lambda m: arm_power(auc, even(m), alpha=alpha, arms=arms, n_draws=n_draws) >= power, most)
    if found is None:
        raise InputError(f"auc is {auc}: more than {MOST_MEMBERS:,} members an arm would be needed to see so little.")
    return even(found)


def decoys_needed(auc: float, *, power: float = 0.9, alpha: float = 0.05) -> int | None:
    """Fewest decoys of one trap's rank test with that power; None where no number below a million is enough.

    Only d = j / alpha - 1 are tried: between these the power falls as d grows.
    """
    _above(open_unit(power, "power"), open_unit(alpha, "alpha"))
    if rank_power_limit(auc, alpha=alpha) <= power:
        return None

    def decoys(j: int) -> int:
        return max(1, math.ceil(j / alpha - SLACK) - 1)

    most = max(1, int(MOST_MEMBERS * alpha))
    found = _least(lambda j: rank_power(auc, decoys(j), alpha=alpha) >= power, most)
    return None if found is None else decoys(found)


def pairs_needed(auc: float, *, power: float = 0.9, alpha: float = 0.05) -> int:
    """Pairs from which on the sign test has that power, also with more; the power of a single n goes up and down.

    Raises:
        InputError: A number is out of range, the AUC is not above 0.5, or more than a million pairs are needed.
    """
    delta = _positive_effect(auc)
    _above(power, alpha)
    rough = ((norm.isf(open_unit(alpha, "alpha")) + norm.ppf(open_unit(power, "power"))) / (2 * auc - 1)) ** 2
    most = int(2 * max(rough, 1)) + 100
    if most > 2 * MOST_MEMBERS:
        raise InputError(f"auc is {auc} (delta {delta:.3g}); more than {MOST_MEMBERS:,} pairs would be needed.")
    below = np.flatnonzero(sign_powers(auc, np.arange(1, most + 1), alpha) < power)
    return int(below[-1]) + 2 if len(below) else 1


def _positive_effect(auc: float) -> float:
    delta = effect_size(auc)
    if delta <= 0:
        raise InputError(f"auc is {auc}; expected above 0.5: at 0.5 or below there is nothing that a test could find.")
    return delta


def _above(power: float, level: float) -> None:
    if power <= level:
        raise InputError(
            f"power is {power:g}, not above the level {level:g} of the test, which it has without any effect; expected "
            "more, such as 0.9."
        )


def _least(enough: Callable[[int], bool], most: int) -> int | None:
    """Least whole number from 1 to ``most`` that is enough, by doubling and halving; ``enough`` is monotone."""
    high = 1
    while not enough(high):
        if high >= most:
            return None
        high = min(2 * high, most)
    low = high // 2  # not enough, or 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


@dataclass(frozen=True, slots=True)
class Detectable:
    """What a design could have seen, whatever it did see.

    Attributes:
        n_members: Of the arm.
        n_decoys: That they are compared with.
        n_strata: Of these.
        alpha: Error rate of the family of arms.
        arms: Tests in it.
        attainable: Smallest p-value of the arm test after Holm's correction, at most 1.
        rank_attainable: Smallest rank p-value of any of its traps, 1 / (1 + decoys of its stratum).
        smallest_auc: Power -> the smallest AUC that the arm test finds with it; None where none is large enough.
        excluded_auc: Chance -> the AUC below which, with that chance, the upper bound of a model that never saw the
            traps lies; None where there are too few traps, or decoys in a stratum, to say "not found" at all.
        method: How these were computed.
    """

    n_members: int
    n_decoys: int
    n_strata: int
    alpha: float
    arms: int
    attainable: float
    rank_attainable: float
    smallest_auc: dict[float, float | None]
    excluded_auc: dict[float, float | None]
    method: str


def detectable(
    design: Design,
    *,
    alpha: float = 0.05,
    arms: int = 1,
    n_draws: int = 9_999,
    level: float = 0.95,
    powers: tuple[float, ...] = (0.8, 0.9),
) -> Detectable:
    """The smallest AUC that an arm could have shown, and the largest that it could have ruled out.

    Excluded: of a model that never saw the traps the AUC is 0.5 + z_q s in the worst of a share q of audits, with the
    null standard error s = sqrt((n1 + n0 + 1) / (12 n1 n0)); the upper bound is DeLong's there on the logit scale,
    with s for the standard error.

    Args:
        design: Members and decoys of the arm.
        alpha, arms, n_draws: As `arm_power`.
        level: Of the AUC's interval.
        powers: Powers and chances that are asked for, each in (0, 1).
    """
    from ..detect import LEAST_DECOYS

    open_unit(level, "level")
    for power in powers:
        _above(open_unit(power, "power"), open_unit(alpha, "alpha") / count(arms, "arms", least=1))
    n1, n0 = design.n_members, design.n_decoys
    error = math.sqrt((n1 + n0 + 1) / (12 * n1 * n0))
    smallest: dict[float, float | None] = {}
    excluded: dict[float, float | None] = {}
    for power in powers:

        def short(auc: float, wanted: float = power) -> float:
            return arm_power(auc, design, alpha=alpha, arms=arms, n_draws=n_draws) - wanted

        found = cast(float, brentq(short, 0.5, MOST_AUC, xtol=1e-6)) if short(0.5) < 0 < short(MOST_AUC) else None
        smallest[power] = found
        seen = 0.5 + norm.ppf(power) * error
        reach = norm.isf((1 - level) / 2) * error / (seen * (1 - seen)) if seen < 1 else math.inf
        enough = min(design.decoys) >= LEAST_DECOYS and n1 >= LEAST_DECOYS and seen < 1
        excluded[power] = float(expit(logit(seen) + reach)) if enough else None
    return Detectable(
        n_members=n1,
        n_decoys=n0,
        n_strata=len(design.members),
        alpha=alpha,
        arms=arms,
        attainable=min(1.0, arms * design.attainable(n_draws)),
        rank_attainable=1 / (1 + max(design.decoys)),
        smallest_auc=smallest,
        excluded_auc=excluded,
        method="binormal scores, arm test by moments of T, Holm counted as alpha / arms; computed, not estimated",
    )
