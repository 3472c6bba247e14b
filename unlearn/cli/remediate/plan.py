"""What stands in a plan of the loop: models, what to forget and to keep, remedies, audits, and what is verified.

    [subject] [gold] [gold_2]      models; gold was trained without the forget set
    [forget] [keep]                rows and texts; half of what is kept is lent to the remedies, the other half measured
    [general] [never]              measured only: other text, and rows and texts from the draw of the forget set
    [remedies.NAME]                method, seeds, and settings as in that method's own plan
    [audits...]                    as in a plan of `palimpsest audit`, run before and after
    [verify]                       which attacks, how many seeds

Nothing here needs torch, so that a plan with a mistake in it is told at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from audit.cli.audit_plan import MembershipTable, SubjectTable, TrapsTable
from audit.cli.extraction_table import ExtractionTable
from audit.cli.plan_table import Name, PlanTable
from audit.runs.plan import resolve_path
from audit.text.safe import did_you_mean

BASELINES = (
    "gradient_ascent", "gradient_difference", "kl_ascent", "npo", "simnpo", "refusal", "rmu", "task_vector",
)  # fmt: skip
METHODS = ("whp", *BASELINES, "eco", "lineas")
MODELS = ("subject", "gold", "gold_2")
#: Columns of the loop's tables that are no system's; a system of that name would be written over them.
COLUMNS = (
    "answer", "border", "corrected", "distance", "estimate", "finding", "kind", "measure", "of", "p", "pair",
    "residual", "rule", "score", "seconds", "seeds", "status", "step", "system", "test", "told", "trained", "verdict",
    "what", "why",
)  # fmt: skip
Attack = Literal["prompts", "quantisation", "relearning", "soft prompt", "evasion"]


class TextsTable(PlanTable):
    """``[forget]``, ``[keep]``, ``[general]``, ``[never]``: questions with answers, texts, or both."""

    rows: Name | None = None
    texts: Name | None = None
    cluster_size: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.rows is None and self.texts is None:
            raise ValueError("expected rows (questions with answers), or texts, or both.")
        if self.cluster_size is not None and self.rows is None:
            raise ValueError("cluster_size is of rows; leave it out.")
        return self


class ForgetTable(TextsTable):
    """``[forget]``: ``target`` says in a few words what is to be forgotten, ``names`` lists its names, one a line.

    With ``found_by`` the rows are those that an audit of the subject found, and ``rows`` is the file that it looked in.
    """

    target: Name = "the forget set"
    names: Name | None = None
    found_by: Literal["extraction"] | None = None


class FormatTable(PlanTable):
    """``[format]``: how a question becomes the model's input."""

    kind: Literal["chat", "text"] = "chat"
    prefix: str = ""
    suffix: str = ""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kind == "chat" and (self.prefix or self.suffix):
            raise ValueError('prefix and suffix are of the kind "text"; a chat template has markers of its own.')
        return self


class TaskTable(PlanTable):
    """``[utility.tasks.NAME]``: a benchmark's file for lm-eval; kinds as in `unlearn.verify.lm_tasks.files.KINDS`."""

    kind: Name
    path: Name
    limit: int | None = Field(default=None, ge=1)


class UtilityTable(PlanTable):
    """``[utility]``: TOFU's other two parts, and benchmarks."""

    real_authors: Name | None = None
    world_facts: Name | None = None
    tasks: dict[Name, TaskTable] = Field(default_factory=dict)


