"""What a simulation of survival tells: shares with intervals, a plain table, and a row for each trap and filter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ...stats.estimate import Estimate
from ...stats.proportion import wilson
from ..ledger.records import LedgerTrap
from .plan import SOURCES
from .survival import Copies, Survival

if TYPE_CHECKING:
    import pyarrow as pa

CAVEAT = (
    "A simulation of published filters on the planted documents alone, not of any company's pipeline; a real corpus "
    "may hold further duplicates."
)
START = "planted"  # the row before the first filter


def surviving_share(trap_ids: Sequence[str], planted: Mapping[str, Copies], left: Mapping[str, Copies]) -> Estimate:
    """Share of the traps with a planted copy that have any left, exact or fuzzy.

    The interval (Wilson) takes each trap as one trial. Traps of one document fall together when it is dropped: with
    several traps in a document it is too narrow, which ``why`` recalls.
    """
    there = [trap_id for trap_id in trap_ids if sum(planted[trap_id])]
    found = wilson(sum(sum(left[trap_id]) > 0 for trap_id in there), len(there))
    caveat = "traps that share a document are not independent, and the interval takes them to be"
    return Estimate(
        found.value,
        found.low,
        found.high,
        found.level,
        found.n,
        f"share of planted traps with a copy left; {found.method}",
        found.why or caveat,
    )


def to_record(survival: Survival, members: Sequence[LedgerTrap]) -> dict[str, Any]:
    """The whole result as plain JSON.

    Args:
        survival: The simulation.
        members: The members of the ledger, in order.
    """
    arms = sorted({trap.n_rep for trap in members})
    steps = [(START, survival.planted), *((result.stage, result.left) for result in survival.stages)]
    return {
        "format": "palimpsest traps simulation",
        "schema_version": 1,
        "caveat": CAVEAT,
        "stages": [
            {
                "stage": result.stage,
                "source": SOURCES[result.stage],
                "parameters": survival.pipeline.parameters(result.stage),
                "documents_in": result.documents_in,
                "documents_left": result.documents_left,
                "dropped": result.dropped,
                "characters_cut": result.characters_cut,
            }
            for result in survival.stages
        ],
        "shares": [
            {"n_rep": arm, **_share(survival, [trap.id for trap in members if arm in (None, trap.n_rep)], after)}
            for arm in (None, *arms)
            for after in steps[1:]
        ],
        "traps": [
            {
                "trap_id": trap.id,
                "stratum": trap.stratum,
                "n_rep": trap.n_rep,
                "copies": [{"after": name, **copies[trap.id]._asdict()} for name, copies in steps],
            }
            for trap in members
        ],
    }


def _share(survival: Survival, ids: Sequence[str], step: tuple[str, Mapping[str, Copies]]) -> dict[str, Any]:
    after, left = step
    return {
        "after": after,
        "planted": _total(survival.planted, ids)._asdict(),
        "left": _total(left, ids)._asdict(),
        "with_exact_copy": sum(left[trap_id].exact > 0 for trap_id in ids),
        "share": asdict(surviving_share(ids, survival.planted, left)),
    }


def to_table(survival: Survival, members: Sequence[LedgerTrap]) -> pa.Table:
    """One row for each trap and filter, in that order, the first being "planted"."""
    import pyarrow as pa

    steps = [(START, survival.planted), *((result.stage, result.left) for result in survival.stages)]
    rows = [
        {
            "trap_id": trap.id,
            "stratum": trap.stratum,
            "length": trap.length,
            "n_rep": trap.n_rep,
            "after": name,
            "step": place,
            "exact": copies[trap.id].exact,
            "fuzzy": copies[trap.id].fuzzy,
        }
        for trap in members
        for place, (name, copies) in enumerate(steps)
    ]
    text, whole = pa.string(), pa.int64()
    kinds = [text, text, whole, whole, text, whole, whole, whole]
    names = ["trap_id", "stratum", "length", "n_rep", "after", "step", "exact", "fuzzy"]
    return pa.Table.from_pylist(rows, schema=pa.schema(list(zip(names, kinds, strict=True))))


def to_lines(survival: Survival, members: Sequence[LedgerTrap]) -> list[str]:
    """The table that a terminal shows: a line for each filter, then one for each arm."""
    ids = [trap.id for trap in members]
    rows: list[tuple[str, ...]] = [("after", "documents", "exact copies", "fuzzy copies", "traps with a copy left")]
    rows.append(_line(START, survival.n_documents, survival.planted, ids, survival))
    rows += [_line(result.stage, result.documents_left, result.left, ids, survival) for result in survival.stages]
    last = survival.stages[-1].left
    arms: list[tuple[str, ...]] = [("copies", "traps", "exact copies", "fuzzy copies", "traps with a copy left")]
    for arm in sorted({trap.n_rep for trap in members}):
        inside = [trap.id for trap in members if trap.n_rep == arm]
        arms.append(_line(f"n_rep {arm:,}", len(inside), last, inside, survival))
    why = [
        f"{result.stage}: {n:,} of {result.documents_in:,} documents dropped: {reason}"
        for result in survival.stages
        for reason, n in sorted(result.dropped.items(), key=lambda item: -item[1])
    ]
    return [
        *_aligned(rows),
        "",
        "After all filters, by arm:",
        *_aligned(arms),
        *([""] if why else []),
        *why,
        "",
        CAVEAT,
    ]


def _line(name: str, n: int, left: Mapping[str, Copies], ids: Sequence[str], survival: Survival) -> tuple[str, ...]:
    share = surviving_share(ids, survival.planted, left)
    shown = "-" if share.value is None else f"{share.value:.1%} [{share.low:.1%}, {share.high:.1%}] of {share.n:,}"
    total = _total(left, ids)
    return name, f"{n:,}", f"{total.exact:,}", f"{total.fuzzy:,}", shown


def _total(copies: Mapping[str, Copies], ids: Sequence[str]) -> Copies:
    return Copies(sum(copies[trap_id].exact for trap_id in ids), sum(copies[trap_id].fuzzy for trap_id in ids))


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column in (0, len(row) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
