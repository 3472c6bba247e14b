r"""PrivLeak: the AUC of Min-40% on forget against held-out text, relative to the retrained model's, in per cent.

    muse             M = P(never > forget) + ties / 2    100 (M_remedied - M_gold) / M_gold
    open-unlearning  A = P(forget > never) + ties / 2    100 ((1 - A_remedied) - (1 - A_gold)) / (1 - A_gold)
    rel-diff         A                                   100 (A_remedied - A_gold) / A_gold

MUSE (Shi et al. 2024, arXiv:2407.06460) labels forget text as the non-member and held-out text as the member; its
released AUCs say so: .0009 for the News target, .4772 for its retrained model, (.0009 - .4772) / .4772 = -99.8%.
open-unlearning computes the AUC with forget as the member and takes 1 - AUC first, with a remark that MUSE has it the
other way round, so that **the two PrivLeaks are one number and only the AUCs beside them differ**. Its ``rel_diff``,
which its ``privleak`` was before that remark, takes the AUC as it is: another sign and another denominator (+91.1% for
the same target). A number without the name of its convention cannot be read.

Under the first two, below 0 is under-unlearned (forget still likelier than held-out text), above 0 over-unlearned; MUSE
wants it within 5 per cent, a range of theirs that no test stands behind. Departures: they add 1e-10 to the
denominator, and a default of 0.5 stands in for a missing retrained model (open-unlearning); here it is undefined. MUSE
takes int(0.4 T) tokens, here at least one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias, get_args

import numpy as np

from audit.errors import InputError
from audit.stats.checks import Floats, choice
from audit.stats.estimate import Estimate

from ..measures import Measure
from .areas import TwoSets, auc, of_areas
from .membership import LABELS, MIN_40

Convention: TypeAlias = Literal["muse", "open-unlearning", "rel-diff"]
CONVENTIONS: Final[tuple[Convention, ...]] = get_args(Convention)
WANTED: Final = (-5.0, 5.0)  # MUSE's, in per cent
SMALL: Final = (
    "a small PrivLeak alone says nothing: a collapsed model has one by chance (plain ascent scores 5.2 on MUSE News)"
)


@dataclass(frozen=True, slots=True)
class PrivLeak:
    """PrivLeak in one convention, with the AUCs in the orientation of that convention.

    Attributes:
        convention: Whose.
        value: In per cent; 0 is as gold.
        auc_remedied: Of the remedied model: M for "muse", A otherwise.
        auc_gold: Of gold, likewise.
    """

    convention: Convention
    value: Estimate
    auc_remedied: Estimate
    auc_gold: Estimate

    @property
    def within_wanted(self) -> bool | None:
        """Whether the whole interval lies in `WANTED`; None where that is open, or the convention is not MUSE's."""
        if self.convention == "rel-diff" or self.value.low is None or self.value.high is None:
            return None
        if WANTED[0] <= self.value.low and self.value.high <= WANTED[1]:
            return True
        return False if self.value.high < WANTED[0] or self.value.low > WANTED[1] else None


def priv_leak_of(auc_remedied: float, auc_gold: float, *, convention: Convention) -> float:
    """PrivLeak in per cent from two AUCs in the orientation of the convention; NaN where the denominator is 0.

    Worked (MUSE News, released AUCs): "muse" .0009 and .4772: -.4763 / .4772 = -99.8; the same AUCs in the other
    orientation are .9991 and .5228: "open-unlearning" -99.8, "rel-diff" .4763 / .5228 = 91.1.

    Args:
        auc_remedied: Of the remedied model, in [0, 1].
        auc_gold: Of the retrained one.
        convention: Whose.

    Raises:
        InputError: An unknown convention, or an AUC outside [0, 1].
    """
    choice(convention, "convention", CONVENTIONS)
    for name, value in (("auc_remedied", auc_remedied), ("auc_gold", auc_gold)):
        if not 0.0 <= value <= 1.0:
            raise InputError(f"{name} is {value}; expected an AUC from 0 to 1.")
    as_member = [1 - auc_remedied, 1 - auc_gold] if convention == "muse" else [auc_remedied, auc_gold]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = float(_STATISTICS[convention]([np.array(value) for value in as_member]))
    return found if np.isfinite(found) else float("nan")


def priv_leak(
    remedied: TwoSets, gold: TwoSets, *, convention: Convention = "muse", rng: int, level: float = 0.95
) -> PrivLeak:
    """PrivLeak with a paired interval: the same clusters of forget and of never texts are drawn for both models.

    Args:
        remedied: Min-40% scores of forget and of never texts (`membership.membership_scores`, `membership.pair_of`).
        gold: Of the retrained model, on the same texts.
        convention: Whose.
        rng: Seed.
        level: Confidence level, in (0, 1).

    Raises:
        InputError: The scores are not Min-40%, an unknown convention, or as `audit.forgetting.measured.joined`.
    """
    choice(convention, "convention", CONVENTIONS)
    expected = f"{LABELS[MIN_40]} score"
    if remedied[0].name != expected:
        raise InputError(f'PrivLeak is defined on "{expected}" and got {remedied[0].name!r}; give that score.')
    name = f"PrivLeak in per cent ({convention}), {remedied[0].name}"
    value = of_areas(_STATISTICS[convention], [remedied, gold], name=name, rng=rng, level=level)
    if value.value is None and value.why is not None and value.why.startswith("the statistic is"):
        value = replace(value, why=f"{value.why}: gold's AUC in this convention's denominator is 0 there")
    elif value.value is not None:
        value = replace(value, why="; ".join(part for part in (value.why, SMALL) if part))
    areas = [auc(*model, rng=rng, level=level) for model in (remedied, gold)]
    if convention == "muse":
        areas = [_turned(one) for one in areas]
    return PrivLeak(convention, value, *areas)


def _turned(area: Estimate) -> Estimate:
    """1 - A, its bounds exchanged."""
    value, low, high = (None if x is None else 1 - x for x in (area.value, area.high, area.low))
    return replace(area, value=value, low=low, high=high, method=f"1 - {area.method}")


def _relative(of_model: Callable[[Floats], Floats]) -> Callable[[list[Floats]], Floats]:
    def percent(areas: list[Floats]) -> Floats:
        remedied, gold = (of_model(area) for area in areas)
        return np.asarray(100 * (remedied - gold) / gold)

    return percent


# Each from A of the remedied model and of gold, forget as the member.
_STATISTICS: Final[dict[Convention, Callable[[list[Floats]], Floats]]] = {
    "muse": _relative(lambda area: np.asarray(1 - area)),
    "open-unlearning": _relative(lambda area: np.asarray(1 - area)),
    "rel-diff": _relative(lambda area: area),
}

MEASURES: Final = (
    Measure(
        key="privacy.priv_leak",
        label="PrivLeak, %",
        axis="privacy",
        direction="less is known",
        low=None,
        high=None,
        formula="100 (M_remedied - M_gold) / M_gold, M = P(Min-40% of a never text > of a forget text); wanted: near 0",
        source="MUSE, arXiv:2407.06460, and its released AUCs; open-unlearning's code has the same number from 1 - AUC",
        failure="Near 0 for a collapsed model by chance; its range hangs on gold's AUC, -100 to 100 (1 / M_gold - 1); "
        "open-unlearning's rel_diff has another sign and denominator",
    ),
)
