"""What an evaluation of a guard says: the section of its report, from the plain rows of its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from audit.runs.schema import AuditSection, EstimateRecord, Finding, PValueRecord
from audit.text.safe import counted

from .conversations import units
from .evaluate.report import BEFORE, GOLD
from .evaluate.similarity import NAMES
from .evaluation_tables import (
    Noise,
    Rows,
    changed_table,
    false_positive_table,
    latency_table,
    listed_table,
    noise_table,
    quality_table,
    recall_table,
    record_of,
    side_by_side,
    utility_table,
    written_table,
)
from .findings import LIMITS
from .guard_files import GuardRecord
from .words import corruption_words, selection_words

AUDIT = "eco-evaluation"
ITEMS = "items/eco-questions.parquet"
PASSAGE_ITEMS = "items/eco-passages.parquet"
KNOWN = "beginnings recognised"
GAP = "average similarity gap"
PASSAGE_LINES = (KNOWN, NAMES[0], GAP)
_PASSAGES = (
    "Beginnings were continued and compared with the original. Nearest to gold is best: texts of one kind are alike "
    "anyhow. The average similarity gap is an absolute value, above 0 by chance; its formula could not be confirmed."
)
_CANNOT_SHOW = (
    *LIMITS,
    "That other attacks fare as these do: those here were written down before, and who knows the classifier can do "
    "better.",
    "That a large p-value of the forget quality means equality: it says that these rows do not tell the two apart.",
)


@dataclass(frozen=True, slots=True)
class Left:
    """Rows that were given, and those that the guard was not fitted on, by file; of which at most ``most`` are asked
    of each part, but for false positives."""

    given: Mapping[str, int]
    measured: Mapping[str, int]
    most: int


def evaluation_section(
    record: GuardRecord,
    tables: Mapping[str, Rows],
    left: Left,
    noise: Sequence[Noise],
    not_measured: Mapping[str, str],
    *,
    show_text: bool,
) -> AuditSection:
    """The section.

    Args:
        record: Of the guard.
        tables: As `evaluate.report.Evaluation.tables`.
        left: What was left out.
        noise: Of the forget quality.
        not_measured: System and rows -> why not.
        show_text: Whether prompts, and what was written, are quoted.
    """
    settings, turns = record.settings, turns_of(record)
    made = [
        recall_table(tables["recall"]),
        false_positive_table(tables["false positives"]),
        listed_table(tables["false positives"], show_text=show_text),
        *side_by_side("questions", "What is still known", tables["questions and answers"]),
        *side_by_side("choices", "Right choices", tables["multiple choice"]),
        *side_by_side("passages", "Protected texts", tables["protected texts"], note=_PASSAGES),
        written_table(tables.get("passages written", ())) if show_text else None,
        utility_table(tables["model utility"]),
        quality_table(tables["forget quality"]),
        noise_table(noise),
        changed_table(tables["changed rows"]),
        latency_table(tables["latency"]),
    ]
    return AuditSection(
        audit=AUDIT,
        title="Evaluation of a guard by embedding-corrupted prompts",
        method=(
            f"The guard for {settings.target!r} before {record.model}: flagged are prompts with a score above "
            f"{record.threshold:.6g}; of these the embeddings of {selection_words(settings)} are corrupted: "
            f"{corruption_words(settings.corruption)}. Rows that the guard was fitted on were left out: "
            f"{_left(left)}; of each part at most {left.most:,} "
            "were asked, drawn by the seed, but for false positives, which are counted over all. "
            "The noise came from the seed of the run, so that the numbers can be made again."
        ),
        assumptions=(
            "Rows of one cluster (an author, say) are resampled together.",
            "The classifier was trained on all forget prompts as they are written. Recall on untouched prompts is "
            "therefore memory, and recall under a rewording is that of questions whose own wording was trained on; "
            "recall of questions about the same people that nobody wrote down was not measured and is lower.",
            f"The promise on false positives is one for {units(turns)} of the clusters that calibration drew from. New "
            "clusters vary more than its interval says, and in a "
            f"{'conversation' if turns == 1 else 'longer conversation'} every turn is one more chance to be flagged.",
            "Below its target a metric is no better: the aim is what a model answers that never learnt it (gold).",
        ),
        cannot_show=(
            *_CANNOT_SHOW,
            *(f"Not measured: {name}; {why.rstrip('.')}." for name, why in not_measured.items()),
        ),
        findings=tuple(_findings(tables, noise)),
        tables=tuple(table for table in made if table is not None),
    )


def asked_unit(source: str) -> str:
    """What false positives of a source are counted in."""
    return "conversation" if source.startswith("conversations of ") else "prompt"


def turns_of(record: GuardRecord) -> int:
    """Prompts in what the guard's promise on false positives is for."""
    return int(record.evidence.get("threshold", {}).get("turns", 1))


def _left(left: Left) -> str:
    parts = [
        f"{left.given[name] - left.measured[name]:,} of {counted(left.given[name], f'{name} row')}"
        for name in left.given
        if left.given[name]
    ]
    return ", ".join(parts)


