"""What stands in a plan: the subject, an optional reference model, and one table for each audit."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..lm.subject import Dtype, Subject
from ..runs.plan import resolve_path
from ..traps.config import DetectionPlan, Score

_DEFAULTS = DetectionPlan()


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SubjectTable(_Table):
    """``[subject]`` and ``[reference]``: as `audit.lm.subject.Subject`."""

    model: str
    revision: str | None = None
    adapter: str | None = None
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

    table: str
    truncate: bool = False
    primary: Score = _DEFAULTS.primary
    alpha: float = _DEFAULTS.alpha
    k: float = _DEFAULTS.k
    n_draws: int = _DEFAULTS.n_draws
    negligible_auc: float = _DEFAULTS.negligible_auc
    level: float = _DEFAULTS.level
    seed: int = _DEFAULTS.seed

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
