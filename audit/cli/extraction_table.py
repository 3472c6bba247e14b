"""The table ``[extraction]`` of a plan."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from ..errors import InputError
from ..extraction.config import MatchPlan, SampleSettings, View
from ..runs.plan import resolve_path
from ..text.hub import PREFIX
from .plan_table import Name, PlanTable

_PLAN, _SAMPLING = MatchPlan(), SampleSettings()


class ExtractionTable(PlanTable):
    """``[extraction]``: the rows, where generations come from, and how the two are compared.

    ``divided_at_random`` is the auditor's word that training and held-out rows were divided at random; the test of the
    one against the other, and so the verdict "found", rests on it, so it has no default.

    Generations were sampled before (``generations``, and ``base_generations`` of the model before post-training), or
    the subject is sampled here, and with ``base = "reference"`` the reference as the model before post-training too;
    then the likelihood of questions under both is compared as well.
    """

    train: Name
    held_out: Name
    divided_at_random: bool
    question_field: Name | None = None
    answer_field: Name | None = None
    id_field: Name | None = None
    skip_bad_lines: bool = False

    generations: Name | None = None
    base_generations: Name | None = None
    base: Literal["reference"] | None = None
    prefix: tuple[Name, ...] = ()
    preset: Name | None = None
    assistant: Name | None = None
    bos: bool | None = None
    n: int = _SAMPLING.n
    temperature: float = _SAMPLING.temperature
    top_p: float = _SAMPLING.top_p
    top_k: int = _SAMPLING.top_k
    max_new_tokens: int | None = None
    batch_size: int | None = Field(default=None, ge=1)
    likelihood_questions: int = Field(default=2_000, ge=0)

    encoder: Name | None = None
    device: Name = "auto"
    cache: Name | None = None
    threshold: float | None = Field(default=None, gt=-1, le=1)
    primary: View = _PLAN.primary
    target: float = _PLAN.target
    least_words: int = _PLAN.least_words
    string_floor: float = _PLAN.string_floor
    near_duplicate: float = _PLAN.near_duplicate
    negligible: float = _PLAN.negligible
    alpha: float = _PLAN.alpha
    level: float = Field(default=_PLAN.level, le=0.9999)
    seed: int = _PLAN.seed

    @model_validator(mode="after")
    def _fit_plan(self) -> Self:
        """So that a wrong number is told with the plan's other problems, and with the name of its file."""
        try:
            self.match_plan()
            self.sampling()
        except InputError as error:
            raise ValueError(str(error).removeprefix("extraction: ")) from error
        return self

    @model_validator(mode="after")
    def _fit_generations(self) -> Self:
        if self.generations is None:
            if self.temperature == 0 and self.n > (len(self.prefix) or 2):
                raise ValueError(
                    f"temperature is 0, so all {self.n:,} generations after one prefix would be the same; give a "
                    "temperature above 0."
                )
            if self.base_generations is not None:
                raise ValueError('base_generations go with generations; sample the base here with base = "reference".')
            return self
        of_sampling = {*asdict(_SAMPLING), "base", "batch_size", "likelihood_questions"} - {"seed"}
        given = sorted(self.model_fields_set & of_sampling)
        if given:
            raise ValueError(f"{', '.join(given)}: the generations were sampled before; leave this out.")
        return self

    def match_plan(self) -> MatchPlan:
        return MatchPlan(**{name: getattr(self, name) for name in asdict(_PLAN)})

    def sampling(self) -> SampleSettings:
        return SampleSettings(**{name: getattr(self, name) for name in asdict(_SAMPLING)})

    def source(self, side: Literal["train", "held_out"], plan: Path) -> str | Path:
        """Where rows are read from; a relative path starts at the plan's folder."""
        name: str = getattr(self, side)
        return name if name.startswith(PREFIX) else resolve_path(name, plan)
