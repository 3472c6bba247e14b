"""The replay of ``palimpsest audit``: each audit of the plan by the room that made it."""

from __future__ import annotations

from ..runs.replay import Replayed
from ..runs.store import Run
from .audit import limitations
from .replay import load

#: Table of the plan -> what computes its section anew, in the order in which the audits are made.
ROOMS = {
    "traps": "audit.traps.from_scores:replay",
    "membership": "audit.membership.from_scores:replay",
    "extraction": "audit.extraction.from_maxima:replay",
}


def replay(run: Run) -> Replayed:
    """Every section, and what the models themselves put limits to."""
    parts = [load(name)(run) for table, name in ROOMS.items() if table in run.record.plan]
    return Replayed.joined(parts, limitations=limitations(run))
