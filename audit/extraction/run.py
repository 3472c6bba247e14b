"""The extraction audit, from generations and rows to findings: views -> maxima -> threshold -> rates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import DataError, InputError
from ..matching.clusters import near_duplicates
from ..progress import Progress, silent
from ..runs.schema import AuditSection
from ..runs.store import Run
from ..stats.estimate import Estimate
from ..stats.proportion import wilson
from .config import ARMS, STRING_THRESHOLDS, VIEWS, MatchPlan, View
from .findings import AUDIT, Counts, canary_rates, make_section, views_first
from .match import Encode, Index, Nearest, Side, all_nearest
from .pairs import match_table
from .results import Result, Sets, equal_halves, negatives_of, result
from .rows import Rows
from .undercount import undercount, undercount_at_equal_rate


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
        run: Where items are kept.
        compared: Generations and rows.
        encode: Embeds texts; called once for each view and set, and again for the halves.
        encoder: What to call the encoder.
        truncated: "texts" and "truncated", asked after all was embedded.
        plan: What counts, fixed beforehand.
        threshold: A cosine given beforehand instead of a calibrated one; the string arms are calibrated all the same.
        progress: Called as the work goes on.

    Raises:
        DataError: There are no generations, or rows that cannot be compared.
        InputError: There are too few held-out rows for the false-positive rate.
    """
    check_inputs(compared, plan=plan)
    generations = compared.generations.to_pandas()
    clusters = _clusters(compared, plan)
    n_trained = len(compared.trained)
    shared = np.isin(clusters[n_trained:], clusters[:n_trained])
    results: list[Result] = []
    nearest_of: dict[tuple[View, str], dict[str, Nearest]] = {}
    views = views_first(plan.primary, VIEWS)
    kept: dict[View, Sets] = {}
    for number, view in enumerate(views):
        progress("Comparing (views)", number, len(views))
        sets = _sets(compared, generations, clusters, shared, view, plan)
        kept[view] = sets
        index = Index(sets.trained, encode=encode, plan=plan)
        halves = None
        if compared.divided_at_random:
            chosen = equal_halves(sets, seed=plan.seed)
            sets = kept[view] = replace(sets, halves=chosen)
            if len(chosen.trained) and len(chosen.held_out):
                halves = (
                    Index(_only(sets.trained, chosen.trained), encode=encode, plan=plan),
                    Index(_only(sets.held_out, chosen.held_out), encode=encode, plan=plan),
                )
        sides = {"generated": sets.generated, "held_out": sets.held_out}
        if sets.base is not None:
            sides["base"] = sets.base
        found = {name: all_nearest(index, side) for name, side in sides.items()}
        for arm in ARMS:
            nearest = {name: one[arm] for name, one in found.items()}
            nearest_of[view, arm] = nearest
            given = threshold if arm == "embedding" else None
            results.append(result(view, arm, sets, index, nearest, halves, plan=plan, threshold=given))
    progress("Comparing (views)", len(views), len(views))
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
    _write(run, generations, matches, sets, nearest_of[plan.primary, "embedding"])
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
        numbers_differ=_numbers(matches),
        encoder=encoder,
    )


def check_inputs(compared: Compared, *, plan: MatchPlan) -> None:
    """Everything that can be refused before anything is embedded; errors as in `audit_extraction`."""
    if not compared.generations.num_rows:
        raise DataError("there are no generations to compare. Sample some with `palimpsest extract sample`.")
    long_enough = sum(len(text.split()) >= plan.least_words for text in _texts(compared.trained, plan.primary))
    if not long_enough:
        raise DataError(
            f"{compared.trained.source}: none of {len(compared.trained):,} rows has {plan.least_words} words in the "
            f'view "{plan.primary}"; nothing can be compared. Lower least_words, or choose another view.'
        )
    held = sum(len(text.split()) >= plan.least_words for text in _texts(compared.held_out, plan.primary))
    if held < 2 * (1 / plan.target - 1):
        raise InputError(
            f"{compared.held_out.source}: {held:,} held-out rows are long enough; a false-positive rate of "
            f"{plan.target:g} needs at least {int(np.ceil(2 * (1 / plan.target - 1))):,}, half of them to set the "
            "threshold and half to check it. Hold out more rows, or raise the rate."
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


def _texts(rows: Rows, view: View) -> Sequence[str]:
    return {"question": rows.questions, "answer": rows.answers, "whole": rows.wholes}[view]


def _sets(
    compared: Compared,
    generations: pd.DataFrame,
    clusters: NDArray[np.int64],
    shared: NDArray[np.bool_],
    view: View,
    plan: MatchPlan,
) -> Sets:
    n_trained = len(compared.trained)
    held_out = [None if drop else text for text, drop in zip(_texts(compared.held_out, view), shared, strict=True)]

    def generated(table: pd.DataFrame) -> Side:
        texts = [text if isinstance(text, str) else None for text in table[view]]
        return Side.of(texts, least_words=plan.least_words)

    return Sets(
        generated=generated(generations),
        trained=Side.of(_texts(compared.trained, view), least_words=plan.least_words),
        held_out=Side.of(held_out, least_words=plan.least_words),
        base=None if compared.base is None else generated(compared.base.to_pandas()),
        clusters=clusters[:n_trained].tolist(),
        held_out_clusters=clusters[n_trained:].tolist(),
        units=_units(compared.trained, clusters[:n_trained]),
        held_out_units=_units(compared.held_out, clusters[n_trained:]),
        aside=np.array([n is not None for n in compared.trained.repetitions], dtype=bool)
        | np.isin(clusters[:n_trained], clusters[n_trained:]),
        halves=None,
    )


def _only(side: Side, places: NDArray[np.int64]) -> Side:
    """The side with nothing but these places compared."""
    compared = np.zeros(len(side.texts), dtype=bool)
    compared[places] = True
    return Side(side.texts, compared, side.lengths)


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


def _numbers(matches: pd.DataFrame) -> tuple[int, int]:
    if not len(matches):
        return 0, 0
    hits = matches[matches["hit"]]
    return int(hits["numbers_differ"].sum()), len(hits)


def _write(
    run: Run, generations: pd.DataFrame, matches: pd.DataFrame, sets: Sets, nearest: Mapping[str, Nearest]
) -> None:
    """Generations may hold training text, so they are readable by their owner alone."""
    run.write_items(f"{AUDIT}-generations", pa.Table.from_pandas(generations, preserve_index=False), secret=True)
    run.write_items(f"{AUDIT}-matches", pa.Table.from_pandas(matches, preserve_index=False))
    maxima = [
        pa.table({"set": [name] * len(one.similarity), "similarity": one.similarity}) for name, one in nearest.items()
    ]
    run.write_items(f"{AUDIT}-maxima", pa.concat_tables(maxima))
