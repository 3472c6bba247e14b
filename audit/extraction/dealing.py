"""How rows came to the trained and the held-out half, and whether the one can be tested against the other.

The test deals *units* to the halves again: what was dealt as one. It is exact only for the dealing that was made, so

* where every row of both files has a ``cluster``, these are the units, and none may lie in both halves;
* where none has one and no near-duplicates lie in both halves, near-duplicates are the units;
* where near-duplicates lie in both halves, rows were dealt one by one. Then rows without a near-duplicate anywhere are
  tested, each a unit: what has copies is told from the rows alone, whichever half they fell to. (To leave out only
  those that straddle would keep a popular template where all its copies fell to one half, which is the larger one.)

Canaries and controls were not dealt, so they have no part, nor has what is a near-duplicate of one. Two rows with the
same question are near-duplicates. In no other case is there a test, and the reason is told.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..matching.clusters import near_duplicates, normalised
from ..membership.blind import LEAST_TEXTS, auc_of_words, blind_auc, excludes_half, word_scores
from ..stats.checks import label_codes
from ..stats.estimate import Estimate
from ..stats.stratified import stratified_permutation
from ..text.numbers import p_number
from .config import MatchPlan
from .rows import Rows

Codes = NDArray[np.int64]
Flags = NDArray[np.bool_]
SIZE_LEVEL = 0.001  # p-value below which units of other sizes lie on the two sides
MOST_BLIND = 2_000  # rows of each half that the checks without the model look at


@dataclass(frozen=True, slots=True)
class Dealing:
    """Training rows, then held-out rows: N = N1 + N2 in all.

    Attributes:
        n_trained: N1.
        near: Near-duplicates have one label, shape (N,).
        units: What was dealt as one, a label for each, shape (N,).
        tested: Rows that have a part in the test, shape (N,); none where there is no test.
        why_not: Why there is no test; "" where there is one.
        shared: Held-out rows with a near-duplicate among the training rows, shape (N2,).
        by_row: Whether rows were dealt one by one, so that only those without near-duplicates are tested.
        blind: AUCs of checks that look at the rows of the halves alone.
        word_scores: What the first of these rests on (`audit.membership.blind.word_scores`), shape (N,); NaN for rows
            that it did not score.
    """

    n_trained: int
    near: Codes
    units: Codes
    tested: Flags
    why_not: str
    shared: Flags
    by_row: bool
    blind: dict[str, Estimate]
    word_scores: NDArray[np.float64]

    def tested_in(self, texts: Sequence[str | None]) -> tuple[Codes, Codes]:
        """Places of the tested rows of either half in one view, ascending, each counted in its own half.

        A text that several units hold is as near from both sides, so it is left out wherever it lies.

        Args:
            texts: That view of all rows, shape (N,); None where a text is not compared.
        """
        units_of: dict[str, set[int]] = {}
        plain = [None if text is None else normalised(text) for text in texts]
        for text, unit, use in zip(plain, self.units.tolist(), self.tested.tolist(), strict=True):
            if use and text is not None:
                units_of.setdefault(text, set()).add(unit)
        usable = np.array(
            [
                bool(use) and text is not None and len(units_of[text]) == 1
                for text, use in zip(plain, self.tested, strict=True)
            ],
            dtype=bool,
        )
        return np.flatnonzero(usable[: self.n_trained]), np.flatnonzero(usable[self.n_trained :])

    @property
    def differs(self) -> list[str]:
        """Checks without the model that tell the halves apart."""
        return [name for name, estimate in self.blind.items() if excludes_half(estimate)]


def dealing_of(trained: Rows, held_out: Rows, *, plan: MatchPlan, at_random: bool) -> Dealing:
    """What can be said of the division of these rows.

    Args:
        trained: Rows that were trained on.
        held_out: Rows that were not.
        plan: From where rows are near-duplicates, and the seed.
        at_random: Whether they were divided at random, as the auditor says.
    """
    n, n_trained = len(trained) + len(held_out), len(trained)
    near = _near(trained, held_out, plan)
    first = np.arange(n) < n_trained
    canary = np.array([times is not None for times in (*trained.repetitions, *held_out.repetitions)], dtype=bool)
    told = [*(trained.clusters or [None] * n_trained), *(held_out.clusters or [None] * len(held_out))]
    has = np.array([label is not None for label in told], dtype=bool)
    dealt = ~canary
    straddling = np.intersect1d(near[first], near[~first])
    shared = np.isin(near[~first], straddling)
    all_told = bool(has[dealt].all()) and bool(dealt.any())
    units = _codes([place if label is None else label for place, label in enumerate(told)]) if all_told else near
    tested, by_row, why = dealt & ~np.isin(near, near[canary]), False, ""
    if not at_random:
        why = "the auditor does not say that training and held-out rows were divided at random"
    elif not (dealt & first).any() or not (dealt & ~first).any():
        why = "every row of a half is a canary or a control, which was not dealt"
    elif has[dealt].any() and not has[dealt].all():
        why = 'only some rows have a "cluster", so what was dealt as one is not known'
    elif all_told:
        if len(np.intersect1d(units[first & dealt], units[~first & dealt])):
            why = 'the same "cluster" lies in both halves, so it was not dealt as one'
    elif len(np.intersect1d(near[first & tested], near[~first & tested])):
        by_row = True
        tested &= np.bincount(near)[near] == 1
    if not why:
        why = _sizes_differ(units, tested, first, seed=plan.seed)
    if not why and not ((tested & first).any() and (tested & ~first).any()):
        why = "no rows of both halves are left to be tested"
    blind, scores = {}, np.full(n, np.nan)
    if why:
        tested = np.zeros(n, dtype=bool)
    elif len(chosen := told_by(units, tested, first, seed=plan.seed)):
        texts = [*trained.wholes, *held_out.wholes]
        own = [texts[place] for place in chosen]
        scores[chosen] = word_scores(own, first[chosen], seed=plan.seed)
        blind = blind_of(scores[chosen], [len(text) for text in own], first[chosen])
    return Dealing(n_trained, near, units, tested, why, shared, by_row, blind, scores)


def _near(trained: Rows, held_out: Rows, plan: MatchPlan) -> Codes:
    """Near-duplicates by the whole text, and rows with the same question, joined."""
    wholes = [*trained.wholes, *held_out.wholes]
    alike = near_duplicates(wholes, threshold=plan.near_duplicate, seed=plan.seed)
    asked = _codes([normalised(text) for text in (*trained.questions, *held_out.questions)])
    n = len(wholes)
    left = np.concatenate([np.arange(n), np.arange(n)])
    right = np.concatenate([n + alike, n + alike.max() + 1 + asked])
    size = int(right.max()) + 1
    graph = coo_array((np.ones(2 * n, dtype=bool), (left, right)), shape=(size, size))
    return _codes(connected_components(graph, directed=False)[1][:n].tolist())


def _codes(labels: Sequence[Hashable]) -> Codes:
    return np.asarray(label_codes(labels, "labels", n=len(labels))[0], dtype=np.int64)


def _sizes_differ(units: Codes, tested: Flags, first: Flags, *, seed: int) -> str:
    """Why units of such sizes on the two sides were not dealt at random; "" where they may have been."""
    codes = _codes(units[tested].tolist())
    sizes, inside = np.bincount(codes), np.bincount(codes, weights=first[tested]) > 0
    if inside.all() or not inside.any() or len(np.unique(sizes)) == 1:
        return ""
    found = stratified_permutation(sizes, inside, alternative="two-sided", rng=seed)
    if found.value > SIZE_LEVEL:
        return ""
    return (
        f"what was dealt as one has {sizes[inside].mean():.1f} rows on average among the training rows and "
        f"{sizes[~inside].mean():.1f} among the held-out ones, which no random division explains "
        f"(p = {p_number(found.value)})"
    )


def blind_of(scores: NDArray[np.float64], lengths: Sequence[int], member: Flags) -> dict[str, Estimate]:
    """Can the halves be told apart by their words or by their length, one row of each unit?

    Args:
        scores: Of the words of `told_by`'s rows, shape (n,).
        lengths: In characters.
        member: Which of them were trained on.
    """
    alike = np.zeros(len(member), dtype=np.int64)
    return {
        "bag_of_words_auc": auc_of_words(scores, member, alike),
        "length_auc": blind_auc(np.array(lengths, dtype=np.float64), member, alike),
    }


def told_by(units: Codes, tested: Flags, first: Flags, *, seed: int) -> Codes:
    """Rows that the checks without the model look at; none where they are too few."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.flatnonzero(tested))
    one_each = order[np.sort(np.unique(units[order], return_index=True)[1])]
    chosen = np.concatenate([one_each[first[one_each]][:MOST_BLIND], one_each[~first[one_each]][:MOST_BLIND]])
    member = first[chosen]
    enough: bool = min(member.sum(), (~member).sum()) >= 2 * LEAST_TEXTS
    return np.asarray(chosen if enough else chosen[:0], dtype=np.int64)
