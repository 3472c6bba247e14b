"""The extraction audit, from generations and rows to findings: views -> maxima -> threshold -> rates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import DataError, InputError
from ..progress import Progress, silent
from ..runs.records import content_key
from ..runs.schema import AuditSection
from ..runs.shards import ShardedTable, remove_parts
from ..runs.store import Run
from .config import ARMS, VIEWS, MatchPlan, View
from .dealing import Dealing, dealing_of
from .findings import views_first
from .from_maxima import EVERY, MATCHES, MAXIMA, Given, Looked, needed, section_of, side_of, unusable
from .kept_rows import ROWS, table_of
from .match import PART_PAIRS, PART_TEXTS, Encode, Index
from .maxima import NEAREST, Maxima
from .pairs import match_table
from .results import Halves, Sets
from .rows import Rows
from .sides import Nearest, Searched, Side
from .sides import Rows as Places

PARTS = "extraction-search-"


@dataclass(frozen=True, slots=True)
class Compared:
    """Generations and rows that are compared.

    Attributes:
        generations: Table of `audit.extraction.sample.SCHEMA`.
        trained: Rows that were trained on.
        held_out: Rows of the same source that were not.
        base: Generations of the base model with the same prefix, or None.
        divided_at_random: Whether trained and held-out rows were divided at random, as the auditor says; only then is
            there a test of the one against the other.
        dealing: What the rows say of their division, where it is known already.
    """

    generations: pa.Table
    trained: Rows
    held_out: Rows
    base: pa.Table | None = None
    divided_at_random: bool = True
    dealing: Dealing | None = None


def audit_extraction(
    run: Run,
    compared: Compared,
    *,
    encode: Encode,
    encoder: str,
    truncated: Mapping[str, int] | None = None,
    plan: MatchPlan,
    threshold: float | None = None,
    progress: Progress = silent,
) -> AuditSection:
    """Compare, calibrate, and say what was found.

    Args:
        run: Where items are kept, and finished parts of the search, so that an interrupted audit goes on.
        compared: Generations and rows.
        encode: Embeds texts; called with the same texts more than once, so a cache behind it pays.
        encoder: What to call the encoder.
        truncated: "texts", "truncated" and "unseen", asked after all was embedded.
        plan: What counts, fixed beforehand.
        threshold: A cosine given beforehand instead of a calibrated one; the string arms are calibrated all the same.
        progress: Called as the work goes on.

    Raises:
        DataError: There are no generations, or rows that cannot be compared.
        InputError: There are too few held-out rows for the false-positive rate.
    """
    if not compared.generations.num_rows:
        raise DataError("there are no generations to compare. Sample some with `palimpsest extract sample`.")
    dealing = compared.dealing or dealing_of(
        compared.trained, compared.held_out, plan=plan, at_random=compared.divided_at_random
    )
    check_rows(compared.trained, compared.held_out, dealing, plan=plan)
    generations = compared.generations.to_pandas()
    base = None if compared.base is None else compared.base.to_pandas()
    kept, skipped = {}, {}
    for view in views_first(plan.primary, VIEWS):
        sets = _sets(compared, generations, base, dealing, view, plan)
        why = unusable(sets, plan)
        if why:
            skipped[view] = why
        else:
            kept[view] = sets
    if plan.primary in skipped:
        raise InputError(f'the view "{plan.primary}": {skipped[plan.primary]}.')
    todo, done = len(ARMS) * sum(map(_searches, kept.values())), 0
    maxima = Maxima()

    def on_done(more: int) -> None:
        nonlocal done
        done += more
        progress("Comparing (texts)", done, todo)

    def looked() -> Iterator[tuple[View, Looked]]:
        """View by view, so that the rows of one are held at a time, beside those of the primary one."""
        for view, sets in kept.items():

            def index_of(side: Side, name: str, view: View = view) -> Searched:
                index = Index(
                    side, f"{view}-{name}", encode=encode, plan=plan, open_parts=partial(_parts, run), on_done=on_done
                )
                return maxima.keeping(view, name, index)

            index = index_of(sets.trained, "rows")
            halves = None
            if sets.halves is not None:
                halves = (
                    index_of(sets.trained.only(sets.halves.trained), "trained"),
                    index_of(sets.held_out.only(sets.halves.held_out), "held-out"),
                )
            yield view, Looked(sets, index, halves)

    def changed(places: Places) -> Side:
        texts = [_changed(str(kept[plan.primary].trained.texts[place])) for place in places]
        return Side.of("changed", texts, least_words=1)

    def matches(sets: Sets, nearest: Nearest, hit: NDArray[np.bool_]) -> pd.DataFrame:
        return match_table(
            sets.generated,
            sets.trained,
            nearest,
            hit,
            ids=generations["id"].tolist(),
            row_ids=compared.trained.ids,
            clusters=sets.clusters.tolist(),
        )

    found = section_of(
        looked(),
        Given(
            generations=generations,
            base=base,
            dealing=dealing,
            repetitions=compared.trained.repetitions,
            skipped=skipped,
            seen=lambda: truncated or {},
            encoder=encoder,
            changed=changed,
            matches=matches,
        ),
        plan=plan,
        threshold=threshold,
    )
    every = kept | {view: _sets(compared, generations, base, dealing, view, plan) for view in skipped}
    rows = table_of(compared.trained, compared.held_out, dealing, every, maxima.hits_any)
    for name, table in ((MATCHES, found.matches), (MAXIMA, found.maxima)):
        run.write_items(name, pa.Table.from_pandas(table, preserve_index=False))
    run.write_items(ROWS, rows)
    run.write_items(NEAREST, maxima.table())
    return found.section


def check_rows(trained: Rows, held_out: Rows, dealing: Dealing, *, plan: MatchPlan) -> None:
    """Everything about rows that can be refused before anything is sampled or embedded.

    Raises:
        DataError: No training row can be compared, or every held-out row is a training row too.
        InputError: There are too few held-out rows for the false-positive rate.
    """
    sides = [Side.of("rows", rows.of_view(plan.primary), least_words=plan.least_words) for rows in (trained, held_out)]
    if not sides[0].compared.any():
        raise DataError(
            f"{trained.source}: none of {len(trained):,} rows has {plan.least_words} words in the view "
            f'"{plan.primary}"; nothing can be compared. Lower --least-words (least_words), or choose another view.'
        )
    if dealing.shared.all():
        raise DataError(
            f"{held_out.source}: all {len(held_out):,} held-out rows are near-duplicates of training rows. Is it the "
            "same file twice?"
        )
    usable = sides[1].compared & ~dealing.shared
    n = len(np.unique(dealing.units[len(trained) :][usable]))
    if n < (least := needed(plan)):
        raise InputError(
            f"{held_out.source}: {n:,} held-out rows can be used, of {len(held_out):,}: those with {plan.least_words} "
            f"words, no near-duplicate among the training rows, and one of each cluster. A false-positive rate of "
            f"{plan.target:g} needs {least:,}, half of them to set the threshold and half to check it. Hold out more "
            "rows, or raise --target (target)."
        )


def _sets(
    compared: Compared,
    generations: pd.DataFrame,
    base: pd.DataFrame | None,
    dealing: Dealing,
    view: View,
    plan: MatchPlan,
) -> Sets:
    n_trained = len(compared.trained)
    trained = Side.of("trained", compared.trained.of_view(view), least_words=plan.least_words)
    every = Side.of("held_out", compared.held_out.of_view(view), least_words=plan.least_words)
    halves = None
    if not dealing.why_not:
        texts = [*trained.texts, *every.texts]
        long_enough = np.concatenate([trained.compared, every.compared])
        tested = dealing.tested_in([text if use else None for text, use in zip(texts, long_enough, strict=True)])
        halves = Halves(*tested) if all(len(half) for half in tested) else None
    return Sets(
        generated=side_of("generated", generations, view, plan),
        trained=trained,
        held_out=every.only(np.flatnonzero(every.compared & ~dealing.shared)),
        base=None if base is None else side_of("base", base, view, plan),
        clusters=dealing.near[:n_trained],
        held_out_clusters=dealing.units[n_trained:],
        units=dealing.units,
        halves=halves,
    )


def _changed(text: str) -> str:
    words = text.split()
    left = [word for place, word in enumerate(words, start=1) if place % EVERY]
    return " ".join(left) if len(left) < len(words) else text[: -max(1, len(text) // EVERY)] or text


def _parts(run: Run, name: str, n_parts: int) -> ShardedTable:
    """Where finished parts of a search lie; the run's plan and inputs say what is searched for."""
    return run.shards(f"{PARTS}{name}", key=content_key(name=name, sizes=[PART_TEXTS, PART_PAIRS]), n_parts=n_parts)


def remove_search_parts(run: Run) -> None:
    """What only served to go on with an interrupted comparison."""
    for folder in sorted((run.folder / "parts").glob(f"{PARTS}*")):
        remove_parts(folder)


def _searches(sets: Sets) -> int:
    """Texts that each arm searches for: all sets in all rows, and generations in both halves."""
    sampled = [side for side in (sets.generated, sets.base) if side is not None]
    n_sampled = sum(int(side.compared.sum()) for side in sampled)
    return n_sampled * (3 if sets.halves is not None else 1) + int(sets.held_out.compared.sum())
