"""What an extraction audit says, from the maxima that were kept: made when they are new, and made again by a replay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import DataError
from ..matching.clusters import normalised
from ..runs.replay import Derived, Replayed
from ..runs.schema import AuditSection, Finding
from ..runs.store import Run
from ..stats.estimate import Estimate
from ..stats.proportion import wilson
from .config import ARMS, STRING_THRESHOLDS, VIEWS, MatchPlan, View
from .dealing import Dealing
from .findings import AUDIT, Counts, Guards, canary_rates, make_section, views_first
from .kept_rows import ROWS, WORDS, read_rows
from .maxima import NEAREST, Maxima
from .results import Result, Sets, negatives_of, result
from .shift import Questions, shift_finding, shift_of, shift_table
from .sides import Nearest, Searched, Side
from .sides import Rows as Places
from .undercount import BELOW, undercount, undercount_at_equal_rate

STAGE = "extraction.match"
GENERATIONS, BASE = "extraction-generations", "extraction-base-generations"
MATCHES, MAXIMA, QUESTIONS = f"{AUDIT}-matches", f"{AUDIT}-maxima", f"{AUDIT}-questions"
LOWER_FLOORS = (0.25, 0.05)
N_CHANGED = 200  # training rows that are changed and looked for
EVERY = 10  # of whose words one is left out


@dataclass(frozen=True, slots=True)
class Looked:
    """One view: what was compared, and where the answers come from."""

    sets: Sets
    index: Searched
    halves: tuple[Searched, Searched] | None


@dataclass(frozen=True, slots=True)
class Given:
    """What the section tells beside the maxima.

    Attributes:
        generations: All that were sampled.
        base: Of the base model, or None.
        dealing: What the rows say of their division.
        repetitions: How often each training row was trained on; None for one that is no canary.
        skipped: Views that could not be looked at, and why.
        seen: "texts", "truncated" and "unseen" of the encoder.
        encoder: What embedded the texts.
        changed: Places of training rows -> these rows without some of their words.
        matches: The nearest row of each generation by embedding and which are hits -> `audit.extraction.pairs`.
    """

    generations: pd.DataFrame
    base: pd.DataFrame | None
    dealing: Dealing
    repetitions: Sequence[int | None]
    skipped: Mapping[View, str]
    seen: Callable[[], Mapping[str, int]]
    encoder: str
    changed: Callable[[Places], Side]
    matches: Callable[[Sets, Nearest, NDArray[np.bool_]], pd.DataFrame]


class Found(NamedTuple):
    """The section, and what it rests on in the view and arm of the verdict."""

    section: AuditSection
    matches: pd.DataFrame
    maxima: pd.DataFrame


def section_of(
    views: Iterable[tuple[View, Looked]], given: Given, *, plan: MatchPlan, threshold: float | None
) -> Found:
    """Every threshold, rate and test.

    Args:
        views: Those that are looked at, the primary one first.
        given: What is told beside.
        plan: What counts.
        threshold: A cosine given beforehand instead of a calibrated one.
    """
    results: list[Result] = []
    nearest_of: dict[str, dict[str, Nearest]] = {}  # of the primary view
    main: Looked | None = None
    for view, looked in views:
        sets = looked.sets
        sides = {side.name: side for side in (sets.generated, sets.held_out, sets.base) if side is not None}
        for arm in ARMS:
            nearest = {name: looked.index.nearest(side, arm) for name, side in sides.items()}
            fixed = threshold if arm == "embedding" else None
            results.append(result(view, arm, sets, looked.index, nearest, looked.halves, plan=plan, threshold=fixed))
            if view == plan.primary:
                nearest_of[arm], main = nearest, looked
    assert main is not None  # the caller refuses a primary view that cannot be looked at
    by = {(one.view, one.arm): one for one in results}
    own, string = by[plan.primary, "embedding"], by[plan.primary, "levenshtein"]
    sets, generations = main.sets, given.generations
    matches = given.matches(sets, nearest_of["embedding"]["generated"], own.rated.hit)
    lev = nearest_of["levenshtein"]["generated"].similarity
    sensitivity = _sensitivity(main, own, given.changed, plan)  # before the texts that were embedded are counted
    section = make_section(
        results,
        counts=_counts(given, sets),
        dealing=given.dealing,
        guards=Guards(
            at_own=own.at_own.rate_compared,
            by_prefix=_by_prefix(generations, own.rated.hit, plan),
            sensitivity=sensitivity,
        ),
        skipped=given.skipped,
        plan=plan,
        canaries=_canaries(own, given.repetitions, sets.trained.compared, plan),
        undercounts={
            "at_equal_rate": _at_equal_rate(sets, nearest_of, main.index, plan),
            "at_thresholds": undercount(own.rated.hit, string.rated.hit, seed=plan.seed, level=plan.level),
        },
        string_rates={
            f"Levenshtein at least {cut:g}": wilson(
                int((np.nan_to_num(lev) >= cut).sum()), len(generations), level=plan.level
            )
            for cut in STRING_THRESHOLDS
        },
        matches=matches,
        encoder=given.encoder,
    )
    return Found(section, matches, _maxima(sets, nearest_of["embedding"], own))


def _counts(given: Given, sets: Sets) -> Counts:
    parsed = given.generations["reject"].isna()
    seen = given.seen()
    rejects = given.generations["reject"].dropna().map(lambda reason: str(reason).split(":")[0])
    return Counts(
        generations=len(given.generations),
        rejects=Counter(rejects),
        short=int((~sets.generated.compared & parsed.to_numpy()).sum()),
        distinct=len({normalised(text) for text in given.generations["whole"][parsed]}),
        rows=len(sets.trained.texts),
        short_rows=int((~sets.trained.compared).sum()),
        shared=int(given.dealing.shared.sum()),
        truncated=seen.get("truncated") or 0,
        embedded=seen.get("texts") or 0,
        unseen=seen.get("unseen") or 0,
        base=None if given.base is None else len(given.base),
        base_parsed=None if given.base is None else int(given.base["reject"].isna().sum()),
    )


def _maxima(sets: Sets, nearest: Mapping[str, Nearest], main: Result) -> pd.DataFrame:
    """The maxima of the view and arm of the verdict, each beside the threshold of its length."""
    sides = {side.name: side for side in (sets.generated, sets.held_out, sets.base) if side is not None}
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "set": name,
                    "similarity": one.similarity,
                    "threshold": main.calibration.thresholds(sides[name].lengths),
                    "n_words": sides[name].lengths,
                }
            )
            for name, one in nearest.items()
        ],
        ignore_index=True,
    )


def _by_prefix(generations: pd.DataFrame, hit: NDArray[np.bool_], plan: MatchPlan) -> dict[str, Estimate]:
    """Rate of each opening of the chat: one that the model does not know must not dilute another."""
    found = pd.DataFrame({"prefix": generations["prefix"].fillna(""), "hit": hit}).groupby("prefix", sort=False)["hit"]
    return {str(name): wilson(int(own.sum()), len(own), level=plan.level) for name, own in found}


def _sensitivity(main: Looked, own: Result, changed: Callable[[Places], Side], plan: MatchPlan) -> Estimate:
    """Share of slightly changed training rows that are hits: what a threshold that nothing reaches would show."""
    trained = main.sets.trained
    places = np.flatnonzero(trained.compared)
    if len(places) > N_CHANGED:
        places = np.sort(np.random.default_rng(plan.seed).choice(places, N_CHANGED, replace=False))
    nearest = main.index.nearest(changed(places), "embedding")
    hit = own.calibration.hits(nearest.similarity, trained.lengths[places])
    found = wilson(int(hit.sum()), len(hit), level=plan.level)
    return replace(found, method=f"training rows without every {EVERY}th word that are hits; {found.method}")


def _at_equal_rate(
    sets: Sets, nearest_of: Mapping[str, Mapping[str, Nearest]], index: Searched, plan: MatchPlan
) -> Estimate:
    """Strings are searched again with a lower floor where the threshold at this rate lies below the plan's."""
    embed, string = nearest_of["embedding"], nearest_of["levenshtein"]
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


