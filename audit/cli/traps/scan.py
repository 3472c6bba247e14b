"""``palimpsest traps scan LEDGER CORPUS...``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import InputError
from ...text.safe import counted, for_terminal, printable, quoted
from .. import options
from ..endings import interrupted
from ..left_out import tell_left_out
from .outputs import LedgerFile, check_new

if TYPE_CHECKING:
    from ...traps.ledger.records import Ledger
    from ...traps.scan.counts import ArmCounts, Leak, ScanResult

HITS = (".jsonl", ".parquet")
SHOWN = 5  # leaks, and records that were left out, that are named on the screen
DISTANCE = 10  # tokens; the specification's lowest published distance for 100 tokens


def scan(
    ledger: LedgerFile,
    corpus: Annotated[
        list[Path],
        typer.Argument(help="jsonl, json, csv, tsv, txt, md, html (each also .gz), parquet, or folders of such files."),
    ],
    field: Annotated[str, typer.Option(help="Field or column that holds the text.")] = "text",
    id_field: Annotated[
        str | None, typer.Option(help='Field that names each text; default "id" where it exists.')
    ] = None,
    loose: Annotated[
        bool, typer.Option("--loose", help="Also find copies whose white space or Unicode normal form was changed.")
    ] = False,
    fuzzy: Annotated[
        bool, typer.Option("--fuzzy", help="Also find near copies, token by token; needs --tokenizer.")
    ] = False,
    max_distance: Annotated[
        int | None, typer.Option(help="Of --fuzzy: tokens inserted, deleted or replaced, at most. [default: 10]")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Of --fuzzy: folder with the tokenizer.json that cuts texts into tokens.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that scan side by side. [default: one for each core]")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Also write every copy with its place: a new .jsonl or .parquet; keep it secret."),
    ] = None,
    skip_bad_lines: Annotated[
        bool,
        typer.Option(
            "--skip-bad-lines", help="Leave malformed lines, and files that cannot be read, out and count them."
        ),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on where an earlier scan with the same --out was cut off.")
    ] = True,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Count the copies of each trap in a corpus, and name decoys that leaked into it.

    Members and decoys are looked for. A decoy that is found is no control any more; it is named, and the exit code
    stays 0, because the question was answered: scripts read "leaks" of --json. Copies of one trap share no character.
    """
    from ...progress import progress_bars
    from ...traps.ledger.files import read_ledger
    from ...traps.ledger.make import check_ledger
    from ...traps.scan.scan import plan_of, units_folder
    from ...traps.scan.scan import scan as scan_corpus
    from ...traps.scan.shards import plan_corpus
    from ...traps.scan.tokens import read_tokenizer

    most = _max_distance(fuzzy, max_distance, tokenizer)
    if workers is not None and workers < 1:
        raise InputError(f"--workers is {workers}; expected 1 or more.")
    check_new({"--out": (out, HITS)})
    if out is not None and units_folder(out).is_symlink():
        raise InputError(f"--out {out}: {units_folder(out)} is a link to somewhere else. Remove it, or choose another.")
    options.quiet_libraries()
    opened = read_ledger(ledger)
    check_ledger(opened, source=str(ledger))
    _refuse_inside(ledger, corpus)
    content = None if tokenizer is None else read_tokenizer(tokenizer)
    if tokenizer is not None:
        _warn_of_other_tokenizer(opened, tokenizer)
    plan = plan_of(
        opened,
        field=field,
        id_field=id_field,
        loose=loose,
        max_distance=most,
        tokenizer=content,
        skip_bad=skip_bad_lines,
    )
    planned = plan_corpus(corpus)
    n_workers = len(os.sched_getaffinity(0)) if workers is None else workers
    with interrupted(_kept(out)), progress_bars(quiet=quiet) as progress:
        result = scan_corpus(opened, planned, plan, workers=n_workers, out=out, restart=not resume, progress=progress)
    _tell(result, out, loose=loose, most=most, as_json=as_json)


def _max_distance(fuzzy: bool, max_distance: int | None, tokenizer: Path | None) -> int | None:
    for flag, value in (("--max-distance", max_distance), ("--tokenizer", tokenizer)):
        if value is not None and not fuzzy:
            raise InputError(f"{flag} goes with --fuzzy only; add --fuzzy, or leave it out.")
    if not fuzzy:
        return None
    if tokenizer is None:
        raise InputError("--fuzzy counts tokens, so it needs --tokenizer FOLDER, best the generator's own.")
    if max_distance is not None and max_distance < 0:
        raise InputError(f"--max-distance is {max_distance}; expected 0 or more tokens.")
    return DISTANCE if max_distance is None else max_distance


def _refuse_inside(ledger: Path, corpus: list[Path]) -> None:
    """A ledger in the corpus holds every decoy."""
    place = Path(os.path.realpath(ledger))
    for path in corpus:
        if place.is_relative_to(os.path.realpath(path)):
            raise InputError(
                f"the ledger {ledger} lies in the corpus {path}, so whoever gets the corpus gets the decoys. "
                "Move it away, then scan again."
            )


