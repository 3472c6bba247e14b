"""What a sweep says, from judges' words on each continuation and the losses of each text: by the run, and by a replay.

A judge's word on a continuation is kept beside its prompt's place and its seed, without the text. Losses are kept as
their sums over a text's tokens, from which every perplexity follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from audit.progress import Progress, silent
from audit.runs.records import plain, read_json
from audit.runs.replay import Derived, Replayed
from audit.runs.store import Run

from .evaluate.judges import Judge, Remembered, judged_on
from .evaluate.perplexity import TextLosses
from .evaluate.points import Point
from .evaluate.rate import Continuations
from .evaluate.sweep import Goal, Selected, compare, select_strength, sweep_rows
from .sweep_findings import AUDIT, sweep_record, sweep_section
from .sweep_made import ArmFacts, Compared, Swept, outcome_of

RECORD: Final = "sweep.json"
FLAGS, LOSSES, LABELS = "sweep-flags", "sweep-losses", "sweep-judges"
TEST, VALIDATION = "test", "validation"
NEUTRAL: Final = "neutral"
CHOOSER: Final = "words"
_SUMS = ("losses", "n_tokens", "first_losses", "n_first")


@dataclass(frozen=True, slots=True)
class SweepFacts:
    """What a sweep tells beside what was measured.

    Attributes:
        model, goal, arms, judges, n_repeated, warnings, settings: As of `Swept`.
        seed: Of every interval.
    """

    model: str
    goal: Goal
    arms: tuple[ArmFacts, ...]
    judges: tuple[Mapping[str, Any], ...]
    n_repeated: int
    warnings: tuple[str, ...]
    settings: str
    seed: int


def swept_of(
    facts: SweepFacts,
    ours: Selected,
    judges: Sequence[Judge],
    points: Sequence[Point],
    validation: Sequence[Point],
    progress: Progress = silent,
) -> Swept:
    """Rates, changes and comparisons of what was measured.

    Args:
        facts: What is told beside.
        ours: Our strength.
        judges: All; the one that chose reports nothing.
        points: On the prompts that are reported.
        validation: On those that chose.
        progress: Called after each judge.
    """
    reported = [judge for judge in judges if judge.name != ours.judge]
    rows, compared = {}, []
    for number, judge in enumerate(reported):
        progress("sweep: judged", number, len(reported))
        rows[judge.name] = sweep_rows(points, judge, facts.goal, rng=facts.seed)
        for name in points[0].losses:
            compared += [
                Compared(judge.name, name, one, outcome_of(one, facts.goal))
                for one in compare(ours, points, judge, texts=name, rng=facts.seed)
            ]
    progress("sweep: judged", len(reported), len(reported))
    choice = []
    if validation:
        chooser = next(judge for judge in judges if judge.name == ours.judge)
        whole = sweep_rows(validation, chooser, facts.goal, rng=facts.seed)
        choice = [row for row in whole if row.arm == ours.arm]
    return Swept(
        model=facts.model,
        goal=facts.goal,
        ours=ours,
        arms=facts.arms,
        judges=facts.judges,
        points=tuple(points),
        rows=rows,
        compared=tuple(compared),
        choice=choice,
        n_repeated=facts.n_repeated,
        warnings=facts.warnings,
        settings=facts.settings,
    )


def chosen(points: Sequence[Point], judges: Sequence[Judge], arm: str, goal: Goal, *, most_percent: float) -> Selected:
    """Our strength, chosen by the judge of words on validation points.

    Raises:
        InputError: As `select_strength`.
    """
    chooser = next(judge for judge in judges if judge.name == CHOOSER)
    beyond = any(point.outside_paper for point in points if point.arm == arm)
    return select_strength(points, chooser, arm, goal, texts=NEUTRAL, most_percent=most_percent, beyond_paper=beyond)


# Tables of items


def flag_items(parts: Mapping[str, Sequence[Point]], judges: Sequence[Judge]) -> pa.Table:
    """A row for each continuation and judge; an empty continuation is not judged."""
    rows = []
    for part, points in parts.items():
        for number, point in enumerate(points):
            for seed, texts in zip(point.continuations.seeds, point.continuations.texts, strict=True):
                kept = [text for text in dict.fromkeys(texts) if text.strip()]
                for judge in judges:
                    said = dict(zip(kept, judge.flags(kept).tolist(), strict=True)) if kept else {}
                    rows += [
                        {
                            "part": part, "point": number, "arm": point.arm, "strength": point.strength,
                            "scaled": point.scaled, "prompt": place, "seed": seed, "judge": judge.name,
                            "shown": said.get(text),
                        }
                        for place, text in enumerate(texts, start=1)
                    ]  # fmt: skip
    return pa.Table.from_pylist(rows)


def loss_items(parts: Mapping[str, Sequence[Point]]) -> pa.Table:
    """A row for each text of each set, under each arm at each strength."""
    return pa.Table.from_pylist(
        [
            {"part": part, "point": number, "texts": name, "unit": unit, **dict(zip(_SUMS, sums, strict=True))}
            for part, points in parts.items()
            for number, point in enumerate(points)
            for name, one in point.losses.items()
            for unit, *sums in zip(one.units, *(getattr(one, each).tolist() for each in _SUMS), strict=True)
        ]
    )


def label_items(judges: Sequence[Judge]) -> pa.Table | None:
    """Scores of the texts that fixed the threshold of each judge that was trained here; None where none was."""
    rows = [
        {"judge": judge.name, "score": score, "label": label}
        for judge in judges
        if isinstance(judge, Remembered) and judge.validation is not None
        for score, label in zip(*(each.tolist() for each in judge.validation), strict=True)
    ]
    return pa.Table.from_pylist(rows) if rows else None


# And back


class Said:
    """A judge whose word on each continuation is known."""

    def __init__(self, name: str, known: Mapping[str, bool]) -> None:
        self._name, self._known = name, known

    @property
    def name(self) -> str:
        return self._name

    def flags(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        return np.array([self._known[text] for text in texts], dtype=np.bool_)

    def to_record(self) -> dict[str, Any]:
        return {"name": self._name}


def read_points(flags: pd.DataFrame, losses: pd.DataFrame, part: str) -> list[Point]:
    """The points of a part; in place of each text stands its address, or nothing where it was empty."""
    found = []
    of_flags, of_losses = flags[flags["part"] == part], losses[losses["part"] == part]
    by_point = dict(list(of_losses.groupby("point", sort=False)))
    for number, own in of_flags.groupby("point", sort=False):
        first = own[own["judge"] == own["judge"].iloc[0]]
        arm, strength = str(first["arm"].iloc[0]), float(first["strength"].iloc[0])
        by_seed = {int(seed): rows for seed, rows in first.groupby("seed", sort=False)}
        prompts = next(iter(by_seed.values()))["prompt"]
        texts = tuple(
            tuple(
                "" if shown is None else address(part, number, seed, prompt)
                for prompt, shown in zip(rows["prompt"], rows["shown"], strict=True)
            )
            for seed, rows in by_seed.items()
        )
        places = tuple(f"{part} prompt {place}" for place in prompts)
        written = Continuations(arm, strength, places, tuple(by_seed), texts)
        of_texts = {
            str(name): TextLosses(
                str(name), arm, strength, tuple(rows["unit"]), *(rows[each].to_numpy(dtype=float) for each in _SUMS)
            )
            for name, rows in by_point[number].groupby("texts", sort=False)
        }
        found.append(Point(arm, strength, bool(first["scaled"].iloc[0]), written, of_texts))
    return found


def read_judges(flags: pd.DataFrame) -> list[Said]:
    """Every judge, in the order of the run."""
    return [
        Said(
            str(name),
            {
                address(*row): bool(shown)
                for *row, shown in zip(*(own[key] for key in ("part", "point", "seed", "prompt", "shown")), strict=True)
                if shown is not None
            },
        )
        for name, own in flags.groupby("judge", sort=False)
    ]


def address(part: Any, point: Any, seed: Any, prompt: Any) -> str:
    """What stands for a continuation."""
    return f"{part}, point {point}, seed {seed}, prompt {prompt}"


def measured_again(records: Sequence[Mapping[str, Any]], labels: pd.DataFrame | None) -> tuple[dict[str, Any], ...]:
    """The judges' records with threshold and quality from the scores of the texts that fixed them."""
    found = []
    for one in records:
        own = None if labels is None else labels[labels["judge"] == one["name"]]
        again: dict[str, Any] = {}
        if own is not None and len(own):
            scores, shown = own["score"].to_numpy(dtype=float), own["label"].to_numpy(dtype=np.bool_)
            threshold, quality = judged_on(scores, shown, one["rule"])
            again = {"threshold": threshold, "quality": asdict(quality)}
        found.append({**one, **again})
    return tuple(found)


