r"""Can an observer who has the model before and after tell which texts were removed?

    s(x) = loss_after(x) - loss_before(x), nats a token        L = P(s of a removed text > s of another) + ties / 2

L of forget against never, and against retain; retain against never shows what the update did beside. A remedy that
does nothing has L = 0.5 exactly, all changes tied. A destroyed model, with one loss for all texts, has the subject's
own membership AUC. **Retraining leaks too**: the loss of what was left out rises. So L is read against L of subject
and gold, on the same texts: above it the remedy marks what it removed more than mere absence does.

After Chen et al. 2021, arXiv:2005.02205 (When Machine Unlearning Jeopardizes Privacy), whose attack learns from the
outputs of both versions of a classifier whether a sample was deleted, and Zanella-Beguelin et al. 2020,
arXiv:1912.07942, who compare snapshots of a language model. Of both only the abstracts were read and their attacks are
not rebuilt: the change of loss alone, without shadow models, is ours, a floor for what an observer can do.

For questions and answers the change of the answer's log-probability is taken through a `System`, so that guards can be
asked: an answer that is refused counts as `membership.NEVER_SAID`, the largest change there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from audit.forgetting.measured import Measured, joined
from audit.stats.checks import Seed, generator
from audit.stats.estimate import Estimate

from ..measures import Measure
from .areas import SmallestSeen, auc, difference, smallest_seen
from .membership import BySet, pair_of
from .texts import PAIRS, Pair, Role


@dataclass(frozen=True, slots=True)
class Leakage:
    """What one update tells of one pair of sets.

    Attributes:
        pair: The sets; the first is supposed to be removed.
        auc: L of the update from before to after.
        of_gold: L of the update from the subject to gold, or None without gold.
        beyond_gold: L less that, on the same texts.
        seen: The smallest distance from 0.5 that sets of this size show.
    """

    pair: Pair
    auc: Estimate
    of_gold: Estimate | None
    beyond_gold: Estimate | None
    seen: SmallestSeen


def changes(before: BySet, after: BySet) -> BySet:
    """s of each text that both models have a score of, in nats a token.

    Args:
        before: Loss or answer scores (mean log-probabilities) of the model before, by set.
        after: Of the model after.

    Raises:
        InputError: As `audit.forgetting.measured.joined`.
    """
    found: dict[Role, Measured] = {}
    for role in before:
        if role not in after or not len(before[role].values) or not len(after[role].values):
            continue
        (old, new), passages, _ = joined([before[role], after[role]])
        left_out = {**before[role].left_out, **after[role].left_out}
        ids = tuple(name for name in before[role].ids if name in set(after[role].ids))
        lost = {name: "one of the two models has no score" for name in before[role].ids if name not in set(ids)}
        name = f"{before[role].name}: before less after"
        found[role] = Measured(name, ids, passages, np.asarray(old - new), left_out | lost)
    return found


def update_leakage(
    subject: BySet, remedied: BySet, gold: BySet | None = None, *, rng: Seed, level: float = 0.95
) -> list[Leakage]:
    """L for each pair of sets, beside that of retraining.

    Args:
        subject: Loss or answer scores before the update.
        remedied: After it.
        gold: Of the retrained model, or None: then it cannot be said what retraining itself would have told.
        rng: Generator or seed.
        level: Confidence level, in (0, 1).

    Raises:
        InputError: As `audit.forgetting.measured.joined`.
    """
    draws = generator(rng)
    moved = changes(subject, remedied)
    of_gold = None if gold is None else changes(subject, gold)
    found = []
    for pair in PAIRS:
        if not all(role in moved for role in pair):
            continue
        first, second = pair_of(moved, pair)
        sizes = (len(first.values), len(second.values), len(set(first.passages)), len(set(second.passages)))
        told = beyond = None
        if of_gold is not None and all(role in of_gold for role in pair):
            told = auc(*pair_of(of_gold, pair), rng=draws, level=level)
            beyond = difference((first, second), pair_of(of_gold, pair), rng=draws, level=level)
        area = auc(first, second, rng=draws, level=level)
        found.append(Leakage(pair, area, told, beyond, smallest_seen(*sizes, level=level)))
    return found


def by_pair(leakages: list[Leakage]) -> Mapping[Pair, Leakage]:
    """The same, to look up."""
    return {one.pair: one for one in leakages}


MEASURES: Final = (
    Measure(
        key="privacy.update_leakage",
        label="update leakage: AUC of the change of loss, forget against never",
        axis="privacy",
        direction="neither",
        low=0.0,
        high=1.0,
        formula="P(loss_after - loss_before of a forget text > of a never text) + ties / 2; read it less that of "
        "subject and gold",
        source="ours, after Chen et al. 2021, arXiv:2005.02205, and Zanella-Beguelin et al. 2020, arXiv:1912.07942",
        failure="0.5 for a remedy that does nothing, the subject's own AUC for a destroyed model; a floor: an attack "
        "that is trained on other updates may tell more",
    ),
)
