"""A sweep that has been measured and judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from .evaluate.matched import Matched
from .evaluate.points import Point
from .evaluate.sweep import Goal, Selected, SweepRow
from .evaluate.tables import SizeRow, size_rows

Outcome = Literal["better", "worse", "no difference shown", "no interval", "not comparable"]


@dataclass(frozen=True, slots=True)
class ArmFacts:
    """What an arm is.

    Attributes:
        name: In tables.
        method: Likewise, without what tells two of one method apart.
        n_sites: Modules with a map; 0 of an instruction.
        support: Share of neurons that are changed; None of an instruction.
        gamma: Weight of the sparse group lasso; None where there was none to set.
        same_sentences: Whether it was fitted on the sentences that were given; None where none were, or nothing fitted.
        n_sentences: Source sentences that it was fitted on; None where that is not known.
    """

    name: str
    method: str
    n_sites: int
    support: float | None
    gamma: float | None
    same_sentences: bool | None
    n_sentences: int | None = None

    def to_record(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Compared:
    """Our arm against another at one perplexity, by one judge.

    Attributes:
        judge: Who judged.
        texts: Set of texts whose perplexity is matched.
        matched: The comparison.
        outcome: What its interval says of ours.
    """

    judge: str
    texts: str
    matched: Matched
    outcome: Outcome

    def to_record(self) -> dict[str, Any]:
        return {"judge": self.judge, "texts": self.texts, "outcome": self.outcome, **self.matched.to_record()}


def outcome_of(one: Matched, goal: Goal) -> Outcome:
    """What the interval of the difference says of ours: better only where all of it is on the good side of 0."""
    gap = one.difference
    if gap.value is None:
        return "not comparable"
    if gap.low is None or gap.high is None:
        return "no interval"
    if gap.low <= 0 <= gap.high:
        return "no difference shown"
    return "better" if (gap.low > 0) == (goal == "raise") else "worse"


@dataclass(frozen=True, slots=True)
class Swept:
    """All of a sweep that its section, tables and items are made of.

    Attributes:
        model: Its name.
        goal: Whether the rate is to rise or to fall.
        ours: Our strength and what chose it.
        arms: Facts of each arm, ours first; the unsteered model is not among them.
        judges: Their records; a trained one has its ``quality``.
        points: On the prompts that are reported, unsteered first.
        rows: Judge -> a row for each point; of all judges but the one that chose our strength.
        compared: The comparisons at matched perplexity.
        choice: Rows of our arm on the prompts that chose, by the judge that chose; empty where nothing was chosen.
        n_repeated: Prompts that stood there twice.
        warnings: Of the texts.
        settings: How continuations were drawn, in words.
    """

    model: str
    goal: Goal
    ours: Selected
    arms: tuple[ArmFacts, ...]
    judges: tuple[Mapping[str, Any], ...]
    points: tuple[Point, ...]
    rows: Mapping[str, Sequence[SweepRow]]
    compared: tuple[Compared, ...]
    choice: Sequence[SweepRow]
    n_repeated: int
    warnings: tuple[str, ...]
    settings: str

    @property
    def our_place(self) -> int:
        """Of our arm at our strength, among points and rows."""
        return next(
            place
            for place, one in enumerate(self.points)
            if one.arm == self.ours.arm and one.strength == self.ours.strength
        )

    def sizes(self) -> dict[str, list[SizeRow]]:
        """Judge -> rows of fits of our method and gamma by their number of sentences, at our strength; {} where there
        are fewer than two numbers."""
        own = self.arms[0]
        like = {
            one.name: one.n_sentences
            for one in self.arms
            if (one.method, one.gamma) == (own.method, own.gamma) and one.n_sentences is not None
        }
        places: dict[int, list[int]] = {}
        for place, point in enumerate(self.points):
            n = like.get(point.arm)
            if n is not None and point.strength == self.ours.strength:
                places.setdefault(n, []).append(place)
        if len(places) < 2:
            return {}
        return {
            judge: size_rows({n: [rows[place] for place in listed] for n, listed in places.items()})
            for judge, rows in self.rows.items()
        }

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(self.points[0].losses)

    def to_record(self) -> dict[str, Any]:
        """Plain values, for `sweep_findings.sweep_record`; they quote no text."""
        return {
            "model": self.model,
            "goal": self.goal,
            "ours": self.ours.to_record(),
            "arms": [one.to_record() for one in self.arms],
            "judges": [dict(one) for one in self.judges],
            "rows": {judge: [one.to_record() for one in rows] for judge, rows in self.rows.items()},
            "compared": [one.to_record() for one in self.compared],
            "choice": [one.to_record() for one in self.choice],
            "n_prompts": len(self.points[0].continuations.prompts),
            "n_repeated": self.n_repeated,
        }