def replay(run: Run) -> Replayed:
    """The section anew, from the items and what sweep.json tells.

    Raises:
        DataError: A table is missing or damaged.
    """
    if not run.items_path(FLAGS).exists():
        why = "this run did not keep the judges' words and the losses by text; later ones do"
        return Replayed((), {AUDIT: why})
    told = read_json(run.folder / RECORD, missing=f"{run.folder} has no {RECORD}; restore it from a copy.")
    flags, losses = (run.read_items(name).to_pandas() for name in (FLAGS, LOSSES))
    labels = run.read_items(LABELS).to_pandas() if run.items_path(LABELS).exists() else None
    judges, plan = read_judges(flags), run.record.plan["sweep"]
    facts = SweepFacts(
        told["model"],
        told["goal"],
        tuple(ArmFacts(**one) for one in told["arms"]),
        measured_again(told["judges"], labels),
        told["n_repeated"],
        tuple(told["text_warnings"]),
        told["settings"],
        plan["seed"],
    )
    points, validation = (read_points(flags, losses, part) for part in (TEST, VALIDATION))
    kept = told["ours"]
    ours = Selected(kept["arm"], kept["strength"], kept["rule"])
    if validation:
        ours = chosen(validation, judges, kept["arm"], facts.goal, most_percent=plan["most_percent"])
    made = swept_of(facts, ours, judges, points, validation)
    again = plain(sweep_record(made), RECORD)
    derived = [Derived.record(f"{RECORD}/{name}", told[name], again[name]) for name in again]
    return Replayed((sweep_section(made),), {}, tuple(derived))
