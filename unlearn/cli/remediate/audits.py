"""The audits of a loop: the same plan run on the subject before, and on every model of its own weights after."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from audit.cli.audit import execute, inputs_of
from audit.cli.audit_plan import AuditPlan
from audit.cli.plan_text import plan_text
from audit.errors import DataError
from audit.lm.subject import Subject
from audit.runs.plan import parse_plan
from audit.runs.store import Run

from .plan import LoopPlan

MATCHES = "extraction-matches"


def audit_plan_text(plan: LoopPlan, subject: Subject) -> str:
    """The plan of the audits with another subject."""
    assert plan.audits is not None
    tables = plan.audits.model_dump(mode="json", exclude_unset=True)
    model = {
        "model": subject.model,
        "revision": subject.revision,
        "adapter": subject.adapter,
        "dtype": subject.dtype,
        "device": subject.device,
        "trust_remote_code": subject.trust_remote_code,
    }
    return plan_text({"subject": model, **tables}, made_by="palimpsest remediate")


def check_audits(plan: LoopPlan, path: Path) -> dict[str, str]:
    """Refuse a plan of audits before anything is computed.

    Returns:
        Name -> SHA-256 of what the audits rest on.

    Raises:
        InputError, DataError: Each problem is named.
    """
    if plan.audits is None:
        return {}
    checked = parse_plan(audit_plan_text(plan, plan.subject.subject(path)), AuditPlan, source="[audits]")
    return {f"audits.{name}": sha256 for name, sha256 in inputs_of(checked, path, source="[audits]").items()}


def audit(plan: LoopPlan, path: Path, subject: Subject, out: Path, *, quiet: bool) -> Run:
    """Run the audits on one model, or go on with them, or give back what is there."""
    text = audit_plan_text(plan, subject)
    checked = parse_plan(text, AuditPlan, source="[audits]")
    return execute(checked, text, path, source=None, out=out, resume=True, quiet=quiet)


def found_clusters(run: Run, clusters: Mapping[str, str]) -> frozenset[str]:
    """Clusters of the forget rows that the extraction audit found again.

    Args:
        run: The audit of the subject.
        clusters: Row id, as its file has it -> cluster.

    Raises:
        DataError: The audit looked in other rows.
    """
    matches = run.read_items(MATCHES).to_pandas()
    hits = {str(row) for row in matches.loc[matches["hit"], "row"]}
    known = {clusters[row] for row in hits if row in clusters}
    if hits and not known:
        raise DataError(
            f"the extraction audit found {len(hits):,} rows, and none of them has an id of [forget] rows. Give both "
            "the same file, with a field id."
        )
    return frozenset(known)
