"""``palimpsest traps export|commit|verify-ledger|disclose``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import DataError, InputError
from ...text.safe import counted, did_you_mean, for_terminal, quoted
from .. import options
from .outputs import (
    LEDGER,
    PUBLISHED,
    TABLE,
    LedgerFile,
    Publish,
    Table,
    check_new,
    counts,
    export_tables,
    paths,
    size,
    tell_paths,
)

if TYPE_CHECKING:
    from ...traps.ledger.records import Disclosure, Ledger

SHOWN = 10  # documents of one name that a message lists


def export(
    ledger: LedgerFile,
    table: Table = None,
    publish: Publish = None,
    as_json: options.AsJson = False,
) -> None:
    """Write the table of an audit, or what is to be planted, from a ledger that is there already."""
    from ...traps.ledger.files import read_ledger
    from ...traps.ledger.make import check_ledger

    if table is None and publish is None:
        raise InputError("nothing to write; give --table FILE.parquet, --publish FILE.jsonl or both.")
    check_new({"--table": (table, TABLE), "--publish": (publish, PUBLISHED)})
    options.quiet_libraries()
    opened = read_ledger(ledger)
    check_ledger(opened, source=str(ledger))
    export_tables(opened, ledger, table=table, publish=publish)
    facts = paths(table=table, publish=publish)
    if as_json:
        print(json.dumps(facts))
        return
    tell_paths(facts)


def commit(ledger: LedgerFile, as_json: options.AsJson = False) -> None:
    """Print the commitment to a ledger: 64 hexadecimal digits that tell nothing, to be published or time-stamped.

    It fixes pool, dealing, seed, design, plan of analysis and reference model. Anyone can check a disclosed trap
    against it later, and whoever holds the ledger can check the whole of it. Publish one commitment, under the work's
    name: with several, nobody can tell which was meant.
    """
    from ...traps.ledger.commitment import merkle_root
    from ...traps.ledger.files import read_ledger
    from ...traps.ledger.make import check_ledger

    options.quiet_libraries()
    opened = read_ledger(ledger)
    check_ledger(opened, source=str(ledger))
    if as_json:
        parts = {"root": merkle_root(opened.leaves()).hex(), "header": opened.header_hash().hex()}
        print(json.dumps({"commitment": opened.commitment(), **parts, **counts(opened)}))
        return
    print(opened.commitment())


def verify_ledger(
    file: Annotated[Path, typer.Argument(help="Ledger, or a disclosure of some of its traps.")],
    commitment: Annotated[str, typer.Option(help="What `traps commit` printed and was published beforehand.")],
    words: Annotated[
        Path | None, typer.Option(help="List that the ledger's words were drawn from; the pool is then drawn again.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Check a ledger, or a disclosure, against its commitment: exit code 0, or 2 with what differs.

    A ledger is also checked against itself: the dealing is done again from pool, seed and design, a pool of watermarks
    (and with --words one of words) is drawn again, and a dealing by `traps deal` is followed back to the commitment
    before it. What cannot be checked is told.
    """
    from ...traps.ledger import make as ledgers
    from ...traps.ledger.commitment import parse_commitment
    from ...traps.ledger.files import read_file
    from ...traps.ledger.lottery import dealing_told
    from ...traps.ledger.records import Disclosure
    from ...traps.words import read_words

    expected = parse_commitment(commitment)
    opened = read_file(file)
    if isinstance(opened, Disclosure):
        if words is not None:
            raise InputError("--words is for a ledger, and this is a disclosure; leave it out.")
        ledgers.verify_disclosure(opened, expected, source=str(file))
        _tell_disclosed(opened, file, as_json=as_json)
        return
    options.quiet_libraries()
    word_list = None if words is None else read_words(words)
    ledgers.verify_ledger(opened, expected, source=str(file), words=word_list)
    drawn_again = opened.source == "watermark" or word_list is not None
    if as_json:
        facts = {"file": str(file), "kind": "ledger", "commitment": expected, **counts(opened)}
        lottery = (
            None if opened.lottery is None else opened.lottery.model_dump(include={"commitment", "value", "source"})
        )
        print(json.dumps({**facts, "pool_drawn_again": drawn_again, "lottery": lottery}))
        return
    print(
        for_terminal(f"{options.shown(file)} is what was committed to: {size(opened)}, dealt as its seed deals them.")
    )
    print(for_terminal(f"  {_pool_told(opened, drawn_again)}"))
    print(for_terminal(f"  {dealing_told(opened.lottery)}"))


