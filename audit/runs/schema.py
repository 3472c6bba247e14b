"""What stands in a run's JSON files: frozen, strict and versioned.

A run folder holds ``opening.json`` (`OpeningRecord`), ``run.json`` (`RunRecord`), ``plan.toml`` (the plan as given),
``items/*.parquet`` (one row per scored thing), ``findings.json`` (`Findings`) and ``report.html``. Unknown fields are
refused, so that a file from a newer version is never half read.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..stats.estimate import Estimate, PValue

SCHEMA_VERSION = 1


# An audit's subject, the model that is steered or guarded, the one that unlearns.
AUDITED_ROLES: Final = ("subject", "model", "baseline")
# Kinds of runs whose findings are all of the weights that the run names. The others hold findings of models that the
# run made or guarded, whose weights it does not record.
KINDS_OF_ONE_MODEL: Final = ("audit",)


class Record(BaseModel):
    """Base of everything that is written: frozen, and strict about unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EstimateRecord(Record):
    """An `audit.stats.estimate.Estimate` on disk; the fields mean the same."""

    value: float | None
    low: float | None
    high: float | None
    level: float
    n: int
    method: str
    why: str | None = None

    @classmethod
    def of(cls, estimate: Estimate) -> EstimateRecord:
        return cls(**{name: getattr(estimate, name) for name in Estimate.__slots__})

    def estimate(self) -> Estimate:
        return Estimate(**self.model_dump())


class PValueRecord(Record):
    """A p-value and what it rests on.

    ``attainable`` is the smallest p-value that this design could have given.
    """

    value: float = Field(ge=0, le=1)
    attainable: float = Field(ge=0, le=1)
    n: int
    method: str

    @classmethod
    def of(cls, p: PValue) -> PValueRecord:
        return cls(**{name: getattr(p, name) for name in PValue.__slots__})

    @classmethod
    def corrected(cls, p: PValue, value: float, *, n_tests: int, over: str) -> PValueRecord:
        """A p-value after a correction for ``n_tests`` tests, which ``over`` names."""
        attainable = min(1.0, p.attainable * n_tests)
        return cls(value=value, attainable=attainable, n=p.n, method=f"{p.method}; {over}")


Cell = EstimateRecord | PValueRecord | float | int | str | bool | None


class Column(Record):
    """One column of a `Table`: the key in each row, the heading, and how to read the number."""

    key: str
    label: str
    help: str = ""


class Table(Record):
    """A table of results, printed whole in the report and kept in findings.json."""

    name: str
    title: str
    note: str = ""
    columns: tuple[Column, ...]
    rows: tuple[dict[str, Cell], ...]


Verdict = Literal["found", "not found", "inconclusive", "confounded", "information"]


class Finding(Record):
    """A claim, its numbers, the items it rests on and the clause of a policy it speaks to.

    Attributes:
        id: Stable name, dotted: ``traps.members``.
        audit: The room that made it: ``traps``.
        claim: One sentence in plain words, with its main numbers.
        verdict: What the numbers say. "inconclusive" is not "not found": the power was too small.
        estimates: Name -> estimate.
        p_values: Name -> p-value; only where a randomised draw supports one.
        items: Path of the rows that it rests on, inside the run.
        how_to_read: One sentence that says how to read the numbers.
        clause: Clause of a policy, when there is one.
        power: The chance (0 to 1) that this test would have seen the effect of ``power_for``; None where none is
            stated.
        power_for: That effect in words: "an AUC of 0.7 with 60 members".
        power_effect: That effect as a number, 0.7, which a policy can bound; None where none is stated.
    """

    id: str
    audit: str
    claim: str
    verdict: Verdict
    estimates: dict[str, EstimateRecord] = {}
    p_values: dict[str, PValueRecord] = {}
    items: str | None = None
    how_to_read: str
    clause: str | None = None
    power: EstimateRecord | None = None
    power_for: str | None = None
    power_effect: float | None = None


class AuditSection(Record):
    """One audit's part of the findings: what was done, what it shows, what it cannot show."""

    audit: str
    title: str
    method: str
    assumptions: tuple[str, ...]
    cannot_show: tuple[str, ...]
    findings: tuple[Finding, ...]
    tables: tuple[Table, ...] = ()


class Findings(Record):
    """``findings.json``.

    Attributes:
        schema_version: Of this file.
        sections: One for each audit.
        limitations: What the run as a whole cannot show.
        deviations: What departed from the plan: rows that were left out, a remedy that failed.
    """

    schema_version: int = SCHEMA_VERSION
    sections: tuple[AuditSection, ...]
    limitations: tuple[str, ...] = ()
    deviations: tuple[str, ...] = ()


class StageRecord(Record):
    """A finished step of a run. ``seconds`` is wall-clock time, all attempts together."""

    name: str
    seconds: float
    finished: str
    detail: dict[str, Any] = {}


class Provenance(Record):
    """Where and with what a run was made. Times are ISO 8601 in UTC."""

    created: str
    palimpsest: str
    python: str
    platform: str
    commit: str | None
    dirty: bool | None
    packages: dict[str, str]
    hardware: dict[str, Any]
    command: tuple[str, ...]


class SelfTestRecord(Record):
    """How the instrument answered where the truth is known, last time on this machine and with this code.

    Attributes:
        moment: ISO 8601 in UTC.
        palimpsest: Version.
        commit: Of the source tree; None where it is no checkout.
        passed: Whether every instrument did.
        instruments: Name -> whether it passed.
        sha256: Of the result with every check.
    """

    moment: str
    palimpsest: str
    commit: str | None
    passed: bool
    instruments: dict[str, bool]
    sha256: str


class OpeningRecord(Record):
    """``opening.json``: written once, when a run is made and before anything is scored.

    Its SHA-256 can be published then: it fixes the plan, the inputs and the policy before there are results.
    """

    schema_version: int = SCHEMA_VERSION
    id: str
    kind: str
    created: str
    plan_sha256: str
    policy_sha256: str | None = None


class RunRecord(Record):
    """``run.json``: rewritten atomically after every stage, so it always tells how far the run came.

    ``error`` is the kind of error that ended the last attempt, never its words; None where none did. ``policy_sha256``
    is the hash of the policy file that the plan named, ``self_test`` the instrument's last self-test when the run
    was made; None where there was none.
    """

    schema_version: int = SCHEMA_VERSION
    id: str
    kind: str
    status: Literal["running", "complete"]
    plan: dict[str, Any]
    plan_sha256: str
    plan_folder: str | None = None  # where relative paths of plan.toml start; None where nobody said
    subjects: dict[str, dict[str, Any]] = {}
    seeds: dict[str, int] = {}
    stages: tuple[StageRecord, ...] = ()
    provenance: Provenance
    finished: str | None = None
    error: str | None = None
    policy_sha256: str | None = None
    self_test: SelfTestRecord | None = None

    @property
    def audited_role(self) -> str | None:
        """Role in ``subjects`` of the model that the findings speak of; None where there is no such one."""
        return next((role for role in AUDITED_ROLES if role in self.subjects), None)

    @property
    def audited(self) -> dict[str, Any]:
        """What is recorded of that model; empty where there is none."""
        return {} if self.audited_role is None else self.subjects[self.audited_role]
