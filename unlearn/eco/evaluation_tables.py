"""The tables of an evaluation's section, from the plain rows of `evaluate.report.Evaluation.tables`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from audit.runs.schema import Cell, Column, EstimateRecord, PValueRecord, Table

from .evaluate.report import BEFORE, GOLD
from .evaluate.similarity import NAMES

Rows: TypeAlias = Sequence[Mapping[str, Any]]
_NOTE = {
    True: "Behind the guard, what is said to prompts that pass is the same to the bit. A system that refuses gives no "
    "answer any probability. Nearest to gold is best.",
    False: "A question that is not answered counts as wrong. Nearest to gold, or to chance, is best.",
}
_QUOTED = 10
_SYSTEMS = {
    BEFORE: "the model without the guard",
    "guard": "the model behind the guard",
    GOLD: "gold, a model that was never trained on it",
    "filter": "a filter that refuses",
    "prefix": "an instruction before the prompt",
}
_SCOPES = {"prompt": "prompt, as in use", "prompt+answer": "prompt and scored answer, as published"}


@dataclass(frozen=True, slots=True)
class Noise:
    """p-values of one test of forget quality under several draws of the noise.

    Attributes:
        scope: As of the table.
        test: Its name.
        p_values: Of the draws in which the test is defined.
        n_draws: All draws.
    """

    scope: str
    test: str
    p_values: tuple[float, ...]
    n_draws: int


def record_of(told: Mapping[str, Any] | None) -> EstimateRecord | None:
    return None if told is None else EstimateRecord(**told)


def _without(told: Mapping[str, Any] | None, beginning: str) -> EstimateRecord | None:
    """An estimate whose method does not say again what its row says."""
    record = record_of(told)
    return record and record.model_copy(update={"method": record.method.removeprefix(beginning)})


def _p(told: Mapping[str, Any] | None) -> PValueRecord | None:
    return None if told is None else PValueRecord(**told)


def _system(name: str) -> str:
    return _SYSTEMS.get(name, name)


def recall_table(rows: Rows) -> Table:
    return Table(
        name="recall",
        title="What is recognised, by attack",
        note="Held-out forget rows. Attacks that cannot be made from these rows say so.",
        columns=(
            Column(key="attack", label="Attack"),
            Column(key="kind", label="Kind"),
            Column(key="share", label="Recognised"),
            Column(key="n", label="Prompts"),
            Column(key="missed", label="Missed"),
        ),
        rows=tuple(
            {
                "attack": row["attack"],
                "kind": row["kind"],
                "share": _without(row["share"], f"recall, {row['attack']}, "),
                "n": row["n_prompts"],
                "missed": len(row["missed"]),
            }
            for row in rows
        ),
    )


def false_positive_table(rows: Rows) -> Table:
    return Table(
        name="false-positive-rates",
        title="Whom it stops by mistake",
        columns=(
            Column(key="source", label="Prompts"),
            Column(key="rate", label="Flagged", help="exact interval over prompts"),
            Column(key="cluster", label="Flagged, resampled by cluster"),
            Column(key="alpha", label="Promised, at most"),
            Column(key="p", label="p of as many or more, if the promise holds"),
        ),
        rows=tuple(
            {
                "source": row["source"],
                "rate": _without(row["rate"], name := f"false-positive rate, {row['source']}, "),
                "cluster": _without(row["by_cluster"], name) or "",
                "alpha": "nothing" if row["alpha"] is None else row["alpha"],
                "p": _p(row["surplus"]) or "",
            }
            for row in rows
        ),
    )


def listed_table(rows: Rows, *, show_text: bool) -> Table:
    columns = [Column(key="source", label="Prompts"), Column(key="id", label="Row"), Column(key="score", label="Score")]
    if show_text:
        columns.append(Column(key="prompt", label="Prompt"))
    listed: list[dict[str, Cell]] = []
    for row in rows:
        for one in row["listed"]:
            told: dict[str, Cell] = {"source": row["source"], "id": one["id"], "score": _score(one["score"])}
            listed.append({**told, "prompt": one["text"]} if show_text else told)
    return Table(
        name="false-positives",
        title="Prompts that were flagged by mistake",
        note="None." if not listed else "" if show_text else "Prompts are quoted only where that was asked for.",
        columns=tuple(columns),
        rows=tuple(listed),
    )


def _score(value: float | str) -> float | str:
    return "cannot be read" if isinstance(value, str) or not math.isfinite(value) else value


def side_by_side(name: str, title: str, rows: Rows, *, note: str | None = None) -> list[Table]:
    """For each scope the systems beside each other, and how far they are from the bare model and from gold."""
    found = []
    for place, scope in enumerate(dict.fromkeys(row.get("scope") for row in rows)):
        own = [row for row in rows if row.get("scope") == scope]
        words = f", corrupted: {_SCOPES[scope]}" if scope else ""
        by_measure: dict[str, dict[str, Mapping[str, Any]]] = {}
        for row in own:
            by_measure.setdefault(_measure(row), {})[row["system"]] = row
        systems = list(dict.fromkeys(row["system"] for row in own))
        means = {
            measure: {one: _cell(row["estimate"]) for one, row in listed.items()}
            for measure, listed in by_measure.items()
        }
        found.append(_measure_table(f"{name}-{place}", title + words, systems, means, note=note or _NOTE[bool(scope)]))
        pairs = [(one, other) for other in (GOLD, BEFORE) if other in systems for one in systems
                 if one != other and (other == GOLD or one != GOLD)]  # fmt: skip
        apart = {
            measure: {
                f"{one} - {other}": _cell(listed[one].get(f"less {other}")) for one, other in pairs if one in listed
            }
            for measure, listed in by_measure.items()
        }
        for other in (GOLD, BEFORE):
            columns = [f"{one} - {end}" for one, end in pairs if end == other]
            told = {measure: cells for measure, cells in apart.items() if any(cells.get(one) for one in columns)}
            if columns and told:
                found.append(
                    _measure_table(f"{name}-{place}-less-{other}", f"{title}{words}: difference from {_system(other)}",
                                   columns, told, note="Paired: the same rows are drawn for both.")
                )  # fmt: skip
    return found


def _measure_table(
    name: str, title: str, columns: Sequence[str], cells: Mapping[str, Mapping[str, Cell]], *, note: str
) -> Table:
    """A row for each measure, a column for each system or pair of systems."""
    return Table(
        name=name,
        title=title,
        note=note,
        columns=(
            Column(key="measure", label="Measure"),
            *(Column(key=one, label=_short(one), help=_system(one.partition(" - ")[0])) for one in columns),
        ),
        rows=tuple(
            {"measure": measure, **{one: listed.get(one, "") for one in columns}} for measure, listed in cells.items()
        ),
    )


def _measure(row: Mapping[str, Any]) -> str:
    told = str(row["measure"]).split(", scope")[0]
    return f"{told} (by chance {row['chance']:.3g})" if "chance" in row else told


def _cell(told: Mapping[str, Any] | None) -> Cell:
    """An estimate whose method does not say again what its row says."""
    record = record_of(told)
    if record is None:
        return ""
    return record.model_copy(update={"method": record.method.rpartition(": ")[2]})


def _short(column: str) -> str:
    name = column.partition(" - ")[0]
    return {BEFORE: "Without", "prefix": "Instruction"}.get(name, name.capitalize())


def written_table(rows: Rows) -> Table | None:
    """What the guard wrote nearest to the original; for reports that quote."""
    own = sorted((row for row in rows if row["system"] == "guard"), key=lambda row: -row["likeness"])[:_QUOTED]
    if not own:
        return None
    return Table(
        name="passages-written",
        title="What was written behind the guard, nearest to the original first",
        note=f"At most {_QUOTED}. All that was written, by every system, stands in the run's evaluation.json.",
        columns=(
            Column(key="id", label="Row"),
            Column(key="likeness", label=NAMES[0]),
            Column(key="written", label="Written"),
            Column(key="original", label="Original"),
        ),
        rows=tuple({key: row[key] for key in ("id", "likeness", "written", "original")} for row in own),
    )


def utility_table(rows: Rows) -> Table | None:
    if not rows:
        return None
    return Table(
        name="utility",
        title="Model utility",
        note="Harmonic mean of nine numbers: probability, ROUGE-L and truth ratio of retain rows, real authors and "
        "world facts.",
        columns=(
            Column(key="scope", label="Corrupted"),
            Column(key="system", label="System"),
            Column(key="estimate", label="Utility"),
            Column(key="less_before", label="Difference from the model without the guard"),
            Column(key="less_gold", label="Difference from gold"),
        ),
        rows=tuple(
            {
                "scope": _SCOPES[row["scope"]],
                "system": _system(row["system"]),
                "estimate": record_of(row["estimate"]),
                "less_before": record_of(row[f"less {BEFORE}"]) or "",
                "less_gold": record_of(row[f"less {GOLD}"]) or "",
            }
            for row in rows
        ),
    )


def quality_table(rows: Rows) -> Table | None:
    if not rows:
        return None
    return Table(
        name="quality",
        title="Forget quality: can a system be told from gold?",
        note="Kolmogorov-Smirnov test of truth ratios, a system's against gold's. The raw one is the primary one; the "
        "folded one does not see which way answers moved.",
        columns=(
            Column(key="scope", label="Corrupted"),
            Column(key="system", label="System"),
            Column(key="test", label="Test"),
            Column(key="distance", label="Distance"),
            Column(key="p", label="p"),
        ),
        rows=tuple(
            {
                "scope": _SCOPES[row["scope"]],
                "system": _system(row["system"]),
                "test": row["test"],
                "distance": record_of(row["distance"]),
                "p": _p(row["p_value"]) or "",
            }
            for row in rows
        ),
    )


def noise_table(noise: Sequence[Noise]) -> Table | None:
    if not noise:
        return None
    return Table(
        name="noise",
        title="Forget quality of the guard under several draws of the noise",
        note="Median and range; the draws were fixed before any of them was looked at.",
        columns=(
            Column(key="scope", label="Corrupted"),
            Column(key="test", label="Test"),
            Column(key="median", label="Median p"),
            Column(key="low", label="Lowest"),
            Column(key="high", label="Highest"),
            Column(key="n", label="Draws"),
        ),
        rows=tuple(
            {
                "scope": _SCOPES[one.scope],
                "test": one.test,
                "median": float(np.median(one.p_values)) if one.p_values else "not defined",
                "low": min(one.p_values) if one.p_values else "",
                "high": max(one.p_values) if one.p_values else "",
                "n": len(one.p_values),
            }
            for one in noise
        ),
    )


def changed_table(rows: Rows) -> Table | None:
    if not rows:
        return None
    return Table(
        name="changed",
        title="Rows that changed behind the guard",
        note="Rows that are not flagged should have the same numbers, to the bit.",
        columns=(
            Column(key="part", label="Rows"),
            Column(key="scope", label="Corrupted"),
            Column(key="flagged", label="Flagged"),
            Column(key="changed", label="Changed"),
            Column(key="strange", label="Changed though not flagged"),
        ),
        rows=tuple(
            {
                "part": row["part"],
                "scope": _SCOPES[row["scope"]],
                "flagged": len(row["flagged"]),
                "changed": len(row["changed"]),
                "strange": len(row["changed, not flagged"]),
            }
            for row in rows
        ),
    )


def latency_table(rows: Rows) -> Table | None:
    if not rows:
        return None
    return Table(
        name="latency",
        title="What it costs",
        note="One request at a time, up to the first token, guard and bare model in turn; a verdict is known where the "
        "same text was judged before.",
        columns=(
            Column(key="traffic", label="Prompts"),
            Column(key="what", label="What"),
            Column(key="unit", label="Unit"),
            Column(key="p50", label="Median"),
            Column(key="p95", label="95th percentile"),
        ),
        rows=tuple(
            {
                "traffic": row["traffic"],
                "what": row["what"],
                "unit": row["unit"],
                "p50": record_of(row["p50"]),
                "p95": record_of(row["p95"]),
            }
            for row in rows
        ),
    )
