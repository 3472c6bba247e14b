"""``palimpsest traps deal``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ...text.safe import for_terminal, quoted
from .. import options
from .outputs import LEDGER, LedgerFile, check_new, counts, size


def deal(
    ledger: LedgerFile,
    beacon: Annotated[str, typer.Option(help="What was announced, letter for letter, such as a drand round's hex.")],
    beacon_source: Annotated[
        str,
        typer.Option(help="Who announced it and when, so that anyone can look it up, such as 'drand, round 4512345'."),
    ],
    out: Annotated[Path, typer.Option(help="Where the dealt ledger goes: a new .json file, as secret as the first.")],
    as_json: options.AsJson = False,
) -> None:
    """Deal a ledger's pool again by a number that nobody could choose, announced after the ledger was committed to.

    First publish the commitment to LEDGER, and with it which announcement will deal. Then wait for that. The new
    ledger holds the same pool in the same order, the same design and plan; its seed is made of the first commitment
    and what was announced. Commit to it too, and plant from it, never from LEDGER.
    """
    from ...traps.ledger.files import read_ledger, write_ledger
    from ...traps.ledger.make import deal as make_dealt

    check_new({"--out": (out, LEDGER)})
    options.quiet_libraries()
    first = read_ledger(ledger)
    dealt = make_dealt(first, value=beacon, announced_by=beacon_source, source=str(ledger))
    write_ledger(out, dealt)
    if as_json:
        facts = {"ledger": str(out), "first_commitment": first.commitment(), "commitment": dealt.commitment()}
        print(json.dumps({**facts, **counts(dealt)}))
        return
    print(for_terminal(f"{size(dealt)}, dealt by {quoted(beacon_source, limit=200)} -> {options.shown(out)} (secret)"))
    print(for_terminal(f"It must have been announced after this commitment was published: {first.commitment()}"))
    print(for_terminal(f"Before anything is published: palimpsest traps commit {options.shown(out)}"))
