"""What was measured in an evaluation of a guard, prompt by prompt, and the tables of items that keep it.

Values stand in tables of items, and what they are of (names of measures, why a row has no value) in evaluation.json
under "kept". No text is kept here but what the evaluation quotes anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, cast

import numpy as np
import pandas as pd
import pyarrow as pa

from audit.answers.choices import Accuracy
from audit.answers.formats import PromptFormat
from audit.answers.qa import Qa
from audit.answers.rewordings import Kind
from audit.forgetting.measured import Measured
from audit.runs.store import Run

from .corruptions import Corruption
from .evaluate.copyright import Continued
from .evaluate.latency import Timed, Traffic
from .evaluate.recall import Judged
from .evaluation_findings import Left
from .guard import GuardSettings
from .guard_files import GuardRecord

QUESTIONS, PASSAGES, CHOICES = "eco-questions", "eco-passages", "eco-choices"
NOISE, VERDICTS, DELAYS = "eco-noise", "eco-verdicts", "eco-delays"
MEASURES: Final = ("probability", "rouge", "ln truth ratio", "truth")
RECALL, PASSING, ANSWERED, BEGINNINGS = "recall", "false positives", "answered", "beginnings recognised"
_WHOLE = "answer"  # step of a whole answer


@dataclass(frozen=True, slots=True)
class Evaluated:
    """All that was measured; what was not is empty.

    Attributes:
        qa: System -> its measures on each part in each scope.
        choices: System -> its accuracies.
        continued: System -> what it made of protected texts.
        answered: What the guard says of the rows of each part; ``of`` is the part.
        recall: Kind of each attack, and what the guard says of its prompts.
        passing: Whether the threshold's promise is for these prompts, and what the guard says of each.
        beginnings: Likewise of beginnings of protected texts.
        noise: Measures of the guard on forget rows under each further draw of the noise.
        timed: Seconds.
        originals: Row of a protected text -> its continuation in the original.
    """

    qa: Mapping[str, tuple[Qa, ...]] = field(default_factory=dict)
    choices: Mapping[str, tuple[Accuracy, ...]] = field(default_factory=dict)
    continued: Mapping[str, Continued] = field(default_factory=dict)
    answered: tuple[Judged, ...] = ()
    recall: tuple[tuple[Kind, Judged], ...] = ()
    passing: tuple[tuple[bool, Judged], ...] = ()
    beginnings: Judged | None = None
    noise: tuple[tuple[Qa, ...], ...] = ()
    timed: tuple[Timed, ...] = ()
    originals: Mapping[str, str] = field(default_factory=dict)

    def judged(self) -> Iterator[tuple[str, Judged]]:
        """Every list of prompts with what it is for."""
        for what, listed in (
            (RECALL, [one for _, one in self.recall]),
            (PASSING, [one for _, one in self.passing]),
            (ANSWERED, self.answered),
            (BEGINNINGS, [] if self.beginnings is None else [self.beginnings]),
        ):
            for one in listed:
                yield what, one


@dataclass(frozen=True, slots=True)
class Facts:
    """What an evaluation tells beside its measures.

    Attributes:
        guard: Of the guard, no more than is told.
        left: What was left out.
        not_measured: System and rows -> why not.
        seed: Of every interval.
        show_text: Whether prompts, and what was written, are quoted.
    """

    guard: GuardRecord
    left: Left
    not_measured: Mapping[str, str]
    seed: int
    show_text: bool


def guard_facts(record: GuardRecord) -> dict[str, Any]:
    """What is told of a guard, as plain JSON."""
    settings = asdict(record.settings)
    threshold = record.threshold if np.isfinite(record.threshold) else "infinity"
    return {
        "settings": settings,
        "threshold": threshold,
        "model": record.model,
        "promise": record.evidence.get("threshold", {}),
    }


def guard_of(told: Mapping[str, Any]) -> GuardRecord:
    """What `guard_facts` gave."""
    settings = dict(told["settings"])
    settings |= {"corruption": Corruption(**settings["corruption"]), "format": PromptFormat(**settings["format"])}
    return GuardRecord(
        GuardSettings(**settings), float(told["threshold"]), (), 1.0, told["model"], {}, {"threshold": told["promise"]}
    )


# Tables of items


def item_tables(made: Evaluated) -> dict[str, pa.Table]:
    """Name -> table, those that have rows."""
    noise = {str(number): own for number, own in enumerate(made.noise, start=2)}
    rows = {
        QUESTIONS: _qa_rows(made.qa),
        PASSAGES: [
            {"system": system, "measure": measured.name, **row}
            for system, one in made.continued.items()
            for measured in _of_passages(one)
            for row in _values(measured)
        ],
        CHOICES: [
            {"system": system, "part": one.part, **row}
            for system, listed in made.choices.items()
            for one in listed
            for row in _values(one.measured)
        ],
        NOISE: [
            row for row in _qa_rows(noise, "draw") if row["measure"] == MEASURES[2]
        ],  # forget quality looks at nothing else
        VERDICTS: [
            {"for": what, "of": one.of, "id": name, "cluster": home, "score": score, "flagged": flag}
            for what, one in made.judged()
            for name, home, score, flag in zip(one.ids, one.clusters, one.scores, one.flagged, strict=True)
        ],
        DELAYS: [row for one in made.timed for row in _seconds(one)],
    }
    return {name: pa.Table.from_pylist(listed) for name, listed in rows.items() if listed}


def _values(measured: Measured) -> Iterator[dict[str, Any]]:
    for name, home, value in zip(measured.ids, measured.passages, measured.values.tolist(), strict=True):
        yield {"id": name, "cluster": home, "value": value}


def _qa_rows(qa: Mapping[str, Sequence[Qa]], of: str = "system") -> list[dict[str, Any]]:
    return [
        {of: name, "part": one.part, "scope": one.scope, "measure": measure, **row}
        for name, listed in qa.items()
        for one in listed
        for measure, measured in zip(MEASURES, one.measures, strict=True)
        for row in _values(measured)
    ]


def _of_passages(one: Continued) -> tuple[Measured, ...]:
    return (*one.similar, one.loss, one.unique)


def _seconds(timed: Timed) -> Iterator[dict[str, Any]]:
    """A row for each request; a whole answer is timed once."""
    for step, seconds in (*timed.steps.items(), (_WHOLE, timed.whole[:, None])):
        for place, own in enumerate(seconds.tolist(), start=1):
            for turn, value in enumerate(own, start=1):
                yield {"traffic": timed.traffic, "step": step, "prompt": place, "round": turn, "seconds": value}


# What values are of


def skeleton(made: Evaluated) -> dict[str, Any]:
    """What tables of items do not hold, as plain JSON."""
    return {
        "questions": [{"system": name, **_bare(one)} for name, listed in made.qa.items() for one in listed],
        "noise": [[_bare(one) for one in own] for own in made.noise],
        "choices": [
            {
                "system": name, "part": one.part, "chance": one.chance, "n_unanswered": one.n_unanswered,
                "n_tied": one.n_tied, "measured": _named(one.measured),
            }
            for name, listed in made.choices.items()
            for one in listed
        ],
        "passages": [
            {"system": name, "measures": [_named(one) for one in _of_passages(own)]}
            for name, own in made.continued.items()
        ],
        RECALL: [{"kind": kind, **_asked(one)} for kind, one in made.recall],
        PASSING: [{"promised": promised, **_asked(one)} for promised, one in made.passing],
        ANSWERED: [_asked(one) for one in made.answered],
        BEGINNINGS: None if made.beginnings is None else _asked(made.beginnings),
        "n_new": {one.traffic: one.n_new for one in made.timed},
        "tables": list(item_tables(made)),
    }  # fmt: skip


def _named(measured: Measured) -> dict[str, Any]:
    return {"name": measured.name, "left_out": dict(measured.left_out)}


def _bare(one: Qa) -> dict[str, Any]:
    measures = [_named(measured) for measured in one.measures]
    return {"part": one.part, "scope": one.scope, "measures": measures, "refused": list(one.refused)}


def _asked(one: Judged) -> dict[str, Any]:
    return {"of": one.of, "n_left_out": one.n_left_out, "lacking": one.lacking}


# And back


def read_evaluated(run: Run, kept: Mapping[str, Any], tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> Evaluated:
    """What `item_tables` and `skeleton` keep; ``tables`` are the plain ones of evaluation.json, for quoted texts.

    Raises:
        DataError: A table is missing or damaged.
    """
    frames = _Frames(run, kept["tables"])
    written = tables.get("passages written", ())
    quoted = {(row["source"], one["id"]): one["text"] for row in tables["false positives"] for one in row["listed"]}

    def judged(what: str, told: Mapping[str, Any]) -> Judged:
        own = frames.rows(VERDICTS, {"for": what, "of": told["of"]})
        return Judged(
            told["of"],
            tuple(own["id"]),
            tuple(own["cluster"]),
            tuple(own["score"].astype(float)),
            tuple(map(bool, own["flagged"])),
            tuple(quoted.get((told["of"], name), "") if what == PASSING else "" for name in own["id"]),
            told["n_left_out"],
            told["lacking"],
        )

    def of_questions(told: Mapping[str, Any], name: str, where: Mapping[str, Any]) -> Qa:
        place = {**where, "part": told["part"], "scope": told["scope"]}
        probability, rouge, log_ratio, truth = (
            frames.measured(one, name, {**place, "measure": measure})
            for measure, one in zip(MEASURES, told["measures"], strict=True)
        )
        return Qa(told["part"], told["scope"], probability, rouge, log_ratio, truth, tuple(told["refused"]))

    def of_passages(told: Mapping[str, Any]) -> Continued:
        system = told["system"]
        *similar, loss, unique = (
            frames.measured(one, PASSAGES, {"system": system, "measure": one["name"]}) for one in told["measures"]
        )
        texts = tuple(row["written"] for row in written if row["system"] == system)
        return Continued(texts, tuple(similar), loss, unique)

    return Evaluated(
        _by_system((told["system"], of_questions(told, QUESTIONS, {"system": told["system"]}))
                   for told in kept["questions"]),
        _by_system((told["system"], _accuracy(told, frames)) for told in kept["choices"]),
        {told["system"]: of_passages(told) for told in kept["passages"]},
        tuple(judged(ANSWERED, told) for told in kept[ANSWERED]),
        tuple((told["kind"], judged(RECALL, told)) for told in kept[RECALL]),
        tuple((told["promised"], judged(PASSING, told)) for told in kept[PASSING]),
        None if kept[BEGINNINGS] is None else judged(BEGINNINGS, kept[BEGINNINGS]),
        tuple(
            tuple(of_questions(told, NOISE, {"draw": str(number)}) for told in own)
            for number, own in enumerate(kept["noise"], start=2)
        ),
        tuple(_timed(frames, cast("Traffic", traffic), n_new) for traffic, n_new in kept["n_new"].items()),
        {row["id"]: row["original"] for row in written},
    )  # fmt: skip


class _Frames:
    """Tables of items, each read when it is first needed; one that had no rows was not written.

    Args:
        run: Whose.
        written: Names of those that were.
    """

    def __init__(self, run: Run, written: Sequence[str]) -> None:
        self._run, self._written = run, written
        self._known: dict[str, pd.DataFrame] = {}

    def rows(self, name: str, where: Mapping[str, Any]) -> pd.DataFrame:
        if name not in self._written:
            return pd.DataFrame(columns=["id", "cluster", "value", "score", "flagged"])
        if name not in self._known:
            self._known[name] = self._run.read_items(name).to_pandas()
        frame = self._known[name]
        met = np.ones(len(frame), dtype=np.bool_)
        for column, value in where.items():
            met &= (frame[column] == value).to_numpy()
        return frame[met]

    def measured(self, told: Mapping[str, Any], name: str, where: Mapping[str, Any]) -> Measured:
        own = self.rows(name, where)
        values = own["value"].to_numpy(dtype=float)
        return Measured(told["name"], tuple(own["id"]), tuple(own["cluster"]), values, told["left_out"])


def _by_system(pairs: Iterable[tuple[str, Any]]) -> dict[str, tuple[Any, ...]]:
    found: dict[str, tuple[Any, ...]] = {}
    for name, one in pairs:
        found[name] = (*found.get(name, ()), one)
    return found


def _accuracy(told: Mapping[str, Any], frames: _Frames) -> Accuracy:
    measured = frames.measured(told["measured"], CHOICES, {"system": told["system"], "part": told["part"]})
    return Accuracy(told["part"], measured, told["chance"], told["n_unanswered"], told["n_tied"])


def _timed(frames: _Frames, traffic: Traffic, n_new: int) -> Timed:
    own = frames.rows(DELAYS, {"traffic": traffic})
    steps = {
        str(step): part["seconds"].to_numpy(dtype=float).reshape(part["prompt"].nunique(), -1)
        for step, part in own.groupby("step", sort=False)
    }
    whole = steps.pop(_WHOLE)[:, 0]
    return Timed(traffic, steps, whole, n_new)
