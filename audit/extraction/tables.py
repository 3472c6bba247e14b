"""The extraction audit's tables: rates by view and arm, string matching, coverage curve, strongest matches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from ..runs.schema import Cell, Column, EstimateRecord, Table
from ..stats.estimate import Estimate
from ..text.numbers import fixed
from .config import STRING_THRESHOLDS, Arm, MatchPlan
from .results import Result

ARM_NAMES: Mapping[Arm, str] = {"embedding": "Embedding", "levenshtein": "Levenshtein", "indel": "Indel"}
N_STRONGEST = 20


def rate_table(results: Sequence[Result], plan: MatchPlan) -> Table:
    """Rates of every view and arm, the verdict's first."""
    rows: list[dict[str, Cell]] = []
    for one in results:
        rows.append(
            {
                "view": one.view,
                "arm": ARM_NAMES[one.arm],
                "threshold": _thresholds(one, plan.string_floor),
                "fpr": EstimateRecord.of(one.calibration.worst),
                "rate": EstimateRecord.of(one.rated.rate),
                "compared": EstimateRecord.of(one.rated.rate_compared),
                "excess": EstimateRecord.of(one.rated.excess),
                "base": "none" if one.base is None else EstimateRecord.of(one.base.rate_compared),
                "coverage": EstimateRecord.of(one.coverage_any),
                "halves": "none" if one.halves is None else EstimateRecord.of(one.halves.share),
            }
        )  # fmt: skip
    return Table(
        name="rates",
        title="By view and by arm",
        note=(
            "Only the first row's view and arm were fixed beforehand for the verdict; the others are exploratory. The "
            "false-positive rate is measured on negatives that had no part in the threshold."
        ),
        columns=(
            Column(key="view", label="View"),
            Column(key="arm", label="Arm"),
            Column(key="threshold", label="Threshold"),
            Column(key="fpr", label="False-positive rate"),
            Column(key="rate", label="Rate, all generations"),
            Column(key="compared", label="Rate, compared"),
            Column(key="excess", label="Excess"),
            Column(key="base", label="Rate of the base model, compared"),
            Column(key="coverage", label="Coverage, any"),
            Column(key="halves", label="Share on the trained half"),
        ),
        rows=tuple(rows),
    )


def _thresholds(one: Result, floor: float) -> str:
    """For each length; a string similarity below the floor is not computed, so none can be a threshold."""
    buckets = one.calibration.buckets
    told = [
        f"{floor:g}, the floor" if one.arm != "embedding" and bucket.threshold < floor else fixed(bucket.threshold, 3)
        for bucket in buckets
    ]
    if len(buckets) == 1:
        return told[0]
    return ", ".join(f"{text} (from {bucket.shortest} words)" for text, bucket in zip(told, buckets, strict=True))


def string_table(rates: Mapping[str, Estimate]) -> Table:
    """What is found at thresholds that others use."""
    return Table(
        name="strings",
        title="String matching at customary thresholds",
        note=(
            f"Thresholds of {', '.join(f'{one:g}' for one in STRING_THRESHOLDS)}; the paper's own is not sourced. "
            "Whole texts, all generations."
        ),
        columns=(Column(key="rule", label="Rule"), Column(key="rate", label="Rate")),
        rows=tuple({"rule": name, "rate": EstimateRecord.of(one)} for name, one in rates.items()),
    )


def curve_table(main: Result) -> Table:
    """Coverage by number of generations."""
    return Table(
        name="curve",
        title="Coverage by number of generations",
        note="The exact mean over all sets of so many of these generations; nothing is resampled.",
        columns=(Column(key="n", label="Generations"), Column(key="coverage", label="Coverage, any")),
        rows=tuple({"n": int(n), "coverage": float(value)} for n, value in zip(main.curve_at, main.curve, strict=True)),
    )


def strongest(matches: pd.DataFrame) -> pd.DataFrame:
    """The matches that are told one by one: each training row once, the nearest generation first."""
    if not len(matches):
        return matches
    return matches.sort_values("cosine", ascending=False, kind="stable").drop_duplicates("row").head(N_STRONGEST)


def match_table(matches: pd.DataFrame) -> Table:
    """The strongest matches, without their texts."""
    columns = {
        "generation": "Generation",
        "row": "Training row",
        "cosine": "Cosine",
        "levenshtein": "Levenshtein",
        "span_words": "Longest common run, words",
        "numbers": "Numbers",
        "hit": "Hit",
    }
    return Table(
        name="strongest",
        title="Strongest matches",
        note=(
            "The nearest generation of each training row, the nearest rows first. They were picked for being the "
            "strongest and show the kind of a match, not its frequency; all are in the run's items."
        ),
        columns=tuple(Column(key=key, label=label) for key, label in columns.items()),
        rows=tuple(
            {
                "generation": str(one["generation"]),
                "row": str(one["row"]),
                "cosine": fixed(one["cosine"], 3),
                "levenshtein": fixed(one["levenshtein"], 3),
                "span_words": int(one["span_words"]),
                "numbers": "differ" if one["numbers_differ"] else "same",
                "hit": "yes" if one["hit"] else "no",
            }
            for one in strongest(matches).to_dict("records")
        ),
    )
