"""What the table ``[membership]`` of a plan names, read and checked: two sets of texts, shots."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from ..membership.run import audit_membership, check_inputs
from ..text.readers import read_texts
from .audit_extras import extras_of
from .audit_plan import AuditPlan
from .audit_work import Models, Work
from .checks import check_models
from .left_out import tell_left_out


def work_of(plan: AuditPlan, path: Path, models: Models) -> Work | None:
    """The membership audit that a plan asks for, or None; errors as in `audit.membership.run.check_inputs`."""
    asked = plan.membership
    if asked is None:
        return None
    read = partial(
        read_texts,
        field=asked.field,
        id_field=asked.id_field,
        unit=asked.unit,
        skip_bad_lines=asked.skip_bad_lines,
    )
    suspect, validation = read(asked.source("suspect", path)), read(asked.source("validation", path))
    tell_left_out(suspect.left_out + validation.left_out)
    comparison = asked.membership()
    items = check_inputs(
        suspect,
        validation,
        plan=comparison,
        has_reference=models.reference is not None,
        further=asked.scores,
    )
    extras, shots = extras_of(asked, path, seed=asked.seed)

    def check() -> None:
        assert models.subject is not None  # the plan asks for it
        check_models(
            models.subject,
            models.reference,
            ids=items["text_id"].tolist(),
            texts=items["text"].tolist(),
            truncate=asked.truncate,
        )

    settings: dict[str, Any] = {"plan": comparison, "truncate": asked.truncate, **models.loaders}
    settings |= {"further": asked.scores, "extras": extras}
    return Work(
        "membership",
        {"suspect": suspect.sha256, "validation": validation.sha256, **shots},
        {},
        comparison.seed,
        check,
        lambda run, progress: audit_membership(run, suspect, validation, **settings, progress=progress),
    )
