"""Which module draws an audit's figures: one table, from which every run can be drawn again.

A module named here has ``draw(run, findings) -> list[Figure]``, and ``quote(run) -> MarkedTexts | None`` where a run
may hold texts that are quoted only when that was asked for. Each is imported when a run holds its audit.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Final

from ..runs.schema import Findings
from ..runs.store import Run
from .figures import Figure, MarkedTexts

DRAWN: Final[Mapping[str, str]] = {
    "traps": "traps_section",
    "membership": "membership_section",
    "extraction": "extraction_section",
    "retraining": "retraining_section",
    "unlearning": "unlearning_section",
    "remediation": "remediation_section",
    "eco": "eco_section",
    "eco-evaluation": "eco_evaluation_section",
    "steer": "steering_section",
    "steer-sweep": "steering_sweep_section",
    "steer-evaluation": "steering_evaluation_section",
}


def figures_of(run: Run, findings: Findings) -> dict[str, list[Figure]]:
    """Figures of every audit of the run, audit by audit.

    A loop holds findings of audits whose items lie in the audit's own run below ``audits/subject``; they are drawn
    from there.

    Raises:
        DataError: Items are damaged or lack a column.
    """
    drawn = {}
    for audit in dict.fromkeys(section.audit for section in findings.sections):
        if audit in DRAWN:
            drawn[audit] = list(_module(audit).draw(_home(run, audit), findings))
    return drawn


def quoted_of(run: Run, findings: Findings) -> dict[str, MarkedTexts]:
    """Texts that the run's audits quote with marks."""
    found = {}
    for audit in dict.fromkeys(section.audit for section in findings.sections):
        quote = getattr(_module(audit), "quote", None) if audit in DRAWN else None
        texts = None if quote is None else quote(run)
        if texts is not None:
            found[audit] = texts
    return found


def _module(audit: str) -> ModuleType:
    return import_module(f".{DRAWN[audit]}", __package__)


def _home(run: Run, audit: str) -> Run:
    inner = run.folder / "audits" / "subject"
    if run.record.kind == "remediation" and audit != "remediation" and (inner / "run.json").is_file():
        return Run.open(inner)
    return run