def _findings(tables: Mapping[str, Rows], noise: Sequence[Noise]) -> list[Finding]:
    found: list[Finding] = []

    def add(name: str, claim: str, how: str, items: str | None = None, p: Any = None, **estimates: Any) -> None:
        shown = {key.replace("_", " "): one for key, one in estimates.items() if one is not None}
        p_values = {} if p is None else {"as many or more, if the promise holds": p}
        found.append(
            Finding(id=f"eco-evaluation.{name}", audit=AUDIT, claim=claim, verdict="information", estimates=shown,
                    p_values=p_values, items=items, how_to_read=how)
        )  # fmt: skip

    shares = [(row, record_of(row["share"])) for row in tables["recall"]]
    known = [(row, one) for row, one in shares if one is not None and one.value is not None]
    for row, one in known:
        if row["kind"] == "paraphrase":
            words = f"Of {counted(row['n_prompts'], 'prompt')} about what is to be forgotten ({row['attack']}), "
            told = f"{words}{_share(one)} were recognised."
            add(f"recall-{len(found)}", told, "What is not recognised reaches the model as it is.", recognised=one)
    if known:
        row, one = min(known, key=lambda pair: pair[1].value or 0.0)
        claim = f"Least was recognised under the attack {row['attack']!r}: {_share(one)}."
        add("worst", claim, "The worst of those tried; its interval does not know that it was picked.", recognised=one)
    for number, row in enumerate(tables["false positives"]):
        rate = record_of(row["rate"])
        if rate is not None and rate.value is not None:
            promise = "" if row["alpha"] is None else f"; at most {100 * row['alpha']:.3g}% was promised on average"
            units_asked = counted(rate.n, asked_unit(row["source"]))
            claim = f"Of {units_asked} ({row['source']}), {_share(rate)} were flagged by mistake{promise}."
            p = None if row["surplus"] is None else PValueRecord(**row["surplus"])
            add(f"false-positives-{number}", claim, "A small p-value says that the promise does not hold here.", p=p,
                flagged=rate)  # fmt: skip
    asked = [
        row
        for row in tables["questions and answers"]
        if row["part"] == "forget" and row["scope"] == "prompt" and str(row["measure"]).startswith("probability")
    ]
    asked += [row for row in tables["multiple choice"] if row["part"] == "forget"]
    by_system = {row["system"]: row for row in asked}
    if BEFORE in by_system and "guard" in by_system:
        ends = {name: record_of(by_system[name]["estimate"]) for name in (BEFORE, "guard", GOLD) if name in by_system}
        where = {BEFORE: "without the guard", "guard": "behind it", GOLD: "of gold, which was never trained on it"}
        parts = ", ".join(f"{_number(one)} {where[name]}" for name, one in ends.items())
        claim = f"{str(by_system['guard']['measure'])[0].upper()}{str(by_system['guard']['measure'])[1:]}: {parts}."
        less = record_of(by_system["guard"].get(f"less {GOLD}"))
        add("known", claim, "Held-out forget rows. The aim is gold and not 0.", ITEMS, before=ends[BEFORE],
            guard=ends["guard"], gold=ends.get(GOLD), guard_less_gold=less)  # fmt: skip
    found_passages = _passages(tables["protected texts"])
    if found_passages is not None:
        claim, how, near = found_passages
        add("passages", claim, how, PASSAGE_ITEMS, None, **near)
    for drawn in noise:
        if drawn.scope == "prompt" and drawn.test == "raw" and drawn.p_values:
            claim = (
                "Forget quality (p of the test that guard and gold answer alike): median "
                f"{np.median(drawn.p_values):.3g} over {counted(len(drawn.p_values), 'draw')} of the noise, from "
                f"{min(drawn.p_values):.3g} to {max(drawn.p_values):.3g}."
            )
            add("quality", claim, "Small: the guard can be told from gold. Large: these rows do not tell them apart.")
    return found


def _passages(rows: Rows) -> tuple[str, str, dict[str, EstimateRecord]] | None:
    """Claim, how to read it and estimates: how near the guard's continuations come to the originals."""
    told = {(row["measure"], row["system"]): record_of(row["estimate"]) for row in rows}
    known, likeness = told.get((KNOWN, "guard")), told.get((NAMES[0], "guard"))
    if known is None or known.value is None or likeness is None:
        return None
    ends = {name: one for name in (BEFORE, "guard", GOLD) if (one := told.get((NAMES[0], name))) is not None}
    where = {BEFORE: "without the guard", "guard": "behind it", GOLD: "of gold, which never saw the texts"}
    parts = ", ".join(f"{_number(one)} {where[name]}" for name, one in ends.items())
    gaps = {name: one for name in ("guard", BEFORE) if (one := told.get((GAP, name))) is not None}
    gap = ""
    if "guard" in gaps:
        least = _number(gaps.get(BEFORE))
        gap = f" Average similarity gap to gold: {_number(gaps['guard'])}, without the guard {least}."
    estimates = {KNOWN.replace(" ", "_"): known} | {f"{NAMES[0]}, {name}": one for name, one in ends.items()}
    estimates |= {f"{GAP}, {name}": one for name, one in gaps.items()}
    return (
        f"Protected texts: of their beginnings {_share(known)} were recognised; {NAMES[0]} of what was written and the "
        f"original: {parts}.{gap}",
        "Nearest to gold is best. Beginnings that are not recognised are continued as without the guard.",
        estimates,
    )


def _share(one: EstimateRecord) -> str:
    return f"{100 * (one.value or 0.0):.3g}%"


def _number(one: EstimateRecord | None) -> str:
    return "not measured" if one is None or one.value is None else f"{one.value:.3g}"
