"""What stands in a plan: the subject, an optional reference model, and one table for each audit."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from ..errors import InputError
from ..lm.subject import Dtype, Subject
from ..membership.config import MembershipPlan
from ..membership.score_names import ExtraScore, Score
from ..runs.plan import resolve_path
from ..text.hub import PREFIX
from ..traps.config import DetectionPlan
from .extraction_table import ExtractionTable
from .plan_table import Name, PlanTable

_DEFAULTS = DetectionPlan()
_FOUND = MembershipPlan()


class SubjectTable(PlanTable):
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


class _ScoresTable(PlanTable):
    """Scores beyond the five that every audit makes, and what they need (`audit.membership.extras`)."""

    scores: tuple[ExtraScore, ...] = ()
    shots: Name | None = None
    neighbours: int = Field(default=50, ge=1)
    masked: Name | None = None

    @model_validator(mode="after")
    def _fit_scores(self) -> Self:
        if ("recall" in self.scores) != (self.shots is not None):
            raise ValueError('the score "recall" needs shots, texts that no model here saw, and only it does.')
        if "neighbourhood" not in self.scores and self.model_fields_set & {"neighbours", "masked"}:
            raise ValueError('neighbours and masked are of the score "neighbourhood"; add it to scores.')
        return self


class TrapsTable(_ScoresTable):
    """``[traps]``: the traps, what is made of them, and the plan of detection (`audit.traps.config.DetectionPlan`).

    Traps come from a ledger, or from one ledger for each owner (a table of owner = file), and then the plan of
    detection is the ledger's; or from a table of dealt traps.
    """

    ledger: Name | dict[Name, Name] | None = None
    table: Name | None = None
    commitment: Name | dict[Name, Name] | None = None
    placements: Name | dict[Name, Name] | None = None
    planted: Name | dict[Name, Name] | None = None
    context_tokens: int | None = Field(default=None, ge=1)
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

    @model_validator(mode="after")
    def _fit_sources(self) -> Self:
        if (self.ledger is None) == (self.table is None):
            raise ValueError("one of ledger and table is needed: the ledger of the traps, or their table.")
        if self.ledger is not None:
            fixed = sorted(self.model_fields_set & set(asdict(_DEFAULTS)))
            if fixed:
                raise ValueError(f"{', '.join(fixed)}: the plan of detection was fixed in the ledger; leave this out.")
        elif self.commitment is not None or self.placements is not None:
            raise ValueError("commitment and placements are of a ledger; give ledger in place of table.")
        if (self.context_tokens is None) != (self.planted is None) or (self.planted and not self.placements):
            raise ValueError(
                "a test in context needs context_tokens, planted (what `traps inject` wrote) and placements."
            )
        return self

    def detection(self) -> DetectionPlan:
        """Of a table; a ledger brings its own."""
        return DetectionPlan(**{name: getattr(self, name) for name in asdict(_DEFAULTS)})

    def of_owners(self, field: Literal["ledger", "commitment", "placements", "planted"], alone: str) -> dict[str, str]:
        """Owner -> value; a single value is of the owner ``alone``."""
        value = getattr(self, field)
        if value is None:
            return {}
        return dict(value) if isinstance(value, dict) else {alone: value}


class MembershipTable(_ScoresTable):
    """``[membership]``: two sets of found texts, how they are read, and `audit.membership.config.MembershipPlan`."""

    suspect: Name
    validation: Name
    field: Name = "text"
    id_field: Name | None = None
    unit: Literal["file", "line", "paragraph"] = "file"
    skip_bad_lines: bool = False
    truncate: bool = False
    primary: Score | None = None
    k: float = _FOUND.k
    level: float = Field(default=_FOUND.level, le=0.9999)
    n_splits: int = _FOUND.n_splits
    n_checks: int = _FOUND.n_checks
    seed: int = _FOUND.seed

    @model_validator(mode="after")
    def _fit_plan(self) -> Self:
        """As `TrapsTable._fit_detection`."""
        try:
            self.membership()
        except InputError as error:
            raise ValueError(str(error).removeprefix("membership: ")) from error
        return self

    def membership(self) -> MembershipPlan:
        return MembershipPlan(**{name: getattr(self, name) for name in asdict(_FOUND)})

    def source(self, side: Literal["suspect", "validation"], plan: Path) -> str:
        """Where a set of texts is read from; a relative path starts at the plan's folder."""
        name: str = getattr(self, side)
        return name if name.startswith(PREFIX) or "://" in name else str(resolve_path(name, plan))


class AuditPlan(PlanTable):
    """A whole plan: at least one table of an audit, and the subject unless nothing is asked of it.

    ``policy`` is the file that the release will be judged by; its hash is recorded before anything is scored.
    """

    schema_version: Literal[1] = 1
    policy: Name | None = None
    subject: SubjectTable | None = None
    reference: SubjectTable | None = None
    membership: MembershipTable | None = None
    extraction: ExtractionTable | None = None
    traps: TrapsTable | None = Field(default=None, validate_default=True)

    @field_validator("traps")
    @classmethod
    def _require_an_audit(cls, traps: TrapsTable | None, info: ValidationInfo) -> TrapsTable | None:
        # ... where a table has problems of its own
        others = [info.data.get("membership", ...), info.data.get("extraction", ...)]
        if traps is None and others == [None, None]:
            raise ValueError(
                "the table [traps] is missing; add it. Or add [membership] or [extraction]: a plan needs one audit or "
                "more."
            )
        return traps

    @model_validator(mode="after")
    def _fit_subject(self) -> Self:
        asked = [name for name in ("traps", "membership") if getattr(self, name) is not None]
        if self.extraction is not None and self.extraction.generations is None:
            asked.append("extraction")
        if asked and self.subject is None:
            raise ValueError("the table [subject] is missing; add it.")
        if not asked and (self.subject or self.reference):
            raise ValueError(
                "the generations were sampled before, so no model is asked; leave [subject] and [reference] out."
            )
        if self.extraction is not None and self.extraction.base == "reference" and self.reference is None:
            raise ValueError('[extraction] base = "reference" names the table [reference], which is missing; add it.')
        return self

    def to_record(self) -> dict[str, Any]:
        """As the run keeps it; an audit that is not asked for leaves no trace."""
        record = self.model_dump(mode="json")
        return {name: value for name, value in record.items() if value is not None or name == "reference"}


def _place(name: Any, plan: Path) -> Any:
    """A relative folder that exists beside the plan, made absolute; anything else (a hub id, say) as it stands."""
    if name is None:
        return None
    beside = resolve_path(name, plan)
    return str(beside) if beside.exists() else name
