"""What a run itself says on how its instrument answers where there is nothing to find."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..runs.schema import AuditSection, Finding

NOT_STATED: Final = (
    "Not stated: this audit measured nothing that is known to be without the effect. What the instrument answers on "
    "models whose truth is known is told by palimpsest doctor --known-answers."
)
# Audit -> ids of findings on what is known to be without the effect (or to have it), in reading order.
_CONTROLS: Final[Mapping[str, tuple[str, ...]]] = {
    "traps": ("traps.controls", "traps.blind"),
    "membership": ("membership.blind", "membership.controls"),
    "extraction": ("extraction.halves",),
    "eco": ("eco.false-positives",),
    "remediation": ("remediation.gold_2", "remediation.subject"),
}
_MEANS: Final[Mapping[str, str]] = {
    "remediation.gold_2": "A second model that never learnt it must come out as removed.",
    "remediation.subject": "The subject, to which nothing was done, must come out as not removed.",
}


def calibration(section: AuditSection) -> tuple[tuple[Finding, str], ...]:
    """Findings that calibrate the audit under the null, each with how to read it; none where it states none."""
    by_id = {finding.id: finding for finding in section.findings}
    return tuple(
        (by_id[id_], _MEANS.get(id_, by_id[id_].how_to_read))
        for id_ in _CONTROLS.get(section.audit, ())
        if id_ in by_id
    )
