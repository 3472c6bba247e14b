"""What the further scores of a plan's audit need: shots, neighbours, a masked model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..lm.checkpoint import find_folder, fingerprint
from ..runs.plan import resolve_path
from ..text.readers import read_texts
from .audit_plan import MembershipTable, TrapsTable
from .left_out import tell_left_out

if TYPE_CHECKING:
    from ..membership.extras import Extras


def extras_of(
    given: TrapsTable | MembershipTable, plan: Path, *, seed: int
) -> tuple[Callable[[], Extras], dict[str, str]]:
    """Reads the shots, and finds the masked model.

    Args:
        given: ``[traps]`` or ``[membership]``.
        plan: Where the plan stands; relative paths start at its folder.
        seed: Seed of the masked model's dropout.

    Returns:
        What makes the extras, called when something is left to score; and name -> SHA-256 of what they rest on.

    Raises:
        InputError: A file or folder is missing.
        DataError: The shots cannot be read.
        ModelError: The masked model's folder is no checkpoint.
    """
    shots = None if given.shots is None else read_texts(resolve_path(given.shots, plan))
    if shots is not None:
        tell_left_out(shots.left_out)
    masked, inputs = None, {} if shots is None else {"shots": shots.sha256}
    if given.masked is not None:
        masked = find_folder(str(resolve_path(given.masked, plan)), revision=None, trust_remote_code=False)
        inputs["masked model"] = fingerprint(masked).weights

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

    return make, inputs
