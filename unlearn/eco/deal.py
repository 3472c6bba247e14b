"""Who sees which rows: nothing is measured on what was tuned on it.

    forget rows     by cluster:   tuning (strength, bound on misses)  |  audit
    retain prompts  by cluster:   training of the classifier          |  the rest, prompt by prompt: calibration | test

The classifier is trained on all forget prompts as they stand in the file, since a guard that is to be used must know
them; its recall is therefore measured on rewordings of the audit rows alone. Calibration and test prompts come from the
same clusters, dealt at random one by one, so that they are exchangeable, which is all that the threshold's promise
rests on: it holds for prompts like those of the retain file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from audit.answers.rows import ChoiceRow, QaRow
from audit.errors import InputError

ForgetRows = Sequence[QaRow] | Sequence[ChoiceRow]


class Shares(NamedTuple):
    """How much goes where.

    Attributes:
        tuning: Of the forget clusters.
        training: Of the retain clusters.
        calibration: Of the retain prompts that are not trained on.
    """

    tuning: float = 0.5
    training: float = 0.4
    calibration: float = 0.5


class Dealt(NamedTuple):
    """Rows by what they are for; each keeps the order of its file."""

    tuning: tuple[QaRow | ChoiceRow, ...]
    audit: tuple[QaRow | ChoiceRow, ...]
    training: tuple[QaRow | ChoiceRow, ...]
    calibration: tuple[QaRow | ChoiceRow, ...]
    test: tuple[QaRow | ChoiceRow, ...]


def deal(forget: ForgetRows, retain: ForgetRows, *, shares: Shares, seed: int) -> Dealt:
    """Deal the rows, the same for the same rows, shares and seed.

    Args:
        forget: Rows about what is to be forgotten, of two clusters or more.
        retain: Rows whose prompts may pass; what is asked by a forget row too is refused. A question with other options
            is another one.
        shares: Each in (0, 1); every part gets one cluster or prompt at least.
        seed: Of the dealing.

    Raises:
        InputError: Too few clusters or rows, a share out of range, or a prompt on both sides.
    """
    for name, share in shares._asdict().items():
        if not 0 < share < 1:
            raise InputError(f"the share for {name} is {share}; expected a number between 0 and 1.")
    _refuse_shared(forget, retain)
    rng = np.random.default_rng(seed)
    tuning, audit = _by_cluster(forget, shares.tuning, rng, "forget")
    training, rest = _by_cluster(retain, shares.training, rng, "retain")
    if len(rest) < 2:
        raise InputError(f"{len(rest)} retain prompts are left for calibration and test; expected 2 or more.")
    n = min(max(round(shares.calibration * len(rest)), 1), len(rest) - 1)
    chosen = set(rng.permutation(len(rest))[:n].tolist())
    calibration = tuple(row for place, row in enumerate(rest) if place in chosen)
    test = tuple(row for place, row in enumerate(rest) if place not in chosen)
    return Dealt(tuning, audit, training, calibration, test)


def _by_cluster(
    rows: ForgetRows, share: float, rng: np.random.Generator, name: str
) -> tuple[tuple[QaRow | ChoiceRow, ...], tuple[QaRow | ChoiceRow, ...]]:
    clusters = list(dict.fromkeys(row.cluster for row in rows))
    if len(clusters) < 2:
        raise InputError(
            f"the {name} rows are {len(rows):,} in {len(clusters)} cluster; expected 2 clusters or more, to tune on "
            'some and measure on others. Give more rows, or a field "cluster" with more values.'
        )
    n = min(max(round(share * len(clusters)), 1), len(clusters) - 1)
    chosen = {clusters[place] for place in rng.permutation(len(clusters))[:n]}
    return tuple(row for row in rows if row.cluster in chosen), tuple(row for row in rows if row.cluster not in chosen)


def _refuse_shared(forget: ForgetRows, retain: ForgetRows) -> None:
    known = {_plain(row.asked) for row in forget}
    both = [row for row in retain if _plain(row.asked) in known]
    if both:
        raise InputError(
            f"{len(both):,} retain prompts stand among the forget prompts, first {both[0].prompt[:60]!r}; expected "
            "none: a prompt cannot be both. Take them out of one file."
        )


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
