"""The extraction audit, from generations and rows to findings: views -> maxima -> threshold -> rates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import DataError, InputError
from ..matching.clusters import normalised
from ..progress import Progress, silent
from ..runs.records import content_key
from ..runs.schema import AuditSection
from ..runs.shards import ShardedTable, remove_parts
from ..runs.store import Run
from ..stats.estimate import Estimate
from ..stats.proportion import wilson
from .config import ARMS, STRING_THRESHOLDS, VIEWS, MatchPlan, View
from .dealing import Dealing, dealing_of
from .findings import AUDIT, Counts, Guards, canary_rates, make_section, views_first
from .match import PART_PAIRS, PART_TEXTS, Encode, Index, Nearest, Side
from .pairs import match_table
from .results import Halves, Result, Sets, negatives_of, result
from .rows import Rows
from .undercount import BELOW, undercount, undercount_at_equal_rate

PARTS = "extraction-search-"
LOWER_FLOORS = (0.25, 0.05)
N_CHANGED = 200  # training rows that are changed and looked for
EVERY = 10  # of whose words one is left out


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
    n_trained = len(compared.trained)
    kept, skipped = {}, {}
    for view in views_first(plan.primary, VIEWS):
        sets = _sets(compared, generations, dealing, view, plan)
        why = _unusable(sets, plan)
        if why:
            skipped[view] = why
        else:
            kept[view] = sets
    if plan.primary in skipped:
        raise InputError(f'the view "{plan.primary}": {skipped[plan.primary]}.')
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
        if view == plan.primary:
            index_of_primary = index
        halves = None
        if sets.halves is not None:
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
    by = {(one.view, one.arm): one for one in results}
    main, string = by[plan.primary, "embedding"], by[plan.primary, "levenshtein"]
    sets = kept[plan.primary]
    matches = match_table(
        sets.generated,
        sets.trained,
        nearest_of[plan.primary, "embedding"]["generated"],
        main.rated.hit,
        ids=generations["id"].tolist(),
        row_ids=compared.trained.ids,
        clusters=sets.clusters.tolist(),
    )
    _write(run, matches, sets, nearest_of[plan.primary, "embedding"], main)
    lev = nearest_of[plan.primary, "levenshtein"]
    said = (truncated or {}).get
    parsed = generations["reject"].isna()
    base = None if compared.base is None else compared.base["reject"].null_count
    return make_section(
        results,
        counts=Counts(
            generations=len(generations),
            rejects=Counter(generations["reject"].dropna().map(lambda reason: str(reason).split(":")[0])),
            short=int((~sets.generated.compared & parsed.to_numpy()).sum()),
            distinct=len({normalised(text) for text in generations["whole"][parsed]}),
            rows=n_trained,
            short_rows=int((~sets.trained.compared).sum()),
            shared=int(dealing.shared.sum()),
            truncated=said("truncated") or 0,
            embedded=said("texts") or 0,
            unseen=said("unseen") or 0,
            base=None if compared.base is None else compared.base.num_rows,
            base_parsed=base,
        ),
        dealing=dealing,
        guards=Guards(
            at_own=main.at_own.rate_compared,
            by_prefix=_by_prefix(generations, main.rated.hit, plan),
            sensitivity=_sensitivity(sets, main, index_of_primary, plan),
        ),
        skipped=skipped,
        plan=plan,
        canaries=_canaries(main, compared.trained, sets.trained.compared, plan),
        undercounts={
            "at_equal_rate": _at_equal_rate(sets, nearest_of, index_of_primary, plan),
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
    if n < (needed := _needed(plan)):
        raise InputError(
            f"{held_out.source}: {n:,} held-out rows can be used, of {len(held_out):,}: those with {plan.least_words} "
            f"words, no near-duplicate among the training rows, and one of each cluster. A false-positive rate of "
            f"{plan.target:g} needs {needed:,}, half of them to set the threshold and half to check it. Hold out more "
            "rows, or raise --target (target)."
        )


def _needed(plan: MatchPlan) -> int:
    """Held-out rows that the false-positive rate needs."""
    return int(np.ceil(2 * (1 / plan.target - 1)))


def _unusable(sets: Sets, plan: MatchPlan) -> str:
    """Why a view cannot be looked at; "" where it can."""
    if not sets.trained.compared.any():
        return f"no training row has {plan.least_words} words"
    n = len(np.unique(sets.held_out_clusters[sets.held_out.compared]))
    return "" if n >= _needed(plan) else f"{n:,} held-out rows are long enough, of {_needed(plan):,} that are needed"


def _sets(compared: Compared, generations: pd.DataFrame, dealing: Dealing, view: View, plan: MatchPlan) -> Sets:
    n_trained = len(compared.trained)

    def sampled(name: str, table: pd.DataFrame) -> Side:
        texts = [text if isinstance(text, str) else None for text in table[view]]
        return Side.of(name, texts, least_words=plan.least_words)

    trained = Side.of("trained", compared.trained.of_view(view), least_words=plan.least_words)
    every = Side.of("held_out", compared.held_out.of_view(view), least_words=plan.least_words)
    halves = None
    if not dealing.why_not:
        texts = [*trained.texts, *every.texts]
        long_enough = np.concatenate([trained.compared, every.compared])
        tested = dealing.tested_in([text if use else None for text, use in zip(texts, long_enough, strict=True)])
        halves = Halves(*tested) if all(len(half) for half in tested) else None
    return Sets(
        generated=sampled("generated", generations),
        trained=trained,
        held_out=every.only(np.flatnonzero(every.compared & ~dealing.shared)),
        base=None if compared.base is None else sampled("base", compared.base.to_pandas()),
        clusters=dealing.near[:n_trained],
        held_out_clusters=dealing.units[n_trained:],
        units=dealing.units,
        halves=halves,
    )


def _by_prefix(generations: pd.DataFrame, hit: NDArray[np.bool_], plan: MatchPlan) -> dict[str, Estimate]:
    """Rate of each opening of the chat: one that the model does not know must not dilute another."""
    found = pd.DataFrame({"prefix": generations["prefix"].fillna(""), "hit": hit}).groupby("prefix", sort=False)["hit"]
    return {str(name): wilson(int(own.sum()), len(own), level=plan.level) for name, own in found}


def _sensitivity(sets: Sets, main: Result, index: Index, plan: MatchPlan) -> Estimate:
    """Share of slightly changed training rows that are hits: what a threshold that nothing reaches would show."""
    places = np.flatnonzero(sets.trained.compared)
    if len(places) > N_CHANGED:
        places = np.sort(np.random.default_rng(plan.seed).choice(places, N_CHANGED, replace=False))
    texts = [_changed(str(sets.trained.texts[place])) for place in places]
    side = Side.of("changed", texts, least_words=1)
    hit = main.calibration.hits(index.nearest(side, "embedding").similarity, sets.trained.lengths[places])
    found = wilson(int(hit.sum()), len(hit), level=plan.level)
    return replace(found, method=f"training rows without every {EVERY}th word that are hits; {found.method}")


def _changed(text: str) -> str:
    words = text.split()
    left = [word for place, word in enumerate(words, start=1) if place % EVERY]
    return " ".join(left) if len(left) < len(words) else text[: -max(1, len(text) // EVERY)] or text


def _at_equal_rate(
    sets: Sets, nearest_of: Mapping[tuple[View, str], Mapping[str, Nearest]], index: Index, plan: MatchPlan
) -> Estimate:
    """Strings are searched again with a lower floor where the threshold at this rate lies below the plan's."""
    embed, string = (nearest_of[plan.primary, arm] for arm in ("embedding", "levenshtein"))
    for floor in (plan.string_floor, *(lower for lower in LOWER_FLOORS if lower < plan.string_floor)):
        if floor != plan.string_floor:
            sides = (sets.generated, sets.held_out)
            string = {side.name: index.nearest(side, "levenshtein", floor=floor) for side in sides}
        found = undercount_at_equal_rate(
            embed["generated"].similarity,
            string["generated"].similarity,
            *(negatives_of(replace(sets, base=None), arm, seed=plan.seed)[0].maxima for arm in (embed, string)),
            target=plan.target,
            floor=floor,
            seed=plan.seed,
            level=plan.level,
        )
        if found.value is not None or BELOW not in (found.why or ""):
            return found
    return found


def _canaries(main: Result, rows: Rows, compared: NDArray[np.bool_], plan: MatchPlan) -> dict[int, Estimate]:
    known = [place for place, n in enumerate(rows.repetitions) if n is not None and compared[place]]
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
    return n_sampled * (3 if sets.halves is not None else 1) + int(sets.held_out.compared.sum())
