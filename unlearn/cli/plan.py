"""What stands in a plan of unlearning: ``[unlearn]``, and a table of the method's own settings."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, Literal, Self, cast, get_type_hints

from pydantic import Field, create_model, model_validator

from audit.cli.plan_table import Name, PlanTable
from audit.errors import InputError
from audit.lm.subject import Dtype, Subject
from audit.runs.plan import resolve_path
from audit.text.hub import PREFIX

from ..baselines.config import BaselinePlan
from ..baselines.method import OWN_SETTINGS, Method
from ..baselines.methods import METHODS
from ..training import Recipe
from ..whp.config import HoldBack, Labels, Optimisation, Places, Reinforcement, Retain, Tuning, Weights, WhpPlan

WHP = "whp"
#: Of the open-unlearning suite, for whole models; untuned (`unlearn.baselines.config`).
RATE, PASSES = 1e-5, 10
_WHP, _BASELINE = WhpPlan(), BaselinePlan(Recipe(RATE, 1))


def default_block(n_context: int) -> int:
    """Tokens of a block where nobody said: 512, or where the model reads less than 586, 7/8 of its context.

    The rest is room for substitutes that are longer than their terms.
    """
    return max(1, min(_WHP.block, n_context * 7 // 8))


def own_settings(method: Method) -> type[Any] | None:
    """The dataclass of a method's own settings, or None."""
    return None if method.settings is None else type(getattr(_BASELINE, method.settings))


def _own_table(name: str) -> type[PlanTable]:
    """A table whose keys are the fields of a method's own settings."""
    kind = type(getattr(_BASELINE, name))
    hints = get_type_hints(kind)
    fields: dict[str, Any] = {one.name: (hints[one.name], one.default) for one in dataclasses.fields(kind)}
    return cast("type[PlanTable]", create_model(f"{kind.__name__}Table", __base__=PlanTable, **fields))


class WhpTable(PlanTable):
    """``[unlearn.whp]``: as `unlearn.whp.config.WhpPlan`."""

    alpha: float = _WHP.alpha
    labels: Labels = _WHP.labels
    compat: bool = _WHP.compat
    places: Places = _WHP.places
    hold_back: HoldBack = _WHP.hold_back
    reinforce_epochs: int = _WHP.reinforce.epochs
    reinforce_rate: float | None = None


