"""What an audit takes from ledgers and placements: the traps with their owners and documents, the plan, the commitment.

The plan of analysis was fixed in the ledger, before publication, and is not asked for again. Several owners, each with
a ledger of their own, are tested in one run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from ..errors import DataError, InputError
from ..text.safe import quoted
from .config import DetectionPlan
from .ledger.make import audit_table
from .ledger.records import Ledger
from .planting.placements import Placements
from .table import ALL


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one run tests.

    Attributes:
        table: As `audit.traps.table`, with ``owner`` and, where placements were given, ``documents``.
        plan: Plan of detection, from the ledgers.
        commitments: Owner -> commitment of the ledger.
        in_tokens: Whether all traps were drawn from models, so that their lengths are tokens.
    """

    table: pa.Table
    plan: DetectionPlan
    commitments: dict[str, str]
    in_tokens: bool


def evidence_of(ledgers: Mapping[str, Ledger], placements: Mapping[str, Placements]) -> Evidence:
    """Joins the ledgers of one or more owners.

    Args:
        ledgers: Owner -> a ledger that fits itself.
        placements: Owner -> where the copies of that ledger stand; not every owner needs any.

    Raises:
        InputError: The ledgers' plans differ, or placements are of no owner here.
        DataError: Placements are of another ledger, or name a trap that is no member of it.
    """
    plans = {owner: ledger.plan.plan() for owner, ledger in ledgers.items()}
    first, plan = next(iter(plans.items()))
    for owner, other in plans.items():
        for name, value in other.to_record().items():
            if value != plan.to_record()[name]:
                raise InputError(
                    f"the ledgers of {quoted(first)} and {quoted(owner)} fixed different plans: {name} is "
                    f"{plan.to_record()[name]} and {value}. Test them in separate runs."
                )
    strangers = [owner for owner in placements if owner not in ledgers]
    if strangers:
        raise InputError(
            f"placements are given for {quoted(strangers[0])}, whose ledger is not. Give both, or neither."
        )
    tables = [
        _owned(audit_table(ledger), owner, _documents(ledger, placements.get(owner), owner))
        for owner, ledger in ledgers.items()
    ]
    return Evidence(
        table=pa.concat_tables(tables),
        plan=plan,
        commitments={owner: ledger.commitment() for owner, ledger in ledgers.items()},
        in_tokens=all(ledger.source == "model" for ledger in ledgers.values()),
    )


def _owned(table: pa.Table, owner: str, documents: list[list[str]] | None) -> pa.Table:
    table = table.append_column("owner", pa.array([owner] * len(table), pa.string()))
    return table.append_column("documents", pa.array(documents or [[]] * len(table), pa.list_(pa.string())))


def _documents(ledger: Ledger, placements: Placements | None, owner: str) -> list[list[str]] | None:
    """For each trap of the ledger, the documents that hold a copy of it, in order."""
    if placements is None:
        return None
    whose = "the placements" if owner == ALL else f"the placements of {quoted(owner)}"
    if placements.commitment != ledger.commitment():
        raise DataError(
            f"{whose} are of another ledger: their commitment is {placements.commitment}, the ledger's "
            f"{ledger.commitment()}. Give those that were written when this ledger's traps were planted."
        )
    holders: dict[str, dict[str, None]] = {trap.id: {} for trap in placements.traps}
    for document in placements.documents:
        for copy in document.copies:
            holders[placements.traps[copy.trap].id][document.id] = None
    members = {trap.id for trap in ledger.traps if trap.arm == "member"}
    if set(holders) != members:
        raise DataError(f"{whose} are not of the ledger's members. Give those that `traps inject` wrote.")
    return [list(holders.get(trap.id, ())) for trap in ledger.traps]
