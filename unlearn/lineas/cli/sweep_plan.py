"""What stands in ``[sweep]`` of a plan of steering: which arms are measured, on what, and who judges.

Nothing here needs torch, so that a plan with a mistake in it is told at once.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from audit.cli.plan_table import Name, PlanTable
from audit.lm.subject import Dtype, Subject
from audit.runs.plan import resolve_path
from audit.text.hub import PREFIX

TEXT_FILES = ("prompts", "wanted", "unwanted", "neither", "neutral", "target_text", "source", "target")


class SweepTable(PlanTable):
    """``[sweep]``: steerings at strengths, the first of them ours, and what they are compared with.

    Attributes:
        model: Folder or Hugging Face id.
        steering: Folders of maps; the first is ours.
        baselines: Names of methods that are fitted here, on ``source`` and ``target``.
        instruction: Words before each prompt, one more arm.
        prompts: To be continued.
        wanted, unwanted, neither: Labelled texts that judges are trained on; ``neither`` shows no side.
        neutral, target_text: Texts whose perplexity is taken.
        goal: "raise": the rate is that of what is wanted; "lower": that of what is unwanted.
        strengths: Of all arms; ``baseline_strengths`` of all but ours, where given.
        strength: Ours, at which it is compared.
        choose: Choose it instead, by the judge of words on a share ``validation`` of the prompts, at most
            ``most_percent`` more perplexity on neutral texts.
        samples: Continuations of a prompt.
        max_tokens: Tokens of a text that are scored; None takes all that fit.
    """

    model: Name
    steering: tuple[Name, ...]
    prompts: Name
    wanted: Name
    unwanted: Name
    neutral: Name
    target_text: Name
    neither: Name | None = None
    field: Name = "text"

    instruction: Name | None = None
    baselines: tuple[Name, ...] = ()
    source: Name | None = None
    target: Name | None = None

    goal: Literal["raise", "lower"] = "raise"
    strengths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    baseline_strengths: tuple[float, ...] | None = None
    strength: float = 1.0
    choose: bool = False
    validation: float = Field(default=0.5, gt=0, lt=1)
    most_percent: float = Field(default=5.0, ge=0)

    rule: Literal["balanced", "f1"] = "balanced"
    encoder: Name | None = None
    judge_folder: Name | None = None
    judge_label: Name | None = None

    max_new_tokens: int = Field(default=32, ge=1)
    temperature: float = 1.0
    top_p: float = 0.3
    samples: int = Field(default=1, ge=1, le=64)
    max_tokens: int | None = Field(default=None, ge=2)
    show_text: bool = False

    seed: int = Field(default=42, ge=0)
    revision: Name | None = None
    dtype: Dtype = "auto"
    device: Name = "auto"
    trust_remote_code: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.steering:
            raise ValueError("steering is empty; expected one folder or more, the first of them ours.")
        if (self.source is None) != (self.target is None):
            raise ValueError("source and target belong together; give both, or none.")
        if self.baselines and self.source is None:
            raise ValueError("baselines are fitted on sentences; give source and target.")
        if self.choose and "strength" in self.model_fields_set:
            raise ValueError("strength is given and to be chosen as well; leave out strength or choose.")
        strange = [name for name in ("validation", "most_percent") if name in self.model_fields_set]
        if strange and not self.choose:
            raise ValueError(f"{' and '.join(strange)} say how a strength is chosen; add choose, or leave them out.")
        if self.judge_label is not None and self.judge_folder is None:
            raise ValueError("judge_label names a class of judge_folder; give the folder.")
        for name in ("steering", "baselines"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} holds one name twice; give each once.")
        for one in (self.strength, *self.strengths, *(self.baseline_strengths or ())):
            if not math.isfinite(one):
                raise ValueError(
                    f"a strength is {one}; expected finite numbers, usually from 0 (off) to 1 (as fitted)."
                )
        if not any(self.ours):
            raise ValueError("all strengths are 0, where nothing is steered; give one that is not.")
        if not any(self.others):
            raise ValueError("all baseline_strengths are 0, where nothing is steered; give one that is not.")
        return self

    @property
    def ours(self) -> tuple[float, ...]:
        """Strengths of our arm, rising, without 0."""
        own = {*self.strengths} if self.choose else {*self.strengths, self.strength}
        return tuple(sorted(own - {0.0}))

    @property
    def others(self) -> tuple[float, ...]:
        """Strengths of the other arms, likewise."""
        return self.ours if self.baseline_strengths is None else tuple(sorted({*self.baseline_strengths} - {0.0}))

    def subject(self, plan: Path) -> Subject:
        """The model; a folder is looked for beside the plan first."""
        beside = resolve_path(self.model, plan)
        return Subject(
            model=str(beside) if beside.exists() else self.model,
            revision=self.revision,
            dtype=self.dtype,
            device=self.device,
            trust_remote_code=self.trust_remote_code,
        )

    def texts(self, key: str, plan: Path) -> str | Path | None:
        """Where the texts of a key are; a relative path starts at the plan's folder."""
        name: str | None = getattr(self, key)
        return name if name is None or name.startswith(PREFIX) else resolve_path(name, plan)
