"""What stands in ``[evaluate]`` of a plan of steering: what is measured, and the maps that it is measured with.

Nothing here needs torch, so that a plan with a mistake in it is told at once.
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from audit.cli.plan_table import Name

from .fit_table import FitTable

#: Measure -> settings that mean something to it alone.
_OF_MEASURE = {
    "truthfulqa": ("sentences", "primer"),
    "concept": ("opening", "continuations", "neutral", "max_new_tokens", "temperature", "top_p"),
}
TEXT_FILES = ("truthfulqa", "choices", "neutral", "source", "target")


class EvaluateTable(FitTable):
    """``[evaluate]``: one measure or more.

    Maps for ``concept`` and ``choices`` are those of ``steering``, or are fitted on ``source`` and ``target``; those
    for ``truthfulqa`` are always fitted on its own halves. How is said as in ``[steer]``.

    Attributes:
        truthfulqa: The benchmark's CSV.
        sentences: Of each side that are fitted on in a half of its questions.
        primer: Whether the benchmark's own six questions stand before each.
        choices: A file of multiple-choice questions.
        max_rows: Questions of a file at most; more are drawn from. None takes all.
        concept: Of each concept its words, with commas.
        opening: What is continued.
        continuations: How many.
        neutral: Texts whose perplexity is taken.
        steering: Folders of maps; those of several act one after the other.
        strengths: Of the maps; None takes the one at which the method's source applies them.
    """

    truthfulqa: Name | None = None
    sentences: int = Field(default=32, ge=4)
    primer: bool = True

    choices: Name | None = None
    max_rows: int | None = Field(default=None, ge=2)

    concept: tuple[Name, ...] = ()
    opening: Name = "Once upon a time"
    continuations: int = Field(default=200, ge=2)
    neutral: Name | None = None
    max_new_tokens: int = Field(default=50, ge=1)
    temperature: float = 1.0
    top_p: float = 0.6

    steering: tuple[Name, ...] = ()
    source: Name | None = None
    target: Name | None = None
    strengths: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        asked = [name for name in ("truthfulqa", "concept", "choices") if getattr(self, name)]
        if not asked:
            raise ValueError("nothing is to be measured; give truthfulqa, concept or choices.")
        for measure, names in _OF_MEASURE.items():
            strange = [name for name in names if name in self.model_fields_set]
            if strange and measure not in asked:
                raise ValueError(f"{strange[0]} is a setting of {measure}, which is not given; leave it out.")
        if self.max_rows is not None and not {"truthfulqa", "choices"} & set(asked):
            raise ValueError("max_rows is of files of questions, and there is none; leave it out.")
        if self.concept and self.neutral is None:
            raise ValueError("a concept's rate says little without what it costs; give neutral, a file of other texts.")
        if (self.source is None) != (self.target is None):
            raise ValueError("source and target belong together; give both, or none.")
        if self.steering and self.source is not None:
            raise ValueError("maps are given as a steering and to be fitted on source and target; give one of them.")
        given = bool(self.steering) or self.source is not None
        if self.maps_needed and not given:
            raise ValueError(f"{asked[-1]} needs maps; give a steering, or source and target to fit them on.")
        if given and not self.maps_needed:
            raise ValueError("truthfulqa fits maps on its own halves; leave out steering, source and target.")
        if self.steering and self.truthfulqa is None and (keys := self.fit_keys()):
            raise ValueError(f"{keys[0]} says how maps are fitted, and those of the steering are; leave it out.")
        if len(set(self.steering)) < len(self.steering):
            raise ValueError("steering holds one name twice; give each once.")
        if self.strengths is not None and not any(self.strengths):
            raise ValueError("all strengths are 0, where nothing is steered; give one that is not.")
        return self

    @property
    def maps_needed(self) -> bool:
        """Whether something is measured with maps that are no half's."""
        return bool(self.concept) or self.choices is not None

    def rising(self, usual: float) -> tuple[float, ...]:
        """Strengths without 0, rising; ``usual`` where none are given."""
        return (usual,) if self.strengths is None else tuple(sorted({*self.strengths} - {0.0}))
