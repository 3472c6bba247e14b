"""The extraction audit, from generations and rows to findings: views -> maxima -> threshold -> rates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import DataError, InputError
from ..matching.clusters import near_duplicates
from ..progress import Progress, silent
from ..runs.records import content_key
from ..runs.schema import AuditSection
from ..runs.shards import ShardedTable, remove_parts
from ..runs.store import Run
from ..stats.estimate import Estimate
from ..stats.proportion import wilson
from .config import ARMS, STRING_THRESHOLDS, VIEWS, MatchPlan, View
from .findings import AUDIT, Counts, canary_rates, make_section, views_first
from .match import PART_PAIRS, PART_TEXTS, Encode, Index, Nearest, Side
from .pairs import match_table
from .results import Result, Sets, equal_halves, negatives_of, result
from .rows import Rows
from .undercount import undercount, undercount_at_equal_rate

PARTS = "extraction-search-"


@dataclass(frozen=True, slots=True)
class Compared:
    """Generations and rows that are compared.

    Attributes:
        generations: Table of `audit.extraction.sample.SCHEMA`.
        trained: Rows that were trained on.
        held_out: Rows of the same source that were not; None leaves out calibration, so a threshold is needed.
        base: Generations of the base model with the same prefix, or None.
        divided_at_random: Whether trained and held-out rows were divided at random by cluster; only then is there a
            test of the one against the other.
    """

    generations: pa.Table
    trained: Rows
    held_out: Rows
    base: pa.Table | None = None
    divided_at_random: bool = True


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
        truncated: "texts" and "truncated", asked after all was embedded.
        plan: What counts, fixed beforehand.
        threshold: A cosine given beforehand instead of a calibrated one; the string arms are calibrated all the same.
        progress: Called as the work goes on.

    Raises:
        DataError: There are no generations, or rows that cannot be compared.
        InputError: There are too few held-out rows for the false-positive rate.
    """
    if not compared.generations.num_rows:
        raise DataError("there are no generations to compare. Sample some with `palimpsest extract sample`.")
    check_rows(compared.trained, compared.held_out, plan=plan)
    generations = compared.generations.to_pandas()
    clusters = _clusters(compared, plan)
    n_trained = len(compared.trained)
    shared = np.isin(clusters[n_trained:], clusters[:n_trained])
    kept = {
        view: _sets(compared, generations, clusters, shared, view, plan) for view in views_first(plan.primary, VIEWS)
    }
    todo, done = len(ARMS) * sum(map(_searches, kept.values())), 0

    def on_done(more: int) -> None:
        nonlocal done
        done += more
        progress("Comparing (texts)", done, todo)

    results: list[Result] = []
    nearest_of: dict[tuple[View, str], dict[str, Nearest]] = {}
    for view, sets in kept.items():

        def index_of(side: Side, name: str, view: View = view) -> Index:
            return Index(
                side, f"{view}-{name}", encode=encode, plan=plan, open_parts=partial(_parts, run), on_done=on_done
            )

        index = index_of(sets.trained, "rows")
        halves = None
        if sets.halves is not None and len(sets.halves.trained) and len(sets.halves.held_out):
            halves = (
                index_of(sets.trained.only(sets.halves.trained), "trained"),
                index_of(sets.held_out.only(sets.halves.held_out), "held-out"),
            )
        sides = {side.name: side for side in (sets.generated, sets.held_out, sets.base) if side is not None}
        for arm in ARMS:
            nearest = {name: index.nearest(side, arm) for name, side in sides.items()}
            nearest_of[view, arm] = nearest
            given = threshold if arm == "embedding" else None
            results.append(result(view, arm, sets, index, nearest, halves, plan=plan, threshold=given))
    main = next(one for one in results if (one.view, one.arm) == (plan.primary, "embedding"))
    string = next(one for one in results if (one.view, one.arm) == (plan.primary, "levenshtein"))
    sets = kept[plan.primary]
    matches = match_table(
        sets.generated,
        sets.trained,
        nearest_of[plan.primary, "embedding"]["generated"],
        main.rated.hit,
        ids=generations["id"].tolist(),
        row_ids=compared.trained.ids,
        clusters=sets.clusters,
    )
    _write(run, matches, sets, nearest_of[plan.primary, "embedding"], main)
    lev = nearest_of[plan.primary, "levenshtein"]
    said = (truncated or {}).get
    return make_section(
        results,
        counts=Counts(
            generations=len(generations),
            rejects=Counter(generations["reject"].dropna().map(lambda reason: str(reason).split(":")[0])),
            short=int((~sets.generated.compared & (sets.generated.lengths > 0)).sum()),
            rows=n_trained,
            short_rows=int((~sets.trained.compared).sum()),
            shared=int(shared.sum()),
            truncated=said("truncated") or 0,
            embedded=said("texts") or 0,
        ),
        plan=plan,
        canaries=_canaries(main, compared.trained, plan),
        undercounts={
            "at_equal_rate": _at_equal_rate(sets, nearest_of, plan),
            "at_thresholds": undercount(main.rated.hit, string.rated.hit, seed=plan.seed, level=plan.level),
        },
        string_rates={
            f"Levenshtein at least {cut:g}": wilson(
                int((np.nan_to_num(lev["generated"].similarity) >= cut).sum()), len(generations), level=plan.level
            )
            for cut in STRING_THRESHOLDS
        },
        matches=matches,
        encoder=encoder,
    )


