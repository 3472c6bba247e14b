"""What stands in a plan of a guard: ``[eco]`` to fit one, ``[eco.evaluate]`` or ``[evaluate]`` to evaluate one.

Nothing here needs torch, so that a plan with a mistake in it is told at once.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal, Self, cast, get_type_hints

from pydantic import Field, create_model, model_validator

from audit.cli.plan_table import Name, PlanTable
from audit.errors import InputError
from audit.lm.subject import Dtype, Subject
from audit.runs.plan import resolve_path
from audit.text.safe import counted

from ..calibration import Action
from ..search import SearchSettings

Baseline = Literal["filter", "prefix"]


def _table_of(settings: type[Any], without: tuple[str, ...] = ()) -> type[PlanTable]:
    """A table whose keys are the fields of a dataclass of settings."""
    hints = get_type_hints(settings)
    fields: dict[str, Any] = {
        one.name: (hints[one.name], one.default) for one in dataclasses.fields(settings) if one.name not in without
    }
    return cast("type[PlanTable]", create_model(f"{settings.__name__}Table", __base__=PlanTable, **fields))


#: ``[eco.search]``: as `unlearn.eco.search.SearchSettings`; the seed is that of ``[eco]``.
SearchTable = _table_of(SearchSettings, without=("seed",))


class SharesTable(PlanTable):
    """``[eco.shares]``: as `unlearn.eco.deal.Shares`."""

    tuning: float = 0.5
    training: float = 0.4
    calibration: float = 0.5


class FineTuningTable(PlanTable):
    """``[eco.fine_tuning]``: the published recipe, see `unlearn.eco.finetuned.FineTuning`."""

    learning_rate: float = 2e-5
    epochs: int = 30
    batch_size: int = 16
    windows: tuple[int, ...] | None = None
    check_every: int = 1_000
    held_out: float = Field(default=0.1, ge=0, lt=1)


class _ModelTable(PlanTable):
    """How models are loaded."""

    revision: Name | None = None
    dtype: Dtype = "auto"
    device: Name = "auto"
    device_map: Name | None = None
    trust_remote_code: bool = False

    def subject_of(self, model: str, plan: Path) -> Subject:
        """A model; a folder is looked for beside the plan first."""
        beside = resolve_path(model, plan)
        return Subject(
            model=str(beside) if beside.exists() else model,
            dtype=self.dtype,
            device=self.device,
            device_map=self.device_map,
            trust_remote_code=self.trust_remote_code,
        )

    def subject(self, plan: Path) -> Subject:
        """The model that is guarded; the revision is of it alone."""
        return dataclasses.replace(self.subject_of(getattr(self, "model"), plan), revision=self.revision)  # noqa: B009

    def path(self, field: str, plan: Path) -> Path | None:
        """A file or folder that the table names; a relative path starts at the plan's folder."""
        name = getattr(self, field)
        return None if name is None else resolve_path(name, plan)


class MeasuresTable(PlanTable):
    """What is measured of a guard; ``[eco.evaluate]`` adds nothing to it."""

    gold: Name | None = None
    general: Name | None = None
    real_authors: Name | None = None
    world_facts: Name | None = None
    passages: Name | None = None
    baselines: tuple[Baseline, ...] = ()
    noise_seeds: int = Field(default=5, ge=1)
    max_rows: int = Field(default=300, ge=1)
    max_new_tokens: int = Field(default=200, ge=1)
    passage_tokens: int = Field(default=256, ge=1)
    latency_prompts: int = Field(default=8, ge=0)
    latency_rounds: int = Field(default=10, ge=1)

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.real_authors is None) != (self.world_facts is None):
            raise ValueError("the utility is over real authors and world facts; give both files, or neither.")
        return self


class EvaluateTable(MeasuresTable, _ModelTable):
    """``[evaluate]``: a guard that is there already."""

    guard: Name
    model: Name
    forget: Name
    retain: Name
    choices: bool = False
    cluster_size: int | None = None
    encoder: Name | None = None
    seed: int = Field(default=0, ge=0)
    show_text: bool = False


