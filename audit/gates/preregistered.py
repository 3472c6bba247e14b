"""The policy that a run names before anything is scored."""

from __future__ import annotations

from pathlib import Path

from ..runs.plan import resolve_path
from .policy import load_policy
from .shipped import find_policy, shipped


def preregistered(named: str | None, plan: str | Path) -> str | None:
    """SHA-256 of the policy, checked as the gate will check it: a mistake that came out later could not be mended.

    Args:
        named: As in the plan: a shipped policy by its bare name, or a file; a relative path starts at the plan's
            folder. None for no policy.
        plan: Path of the plan.

    Raises:
        InputError: There is no such policy, or a gate could not apply it.
    """
    if named is None:
        return None
    path = resolve_path(named, plan)
    if named in shipped() or not (path.exists() or path.suffix or "/" in named):
        path = find_policy(named)
    return load_policy(path).sha256