def _canaries(
    own: Result, repetitions: Sequence[int | None], compared: NDArray[np.bool_], plan: MatchPlan
) -> dict[int, Estimate]:
    known = [place for place, n in enumerate(repetitions) if n is not None and compared[place]]
    if not known:
        return {}
    times = [int(repetitions[place] or 0) for place in known]
    return canary_rates(own.hits_on[known], times, level=plan.level)


def unusable(sets: Sets, plan: MatchPlan) -> str:
    """Why a view cannot be looked at; "" where it can."""
    if not sets.trained.compared.any():
        return f"no training row has {plan.least_words} words"
    n = len(np.unique(sets.held_out_clusters[sets.held_out.compared]))
    return "" if n >= needed(plan) else f"{n:,} held-out rows are long enough, of {needed(plan):,} that are needed"


def needed(plan: MatchPlan) -> int:
    """Held-out rows that the false-positive rate needs."""
    return int(np.ceil(2 * (1 / plan.target - 1)))


def side_of(name: str, table: pd.DataFrame, view: View, plan: MatchPlan) -> Side:
    """Generations in one view."""
    texts = [text if isinstance(text, str) else None for text in table[view]]
    return Side.of(name, texts, least_words=plan.least_words)


# What is added to the section where a model was asked


def opening_finding(run: Run, prefixes: Sequence[Mapping[str, Any]] | None, notes: Sequence[str]) -> Finding:
    """What the model was given, to the token; without prefixes, what the generations say of theirs."""
    if prefixes is not None:
        told = [f"{one['text']!r} (token ids {', '.join(map(str, one['ids']))})" for one in prefixes]
    else:
        table = run.read_items(GENERATIONS, ["prefix", "prefix_sha256"]).to_pandas().drop_duplicates()
        told = [f"{name!r} (SHA-256 of its token ids {digest})" for name, digest in table.itertuples(index=False)]
    added = "".join(f" {note[0].upper()}{note[1:]}" for note in notes)
    return Finding(
        id="extraction.opening",
        audit=AUDIT,
        claim=f"The model was given {' or '.join(told)} and nothing else.{added}",
        verdict="information",
        items=f"items/{GENERATIONS}.parquet",
        how_to_read="A model answers another opening otherwise; what it was trained with gives back the most.",
    )