def _pool_told(ledger: Ledger, drawn_again: bool) -> str:
    """How far the pool was checked."""
    if drawn_again:
        return "The pool was drawn again from seed and design, and is the same."
    if ledger.source == "words":
        return (
            "The pool's words were not checked: give --words FILE, the list of SHA-256 "
            f"{ledger.word_list_sha256}, and the pool is drawn again."
        )
    return "The pool was not drawn again from its model: where its texts come from rests on the publisher's word."


def disclose(
    ledger: LedgerFile,
    out: Annotated[Path, typer.Option(help="Where the disclosure goes: a new .json file.")],
    trap: Annotated[
        list[str] | None, typer.Option(help="Id of a trap to disclose; may be given several times.")
    ] = None,
    document: Annotated[
        list[str] | None,
        typer.Option(help="Disclose the traps of this document, as --placements names it; may be given several times."),
    ] = None,
    placements: Annotated[Path | None, typer.Option(help="What `traps inject` wrote; for --document.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Write the proof that some traps stood in the ledger committed to; of the other traps it tells nothing."""
    from ...traps.ledger.files import read_ledger, write_disclosure
    from ...traps.ledger.make import check_ledger
    from ...traps.ledger.make import disclose as make_disclosure

    if not trap and not document and placements is None:
        raise InputError(
            "nothing to disclose; give --trap ID, or --document NAME with --placements FILE. Each but --placements may "
            "be given several times."
        )
    check_new({"--out": (out, LEDGER)})
    options.quiet_libraries()
    opened = read_ledger(ledger)
    check_ledger(opened, source=str(ledger))
    ids = [*(trap or []), *_of_documents(opened, document or [], placements)]
    disclosure = make_disclosure(opened, ids)
    for shown in disclosure.traps:
        if shown.trap.arm == "decoy":
            print(
                for_terminal(f"note: {shown.trap.id} is a decoy; once others know it, it is no control any more."),
                file=sys.stderr,
            )
    write_disclosure(out, disclosure)
    if as_json:
        print(json.dumps({"disclosure": str(out), "traps": [shown.trap.id for shown in disclosure.traps]}))
        return
    print(for_terminal(f"{counted(len(disclosure.traps), 'trap')} of {disclosure.n_traps:,} -> {options.shown(out)}"))


def _of_documents(ledger: Ledger, names: list[str], path: Path | None) -> list[str]:
    """Ids of the traps that have a copy in one of the documents, each of which is one and no other."""
    from ...traps.evidence import document_names
    from ...traps.planting.placements import read_placements
    from ...traps.table import ALL

    if (path is None) == bool(names):
        raise InputError("--document and --placements go together; give both or neither.")
    if path is None:
        return []
    placements = read_placements(path)
    if placements.commitment != ledger.commitment():
        raise DataError(
            f"{path} belongs to another ledger: its commitment is {placements.commitment}. Give this one's."
        )
    called: dict[str, list[str]] = {}  # identifier or name -> names of the documents that it may mean
    traps: dict[str, dict[str, None]] = {}
    for document, name in zip(placements.documents, document_names({ALL: placements})[ALL], strict=True):
        traps[name] = dict.fromkeys(placements.traps[copy.trap].id for copy in document.copies)
        for call in {document.id, name}:
            called.setdefault(call, []).append(name)
    for name in names:
        meant = called.get(name, [])
        if not meant:
            raise InputError(f"{path} names no document {quoted(name)} with traps in it.{did_you_mean(name, called)}")
        if len(meant) > 1:
            listed = ", ".join(quoted(one, limit=200) for one in meant[:SHOWN])
            more = f" and {len(meant) - SHOWN:,} more" if len(meant) > SHOWN else ""
            raise InputError(
                f"{path} names {len(meant):,} documents {quoted(name)}; give the one you mean as --document and one of "
                f"{listed}{more}."
            )
    return [trap for name in names for trap in traps[called[name][0]]]


def _tell_disclosed(disclosure: Disclosure, file: Path, *, as_json: bool) -> None:
    shown = [{"id": one.trap.id, "arm": one.trap.arm, "n_rep": one.trap.n_rep} for one in disclosure.traps]
    if as_json:
        print(json.dumps({"file": str(file), "kind": "disclosure", "n_traps": disclosure.n_traps, "traps": shown}))
        return
    n_shown = counted(len(shown), "trap")
    print(for_terminal(f"{options.shown(file)}: {n_shown} of {disclosure.n_traps:,} stood in the ledger committed to:"))
    for one in shown:
        print(for_terminal(f"  {one['id']}  {one['arm']}, n_rep {one['n_rep']}"))
