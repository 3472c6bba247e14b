"""What the trap verbs share: files that are never overwritten, and what is told of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import InputError, StorageError
from ...text.safe import counted, for_terminal

if TYPE_CHECKING:
    from ...traps.ledger.records import Ledger

LEDGER, TABLE, PUBLISHED = (".json",), (".parquet",), (".jsonl", ".parquet")

LedgerFile = Annotated[Path, typer.Argument(metavar="LEDGER", help="Ledger that `traps generate` wrote.")]
LedgerFiles = Annotated[
    list[str],
    typer.Argument(metavar="LEDGER...", help="Ledger that `traps generate` wrote; several as OWNER=FILE."),
]
Table = Annotated[
    Path | None,
    typer.Option(help="Also write the parquet table for `palimpsest audit`; it holds the decoys: keep it secret."),
]
Publish = Annotated[
    Path | None,
    typer.Option(help="Also write what is to be planted, members only, never a decoy: .jsonl or .parquet."),
]


def check_new(outputs: dict[str, tuple[Path | None, tuple[str, ...]]]) -> None:
    """Refuses before the work begins what could not be written after it, or would overwrite something."""
    from ...traps.ledger.files import refuse_taken

    taken: dict[Path, str] = {}
    for flag, (path, suffixes) in outputs.items():
        if path is None:
            continue
        if path.suffix.lower() not in suffixes:
            raise InputError(f"{flag} {path} ends in {path.suffix or 'nothing'}; expected {' or '.join(suffixes)}.")
        folder = path.absolute().parent
        if not folder.is_dir():
            raise InputError(f"{flag} {path}: there is no folder {folder}. Make it first.")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"{flag} {path}: the folder {folder} cannot be written. Change its permissions.")
        refuse_taken(path, "nothing is overwritten here")
        place = Path(os.path.realpath(path))
        if place in taken:
            raise InputError(f"{flag} and {taken[place]} are the same file {path}; give each a name of its own.")
        taken[place] = flag


def export_tables(ledger: Ledger, source: Path, *, table: Path | None, publish: Path | None) -> None:
    from ...text.tables import write_table
    from ...traps.ledger.files import write_audit_table
    from ...traps.ledger.make import published_table

    try:
        if table is not None:
            write_audit_table(table, ledger)
        if publish is not None:
            write_table(publish, published_table(ledger))
    except StorageError as error:
        why = str(error).removesuffix("then run the same command again.")
        raise StorageError(f"{why}then write it with: palimpsest traps export {source}") from error


def counts(ledger: Ledger) -> dict[str, int]:
    arms = Counter(trap.arm for trap in ledger.traps)
    strata = {trap.stratum for trap in ledger.traps}
    n_traps = len(ledger.traps)
    return {"n_traps": n_traps, "n_members": arms["member"], "n_decoys": arms["decoy"], "n_strata": len(strata)}


def size(ledger: Ledger) -> str:
    n = counts(ledger)
    arms = f"{counted(n['n_members'], 'member')}, {counted(n['n_decoys'], 'decoy')}"
    strata = f"{n['n_strata']} {'stratum' if n['n_strata'] == 1 else 'strata'}"
    return f"{counted(n['n_traps'], 'trap')} ({arms}) in {strata}"


def paths(**paths: Path | None) -> dict[str, str]:
    return {name: str(path) for name, path in paths.items() if path is not None}


def tell_paths(facts: Mapping[str, object]) -> None:
    if "table" in facts:
        print(for_terminal(f"for palimpsest audit -> {facts['table']} (secret: it holds the decoys)"))
    if "publish" in facts:
        print(for_terminal(f"to be planted -> {facts['publish']}"))
