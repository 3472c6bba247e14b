"""What a guard's threshold promises, in words: from the evidence that its file keeps of the calibration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from audit.report.numbers import estimate as shown
from audit.runs.schema import EstimateRecord

_MOST_GROUPS = 12
NOT_TOLD = "The guard's file does not say what its threshold promises, so nothing is known of its mistakes."


def promises(evidence: object) -> list[str]:
    """One sentence or more; plain text, which may hold what the file holds.

    Args:
        evidence: As `unlearn.eco.fit.calibration_record` wrote it, or anything that a damaged file has in its place.
    """
    try:
        return _promises(evidence)
    except (KeyError, TypeError, ValueError, AttributeError, ValidationError):
        return [NOT_TOLD]


def _promises(told: Any) -> list[str]:
    if not isinstance(told, Mapping):
        return [NOT_TOLD]
    turns = int(told.get("turns", 1))
    over = f" in conversations of {turns:,} turns" if turns > 1 else ""
    if told["kind"] == "one-sided":
        return [
            _bound(told["retain"], f"prompts that may pass are flagged{over}"),
            "That bounds mistakes on prompts like those only. How many prompts about the target get past the guard is "
            "not bounded, and nothing is promised of prompts that somebody wrote to get past it.",
        ]
    if told["kind"] == "two-sided":
        lines = []
        if told["bounds_false_positives"]:
            lines.append(_bound(told["retain"], f"prompts that may pass are flagged{over}"))
        else:
            lines.append("How many prompts that may pass are flagged by mistake is not bounded.")
        if told["bounds_misses"]:
            lines.append(_bound(told["forget"], f"prompts about the target get past it{over}"))
        else:
            lines.append("How many prompts about the target get past it is not bounded.")
        return [*lines, "Nothing is promised of prompts that somebody wrote to get past it."]
    if told["kind"] == "by group":
        groups = list(told["groups"].items())
        lines = [_bound(one, f"prompts of group {name} that may pass are flagged") for name, one in groups]
        more = [f"And {len(groups) - _MOST_GROUPS:,} more groups."] if len(groups) > _MOST_GROUPS else []
        return [*lines[:_MOST_GROUPS], *more, "The highest of the groups' thresholds is used for every prompt."]
    return [NOT_TOLD]


def _bound(one: Mapping[str, Any], what: str) -> str:
    alpha, n = float(one["alpha"]), int(one["n"])
    if not math.isfinite(alpha):
        raise ValueError(alpha)
    if one["warning"]:
        return f"Of {what}: {one['warning']}"
    rate = EstimateRecord.model_validate(one["rate"])
    return (
        f"On average over calibrations, at most {100 * alpha:.3g}% of {what} by mistake. This threshold's own rate: "
        f"{shown(rate)} ({rate.level:.0%} interval, n = {n:,} prompts; {rate.method})."
    )
