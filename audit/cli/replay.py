"""``palimpsest runs replay``: are the findings what the stored scores give?"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import DataError, IncompleteRunError, InputError
from ..text.safe import counted, for_terminal, printable, quoted
from . import options

if TYPE_CHECKING:
    from ..runs.replay import Difference, Replay, Replayed
    from ..runs.store import Run

#: Kind of a run -> what computes its findings anew. Each is imported when such a run is replayed.
KINDS = {
    "audit": "audit.cli.replay_audit:replay",
    "retraining": "audit.extraction.retrain_replay:replay",
    "unlearning": "unlearn.from_curves:replay",
    "eco": "unlearn.eco.from_scores:replay",
    "eco-evaluation": "unlearn.eco.from_verdicts:replay",
    "steer": "unlearn.lineas.from_maps:replay",
    "steer-evaluation": "unlearn.lineas.from_questions:replay",
    "steer-sweep": "unlearn.lineas.from_flags:replay",
    "remediation": "unlearn.cli.remediate.stored:replay",
}
DIFFERS, INCONCLUSIVE = 2, 4
MOST_SHOWN = 50
# What a changed table makes of the arithmetic; nothing else is expected to raise these here.
_OF_CHANGED_ITEMS = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)


def replay(
    run: Annotated[Path, typer.Argument(help="Folder of a complete run.")],
    partial: Annotated[
        bool,
        typer.Option("--partial", help="Exit with 0 where something could not be recomputed, and all else is equal."),
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Recompute every statistic of a run from its stored scores, and compare it with its findings.

    Needs no model, no GPU, no network and no file outside the run. Exit code: 0 when all is equal, 2 when something
    is not what the scores give, 3 for a run that has not ended, 4 when something could not be recomputed.
    """
    from ..runs.store import Run

    opened = Run.open(run)
    found = replayed(opened)
    if as_json:
        print(json.dumps(_record(opened, found), indent=2))  # ASCII: nothing in it steers a terminal
    else:
        for line in _lines(opened, found):
            print(for_terminal(line))
    if found.outcome == "differs":
        n, first = counted(len(found.differences), "difference"), found.differences[0].address
        print(
            for_terminal(
                f"{run}: the stored scores do not give the stored findings: {n}, the first at {first}. Either was "
                "changed after the run, or made by other code; restore the run from a copy, or audit anew. Nothing "
                "should rest on it as it is."
            ),
            file=sys.stderr,
        )
        sys.exit(DIFFERS)
    excused = partial and not found.reworded  # other words may say something else
    sys.exit(INCONCLUSIVE if found.outcome == "inconclusive" and not excused else 0)


def replayed(run: Run) -> Replay:
    """Recompute and compare.

    Raises:
        IncompleteRunError: The run has not ended.
        InputError: Runs of its kind cannot be replayed.
        DataError: What is stored is missing, or nothing can be computed with it.
    """
    from ..runs.replay import compare

    if not run.complete:
        raise IncompleteRunError(
            f"{printable(run.folder)} has not ended ({run.state()}), so there is nothing final to replay. Run its "
            "command again to finish it."
        )
    kind = run.record.kind
    if kind not in KINDS:
        raise InputError(
            f"{printable(run.folder)} is of kind {quoted(kind)}, which cannot be replayed; these can: "
            f"{', '.join(KINDS)}."
        )
    try:
        again = load(KINDS[kind])(run)
    except _OF_CHANGED_ITEMS as error:
        raise DataError(
            f"{printable(run.folder)}: nothing can be computed with what is stored ({type(error).__name__}: "
            f"{printable(str(error))[:200]}). It was changed, or another version wrote it: "
            f"{run.record.provenance.palimpsest}."
        ) from error
    return compare(run, again)


def load(name: str) -> Callable[[Run], Replayed]:
    """The function that ``module:function`` names."""
    module, _, function = name.partition(":")
    found: Callable[[Run], Replayed] = getattr(import_module(module), function)
    return found


def _record(run: Run, found: Replay) -> dict[str, Any]:
    from ..runs.replay import ABSOLUTE, NOT_COMPARED, RELATIVE

    return {
        "run": run.record.id,
        "kind": run.record.kind,
        "outcome": found.outcome,
        "tolerance": {"relative": 0.0, "absolute": 0.0}
        if found.exact
        else {"relative": RELATIVE, "absolute": ABSOLUTE},
        "versions": list(found.versions),
        "compared": dict(sorted(found.compared.items())),
        "differences": [asdict(one) for one in found.differences],
        "reworded": [asdict(one) for one in found.reworded],
        "not_replayed": found.not_replayed,
        "not_compared": list(NOT_COMPARED),
    }


def _lines(run: Run, found: Replay) -> list[str]:
    from ..runs.replay import NOT_COMPARED, RELATIVE

    counts = ", ".join(f"{n:,} {what if n != 1 else what.removesuffix('s')}" for what, n in found.compared.items())
    how = (
        "to the bit, by the same code on the same machine"
        if found.exact
        else f"within {RELATIVE:g} of each other, for {'; '.join(found.versions)}"
    )
    lines = [f"{run.record.id}, of kind {run.record.kind}", f"compared: {counts or 'nothing'}", f"numbers: {how}"]
    lines += _listed("DIFFERS", found.differences)
    lines += _listed("worded otherwise, by other code", found.reworded)
    if found.not_replayed:
        lines.append("not replayed:")
        lines += [f"  {address}: {why}" for address, why in found.not_replayed.items()]
    said = {
        "equal": "equal: the stored scores give the stored findings",
        "differs": "the stored scores do not give the stored findings",
        "inconclusive": "equal as far as it was recomputed; what was not is named above",
    }
    unseen = f"not looked at, for no score tells of it: {'; '.join(NOT_COMPARED)}. A seal covers these: runs verify"
    return [*lines, unseen, said[found.outcome]]


def _listed(title: str, differences: list[Difference]) -> list[str]:
    if not differences:
        return []
    lines = [f"{title}:"]
    for one in differences[:MOST_SHOWN]:
        stored, again = (
            quoted(value, limit=120) if value is not None else "nothing" for value in (one.stored, one.again)
        )
        lines.append(f"  {one.address}: {one.what}: stored {stored}, recomputed {again}")
    if len(differences) > MOST_SHOWN:
        lines.append(f"  and {len(differences) - MOST_SHOWN:,} more; --json lists all")
    return lines
