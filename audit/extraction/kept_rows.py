"""The auditor's rows without their texts: what the comparison needs to know of each, kept as items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from ..runs.store import Run
from ..stats.estimate import Estimate
from .config import ARMS, VIEWS, Arm, MatchPlan, View
from .dealing import Dealing, blind_of, told_by
from .results import Halves, Sets
from .rows import Rows
from .sides import Rows as Counts
from .sides import Side

ROWS = "extraction-rows"
SIDES = ("trained", "held_out")
WORDS = "words_score"


@dataclass(frozen=True, slots=True)
class KeptRows:
    """As they were kept.

    Attributes:
        table: One row for each row of either file, trained ones first.
        dealing: What they say of their division; where a run did not keep the scores of the rows' words, with the AUC
            of their words as it was found.
        repetitions: How often each training row stands in the training set; None for one that is no canary.
    """

    table: pd.DataFrame
    dealing: Dealing
    repetitions: tuple[int | None, ...]

    @property
    def n_trained(self) -> int:
        return self.dealing.n_trained

    def sets(self, view: View, generated: Side, base: Side | None, *, plan: MatchPlan) -> Sets:
        """What is compared in one view, without the texts of rows."""
        words, in_halves = self.table[f"n_words_{view}"].to_numpy(), self.table[f"tested_{view}"].to_numpy(dtype=bool)
        n = self.n_trained
        sides = [
            Side(name, (None,) * len(own), own >= plan.least_words, own)
            for name, own in zip(SIDES, (words[:n], words[n:]), strict=True)
        ]
        halves = Halves(np.flatnonzero(in_halves[:n]), np.flatnonzero(in_halves[n:]))
        return Sets(
            generated=generated,
            trained=sides[0],
            held_out=sides[1].only(np.flatnonzero(sides[1].compared & ~self.dealing.shared)),
            base=base,
            clusters=self.dealing.near[:n],
            held_out_clusters=self.dealing.units[n:],
            units=self.dealing.units,
            halves=halves if in_halves.any() else None,
        )

    def hits_any(self) -> dict[tuple[View, Arm], Counts]:
        """View and arm -> k_j of the rule "any", of training rows."""
        return {
            (view, arm): self.table[name].to_numpy()[: self.n_trained].astype(np.int64)
            for view in VIEWS
            for arm in ARMS
            if (name := f"hits_any_{view}_{arm}") in self.table
        }


def table_of(
    trained: Rows,
    held_out: Rows,
    dealing: Dealing,
    sets: Mapping[View, Sets],
    hits_any: Mapping[tuple[View, Arm], Counts],
) -> pa.Table:
    """One row for each row of either file, trained ones first.

    ``side, id, near, unit`` (labels of near-duplicates, and of what was dealt as one), ``tested``, ``repetitions``,
    ``n_characters``, ``words_score`` (of the check of the rows' words, null where it scored none); by view ``n_words_``
    and ``tested_``; by view and arm ``hits_any_``, the generations above the threshold, null for held-out rows.
    """
    n, m = len(trained), len(held_out)
    columns: dict[str, object] = {
        "side": [SIDES[0]] * n + [SIDES[1]] * m,
        "id": [*trained.ids, *held_out.ids],
        "near": dealing.near,
        "unit": dealing.units,
        "tested": dealing.tested,
        "repetitions": pa.array([*trained.repetitions, *held_out.repetitions], pa.int64()),
        "n_characters": [len(text) for text in (*trained.wholes, *held_out.wholes)],
        WORDS: pa.array(dealing.word_scores, pa.float64(), from_pandas=True),
    }
    for view, own in sets.items():
        in_halves = np.zeros(n + m, dtype=bool)
        if own.halves is not None:
            in_halves[own.halves.trained], in_halves[n + own.halves.held_out] = True, True
        columns[f"n_words_{view}"] = np.concatenate([own.trained.lengths, own.held_out.lengths])
        columns[f"tested_{view}"] = in_halves
    for (view, arm), counts in hits_any.items():
        columns[f"hits_any_{view}_{arm}"] = pa.array([*counts.tolist(), *[None] * m], pa.int64())
    return pa.table(columns)


def read_rows(run: Run, *, why_not: str, by_row: bool, words: Estimate | None, plan: MatchPlan) -> KeptRows:
    """What `table_of` wrote.

    Args:
        run: The run.
        why_not: As `Dealing`.
        by_row: Likewise.
        words: Of the check of the rows' words, as it was found: for runs that kept no scores of them.
        plan: The seed.
    """
    table = run.read_items(ROWS).to_pandas()
    n = int((table["side"] == SIDES[0]).sum())
    near, units = table["near"].to_numpy(), table["unit"].to_numpy()
    tested, first = table["tested"].to_numpy(dtype=bool), np.arange(len(table)) < n
    blind, scores = {}, np.full(len(table), np.nan)
    if WORDS in table:
        scores = table[WORDS].to_numpy(dtype=np.float64)
    if not why_not and len(chosen := told_by(units, tested, first, seed=plan.seed)):
        blind = blind_of(scores[chosen], table["n_characters"].to_numpy()[chosen].tolist(), first[chosen])
        if WORDS not in table:
            blind["bag_of_words_auc"] = words or Estimate.undefined(method="AUC", why="the stored findings lack it")
    shared = np.isin(near[~first], np.intersect1d(near[first], near[~first]))
    dealing = Dealing(n, near, units, tested, why_not, shared, by_row, blind, scores)
    told = table["repetitions"].tolist()[:n]
    return KeptRows(table, dealing, tuple(None if pd.isna(one) else int(one) for one in told))