class RemedyTable(PlanTable):
    """``[remedies.NAME]``: a method, and its settings as in the plan of its own verb, without models and texts.

    ``anchors`` is whp's dictionary; without one it is drafted by counting. A remedy is made once for each seed.
    """

    method: Name
    seeds: tuple[int, ...] = (0,)
    anchors: Name | None = None
    fold: bool = True
    settings: dict[Name, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.method not in METHODS:
            hint = did_you_mean(self.method, METHODS)
            raise ValueError(f"method is {self.method!r}; expected one of {', '.join(METHODS)}.{hint}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError("seeds: expected one or more different numbers of at least 0.")
        if self.anchors is not None and self.method != "whp":
            raise ValueError("anchors are of the method whp; leave them out.")
        return self


class AuditsTable(PlanTable):
    """``[audits]``: as in a plan of `palimpsest audit`; ``reference`` is the other model of its scores."""

    reference: SubjectTable | None = None
    membership: MembershipTable | None = None
    extraction: ExtractionTable | None = None
    traps: TrapsTable | None = None


class VerifyTable(PlanTable):
    """``[verify]``: attacks and their sizes."""

    attacks: tuple[Attack, ...] = ("prompts", "quantisation", "relearning", "soft prompt", "evasion")
    max_new_tokens: int = Field(default=64, ge=1)
    max_rows: int = Field(default=400, ge=8)
    max_controls: int = Field(default=200, ge=8)
    prompt_tokens: int = Field(default=32, ge=1)
    continue_tokens: int = Field(default=32, ge=1)
    bits: tuple[Literal[4, 8], ...] = (8, 4)
    relearn_seeds: int = Field(default=3, ge=1)
    relearn_steps: int = Field(default=20, ge=1)
    relearn_rate: float = Field(default=1e-4, gt=0)
    relearn_share: float = Field(default=0.25, gt=0, lt=1)
    relearn_unrelated: bool = True
    evasion_rows: int = Field(default=200, ge=8)
    soft_rows: int = Field(default=32, ge=8)
    soft_tokens: int = Field(default=4, ge=1)
    soft_steps: int = Field(default=50, ge=1)
    seed: int = Field(default=0, ge=0)


class LoopPlan(PlanTable):
    """A whole plan; ``policy`` as in a plan of `palimpsest audit`."""

    schema_version: Literal[1] = 1
    policy: Name | None = None
    subject: SubjectTable
    gold: SubjectTable | None = None
    gold_2: SubjectTable | None = None
    forget: ForgetTable
    keep: TextsTable | None = None
    general: TextsTable | None = None
    never: TextsTable | None = None
    format: FormatTable = FormatTable()
    utility: UtilityTable = UtilityTable()
    audits: AuditsTable | None = None
    remedies: dict[Name, RemedyTable] = Field(default_factory=dict)
    verify: VerifyTable = VerifyTable()
    show_text: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.gold_2 is not None and self.gold is None:
            raise ValueError("[gold_2] is another seed of [gold], which is missing; add it.")
        bad = [name for name in self.remedies if not name.replace("-", "").replace("_", "").isalnum() or len(name) > 40]
        if bad:
            raise ValueError(
                f"[remedies.{bad[0]!r}]: expected letters, digits, - and _, at most 40: it names a folder."
            )
        _refuse_names([name for name, _, _ in names_of(self)])
        needs_rows = [name for name, one in self.remedies.items() if one.method == "eco" and self.forget.rows is None]
        if needs_rows:
            raise ValueError(f"[remedies.{needs_rows[0]}]: eco recognises prompts, so it needs [forget] rows.")
        if self.forget.found_by == "extraction" and (self.audits is None or self.audits.extraction is None):
            raise ValueError('[forget] found_by = "extraction" needs that audit; add [audits.extraction].')
        return self

    def to_record(self) -> dict[str, Any]:
        """As the run keeps it."""
        return self.model_dump(mode="json", exclude_none=True)


def names_of(plan: LoopPlan) -> list[tuple[str, RemedyTable, int]]:
    """Name in tables, table and seed of each remedy that is made."""
    return [
        (name if len(table.seeds) == 1 else f"{name}-{seed}", table, seed)
        for name, table in plan.remedies.items()
        for seed in table.seeds
    ]


def _refuse_names(names: list[str]) -> None:
    """A name is a folder, on disks that tell no capitals apart too, and a column of tables."""
    known: dict[str, str] = {}
    for name in names:
        plain = name.casefold()
        if plain in MODELS:
            raise ValueError(f"[remedies.{name}]: a model has this name already; give the remedy another.")
        if plain in COLUMNS:
            raise ValueError(f"[remedies.{name}]: the tables have a column of this name; give the remedy another.")
        if plain in known:
            both = f"{known[plain]} and {name}" if known[plain] != name else f"two {name}"
            raise ValueError(
                f"[remedies]: {both} would be one folder (a remedy with several seeds is NAME-SEED); name one of them "
                "otherwise."
            )
        known[plain] = name


def file_of(name: str, plan: Path) -> Path:
    """A file that a plan names; a relative path starts at the plan's folder."""
    return resolve_path(name, plan)
