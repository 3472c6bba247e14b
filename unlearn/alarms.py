"""What a run's own numbers already say is wrong with its result, in sentences for console, card and report.

Three bounds, all ours. Worse than guessing: a loss above ln(vocabulary), which is that of every token being as likely
as any other. Damage: a loss on held-out text whose paired change has an interval above 0 and is more than `RISE` of
the loss before. Nothing happened: every paired interval holds 0, or the change is below `STIR` of the value before.
Silence means only that none of these was crossed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from audit.report.numbers import estimate as shown
from audit.report.numbers import plain
from audit.runs.schema import EstimateRecord

from .findings import Change
from .watch import FORGET, NAMES, RETAIN

RISE = 0.1
STIR = 0.01


def alarms(found: Mapping[str, Change], missing: Mapping[str, str], *, n_vocabulary: int | None) -> tuple[str, ...]:
    """Sentences that begin with "Warning" or "Note", the gravest first; none where no bound was crossed.

    Args:
        found: Measure -> its change, from `unlearn.findings.changes`.
        missing: Measure -> why it was not measured.
        n_vocabulary: Tokens that the model may say; None where it is not known, and nothing is held against guessing.
    """
    told = [*_broken(found, n_vocabulary), *_damage(found)]
    if found and all(map(_unmoved, found.values())):
        told.append("Warning: nothing measurable changed; a larger rate or more steps are needed.")
    if RETAIN not in found:
        why = missing.get(RETAIN, "nothing was measured")
        told.append(
            f"Note: damage to other text was not measured ({why}). Give --held-out, text like that which is to be kept."
        )
    elif found[RETAIN].after.n == 1:
        told.append(
            f"Note: {NAMES[RETAIN]}, is of one passage ({_ends(found[RETAIN])}), which has no interval. Give "
            "--held-out with more text."
        )
    return tuple(told)


def _broken(found: Mapping[str, Change], n_vocabulary: int | None) -> list[str]:
    told = []
    for name in (FORGET, RETAIN):
        if name not in found:
            continue
        one = found[name]
        before, after = one.before.value, one.after.value
        if after is None and before is not None:
            told.append(f"Warning: {NAMES[name]}: {plain(before)} before, not a number now: this model is broken.")
        elif after is not None and n_vocabulary is not None and after > math.log(n_vocabulary):
            so = "this model is broken" if before is None or before <= math.log(n_vocabulary) else "so it was before"
            was = "" if before is None else f"{plain(before)} before, "
            told.append(
                f"Warning: {NAMES[name]}: {was}{plain(after)} now, worse than guessing among {n_vocabulary:,} tokens "
                f"({math.log(n_vocabulary):.3g}): {so}."
            )
    return told


def _damage(found: Mapping[str, Change]) -> list[str]:
    one = found.get(RETAIN)
    if one is None or one.before.value is None or one.change.value is None or one.change.low is None:
        return []
    share = one.change.value / one.before.value if one.before.value else math.inf
    if one.change.low <= 0 or share <= RISE:
        return []
    return [
        f"Warning: the model lost other text too: {NAMES[RETAIN]}, rose by {shown(EstimateRecord.of(one.change))} "
        f"({share:.0%}, n {one.change.n:,}). A lower rate, fewer steps or a heavier retain term may spare it."
    ]


def _ends(one: Change) -> str:
    return " -> ".join("not a number" if end.value is None else plain(end.value) for end in (one.before, one.after))


def _unmoved(one: Change) -> bool:
    change, before = one.change, one.before.value
    if change.value is None or before is None:
        return False
    held = change.low is not None and change.high is not None and change.low <= 0 <= change.high
    return held or abs(change.value) < STIR * abs(before)
