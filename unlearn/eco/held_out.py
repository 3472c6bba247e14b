"""Prompts that train nothing and choose among a fine-tuned classifier's checkpoints.

Source: the authors' recipe (arXiv:2406.07933) holds a tenth of the prompts out, for all targets but TOFU's, and keeps
the checkpoint with the fewest errors on what is to be forgotten.

Departure: every forget prompt is trained on, since a guard must know them all. Held out are therefore rewordings of the
tuning rows, by templates that neither training nor an evaluation uses, with slips; of the prompts that may pass whole
clusters, reworded alike, so that wording says nothing of the label. Neither calibration nor audit rows are among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from audit.answers.rows import ChoiceRow, QaRow
from audit.errors import InputError

from .deal import Dealt
from .prompts import typo

TEMPLATES: Final = (
    "Here is one for you: {0}",
    "I was hoping that you could help me with this. {0}",
    "{0} I need it for tomorrow.",
)


class HeldOut(NamedTuple):
    """The training prompts that may pass, divided.

    Attributes:
        kept: Rows that are trained on.
        texts: Prompts that are not: rewordings of tuning rows, and of the other rows.
        forget: Whether each is about what is to be forgotten.
    """

    kept: tuple[QaRow | ChoiceRow, ...]
    texts: tuple[str, ...]
    forget: tuple[bool, ...]


def hold_out(dealt: Dealt, *, share: float, seed: int) -> HeldOut:
    """Hold some training prompts out, the same for the same rows, share and seed.

    Args:
        dealt: Who sees which rows.
        share: Of the training clusters of prompts that may pass, in [0, 1); 0 holds nothing out, else one at least.
        seed: Of the choice and of the rewordings.

    Raises:
        InputError: The share is out of range, or there are fewer than two training clusters.
    """
    if not 0 <= share < 1:
        raise InputError(f"the share held out is {share}; expected a number from 0 to below 1.")
    if not share:
        return HeldOut(dealt.training, (), ())
    rng = np.random.default_rng(seed)
    clusters = list(dict.fromkeys(row.cluster for row in dealt.training))
    if len(clusters) < 2:
        raise InputError(
            f"the training prompts that may pass are of {len(clusters)} cluster; expected 2 or more, to hold some out "
            "that choose among the checkpoints. Give more clusters, or hold nothing out (held_out = 0)."
        )
    n = min(max(round(share * len(clusters)), 1), len(clusters) - 1)
    chosen = {clusters[place] for place in rng.permutation(len(clusters))[:n]}
    kept = tuple(row for row in dealt.training if row.cluster not in chosen)
    forget = _reworded(dealt.tuning, rng)
    retain = _reworded([row for row in dealt.training if row.cluster in chosen], rng)
    return HeldOut(kept, (*forget, *retain), (*[True] * len(forget), *[False] * len(retain)))


def _reworded(rows: Sequence[QaRow | ChoiceRow], rng: np.random.Generator) -> list[str]:
    return [typo(TEMPLATES[int(rng.integers(len(TEMPLATES)))].format(row.asked), rng) for row in rows]