class EcoTable(_ModelTable):
    """``[eco]``: model, rows, and how a guard is fitted; see `unlearn.eco.fit.FitPlan`."""

    model: Name
    forget: Name
    retain: Name
    target: Name
    never: Name | None = None
    base: Name | None = None
    surrogate: tuple[float, ...] = ()
    names: Name | None = None
    others: Name | None = None

    alpha: float = 0.01
    alpha_forget: float | None = None
    on_both: Action = "corrupt"
    on_none: Action = "corrupt"
    turns: int = Field(default=1, ge=1)
    group_field: Name | None = None

    function: Name = "rand_noise_first_n"
    dims: int | None = None
    strength: float | None = None
    selection: Literal["all", "names", "tagger"] = "all"
    tagger: Name | None = None
    ratio: float = 0.9
    metric: tuple[Literal["probability", "rouge", "accuracy"], ...] = ()
    scope: Literal["prompt", "prompt+answer"] = "prompt"
    max_new_tokens: int = Field(default=64, ge=1)

    choices: bool = False
    cluster_size: int | None = None
    format: Literal["chat", "text"] = "chat"
    prefix: str = ""
    suffix: str = ""

    classifier: Literal["embedding", "fine-tuned"] = "embedding"
    encoder: Name | None = None
    start: Name | None = None
    inverse_penalty: float = 10.0
    n_each: int = Field(default=2, ge=1)

    seed: int = Field(default=0, ge=0)
    show_text: bool = False

    search: SearchTable | None = None  # type: ignore[valid-type]  # made above
    shares: SharesTable | None = None
    fine_tuning: FineTuningTable | None = None
    evaluate: MeasuresTable | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.target.strip():
            raise ValueError("target is blank; say in a few words what is to be forgotten.")
        for name, value in (("alpha", self.alpha), ("alpha_forget", self.alpha_forget)):
            if value is not None and not 0 < value < 1:
                raise ValueError(f"{name} is {value}; expected a number between 0 and 1.")
        if self.alpha_forget is not None and self.group_field is not None:
            raise ValueError("bounds on misses by group are not offered; give alpha_forget or group_field, not both.")
        if self.selection == "names" and self.names is None:
            raise ValueError('selection is "names", and there are none; give names, a file with one a line.')
        if self.turns > 1 and self.group_field is not None:
            raise ValueError("a promise by group is one for single prompts; give turns or group_field, not both.")
        if self.turns > 1 and self.format == "text":
            raise ValueError('the format "text" takes no conversation; leave turns out, or take the format "chat".')
        if (self.selection == "tagger") != (self.tagger is not None):
            raise ValueError('tagger, the folder of a token classifier, is of the selection "tagger", which needs it.')
        if self.others is not None and self.names is None:
            raise ValueError("others take the place of names; give names too, or leave others out.")
        if self.choices and self.cluster_size is not None:
            raise ValueError('cluster_size is of questions with answers; multiple choice has a field "cluster".')
        if self.format == "chat" and (self.prefix or self.suffix):
            raise ValueError('prefix and suffix are of the format "text"; a chat template has markers of its own.')
        if (self.classifier == "fine-tuned") != (self.start is not None):
            raise ValueError('start, the folder of an encoder, is of the classifier "fine-tuned", which needs it.')
        if self.classifier == "fine-tuned" and self.encoder is not None:
            raise ValueError('encoder is of the classifier "embedding"; a fine-tuned one begins from start.')
        if self.classifier != "fine-tuned" and self.fine_tuning is not None:
            raise ValueError('[eco.fine_tuning] is of the classifier "fine-tuned"; leave it out.')
        if any((name == "accuracy") != self.choices for name in self.metrics):
            raise ValueError("the metric accuracy is of multiple choice (choices), and the others of answers.")
        if self.surrogate and len(self.surrogate) != len(self.metrics):
            raise ValueError(
                f"surrogate has {counted(len(self.surrogate), 'value')} for {counted(len(self.metrics), 'metric')}."
            )
        try:
            self.search_settings()
        except InputError as error:
            raise ValueError(f"search: {error}") from error
        return self

    @property
    def metrics(self) -> tuple[Literal["probability", "rouge", "accuracy"], ...]:
        return self.metric or (("accuracy",) if self.choices else ("probability",))

    def search_settings(self, *, most: float | None = None) -> SearchSettings:
        """How the strength is searched; no stronger than ``most``, where the model's dtype holds no more."""
        given: dict[str, Any] = (
            {} if self.search is None else {name: getattr(self.search, name) for name in type(self.search).model_fields}
        )
        settings = SearchSettings(**given, seed=self.seed)
        if most is not None and settings.upper > most:
            settings = dataclasses.replace(settings, upper=most)
        return settings


class EcoPlan(PlanTable):
    """A whole plan: one of the two tables."""

    schema_version: Literal[1] = 1
    eco: EcoTable | None = None
    evaluate: EvaluateTable | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.eco is None) == (self.evaluate is None):
            raise ValueError("expected one table: [eco] to fit a guard, or [evaluate] to evaluate one.")
        return self