def _warn_of_other_tokenizer(ledger: Ledger, folder: Path) -> None:
    from ...lm.files import tokenizer_files
    from ...text.files import sha256_file

    if ledger.generator is None:
        return
    own = {path.name: sha256_file(path) for path in tokenizer_files(folder)}
    if any(ledger.generator.files.get(name) != digest for name, digest in own.items()):
        print(
            for_terminal(
                f"warning: the tokenizer in {folder} is not the generator's ({quoted(ledger.generator.model)}); "
                "lengths and distances are counted in the tokens of the one that was given."
            ),
            file=sys.stderr,
        )


def _kept(out: Path | None) -> str:
    """What is true of a scan that is interrupted."""
    from ...traps.scan.scan import units_folder

    if out is None:
        return "nothing was kept. With --out, what is finished is kept, and the same command goes on from there."
    return f"what was finished is kept in {units_folder(out)}, and the same command goes on from there."


def _tell(result: ScanResult, out: Path | None, *, loose: bool, most: int | None, as_json: bool) -> None:
    for line in result.bad[:SHOWN]:
        print(for_terminal(f"left out: {line}").replace("\n", " "), file=sys.stderr)
    tell_left_out(result.left_out)
    _tell_leaks(result)
    if as_json:
        facts = {"out": None if out is None else printable(out), "max_distance": most, "loose": loose}
        print(json.dumps(result.to_record() | facts))
        return
    kinds = ["exact", *(["loose"] if loose else []), *([] if most is None else ["near"])]
    for line in _table(result.arms, kinds):
        print(line)
    without = f", {counted(result.n_without, 'record')} without a text" if result.n_without else ""
    bad = f", {counted(result.n_bad, 'record or file')} LEFT OUT" if result.n_bad else ""
    print(f"{counted(result.n_texts, 'text')} in {counted(result.n_files, 'file')}{without}{bad}; {_speed(result)}")
    if out is not None:
        n_hits = sum(arm.exact + arm.loose + arm.near for arm in result.arms)
        copies = f"{n_hits:,} {'copy' if n_hits == 1 else 'copies'}"
        print(for_terminal(f"{copies} -> {options.shown(out)} (secret: the ids of decoys are among them)"))


def _speed(result: ScanResult) -> str:
    megabytes = result.n_scanned / 1e6
    before = result.n_bytes - result.n_scanned
    earlier = f" ({before / 1e6:,.1f} MB were scanned before)" if before else ""
    workers = f", {result.workers} processes" if result.workers > 1 else ""
    rate = megabytes / result.seconds if result.seconds else 0.0
    return f"{megabytes:,.1f} MB in {result.seconds:.1f} s, {rate:,.1f} MB/s{workers}{earlier}"


def _table(arms: tuple[ArmCounts, ...], kinds: list[str]) -> list[str]:
    head = ["arm", "copies each", "traps", "found", "copies planned", *kinds, "none", "fewer", "as planned", "more"]
    rows = [head]
    for arm in arms:
        numbers = [arm.n_rep, arm.n_traps, arm.n_found, arm.planned, *(getattr(arm, kind) for kind in kinds)]
        numbers += [arm.none, arm.fewer, arm.as_planned, arm.more]
        rows.append([arm.arm, *(f"{number:,}" for number in numbers)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _tell_leaks(result: ScanResult) -> None:
    leaked = [leak for leak in result.leaks if leak.kind != "near"]
    near = [leak for leak in result.leaks if leak.kind == "near"]
    told = []
    if leaked:
        told.append(f"WARNING: {counted(len(leaked), 'decoy')} LEAKED into the corpus, so no control any more:")
        told += _named(leaked)
        told.append("  An audit that counts on them is void: leave out what leaked, or draw new traps.")
    if near:
        told.append(f"warning: {counted(len(near), 'decoy')} with near copies in the corpus; look whether they leaked:")
        told += _named(near)
    if told:
        print(for_terminal("\n".join(told)), file=sys.stderr)


def _named(leaks: list[Leak]) -> list[str]:
    told = []
    for leak in leaks[:SHOWN]:
        distance = f" at distance {leak.distance} or more" if leak.kind == "near" else ""
        copies = f"{leak.copies:,} {'copy' if leak.copies == 1 else 'copies'}{distance}"
        told.append(f"  {leak.trap_id}: {copies}, first at {leak.shard}, {_place(leak.document, leak.line)}")
    if len(leaks) > SHOWN:
        told.append(f"  and {len(leaks) - SHOWN:,} more; --out writes every copy")
    return told


def _place(document: str, line: int) -> str:
    return f"line {line:,}" if document == str(line) else f"text {quoted(document)} (line {line:,})"
