"""What the further scores of a plan's audit need: shots, neighbours, a masked model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..runs.plan import resolve_path
from ..text.readers import read_texts
from .audit_plan import MembershipTable, TrapsTable

if TYPE_CHECKING:
    from ..membership.extras import Extras


def extras_of(
    given: TrapsTable | MembershipTable, plan: Path, *, seed: int
) -> tuple[Callable[[], Extras], dict[str, str]]:
    """Reads the shots, and checks the rest.

    Args:
        given: ``[traps]`` or ``[membership]``.
        plan: Where the plan stands; relative paths start at its folder.
        seed: Seed of the masked model's dropout.

    Returns:
        What makes the extras, called when something is left to score; and name -> SHA-256 of what they rest on.

    Raises:
        InputError: A file is missing.
        DataError: The shots cannot be read.
    """
    shots = None if given.shots is None else read_texts(resolve_path(given.shots, plan))
    masked = None if given.masked is None else resolve_path(given.masked, plan)

    def make() -> Extras:
        from ..membership.extras import Extras
        from ..membership.masked import load_masked

        wanted = set(given.scores)
        return Extras(
            variants=bool(wanted & {"min_20", "zlib_rate"}),
            lowercase="lowercase" in wanted,
            shots=() if shots is None else shots.texts,
            neighbours=given.neighbours if "neighbourhood" in wanted else 0,
            masked=None if masked is None else load_masked(masked),
            seed=seed,
        )

    return make, {} if shots is None else {"shots": shots.sha256}