def check_rows(trained: Rows, held_out: Rows, *, plan: MatchPlan) -> None:
    """Everything about rows that can be refused before anything is sampled or embedded.

    Raises:
        DataError: No training row can be compared.
        InputError: There are too few held-out rows for the false-positive rate.
    """
    long_enough, held = (
        sum(len(text.split()) >= plan.least_words for text in rows.of_view(plan.primary))
        for rows in (trained, held_out)
    )
    if not long_enough:
        raise DataError(
            f"{trained.source}: none of {len(trained):,} rows has {plan.least_words} words in the view "
            f'"{plan.primary}"; nothing can be compared. Lower least_words, or choose another view.'
        )
    if held < 2 * (1 / plan.target - 1):
        raise InputError(
            f"{held_out.source}: {held:,} held-out rows are long enough; a false-positive rate of {plan.target:g} "
            f"needs at least {int(np.ceil(2 * (1 / plan.target - 1))):,}, half of them to set the threshold and half "
            "to check it. Hold out more rows, or raise the rate."
        )


def _clusters(compared: Compared, plan: MatchPlan) -> NDArray[np.int64]:
    """Cluster of each training row and then of each held-out row, by their whole texts."""
    texts = [*compared.trained.wholes, *compared.held_out.wholes]
    return near_duplicates(texts, threshold=plan.near_duplicate, seed=plan.seed)


def _units(rows: Rows, clusters: NDArray[np.int64]) -> list[Hashable]:
    """What was dealt as one: as the rows tell, else near-duplicates."""
    return [
        int(near) if told is None else told
        for told, near in zip(rows.clusters or [None] * len(rows), clusters, strict=True)
    ]


def _sets(
    compared: Compared,
    generations: pd.DataFrame,
    clusters: NDArray[np.int64],
    shared: NDArray[np.bool_],
    view: View,
    plan: MatchPlan,
) -> Sets:
    n_trained = len(compared.trained)
    held_out = [None if drop else text for text, drop in zip(compared.held_out.of_view(view), shared, strict=True)]

    def sampled(name: str, table: pd.DataFrame) -> Side:
        texts = [text if isinstance(text, str) else None for text in table[view]]
        return Side.of(name, texts, least_words=plan.least_words)

    sets = Sets(
        generated=sampled("generated", generations),
        trained=Side.of("trained", compared.trained.of_view(view), least_words=plan.least_words),
        held_out=Side.of("held_out", held_out, least_words=plan.least_words),
        base=None if compared.base is None else sampled("base", compared.base.to_pandas()),
        clusters=clusters[:n_trained].tolist(),
        held_out_clusters=clusters[n_trained:].tolist(),
        units=_units(compared.trained, clusters[:n_trained]),
        held_out_units=_units(compared.held_out, clusters[n_trained:]),
        aside=np.array([n is not None for n in compared.trained.repetitions], dtype=bool)
        | np.isin(clusters[:n_trained], clusters[n_trained:]),
        halves=None,
    )
    return replace(sets, halves=equal_halves(sets, seed=plan.seed)) if compared.divided_at_random else sets


def _at_equal_rate(
    sets: Sets, nearest_of: Mapping[tuple[View, str], Mapping[str, Nearest]], plan: MatchPlan
) -> Estimate:
    arms = [nearest_of[plan.primary, arm] for arm in ("embedding", "levenshtein")]
    embed, string = (negatives_of(sets, arm)[0].maxima for arm in arms)
    return undercount_at_equal_rate(
        arms[0]["generated"].similarity,
        arms[1]["generated"].similarity,
        embed,
        string,
        target=plan.target,
        seed=plan.seed,
        level=plan.level,
    )


def _canaries(main: Result, rows: Rows, plan: MatchPlan) -> dict[int, Estimate]:
    known = [place for place, n in enumerate(rows.repetitions) if n is not None]
    if not known:
        return {}
    times = [int(rows.repetitions[place] or 0) for place in known]
    return canary_rates(main.hits_on[known], times, level=plan.level)


def _write(run: Run, matches: pd.DataFrame, sets: Sets, nearest: Mapping[str, Nearest], main: Result) -> None:
    """Matches, and the maxima of the view and arm of the verdict, each beside the threshold of its length."""
    run.write_items(f"{AUDIT}-matches", pa.Table.from_pandas(matches, preserve_index=False))
    sides = {side.name: side for side in (sets.generated, sets.held_out, sets.base) if side is not None}
    maxima = [
        pa.table(
            {
                "set": [name] * len(one.similarity),
                "similarity": one.similarity,
                "threshold": main.calibration.thresholds(sides[name].lengths),
                "n_words": sides[name].lengths,
            }
        )
        for name, one in nearest.items()
    ]
    run.write_items(f"{AUDIT}-maxima", pa.concat_tables(maxima))


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
    has_halves = sets.halves is not None and len(sets.halves.trained) and len(sets.halves.held_out)
    return n_sampled * (3 if has_halves else 1) + int(sets.held_out.compared.sum())
