"""What draws an audit's figures: one table, from which every run can be drawn again.

Each function takes the run and its findings; its module is imported when a run holds its audit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

from ..runs.schema import Findings
from ..runs.store import Run
from .figures import Figure, MarkedTexts

DRAWN: Final[Mapping[str, str]] = {
    "traps": "traps_section:draw",
    "membership": "membership_section:draw",
    "extraction": "extraction_section:draw",
    "retraining": "retraining_section:draw",
    "unlearning": "unlearning_section:draw",
    "remediation": "remediation_section:draw",
    "eco": "eco_section:draw_fit",
    "eco-evaluation": "eco_section:draw_evaluation",
    "steer": "steering_section:draw",
    "steer-sweep": "steering_sweep_section:draw",
    "steer-evaluation": "steering_evaluation_section:draw",
}
# Audit -> what quotes texts that a run may hold, only when that is asked for.
QUOTED: Final[Mapping[str, str]] = {
    "unlearning": "unlearning_section:quote",
    "steer-sweep": "steering_sweep_section:quote",
}


def figures_of(run: Run, findings: Findings) -> dict[str, list[Figure]]:
    """Figures of every audit of the run, audit by audit.

    A loop holds findings of audits whose items lie in the audit's own run below ``audits/subject``; they are drawn
    from there.

    Raises:
        DataError: Items are damaged or lack a column.
    """
    audits = dict.fromkeys(section.audit for section in findings.sections)
    return {audit: figures_for(run, findings, audit) for audit in audits if audit in DRAWN}


def figures_for(run: Run, findings: Findings, audit: str) -> list[Figure]:
    """Figures of one audit, a key of `DRAWN`; see `figures_of`."""
    draw: Callable[[Run, Findings], list[Figure]] = _named(DRAWN[audit])
    return draw(_home(run, audit), findings)


def quoted_of(run: Run, findings: Findings) -> dict[str, MarkedTexts]:
    """Texts that the run's audits quote with marks."""
    audits = dict.fromkeys(section.audit for section in findings.sections)
    found = {audit: quoted_for(run, audit) for audit in audits if audit in QUOTED}
    return {audit: texts for audit, texts in found.items() if texts is not None}


def quoted_for(run: Run, audit: str) -> MarkedTexts | None:
    """Texts that one audit, a key of `QUOTED`, quotes with marks; None where it keeps none."""
    quote: Callable[[Run], MarkedTexts | None] = _named(QUOTED[audit])
    return quote(run)


def _named(place: str) -> Any:
    module, name = place.split(":")
    return getattr(import_module(f".{module}", __package__), name)


def _home(run: Run, audit: str) -> Run:
    inner = run.folder / "audits" / "subject"
    if run.record.kind == "remediation" and audit != "remediation" and (inner / "run.json").is_file():
        return Run.open(inner)
    return run
