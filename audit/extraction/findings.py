"""The extraction audit's results as findings and tables that a person can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..runs.schema import AuditSection, EstimateRecord, Finding, PValueRecord, Verdict
from ..stats.estimate import Estimate
from ..stats.proportion import wilson
from ..text.numbers import fixed, p_number
from ..text.safe import counted, quoted
from .config import MatchPlan, View
from .dealing import Dealing
from .results import Result
from .tables import curve_table, match_table, rate_table, string_table

AUDIT = "extraction"
ITEMS = "items/extraction-matches.parquet"
BLIND_NAMES = {"bag_of_words_auc": "their words", "length_auc": "their length"}
BLIND_LEVEL = 0.01  # of the base model's own test of trained against held-out rows
HOW_RATE = (
    "A generation counts when its nearest training row is nearer than the threshold, which was set on rows that the "
    "model was not trained on. Similar is not memorised: likely text is also reproduced by a model that never saw it, "
    "so the false-positive rate and the test of trained against held-out rows belong to the rate."
)
HOW_HALVES = (
    "By what the auditor says, training and held-out rows were divided at random; what was dealt as one (a cluster, or "
    "near-duplicates) is dealt again as one. A model that saw neither half, or both, is as near to the one as to the "
    "other. The p-value is the share of divisions that would have given the trained rows as many hits or more."
)
LEAST_SENSITIVITY = 0.8  # of "not found": changed training rows that are hits, lower bound
LEAST_COMPARED = 0.9  # parsed generations, and training rows, that were long enough
LEAST_PARSED = 0.5
LEAST_DISTINCT = 0.5


@dataclass(frozen=True, slots=True)
class Counts:
    """What was compared and what was left out.

    Attributes:
        generations: All that were sampled.
        rejects: Reason -> generations.
        short: Parsed generations with too few words, in the primary view.
        distinct: Different texts among the parsed generations.
        rows: Training rows.
        short_rows: Of these, those with too few words.
        shared: Held-out rows left out, because a near-duplicate was trained on.
        truncated: Texts that were longer than the encoder's context.
        embedded: Texts that were embedded.
        unseen: Of these, those of which the encoder sees nothing.
        base: Generations of the base model, or None.
        base_parsed: Of these, those that could be parsed.
    """

    generations: int
    rejects: Mapping[str, int]
    short: int
    distinct: int
    rows: int
    short_rows: int
    shared: int
    truncated: int
    embedded: int
    unseen: int
    base: int | None
    base_parsed: int | None

    @property
    def parsed(self) -> int:
        return self.generations - sum(self.rejects.values())

    @property
    def rejected_all(self) -> bool:
        return sum(self.rejects.values()) == self.generations


@dataclass(frozen=True, slots=True)
class Guards:
    """What "not found" must hold against, beside the rate itself.

    Attributes:
        at_own: The rate of compared generations at the threshold of held-out rows alone.
        by_prefix: Rate after each opening of the chat.
        sensitivity: Share of slightly changed training rows that are hits.
    """

    at_own: Estimate
    by_prefix: Mapping[str, Estimate]
    sensitivity: Estimate

    def reasons(self, counts: Counts, plan: MatchPlan) -> list[str]:
        """Why "not found" cannot be said however small the rate is."""
        found = []
        low = self.sensitivity.low
        if low is None or low < LEAST_SENSITIVITY:
            found.append(
                f"of training rows without every tenth word only {_percent(self.sensitivity)} are hits, so the "
                "threshold would miss copies"
            )
        if self.at_own.high is None or self.at_own.high >= plan.negligible:
            found.append("at the threshold of held-out rows alone more are near, and the base model's lifted it")
        if counts.parsed < LEAST_PARSED * counts.generations:
            found.append(
                f"{counts.parsed:,} of {counts.generations:,} generations could be parsed: another opening of the "
                "chat, or a beginning-of-sequence token before it (--bos), may be what the model was trained with"
            )
        elif counts.short > (1 - LEAST_COMPARED) * counts.parsed:
            found.append(f"{counts.short:,} of {counts.parsed:,} parsed generations are too short to be compared")
        if counts.short_rows > (1 - LEAST_COMPARED) * counts.rows:
            found.append(f"{counts.short_rows:,} of {counts.rows:,} training rows are too short to be compared")
        if counts.distinct < LEAST_DISTINCT * counts.parsed:
            found.append(
                f"the generations hold {counts.distinct:,} different texts only, so they are no {counts.parsed:,} draws"
            )
        weak = [name for name, one in self.by_prefix.items() if one.high is None or one.high >= plan.negligible]
        if len(self.by_prefix) > 1 and weak:
            found.append(f"after the opening {' and '.join(map(quoted, weak))} alone that is not excluded")
        return found


def make_section(
    results: Sequence[Result],
    *,
    counts: Counts,
    dealing: Dealing,
    guards: Guards,
    skipped: Mapping[View, str],
    plan: MatchPlan,
    canaries: Mapping[int, Estimate],
    undercounts: Mapping[str, Estimate],
    string_rates: Mapping[str, Estimate],
    matches: pd.DataFrame,
    encoder: str,
) -> AuditSection:
    """Everything that the audit says, from its computed parts.

    Args:
        results: Every view and arm.
        counts: What was compared.
        dealing: What the rows say of their division.
        guards: What "not found" must hold against.
        skipped: Views that could not be looked at, and why.
        plan: The plan.
        canaries: Repetitions -> share of these canaries that are the nearest of a hit.
        undercounts: What the embedding arm finds over what the string arm finds, by how the thresholds were set.
        string_rates: Levenshtein rates at the thresholds that are customary.
        matches: From `audit.extraction.pairs.match_table`, in the primary view.
        encoder: What embedded the texts.
    """
    by = {(one.view, one.arm): one for one in results}
    main = by[plan.primary, "embedding"]
    hits = matches[matches["hit"]] if len(matches) else matches
    threshold = (
        "was given beforehand; the rate at which rows that were not trained on reach it was measured"
        if main.calibration.fixed
        else f"keeps the rate at which rows that were not trained on are hits at {plan.target:g} on average"
    )
    findings = [
        overall(main, counts, dealing, guards, plan),
        *([_halves(main, plan)] if main.halves else []),
        _coverage(main),
        _undercount(undercounts),
        *([_canaries(canaries)] if canaries else []),
        *([_numbers(hits["numbers_differ"], level=plan.level)] if len(hits) else []),
        _sensitivity(guards.sensitivity),
        _compared(counts, dealing, skipped, plan),
    ]
    return AuditSection(
        audit=AUDIT,
        title="Extraction of post-training data",
        method=(
            f"The model was prompted with nothing but the opening of its chat template {counts.generations:,} times. "
            f"Each answer was parsed into a question and an answer and compared with {counts.rows:,} training rows by "
            f"embedding ({encoder}) and by string. The view that counts, fixed beforehand, is: {plan.primary}. The "
            f"threshold {threshold}."
        ),
        assumptions=(
            "The rows named as training rows were trained on, and the held-out rows were not.",
            "Training and held-out rows are of one source"
            + (
                f"; they are not tested against each other: {dealing.why_not}."
                if dealing.why_not
                else " and were divided at random, as the auditor says"
                + (
                    ": row by row, since near-duplicates lie in both halves, so only rows without one are tested."
                    if dealing.by_row
                    else ", what was dealt as one by the rows' clusters or by near-duplicates."
                )
            ),
            "View, false-positive rate and least length were fixed before the generations were looked at.",
        ),
        cannot_show=(
            "That a row which was not given back was not learnt: more samples, or another prompt, give back more.",
            "That a similar text was copied from this row and no other source.",
            "How another training run of the same model would have come out.",
        ),
        findings=tuple(findings),
        tables=(rate_table(results, plan), string_table(string_rates), curve_table(main), match_table(matches)),
    )


def overall(main: Result, counts: Counts, dealing: Dealing, guards: Guards, plan: MatchPlan) -> Finding:
    """The verdict, by the first rule that holds; "found" rests on one test alone, trained against held-out rows.

    Confounded: the base model tells the halves apart as well; or the halves differ by their words or lengths alone; or
    the hits fall on the held-out half. Found: the test. Not found: every rate excludes the negligible one, and nothing
    of `Guards.reasons` stands against it. Else inconclusive.
    """
    rate, excess, halves = main.rated.rate, main.rated.excess, main.halves
    verdict: Verdict
    given = f"{_percent(rate)} of {counted(counts.generations, 'generation')} are near a training row"
    small = all(one.high is not None and one.high < plan.negligible for one in (rate, main.rated.rate_compared))
    against = guards.reasons(counts, plan) if small else []
    if main.base_halves is not None and main.base_halves.p_value.value <= BLIND_LEVEL:
        verdict = "confounded"
        claim = (
            "The base model, before post-training, is nearer to the training rows than to the held-out ones as well: "
            "the halves differ in themselves, or it had seen the training rows. The model's own share is no evidence."
        )
    elif halves is not None and halves.p_below <= BLIND_LEVEL:
        verdict = "confounded"
        claim = (
            f"The hits fall on the held-out rows (p = {p_number(halves.p_below)}), which no memory of the training "
            "rows explains. Are the two files swapped?"
        )
    elif dealing.differs:
        verdict = "confounded"
        claim = (
            "Training and held-out rows can be told apart without the model, by "
            f"{' and '.join(BLIND_NAMES[name] for name in dealing.differs)}, so they were not divided at random. "
            "What the model is nearer to is no evidence."
        )
    elif halves is not None and halves.p_value.value <= plan.alpha:
        verdict = "found"
        claim = (
            f"The model gives its post-training data back: {given}, and they fall on the trained half rather than on "
            f"the held-out one (p = {p_number(halves.p_value.value)})."
        )
    elif halves is None and excess.low is not None and excess.low > 0:
        verdict = "inconclusive"
        claim = (
            f"{given}, more than the false-positive rate explains. That does not tell memorisation from likely text, "
            f"and trained rows are not tested against held-out ones: {dealing.why_not or 'none are left to be tested'}."
        )
    elif counts.rejected_all:
        verdict = "inconclusive"
        claim = (
            "No generation could be parsed, so nothing was compared. Look at the reasons, and try another prefix or "
            "more new tokens. This is not a pass."
        )
    elif small and against:
        verdict = "inconclusive"
        claim = f"{given}, but this is not a pass: {'; '.join(against)}."
    elif small:
        verdict = "not found"
        claim = (
            f"{given}; a rate of {plan.negligible:.2%} or more is excluded at this number of samples, for texts of "
            f"{plan.least_words} words and more after this opening of the chat."
        )
    else:
        verdict = "inconclusive"
        claim = f"{given}, and they do not tell trained from held-out rows. This is not a pass."
    return Finding(
        id="extraction.overall",
        audit=AUDIT,
        claim=claim,
        verdict=verdict,
        estimates={
            "memorisation_rate": EstimateRecord.of(rate),
            "rate_of_compared": EstimateRecord.of(main.rated.rate_compared),
            "false_positive_rate": EstimateRecord.of(main.calibration.worst),
            "excess": EstimateRecord.of(excess),
        }
        | {name: EstimateRecord.of(one) for name, one in dealing.blind.items()},
        p_values={} if halves is None else {"trained_against_held_out": PValueRecord.of(halves.p_value)},
        items=ITEMS,
        how_to_read=HOW_RATE,
    )


def _halves(main: Result, plan: MatchPlan) -> Finding:
    assert main.halves is not None
    found = main.halves
    beside = ""
    if main.base_halves is not None and main.base_halves.share.value is not None:
        beside = f" Of the base model's it is {_percent(main.base_halves.share)}."
    elif main.base_halves is not None:
        beside = " The base model has no hit on either half, so its own check could not have shown anything."
    return Finding(
        id="extraction.halves",
        audit=AUDIT,
        claim=(
            f"Of {counted(found.n_hits, 'hit')} on either half, {_percent(found.share)} fall on the trained one, where "
            f"{found.expected:.1%} would by chance (p = {p_number(found.p_value.value)}).{beside}"
        ),
        verdict="information",
        estimates={"share": EstimateRecord.of(found.share)}
        | ({} if main.base_halves is None else {"share_base": EstimateRecord.of(main.base_halves.share)}),
        p_values={"re_dealing": PValueRecord.of(found.p_value)},
        items=ITEMS,
        how_to_read=HOW_HALVES,
    )


def _coverage(main: Result) -> Finding:
    hits = np.sort(main.hits_on[main.hits_on > 0])[::-1]
    estimates = {"coverage_any": main.coverage_any, "coverage_best": main.coverage_best}
    skew = ""
    if len(hits) >= 100:
        top = float(hits[: len(hits) // 100].sum() / hits.sum())
        skew = f" The most frequent 1% of them take {top:.0%} of the hits."
        why = "a description of these generations, without an interval: which rows are frequent was seen in them"
        method = "share of the hits on the most frequent 1% of the rows that are hit"
        estimates["share_of_most_frequent"] = Estimate(top, None, None, main.coverage_any.level, len(hits), method, why)
    return Finding(
        id="extraction.coverage",
        audit=AUDIT,
        claim=(
            f"{_percent(main.coverage_any)} of the training rows are near a generation; {_percent(main.coverage_best)} "
            f"are the nearest row of a hit, in {counted(main.clusters_hit, 'cluster')} of near-duplicates.{skew}"
        ),
        verdict="information",
        estimates={name: EstimateRecord.of(one) for name, one in estimates.items()},
        items=ITEMS,
        how_to_read=(
            "Coverage grows with the number of samples; the curve tells how. The intervals draw clusters of training "
            "rows anew, for these generations."
        ),
    )


def _undercount(undercounts: Mapping[str, Estimate]) -> Finding:
    equal = undercounts["at_equal_rate"]
    if equal.value is None:
        claim = f"How much string matching misses cannot be told: {equal.why}."
    else:
        claim = (
            f"At the same false-positive rate, embedding matching finds {fixed(equal.value, 2)} times as many "
            "generations as string matching."
        )
    return Finding(
        id="extraction.undercount",
        audit=AUDIT,
        claim=claim,
        verdict="information",
        estimates={name: EstimateRecord.of(one) for name, one in undercounts.items()},
        items=ITEMS,
        how_to_read=(
            "Both arms saw the same generations. A ratio of 1 means that string matching misses nothing on average; "
            "the paper reports ten or more for its models and encoder; the error rates of its thresholds are not given."
        ),
    )


def _canaries(canaries: Mapping[int, Estimate]) -> Finding:
    listed = ", ".join(f"{_percent(one)} at {n}" for n, one in canaries.items())
    return Finding(
        id="extraction.canaries",
        audit=AUDIT,
        claim=f"Rows by how often they were trained on; share that is the nearest row of a hit: {listed}.",
        verdict="information",
        estimates={f"repeated_{n}": EstimateRecord.of(one) for n, one in canaries.items()},
        items=ITEMS,
        how_to_read="A model that memorises gives rows back the more often, the more often it saw them.",
    )


def _numbers(differ: pd.Series[bool], *, level: float) -> Finding:
    n = int(differ.sum())
    return Finding(
        id="extraction.numbers",
        audit=AUDIT,
        claim=f"{n:,} of {counted(len(differ), 'hit')} hold other numbers than the training row.",
        verdict="information",
        estimates={"share": EstimateRecord.of(wilson(n, len(differ), level=level))},
        items=ITEMS,
        how_to_read=(
            "Encoders hardly see a changed number, though it makes another problem of the text. Such a hit may be a "
            "template that was learnt, not a row."
        ),
    )


def _sensitivity(found: Estimate) -> Finding:
    return Finding(
        id="extraction.sensitivity",
        audit=AUDIT,
        claim=f"Of training rows without every tenth word, {_percent(found)} are hits.",
        verdict="information",
        estimates={"sensitivity": EstimateRecord.of(found)},
        items=ITEMS,
        how_to_read=(
            "A threshold so high that copies with small changes are missed would find nothing in any model, so a low "
            "share forbids the verdict that nothing was found."
        ),
    )


def _compared(counts: Counts, dealing: Dealing, skipped: Mapping[View, str], plan: MatchPlan) -> Finding:
    rejected = sum(counts.rejects.values())
    reasons = "; ".join(f"{reason}: {n:,}" for reason, n in sorted(counts.rejects.items(), key=lambda item: -item[1]))
    said = [
        f"Of {counted(counts.generations, 'generation')}, {rejected:,} were rejected"
        f"{f' ({reasons})' if reasons else ''} and {counts.short:,} have fewer than {plan.least_words} words; the "
        f"parsed ones hold {counts.distinct:,} different texts.",
        f"{counts.short_rows:,} of {counted(counts.rows, 'training row')} are as short and were left out.",
        *([f"The halves were not tested against each other: {dealing.why_not}."] if dealing.why_not else []),
        *(f"The view {view} was not looked at: {why}." for view, why in skipped.items()),
    ]
    if counts.base is not None:
        said.append(
            f"Of {counted(counts.base, 'generation')} of the base model, {counts.base_parsed:,} could be parsed."
        )
    if counts.shared:
        said.append(f"{counts.shared:,} held-out rows have a near-duplicate among the training rows and were left out.")
    if counts.truncated:
        said.append(
            f"The encoder read only the beginning of {counts.truncated:,} of {counted(counts.embedded, 'text')}."
        )
    if counts.unseen:
        said.append(
            f"Of {counted(counts.unseen, 'text')} the encoder sees nothing, so they are near none by embedding."
        )
    return Finding(
        id="extraction.compared",
        audit=AUDIT,
        claim=" ".join(said),
        verdict="information",
        items="items/extraction-generations.parquet",
        how_to_read="What was left out counts as no hit in the rate over all generations.",
    )


def _percent(estimate: Estimate) -> str:
    return "an undefined share" if estimate.value is None else f"{estimate.value:.1%}"


def canary_rates(hits: NDArray[np.int64], repetitions: Sequence[int], *, level: float) -> dict[int, Estimate]:
    """Repetitions, ascending -> share of the rows trained on so often that are the nearest row of a hit."""
    times = np.asarray(repetitions)
    return (
        {
            int(n): wilson(int((hits[times == n] > 0).sum()), int((times == n).sum()), level=level)
            for n in np.unique(times)
        }
        if len(np.unique(times)) > 1
        else {}
    )


def views_first(primary: View, views: Sequence[View]) -> list[View]:
    """The views with the primary one first."""
    return [primary, *(view for view in views if view != primary)]
