"""What stands in a plan: the subject, an optional reference model, and one table for each audit."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..errors import InputError
from ..lm.subject import Dtype, Subject
from ..runs.plan import resolve_path
from ..traps.config import DetectionPlan, Score

_DEFAULTS = DetectionPlan()
Name = Annotated[str, Field(min_length=1)]  # an empty path would be the plan's own folder


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SubjectTable(_Table):
    """``[subject]`` and ``[reference]``: as `audit.lm.subject.Subject`."""

    model: Name
    revision: str | None = None
    adapter: Name | None = None
    dtype: Dtype = "auto"
    device: str = "auto"
    device_map: str | None = None
    trust_remote_code: bool = False

    def subject(self, plan: Path) -> Subject:
        """The subject; a folder is looked for beside the plan first."""
        return Subject(
            **{**self.model_dump(), "model": _place(self.model, plan), "adapter": _place(self.adapter, plan)}
        )


class TrapsTable(_Table):
    """``[traps]``: the table of dealt traps, and the plan of detection (`audit.traps.config.DetectionPlan`)."""

    table: Name
    truncate: bool = False
    primary: Score = _DEFAULTS.primary
    alpha: float = _DEFAULTS.alpha
    k: float = _DEFAULTS.k
    n_draws: int = _DEFAULTS.n_draws
    negligible_auc: float = _DEFAULTS.negligible_auc
    level: float = Field(default=_DEFAULTS.level, le=0.9999)  # nearer to 1 an interval has no finite end
    seed: int = _DEFAULTS.seed

    @model_validator(mode="after")
    def _fit_detection(self) -> Self:
        """So that a wrong number is told with the plan's other problems, and with the name of its file."""
        try:
            self.detection()
        except InputError as error:
            raise ValueError(str(error).removeprefix("traps: ")) from error
        return self

    def detection(self) -> DetectionPlan:
        return DetectionPlan(**{name: getattr(self, name) for name in asdict(_DEFAULTS)})


class AuditPlan(_Table):
    """A whole plan."""

    schema_version: Literal[1] = 1
    subject: SubjectTable
    reference: SubjectTable | None = None
    traps: TrapsTable = Field()

    def to_record(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


def _place(name: Any, plan: Path) -> Any:
    """A relative folder that exists beside the plan, made absolute; anything else (a hub id, say) as it stands."""
    if name is None:
        return None
    beside = resolve_path(name, plan)
    return str(beside) if beside.exists() else name
