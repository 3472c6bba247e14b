"""What an audit takes from ledgers and placements: the traps with their owners and documents, the plan, the commitment.

The plan of analysis was fixed in the ledger, before publication, and is not asked for again; so was the reference
model, where one is. Several owners, each with a ledger of their own, are tested in one run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pyarrow as pa

from ..errors import DataError, InputError
from ..text.safe import quoted
from .config import DetectionPlan
from .ledger.make import audit_table
from .ledger.records import Ledger, LotteryRecord
from .planting.placements import Placements
from .table import ALL

DIGITS = 12  # of a hash, in messages


@dataclass(frozen=True, slots=True)
class Committed:
    """What can be said of the commitment to an owner's ledger.

    Attributes:
        value: The ledger's commitment, 64 hexadecimal digits.
        compared: Whether it was compared with one that was given; otherwise it is the ledger's own word.
        reference: SHA-256 of the weights of the reference model that the ledger fixed, or None.
        lottery: How the dealing came about, or None when the seed is the publisher's.
        placements_sha256: SHA-256 of the placements file, or None when none was given.
    """

    value: str
    compared: bool
    reference: str | None
    lottery: LotteryRecord | None
    placements_sha256: str | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one run tests.

    Attributes:
        table: As `audit.traps.table`, with ``owner`` and, where placements were given, ``documents``, ``n_exact`` and
            ``n_near``.
        plan: Plan of detection, from the ledgers.
        reference: SHA-256 of the weights of the reference model that the ledgers fixed, or None.
        commitments: Owner -> what can be said of the ledger's commitment.
        in_tokens: Whether all traps were drawn from models, so that their lengths are tokens.
    """

    table: pa.Table
    plan: DetectionPlan
    reference: str | None
    commitments: dict[str, Committed]
    in_tokens: bool


def evidence_of(
    ledgers: Mapping[str, Ledger],
    placements: Mapping[str, Placements],
    *,
    compared: Collection[str] = (),
    placements_sha256: Mapping[str, str] | None = None,
) -> Evidence:
    """Joins the ledgers of one or more owners.

    Args:
        ledgers: Owner -> a ledger that fits itself.
        placements: Owner -> where the copies of that ledger stand; not every owner needs any.
        compared: Owners whose ledger was compared with a commitment that was published.
        placements_sha256: Owner -> SHA-256 of the placements file.

    Raises:
        InputError: The ledgers' plans or reference models differ, or placements are of no owner here.
        DataError: Placements are of another ledger, or their traps are not its members.
    """
    plan = _plan_of(ledgers)
    strangers = [owner for owner in placements if owner not in ledgers]
    if strangers:
        raise InputError(
            f"placements are given for {quoted(strangers[0])}, whose ledger is not. Give both, or neither."
        )
    for owner, one in placements.items():
        _refuse_others(ledgers[owner], one, owner)
    names = document_names(placements)
    hashes = placements_sha256 or {}
    table = pa.concat_tables(
        _owned(ledger, owner, placements.get(owner), names.get(owner, [])) for owner, ledger in ledgers.items()
    )
    return Evidence(
        table=table if placements else table.drop_columns(["n_exact", "n_near"]),
        plan=plan,
        reference=_reference_of(ledgers),
        commitments={
            owner: Committed(
                value=ledger.commitment(),
                compared=owner in compared,
                reference=ledger.plan.reference,
                lottery=ledger.lottery,
                placements_sha256=hashes.get(owner),
            )
            for owner, ledger in ledgers.items()
        },
        in_tokens=all(ledger.source == "model" for ledger in ledgers.values()),
    )


def _plan_of(ledgers: Mapping[str, Ledger]) -> DetectionPlan:
    plans = {owner: ledger.plan.plan() for owner, ledger in ledgers.items()}
    first, plan = next(iter(plans.items()))
    for owner, other in plans.items():
        for name, value in other.to_record().items():
            if value != plan.to_record()[name]:
                raise InputError(
                    f"the ledgers of {quoted(first)} and {quoted(owner)} fixed different plans: {name} is "
                    f"{plan.to_record()[name]} and {value}. Test them in separate runs."
                )
    return plan


