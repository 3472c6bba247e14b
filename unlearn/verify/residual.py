r"""How much of what was to be forgotten is left, on one scale for all measures.

    r   = (m_remedied - m_gold) / (m_subject - m_gold)                  0: as gold; 1: as before; below 0: overshot
    r_a = (m_remedied,a - m_gold,a) / (m_subject - m_gold)              a: an attack, on remedied and gold alike

r is 1 - G of `audit.forgetting.gap`. r_a says which share of the old gap an attack (another prompt, quantisation,
further training) brings back beyond what the same attack draws from a model that never knew. It is divided by the plain
gap and not by that of the attacked subject, so that it is defined where the attack ruins the subject too.

Without a gold model, rows that nobody saw stand in for it, each model against itself:

    r_n = (m_remedied,forget - m_remedied,never) / (m_subject,forget - m_subject,never)

It needs rows from the same draw as the forget rows; it can show that much is left, and never that nothing is. The two
models see the same rows, but forget and never rows are others: where forget rows are easier by themselves, for a model
that saw neither, that difference counts as knowledge here, and stays after a remedy that removed everything. Where they
are harder, so that the subject does not clearly know more of them, nothing is said.

All intervals resample whole clusters (people, passages), the same ones for all models. Source: ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from audit.forgetting.gap import gap_closed, no_gap
from audit.forgetting.measured import Measured, difference, few_passages, joined, paired_bootstrap
from audit.stats.bootstrap import bootstrap
from audit.stats.checks import Floats
from audit.stats.estimate import Estimate

TOLERANCE: Final = 0.2  # share of the subject's gap
Kind = Literal["direct", "prompts", "quantisation", "relearning", "soft prompt", "membership"]


@dataclass(frozen=True, slots=True)
class Ingredient:
    """One residual that a verdict rests on.

    Attributes:
        key: Stable name, dotted: ``knowledge.probability``, ``quantisation.int4``.
        label: In tables.
        kind: "direct" asks as before; the others try to bring the forgotten back.
        at: Confidence level -> the residual; the verdict asks for wider intervals where it looks at many.
        n_seeds: Trainings that the interval is drawn over; 1 where it speaks of one training.
        clear_at: Largest residual that counts as gold's own noise, if not the verdict's tolerance; None where the
            ingredient cannot clear a model, but only warn.
    """

    key: str
    label: str
    kind: Kind
    at: Callable[[float], Estimate]
    n_seeds: int = 1
    clear_at: float | None = TOLERANCE


def residual(
    subject: Measured, remedied: Measured, gold: Measured, *, falls: bool = False, rng: int, level: float = 0.95
) -> Estimate:
    """r; undefined, with the reason, where subject and gold do not differ, or gold knows more than the subject.

    Args:
        subject: Values before the remedy.
        remedied: After it.
        gold: Of the model that never saw the forget set; all on the same items.
        falls: A smaller value says that more is known, as a loss does.
        rng: Seed.
        level: Confidence level, in (0, 1).

    Raises:
        InputError: As `audit.forgetting.measured.joined`.
    """
    closed = gap_closed(subject, remedied, gold, rng=rng, level=level)
    name = closed.method.replace(": gap closed", ": residual")
    why = _wrong_way(subject, gold, falls)
    if closed.value is None or why is not None:
        reason = closed.why if closed.value is None else why
        return Estimate.undefined(method=name, why=reason or "", n=closed.n, level=level)
    low, high = (None, None) if closed.low is None or closed.high is None else (1 - closed.high, 1 - closed.low)
    return replace(closed, value=1 - closed.value, low=low, high=high, method=name)


def recovered(
    subject: Measured,
    gold: Measured,
    remedied_attacked: Measured,
    gold_attacked: Measured,
    *,
    falls: bool = False,
    rng: int,
    level: float = 0.95,
) -> Estimate:
    """r_a; undefined, with the reason, where subject and gold do not differ without the attack.

    Worked: subject .9, gold .1, under attack remedied .5 and gold .1 on every item: r_a = .4 / .8 = 1/2.

    Args:
        subject: Values before the remedy, without the attack.
        gold: Of the model that never saw the forget set, without it.
        remedied_attacked: After the remedy, under the attack.
        gold_attacked: Gold under the same attack.
        falls: A smaller value says that more is known.
        rng: Seed.
        level: Confidence level, in (0, 1).

    Raises:
        InputError: As `audit.forgetting.measured.joined`.
    """
    same = [replace(one, name=subject.name) for one in (subject, gold, remedied_attacked, gold_attacked)]
    values, passages, note = joined(same)
    name = f"{remedied_attacked.name}: recovered share of the gap"
    spread = difference(same[0], same[1], rng=rng, level=level)
    why = no_gap(spread, "subject less gold") or _wrong_way(same[0], same[1], falls)
    if why is not None:
        return Estimate.undefined(method=name, why=why, n=spread.n, level=level)

    def share(t: Floats, r: Floats, ua: Floats, ra: Floats, axis: int = -1) -> Floats:
        return np.asarray((ua - ra).mean(axis=axis) / (t - r).mean(axis=axis))

    with np.errstate(divide="ignore", invalid="ignore"):
        return paired_bootstrap(share, values, passages, name=name, note=note, rng=rng, level=level)


def residual_without_gold(
    subject: tuple[Measured, Measured], remedied: tuple[Measured, Measured], *, rng: int, level: float = 0.95
) -> Estimate:
    """r_n, from each model's values on forget rows and on rows that nobody saw; larger values say that more is known.

    Args:
        subject: Forget, never; before the remedy.
        remedied: The same after it.
        rng: Seed.
        level: Confidence level, in (0, 1).

    Raises:
        InputError: As `audit.forgetting.measured.joined`.
    """
    name = f"{subject[0].name}: residual against rows that nobody saw"
    (t, u), homes, note = joined([subject[0], replace(remedied[0], name=subject[0].name)])
    (tn, un), others, never_note = joined([subject[1], replace(remedied[1], name=subject[1].name)])

    def excess(x: Floats, y: Floats, axis: int = -1) -> Floats:
        return np.asarray(x.mean(axis=axis) - y.mean(axis=axis))

    n = min(len(set(homes)), len(set(others)))
    if n < 2:
        return Estimate.undefined(method=name, why="a single cluster on a side tells nothing", n=n, level=level)
    spread = replace(bootstrap(excess, t, tn, clusters=(homes, others), level=level, rng=rng), n=n)
    why = no_gap(spread, "what the subject gives forget rows less never rows")
    if why is None and (spread.value or 0.0) < 0:
        why = f"the subject knows never rows better than forget rows (difference {spread.value:.3g}): they are easier"
    if why is not None:
        return Estimate.undefined(method=name, why=why, n=n, level=level)
    first, second = np.stack([t, u], axis=1), np.stack([tn, un], axis=1)  # a draw of clusters is one of both models

    def share(x: Floats, y: Floats, axis: int = -1) -> Floats:
        xs, ys = first[x.astype(np.int64)], second[y.astype(np.int64)]
        axis = axis - 1 if axis < 0 else axis
        gaps = xs.mean(axis=axis) - ys.mean(axis=axis)
        return np.asarray(gaps[..., 1] / gaps[..., 0])

    with np.errstate(divide="ignore", invalid="ignore"):
        found = bootstrap(
            share,
            np.arange(len(t), dtype=np.float64),
            np.arange(len(tn), dtype=np.float64),
            clusters=(homes, others),
            level=level,
            rng=rng,
        )
    why = "; ".join(part for part in (found.why, note, never_note, few_passages(found, n)) if part) or None
    return replace(found, n=n, method=f"{name}, {found.method}", why=why)


def _wrong_way(subject: Measured, gold: Measured, falls: bool) -> str | None:
    """Why no residual can be made where gold knows more than the subject, or None."""
    (t, r), _, _ = joined([subject, gold])
    gap = float((t - r).mean())
    if gap == 0 or (gap < 0) == falls:
        return None
    return f"gold knows more than the subject here (difference {gap:.3g}), so there is nothing that was to be forgotten"