class _UnlearnTable(PlanTable):
    """``[unlearn]``: method, model, texts, and what all methods share.

    ``held_out`` is text like the retained one that nothing trains on; without it a tenth of ``retain`` is kept out.
    ``contrast`` is text that the forget text's names must not stand in; without it the retained and held-out text.
    """

    method: Literal["whp", "gradient_ascent", "gradient_difference", "kl_ascent", "npo", "simnpo", "refusal", "rmu",
                    "task_vector"]  # fmt: skip
    model: Name
    forget: Name
    anchors: Name | None = None
    retain: Name | None = None
    held_out: Name | None = None
    contrast: Name | None = None
    prompts: Name | None = None

    retain_term: Literal["none", "mixed", "kl", "activations"] | None = None
    retain_weight: float = 1.0
    forget_weight: float | None = None
    weights: Weights = "full"
    block: int | None = None  # `default_block` of the model's context
    rate: float | None = None
    steps: int | None = Field(default=None, ge=1)
    batch_size: int | None = None
    evaluate_every: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)

    revision: Name | None = None
    dtype: Dtype = "auto"
    device: Name = "auto"
    device_map: Name | None = None
    trust_remote_code: bool = False
    show_text: bool = True

    @model_validator(mode="after")
    def _fit_method(self) -> Self:
        strange = [one for one in (WHP, *OWN_SETTINGS) if getattr(self, one) is not None and one != self._own_name()]
        if strange:
            raise ValueError(f"the table [unlearn.{strange[0]}] is not of the method {self.method}; leave it out.")
        if (self.method == WHP) != (self.anchors is not None):
            raise ValueError(
                "the method whp needs anchors, a dictionary of terms; `palimpsest unlearn anchors` drafts one."
                if self.method == WHP
                else f"anchors are of the method whp; leave them out, {self.method} has none."
            )
        if self.method == WHP and self.forget_weight is not None:
            raise ValueError("forget_weight is not of the method whp; give retain_weight, which is beside the labels.")
        if self.method != WHP and self.weights == "lora" and self.rate is None:
            raise ValueError(
                'weights are "lora", and no rate for adapters is known that suits every method; give rate, 2e-4 say.'
            )
        self._fit_retain()
        return self

    @model_validator(mode="after")
    def _fit_settings(self) -> Self:
        """So that a wrong number is told with the plan's other problems, and with the name of its file."""
        try:
            _ = self.whp_plan() if self.method == WHP else self.baseline_plan(n_blocks=1)
        except InputError as error:
            raise ValueError(str(error)) from error
        return self

    def _own_name(self) -> str | None:
        return WHP if self.method == WHP else METHODS[self.method].settings

    def _fit_retain(self) -> None:
        if self.kind == "none" and self.retain_weight != 1:
            raise ValueError("retain_weight is of a retain term, and there is none here; leave it out.")
        terms = ("none", "mixed", "kl") if self.method == WHP else METHODS[self.method].retain
        if self.retain_term is not None and self.retain_term not in terms:
            raise ValueError(f"{self.method} has no retain term {self.retain_term}; expected {' or '.join(terms)}.")
        if self.retain is None:
            if self.retain_term not in (None, "none"):
                raise ValueError("retain_term needs retain, the text that is to be kept.")
            if self.kind != "none":
                hint = ', or set retain_term to "none"' if "none" in terms else ""
                raise ValueError(f"{self.method} keeps other text as it is known: give retain, such a text{hint}.")
        elif self.kind == "none":
            raise ValueError(
                f"{self.method} would not read retain, for it has no retain term here; give that text as held_out, "
                "and its loss is measured."
            )

    @property
    def kind(self) -> Any:
        """The retain term."""
        if self.method == WHP:
            return self.retain_term or ("none" if self.retain is None else "kl")
        return self.retain_term or METHODS[self.method].retain[0]

    def whp_plan(self) -> WhpPlan:
        """The plan of the method whp."""
        own = cast("WhpTable | None", getattr(self, WHP)) or WhpTable()
        size = _WHP.tune.optimisation.batch_size if self.batch_size is None else self.batch_size
        steps = self.steps or _WHP.tune.n_steps
        return WhpPlan(
            block=self.block or _WHP.block,
            alpha=own.alpha,
            labels=own.labels,
            compat=own.compat,
            places=own.places,
            hold_back=own.hold_back,
            reinforce=Reinforcement(
                self.weights, own.reinforce_epochs, Optimisation(learning_rate=own.reinforce_rate, batch_size=size)
            ),
            tune=Tuning(
                weights=self.weights,
                n_steps=steps,
                evaluate_every=self.evaluate_every or min(_WHP.tune.evaluate_every, steps),
                optimisation=Optimisation(learning_rate=self.rate, batch_size=size),
                retain=Retain(self.kind, self.retain_weight),
            ),
            seed=self.seed,
        )

    def baseline_plan(self, *, n_blocks: int) -> BaselinePlan:
        """The plan of another method; steps that were not given are 10 passes over so many blocks of forget text."""
        own = METHODS[self.method].settings
        kind = own_settings(METHODS[self.method])
        table = None if own is None else getattr(self, own)
        given: dict[str, Any] = {}
        if own is not None and kind is not None and table is not None:
            given[own] = kind(**{one.name: getattr(table, one.name) for one in dataclasses.fields(kind)})
        size = _BASELINE.batch_size if self.batch_size is None else self.batch_size
        n_steps = self.steps or math.ceil(PASSES * n_blocks / max(1, size))
        return BaselinePlan(
            recipe=Recipe(RATE if self.rate is None else self.rate, n_steps),
            weights=self.weights,
            batch_size=size,
            forget_weight=_BASELINE.forget_weight if self.forget_weight is None else self.forget_weight,
            retain=self.kind,
            retain_weight=self.retain_weight,
            seed=self.seed,
            **given,
        )

    def subject(self, plan: Path) -> Subject:
        """The model; a folder is looked for beside the plan first."""
        beside = resolve_path(self.model, plan)
        return Subject(
            model=str(beside) if beside.exists() else self.model,
            revision=self.revision,
            dtype=self.dtype,
            device=self.device,
            device_map=self.device_map,
            trust_remote_code=self.trust_remote_code,
        )

    def path(self, field: str, plan: Path) -> Path | None:
        """A file that the table names; a relative path starts at the plan's folder."""
        name = getattr(self, field)
        if name is None:
            return None
        return Path(name) if name.startswith(PREFIX) else resolve_path(name, plan)


#: With a table for each method that has settings of its own.
UnlearnTable = create_model(
    "UnlearnTable",
    __base__=_UnlearnTable,
    whp=(WhpTable | None, None),
    **cast(Any, {name: (_own_table(name) | None, None) for name in OWN_SETTINGS}),
)


class UnlearnPlan(PlanTable):
    """A whole plan."""

    schema_version: Literal[1] = 1
    unlearn: UnlearnTable  # type: ignore[valid-type]  # made above