def _reference_of(ledgers: Mapping[str, Ledger]) -> str | None:
    """The reference that was fixed; a ledger that fixed none goes with any, for its primary score needs none."""
    fixed = {owner: ledger.plan.reference for owner, ledger in ledgers.items() if ledger.plan.reference is not None}
    if not fixed:
        return None
    first, reference = next(iter(fixed.items()))
    for owner, other in fixed.items():
        if other != reference:
            raise InputError(
                f"the ledgers of {quoted(first)} and {quoted(owner)} fixed different reference models: their weights "
                f"have SHA-256 {reference[:DIGITS]}... and {other[:DIGITS]}.... Test them in separate runs."
            )
    return reference


def refuse_other_reference(given: str, fixed: str | None) -> None:
    """Refuses a reference model other than the one that was fixed with the traps.

    Args:
        given: SHA-256 of its weights, as `audit.lm.checkpoint.Fingerprint`.
        fixed: What the ledger holds; None lets every model pass.

    Raises:
        InputError: They differ.
    """
    if fixed is not None and given != fixed:
        raise InputError(
            f"this is not the reference model that the ledger fixed before publication: the weights of that have "
            f"SHA-256 {fixed[:DIGITS]}..., those given {given[:DIGITS]}.... With a choice among references, chance "
            "alone finds traces. Give the model that was fixed, with its adapter if it had one."
        )


def document_names(placements: Mapping[str, Placements]) -> dict[str, list[str]]:
    """Owner -> the names of its documents, in order, no two alike.

    A document is called by its identifier; where others have the same one, by "file, identifier" (or the file alone,
    where both are the same), and with several owners by "owner: file, identifier".
    """
    keys = [
        (owner, one.files[document.file].path, document.id)
        for owner, one in placements.items()
        for document in one.documents
    ]
    n_called = Counter(name for _, _, name in keys)

    def named(owner: str, file: str, name: str) -> str:
        if n_called[name] == 1:
            return name
        inside = file if file == name else f"{file}, {name}"
        return f"{owner}: {inside}" if len(placements) > 1 else inside

    n_named = Counter(named(*key) for key in keys)
    names: dict[str, list[str]] = {owner: [] for owner in placements}
    for key in keys:
        name = named(*key)
        names[key[0]].append(name if n_named[name] == 1 else ", ".join(map(repr, key)))
    return names


def _refuse_others(ledger: Ledger, placements: Placements, owner: str) -> None:
    """Refuses placements that are not of the ledger's members, each as it was dealt."""
    whose = "the placements" if owner == ALL else f"the placements of {quoted(owner)}"
    if placements.commitment != ledger.commitment():
        raise DataError(
            f"{whose} are of another ledger: their commitment is {placements.commitment}, the ledger's "
            f"{ledger.commitment()}. Give those that were written when this ledger's traps were planted."
        )
    planted = {trap.id: (trap.text, trap.n_rep) for trap in placements.traps}
    members = {trap.id: (trap.text, trap.n_rep) for trap in ledger.traps if trap.arm == "member"}
    if len(placements.traps) != len(members) or planted.keys() != members.keys():
        raise DataError(f"{whose} are not of the ledger's members. Give those that `traps inject` wrote.")
    for trap_id, (text, n_rep) in planted.items():
        if (text, n_rep) != members[trap_id]:
            what = "another text" if text != members[trap_id][0] else f"{n_rep:,} copies, and {members[trap_id][1]:,}"
            raise DataError(
                f"{whose} were changed after they were written: trap {quoted(trap_id)} has {what} in the ledger. Give "
                "those that `traps inject` wrote."
            )


def _owned(ledger: Ledger, owner: str, placements: Placements | None, names: list[str]) -> pa.Table:
    """The ledger's table, with its owner and, for each trap, the documents that hold a copy and how copies read."""
    holders: dict[str, dict[str, None]] = {}
    exact: Counter[str] = Counter()
    near: Counter[str] = Counter()
    if placements is not None:
        for document, name in zip(placements.documents, names, strict=True):
            for copy in document.copies:
                trap = placements.traps[copy.trap]
                holders.setdefault(trap.id, {})[name] = None
                (exact if trap.text_of(copy.copy) == trap.text else near)[trap.id] += 1
    ids = [trap.id for trap in ledger.traps]
    known = placements is not None
    columns = {
        "owner": pa.array([owner] * len(ids), pa.string()),
        "documents": pa.array([list(holders.get(trap_id, ())) for trap_id in ids], pa.list_(pa.string())),
        "n_exact": pa.array([exact[trap_id] if known else None for trap_id in ids], pa.int64()),
        "n_near": pa.array([near[trap_id] if known else None for trap_id in ids], pa.int64()),
    }
    table = audit_table(ledger)
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table