def with_what_was_asked(
    section: AuditSection, run: Run, opening: Finding, asked: Questions | None, *, at_random: bool, plan: MatchPlan
) -> AuditSection:
    """The section with the opening and, where questions were asked, what post-training did to their likelihood."""
    added, tables = [opening], []
    if asked is not None:
        base, post = (
            run.read_items(f"extraction-likelihood-{role}")["log_likelihood"].to_numpy()
            for role in ("reference", "subject")
        )
        shift = shift_of(base, post, asked, plan=plan)
        added.append(shift_finding(shift, asked, at_random=at_random))
        tables.append(shift_table(shift))
    names = {one.id for one in added} | {one.name for one in tables}  # there already where it was killed at its end
    return section.model_copy(
        update={
            "findings": (*(one for one in section.findings if one.id not in names), *added),
            "tables": (*(one for one in section.tables if one.name not in names), *tables),
        }
    )


# The replay


def replay(run: Run) -> Replayed:
    """The section anew, from ``items/extraction-*.parquet`` and run.json alone, without a text of a row.

    Raises:
        DataError: A table is missing or damaged.
    """
    asked = run.record.plan["extraction"]
    kept = next((stage.detail for stage in run.record.stages if stage.name == STAGE), {})
    if not run.items_path(NEAREST).exists() and "why_not_tested" not in kept:
        why = "this run kept the maxima of one view and one arm alone; later ones keep all"
        return Replayed((), {AUDIT: why})
    plan = MatchPlan(**{one.name: asked[one.name] for one in fields(MatchPlan)})
    said = _stored_words(run)
    rows = read_rows(run, why_not=kept["why_not_tested"], by_row=kept["by_row"], words=said, plan=plan)
    generations = run.read_items(GENERATIONS).to_pandas()
    base = run.read_items(BASE).to_pandas() if run.items_path(BASE).exists() else None
    maxima = Maxima.read(run, rows.hits_any())
    looked: dict[View, Looked] = {}
    skipped: dict[View, str] = {}
    for view in views_first(plan.primary, VIEWS):
        sets = rows.sets(
            view,
            side_of("generated", generations, view, plan),
            None if base is None else side_of("base", base, view, plan),
            plan=plan,
        )
        if reason := unusable(sets, plan):
            skipped[view] = reason
            continue
        halves = None if sets.halves is None else (maxima.of(view, "trained"), maxima.of(view, "held-out"))
        looked[view] = Looked(sets, maxima.of(view, "rows"), halves)
    if plan.primary in skipped:
        raise DataError(f"{run.folder}: the view {plan.primary} cannot be looked at: {skipped[plan.primary]}.")
    stored = run.read_items(MATCHES).to_pandas()
    derived: list[Derived] = []

    def matches(sets: Sets, nearest: Nearest, hit: NDArray[np.bool_]) -> pd.DataFrame:
        """As stored, which texts were needed for, with what follows from the maxima."""
        again = pd.DataFrame(_of_maxima(rows.table, sets, nearest, hit, generations["id"].tolist()))
        derived.extend(Derived.column(MATCHES, name, stored, again) for name in again)
        return stored.assign(**{name: again[name] for name in again}) if len(again) == len(stored) else stored

    found = section_of(
        looked.items(),
        Given(
            generations=generations,
            base=base,
            dealing=rows.dealing,
            repetitions=rows.repetitions,
            skipped=skipped,
            seen=lambda: {name: kept[name] for name in ("texts", "truncated", "unseen")},
            encoder=run.record.subjects["encoder"]["name"],
            changed=lambda places: Side("changed", (None,) * len(places), np.ones(len(places), bool), places),
            matches=matches,
        ),
        plan=plan,
        threshold=asked.get("threshold"),
    )
    questions = None
    if run.items_path(QUESTIONS).exists():
        table = run.read_items(QUESTIONS).to_pandas()
        labels = tuple(zip(table["trained"].tolist(), table["unit"].tolist(), strict=True))
        trained = table["trained"].to_numpy(dtype=bool)
        questions = Questions((), None, trained, labels, kept["questions_left_out"])
    sampled = asked.get("sampled")
    opening = opening_finding(run, None if sampled is None else sampled["prefixes"], kept["notes"])
    section = with_what_was_asked(found.section, run, opening, questions, at_random=not rows.dealing.why_not, plan=plan)
    one = run.read_items(MAXIMA).to_pandas()
    derived += [Derived.column(MAXIMA, name, one, found.maxima) for name in found.maxima]
    not_replayed = {}
    if WORDS not in rows.table:
        derived.append(Derived(f"items/{ROWS}.parquet/{WORDS}", (), (None,) * len(rows.table)))
        if said is not None:  # the verdict is made with it
            why = "this run kept no scores of the rows' words, so their AUC stands as stored; later ones keep them"
            not_replayed = {f"{AUDIT}.overall/{name}": why for name in ("bag_of_words_auc", "verdict", "claim")}
    return Replayed((section,), not_replayed, tuple(derived))


def _stored_words(run: Run) -> Estimate | None:
    for section in run.findings().sections:
        for finding in section.findings:
            if finding.id == f"{AUDIT}.overall" and "bag_of_words_auc" in finding.estimates:
                return finding.estimates["bag_of_words_auc"].estimate()
    return None


def _of_maxima(
    rows: pd.DataFrame, sets: Sets, nearest: Nearest, hit: NDArray[np.bool_], ids: Sequence[str]
) -> list[dict[str, Any]]:
    """What of `audit.extraction.pairs.match_table` follows from the maxima."""
    names = rows["id"].tolist()
    return [
        {
            "generation": ids[place],
            "row": names[int(nearest.rows[place])],
            "cosine": float(nearest.similarity[place]),
            "cluster": str(sets.clusters[int(nearest.rows[place])]),
            "hit": bool(hit[place]),
        }
        for place in np.flatnonzero(nearest.rows >= 0)
    ]
