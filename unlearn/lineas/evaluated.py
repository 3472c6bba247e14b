"""An evaluation that has been measured: TruthfulQA, multiple choice, and the rate of a concept."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from audit.stats.estimate import Estimate

from .evaluate.truthfulqa import TruthChange
from .sweep_made import Swept


@dataclass(frozen=True, slots=True)
class Questions:
    """Which questions of a file were asked.

    Attributes:
        given: In the file.
        drawn: Of them, where fewer were asked for.
        asked: Of the drawn, those that fit the model's context.
    """

    given: int
    drawn: int
    asked: int

    @property
    def too_long(self) -> int:
        return self.drawn - self.asked


@dataclass(frozen=True, slots=True)
class Truthful:
    """TruthfulQA with maps that were fitted inside the halves.

    Attributes:
        method: How they were fitted.
        questions: How many.
        sentences: Of each side that were fitted on in a half.
        primer: Whether the benchmark's own questions stand before each.
        support: Share of neurons that are changed, in each half's maps.
        chance: MC1 and MC2 of a model that knows nothing.
        rows: (questions of which halves, strength, what steering does).
    """

    method: str
    questions: Questions
    sentences: int
    primer: bool
    support: tuple[float, float]
    chance: tuple[float, float]
    rows: tuple[tuple[str, float, TruthChange], ...]

    def whole(self) -> list[tuple[float, TruthChange]]:
        """Strength and change of all questions."""
        return [(strength, change) for halves, strength, change in self.rows if halves == BOTH]


BOTH = "both halves"


@dataclass(frozen=True, slots=True)
class Choices:
    """Multiple choice.

    Attributes:
        questions: How many.
        chance: Accuracy of a model that knows nothing.
        format: How a question becomes the model's input, in words.
        rows: What is steered, one for each way to choose and strength.
    """

    questions: Questions
    chance: float
    format: str
    rows: tuple[Chosen, ...]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Accuracy by one way to choose at one strength; ``how`` is "by letter" or "by option, per byte"."""

    how: str
    strength: float
    before: Estimate
    after: Estimate
    change: Estimate


@dataclass(frozen=True, slots=True)
class Evaluated:
    """All of an evaluation; what was not measured is None.

    Attributes:
        model: Its name.
        maps: The maps of ``choices`` and ``concept``, in words; "" where neither was measured.
        truthful: See there.
        choices: See there.
        concept: As a sweep whose judges are lists of words.
        opening: What was continued.
    """

    model: str
    maps: str = ""
    truthful: Truthful | None = None
    choices: Choices | None = None
    concept: Swept | None = None
    opening: str = ""

    def strengths(self) -> list[float]:
        """All that something was measured at, rising."""
        found = {one for _, one, _ in self.truthful.rows} if self.truthful else set()
        found |= {one.strength for one in self.choices.rows} if self.choices else set()
        found |= {one.strength for one in self.concept.points} - {0.0} if self.concept else set()
        return sorted(found)

    def to_record(self) -> dict[str, Any]:
        """Plain values; they quote no text but the opening and the words of concepts."""
        concept = None
        if self.concept is not None:
            told = self.concept.to_record()
            concept = {"opening": self.opening, "continuations": told["n_prompts"], "settings": self.concept.settings}
            concept |= {"judges": told["judges"], "rows": told["rows"]}
            concept |= {"arm": self.concept.ours.arm, "warnings": list(self.concept.warnings)}
        truthful = None
        if self.truthful is not None:
            truthful = asdict(self.truthful)
            truthful["rows"] = [
                {"halves": halves, "strength": strength, **change.to_record()}
                for halves, strength, change in self.truthful.rows
            ]
        return {
            "model": self.model,
            "maps": self.maps,
            "truthfulqa": truthful,
            "choices": None if self.choices is None else asdict(self.choices),
            "concept": concept,
        }
