r"""How much of the way from the target model to the retrained one an unlearned model went, and whether the two differ.

    G = (m_target - m_unlearned) / (m_target - m_retrained)

0: nothing changed. 1: as if never trained on the text. Above 1: pushed below what never knew the text, which is itself
a trace. Source: ours; forget quality is TOFU's (Maini et al. 2024, arXiv:2401.06121): the p-value of a two-sample
Kolmogorov-Smirnov test between the statistics of the two models.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..stats.bootstrap import bootstrap
from ..stats.checks import Floats, Seed, generator
from ..stats.estimate import Estimate, PValue
from ..stats.ks import ks_two_sample
from .measured import Measured, difference, few_passages, joined, paired_bootstrap

ROUNDING = 1e-9  # a difference no larger than this, the same in every draw, is rounding


def gap_closed(
    target: Measured, unlearned: Measured, retrained: Measured, *, rng: Seed, level: float = 0.95
) -> Estimate:
    """G with a paired interval: the same passages are drawn for all three models.

    Args:
        target: Values of the model before the remedy.
        unlearned: After it.
        retrained: Of the model that never saw the text.
        rng: Generator or seed; the denominator's interval is drawn from the same.
        level: Confidence level, in (0, 1).

    Returns:
        Undefined, with the reason, where the interval of m_target - m_retrained holds 0, or cannot be made: there is
        then no gap to close. (A difference that is the same in every passage and not 0 has no interval and is a gap.)

    Raises:
        InputError: As `measured.joined`.
    """
    name = f"{target.name}: gap closed"
    values, passages, note = joined([target, unlearned, retrained])
    draws = generator(rng)
    spread = difference(target, retrained, rng=draws, level=level)
    if (why := no_gap(spread, "target less retrained")) is not None:
        return Estimate.undefined(method=name, why=why, n=spread.n, level=level)

    def closed(t: Floats, u: Floats, r: Floats, axis: int = -1) -> Floats:
        return np.asarray((t - u).mean(axis=axis) / (t - r).mean(axis=axis))

    with np.errstate(divide="ignore", invalid="ignore"):  # a draw without a gap is undefined and said to be
        return paired_bootstrap(closed, values, passages, name=name, note=note, rng=draws, level=level)


def no_gap(spread: Estimate, what: str) -> str | None:
    """Why a difference of two models is no gap, with the smallest that would be one, or None.

    Args:
        spread: The difference.
        what: How it is called: "target less retrained".
    """
    if spread.value is None:
        return f"{what} is undefined: {spread.why}"
    power = ""
    if spread.low is None or spread.high is None:
        if spread.n > 1 and abs(spread.value) > ROUNDING:
            return None  # the same in every passage: a gap without an interval
        interval = "has no interval"
    elif spread.low <= 0.0 <= spread.high:
        interval = f"lies in [{spread.low:.4g}, {spread.high:.4g}] (n {spread.n:,})"
        power = f"; one of about {(spread.high - spread.low) / 2:.2g} would be seen with so many"
    else:
        return None
    return f"{what} is {spread.value:.4g} and {interval}, so there is no gap that could be closed{power}"


def beyond_placebo(
    target: Measured,
    retrained: Measured,
    placebo_target: Measured,
    placebo_retrained: Measured,
    *,
    rng: Seed,
    level: float = 0.95,
) -> Estimate:
    """(target - retrained) on the text, less (target - retrained) on a text that neither saw.

    A model trained on one more book also knows its genre better, and shows it on books that it never saw: measures of
    wording, such as exact memorisation, rise there too. What is left is owed to this text. The passages of the two
    texts are drawn independently, both models on the same ones.

    Args:
        target: Values on the text, of the model that saw it.
        retrained: Of the model that did not.
        placebo_target: Values on a text of the same kind that neither saw, of the first model.
        placebo_retrained: Of the second.
        rng: Generator or seed.
        level: Confidence level, in (0, 1).

    Raises:
        InputError: As `measured.joined`.
    """
    (t, r), passages, note = joined([target, retrained])
    (pt, pr), others, placebo_note = joined([placebo_target, placebo_retrained])

    def beyond(x: Floats, y: Floats, axis: int = -1) -> Floats:
        return np.asarray(x.mean(axis=axis) - y.mean(axis=axis))

    found = bootstrap(beyond, t - r, pt - pr, clusters=(passages, others), level=level, rng=rng)
    few = few_passages(found, min(len(set(passages)), len(set(others))))
    why = "; ".join(part for part in (found.why, note, placebo_note, few) if part) or None
    return replace(found, method=f"{target.name}: difference beyond a placebo text, {found.method}", why=why)


class ForgetQuality(NamedTuple):
    """KS distance between the two models' values, with its p-value.

    A small p-value says that the models can be told apart; a large one only that these passages do not suffice to.
    """

    distance: Estimate
    p_value: PValue


def forget_quality(unlearned: Measured, retrained: Measured, *, level: float = 0.95) -> ForgetQuality:
    """Two-sample KS test between two models' values, one value for each passage.

    Departures: the values of one passage are averaged first, because the test supposes independent ones. Both models
    are measured on the same passages. Where their values go up and down together, as they mostly do, the p-value is too
    large rather than too small, and the test sees less than the paired `difference`; where one is high when the other
    is low, it is too small (docs/methods/forgetting.md: 9% at 5% with a correlation of -0.5).

    Args:
        unlearned: Values of one model.
        retrained: Of another, on the same items.
        level: Confidence level of the distance's interval, in (0, 1).

    Raises:
        InputError: As `measured.joined`.
    """
    values, passages, note = joined([unlearned, retrained])
    _, codes = np.unique(np.array(passages, dtype=object).astype(str), return_inverse=True)
    sizes = np.bincount(codes)
    first, second = (np.bincount(codes, weights=one) / sizes for one in values)
    distance, p_value = ks_two_sample(first, second, level=level)
    return ForgetQuality(replace(distance, why=note), p_value)
