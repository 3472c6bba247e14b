"""``palimpsest traps generate|export|commit|verify-ledger|disclose``."""

from __future__ import annotations

import json
import math
import os
import sys
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ..errors import IncompleteRunError, InputError, StorageError
from ..text.safe import counted, for_terminal, quoted
from . import options

if TYPE_CHECKING:
    from ..traps.ledger import Disclosure, Ledger

Number = TypeVar("Number", int, float)
LEDGER, TABLE, PUBLISHED = (".json",), (".parquet",), (".jsonl", ".parquet")

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    help="Draw copyright traps into a secret ledger, commit to it, check and disclose it.",
)

LedgerFile = Annotated[Path, typer.Argument(metavar="LEDGER", help="Ledger that `traps generate` wrote.")]
Table = Annotated[
    Path | None,
    typer.Option(help="Also write the parquet table for `palimpsest audit`; it holds the decoys: keep it secret."),
]
Publish = Annotated[
    Path | None,
    typer.Option(help="Also write what is to be planted, members only, never a decoy: .jsonl or .parquet."),
]


@app.callback()
def main() -> None:
    """Draw copyright traps into a secret ledger, commit to it, check and disclose it."""


@app.command()
def generate(
    out: Annotated[Path, typer.Option(help="Where the ledger goes: a new .json file, kept secret until disclosure.")],
    model: Annotated[
        str | None, typer.Option(help="Draw from this model: folder of a checkpoint, or a Hugging Face id.")
    ] = None,
    words: Annotated[
        Path | None, typer.Option(help="Draw random words from this file of one word a line; needs no model.")
    ] = None,
    watermark: Annotated[
        bool, typer.Option("--watermark", help="Draw random strings (data watermarks); needs no model.")
    ] = False,
    alphabet: Annotated[
        str | None, typer.Option(help="Of --watermark: hex or letters (letters and digits). [default: hex]")
    ] = None,
    lengths: Annotated[
        str | None, typer.Option(help="Tokens of --model, words or characters. [default: 25,50,100]")
    ] = None,
    edges: Annotated[
        str | None, typer.Option(help="Edges of the perplexity buckets of --model. [default: 1,11,21,...,101]")
    ] = None,
    repetitions: Annotated[
        str | None, typer.Option(help="Copies that a planted trap gets, one arm for each. [default: 1,10,100,1000]")
    ] = None,
    members: Annotated[
        int | None, typer.Option(help="Planted traps for each length, bucket and number of copies. [default: 50]")
    ] = None,
    decoys: Annotated[
        int | None, typer.Option(help="Controls, never planted, for each length and bucket. [default: 200]")
    ] = None,
    temperatures: Annotated[
        str | None, typer.Option(help="Sampling temperatures of --model, swept. [default: 0.5,1,1.5,...,3.5]")
    ] = None,
    max_jaccard: Annotated[
        float | None, typer.Option(help="Largest Jaccard similarity of two traps' sets of tokens. [default: 0.2]")
    ] = None,
    max_rounds: Annotated[
        int | None, typer.Option(help="Sampling rounds for each length before giving up. [default: 200]")
    ] = None,
    samples_per_round: Annotated[int | None, typer.Option(help="Candidates in a round. [default: 1024]")] = None,
    placement: Annotated[
        str | None, typer.Option(help="All copies of a trap in one document, or scattered. [default: document]")
    ] = None,
    primary: Annotated[
        str | None, typer.Option(help="Score that claims will rest on, fixed now. [default: ratio]")
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Error rate of each family of tests, fixed now. [default: 0.05]")
    ] = None,
    n_draws: Annotated[
        int | None, typer.Option(help="Re-draws of the permutation test, fixed now. [default: 9999]")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Seed of draw and dealing; default a random one below 2^63, recorded. Small ones are guessed."
        ),
    ] = None,
    table: Table = None,
    publish: Publish = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hugging Face id.")] = None,
    adapter: Annotated[str | None, typer.Option(help="PEFT adapter (folder or id) laid over the model.")] = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    trust_remote_code: options.TrustRemoteCode = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Draw one pool of traps, deal members, copies and decoys at random, and write the secret ledger.

    Give one of --model, --words and --watermark. The ledger holds what an exact p-value rests on: the pool, the
    dealing, its seed and the plan of analysis. Commit to it (`palimpsest traps commit`) before anything is published.
    """
    from ..traps.config import DetectionPlan, TrapDesign

    _check_source(
        model=model,
        words=words,
        watermark=watermark,
        of_model={"--edges": edges, "--temperatures": temperatures, "--revision": revision, "--adapter": adapter},
        alphabet=alphabet,
        max_jaccard=max_jaccard,
    )
    design = TrapDesign(
        **_given(
            lengths=_numbers("--lengths", lengths, int),
            perplexity_edges=_numbers("--edges", edges, float),
            repetitions=_numbers("--repetitions", repetitions, int),
            members_per_cell=members,
            decoys_per_stratum=decoys,
            temperatures=_numbers("--temperatures", temperatures, float),
            max_jaccard=max_jaccard,
            max_rounds=max_rounds,
            samples_per_round=samples_per_round,
            placement=placement,
        )
    )
    plan = DetectionPlan(**_given(primary=primary, alpha=alpha, n_draws=n_draws))
    if seed is not None and not 0 <= seed < 2**63:
        raise InputError(f"--seed is {seed}; expected 0 to {2**63 - 1}.")
    _check_new({"--out": (out, LEDGER), "--table": (table, TABLE), "--publish": (publish, PUBLISHED)})
    options.quiet_libraries()

    from ..lm.load import load
    from ..progress import progress_bars
    from ..traps.generate import assign, generate_pool
    from ..traps.ledger import draw_seed, make_ledger, write_ledger
    from ..traps.words import data_watermarks, random_words, read_words

    seed = draw_seed() if seed is None else seed
    drawn_with: Any
    if model is not None:
        drawn_with = load(
            options.subject(
                model,
                revision=revision,
                adapter=adapter,
                dtype=dtype,
                device=device,
                device_map=device_map,
                trust_remote_code=trust_remote_code,
            )
        )
        draw = partial(generate_pool, drawn_with, design, seed=seed)
    elif words is not None:
        drawn_with = read_words(words)
        draw = partial(random_words, drawn_with.words, design, seed=seed)
    else:
        drawn_with = alphabet or "hex"
        draw = partial(data_watermarks, drawn_with, design, seed=seed)
    try:
        with progress_bars(quiet=quiet) as progress:
            pool = draw(on_done=lambda done, wanted: progress("traps", done, wanted))
    except KeyboardInterrupt:  # a draw keeps no parts, so the usual message would promise too much
        raise IncompleteRunError(
            f"interrupted; nothing was written. The same command with --seed {seed} draws the same pool from the start."
        ) from None
    ledger = make_ledger(assign(pool, design, seed=seed), design=design, plan=plan, seed=seed, drawn_with=drawn_with)
    write_ledger(out, ledger)
    _export(ledger, out, table=table, publish=publish)
    facts = {"ledger": str(out), "source": ledger.source, **_counts(ledger), **_paths(table=table, publish=publish)}
    if as_json:
        print(json.dumps(facts))
        return
    print(for_terminal(f"{_size(ledger)} -> {options.shown(out)} (secret: keep it, and a copy, until disclosure)"))
    _tell_paths(facts)
    print(for_terminal(f"Before anything is published: palimpsest traps commit {options.shown(out)}"))


@app.command()
def export(
    ledger: LedgerFile,
    table: Table = None,
    publish: Publish = None,
    as_json: options.AsJson = False,
) -> None:
    """Write the table of an audit, or what is to be planted, from a ledger that is there already."""
    from ..traps.ledger import check_ledger, read_ledger

    if table is None and publish is None:
        raise InputError("nothing to write; give --table FILE.parquet, --publish FILE.jsonl or both.")
    _check_new({"--table": (table, TABLE), "--publish": (publish, PUBLISHED)})
    options.quiet_libraries()
    opened = read_ledger(ledger)
    check_ledger(opened, source=str(ledger))
    _export(opened, ledger, table=table, publish=publish)
    facts = _paths(table=table, publish=publish)
    if as_json:
        print(json.dumps(facts))
        return
    _tell_paths(facts)


@app.command()
def commit(ledger: LedgerFile, as_json: options.AsJson = False) -> None:
    """Print the commitment to a ledger: 64 hexadecimal digits that tell nothing, to be published or time-stamped.

    It fixes pool, dealing, seed, design and plan of analysis. Anyone can check a disclosed trap against it later,
    and whoever holds the ledger can check the whole of it.
    """
    from ..traps.commitment import merkle_root
    from ..traps.ledger import check_ledger, read_ledger

    options.quiet_libraries()
    opened = read_ledger(ledger)
    check_ledger(opened, source=str(ledger))
    if as_json:
        parts = {"root": merkle_root(opened.leaves()).hex(), "header": opened.header_hash().hex()}
        print(json.dumps({"commitment": opened.commitment(), **parts, **_counts(opened)}))
        return
    print(opened.commitment())


@app.command("verify-ledger")
def verify_ledger(
    file: Annotated[Path, typer.Argument(help="Ledger, or a disclosure of some of its traps.")],
    commitment: Annotated[str, typer.Option(help="What `traps commit` printed and was published beforehand.")],
    as_json: options.AsJson = False,
) -> None:
    """Check a ledger, or a disclosure, against its commitment: exit code 0, or 2 with what differs.

    A ledger is also checked against itself: the dealing is done again from pool, seed and design.
    """
    from ..traps import ledger as ledgers
    from ..traps.commitment import parse_commitment

    expected = parse_commitment(commitment)
    opened = ledgers.read_file(file)
    if isinstance(opened, ledgers.Disclosure):
        ledgers.verify_disclosure(opened, expected, source=str(file))
        _tell_disclosed(opened, file, as_json=as_json)
        return
    options.quiet_libraries()
    ledgers.verify_ledger(opened, expected, source=str(file))
    if as_json:
        print(json.dumps({"file": str(file), "kind": "ledger", "commitment": expected, **_counts(opened)}))
        return
    print(for_terminal(f"{options.shown(file)} is what was committed to: {_size(opened)}, dealt by its seed."))


@app.command()
def disclose(
    ledger: LedgerFile,
    trap: Annotated[list[str], typer.Option(help="Id of a trap to disclose; may be given several times.")],
    out: Annotated[Path, typer.Option(help="Where the disclosure goes: a new .json file.")],
    as_json: options.AsJson = False,
) -> None:
    """Write the proof that some traps stood in the ledger committed to; of the other traps it tells nothing."""
    from ..traps.ledger import check_ledger, read_ledger, write_disclosure
    from ..traps.ledger import disclose as make_disclosure

    _check_new({"--out": (out, LEDGER)})
    options.quiet_libraries()
    opened = read_ledger(ledger)
    check_ledger(opened, source=str(ledger))
    disclosure = make_disclosure(opened, trap)
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


def _check_source(
    *,
    model: str | None,
    words: Path | None,
    watermark: bool,
    of_model: dict[str, str | None],
    alphabet: str | None,
    max_jaccard: float | None,
) -> None:
    """Refuses flags that would be passed over in silence."""
    given = [name for name, there in (("--model", model), ("--words", words), ("--watermark", watermark)) if there]
    if len(given) != 1:
        what = " and ".join(given) + " were given" if given else "nothing to draw from"
        raise InputError(f"{what}; give one of --model FOLDER, --words FILE and --watermark.")
    for flag, value in of_model.items():
        if value is not None and model is None:
            raise InputError(f"{flag} goes with --model only; leave it out.")
    if alphabet is not None and not watermark:
        raise InputError("--alphabet goes with --watermark only; leave it out.")
    if max_jaccard is not None and watermark:
        raise InputError(
            "--max-jaccard does not go with --watermark, whose strings are all of the same few characters."
        )


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _numbers(flag: str, text: str | None, kind: type[Number]) -> tuple[Number, ...] | None:
    """The numbers of a list such as ``25,50,100``."""
    if text is None:
        return None
    try:
        numbers = tuple(kind(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(math.isfinite(number) for number in numbers):
        what = "whole numbers" if kind is int else "numbers"
        raise InputError(f"{flag} is {quoted(text)}; expected {what} with commas between, such as 25,50,100.")
    return numbers


def _check_new(outputs: dict[str, tuple[Path | None, tuple[str, ...]]]) -> None:
    """Refuses before the work begins what could not be written after it, or would overwrite something."""
    from ..traps.ledger import refuse_taken

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


def _export(ledger: Ledger, source: Path, *, table: Path | None, publish: Path | None) -> None:
    from ..text.tables import write_table
    from ..traps.ledger import published_table, write_audit_table

    try:
        if table is not None:
            write_audit_table(table, ledger)
        if publish is not None:
            write_table(publish, published_table(ledger))
    except StorageError as error:
        why = str(error).removesuffix("then run the same command again.")
        raise StorageError(f"{why}then write it with: palimpsest traps export {source}") from error


def _counts(ledger: Ledger) -> dict[str, int]:
    arms = Counter(trap.arm for trap in ledger.traps)
    strata = {trap.stratum for trap in ledger.traps}
    n_traps = len(ledger.traps)
    return {"n_traps": n_traps, "n_members": arms["member"], "n_decoys": arms["decoy"], "n_strata": len(strata)}


def _size(ledger: Ledger) -> str:
    counts = _counts(ledger)
    arms = f"{counted(counts['n_members'], 'member')}, {counted(counts['n_decoys'], 'decoy')}"
    strata = f"{counts['n_strata']} {'stratum' if counts['n_strata'] == 1 else 'strata'}"
    return f"{counted(counts['n_traps'], 'trap')} ({arms}) in {strata}"


def _paths(**paths: Path | None) -> dict[str, str]:
    return {name: str(path) for name, path in paths.items() if path is not None}


def _tell_paths(facts: Mapping[str, object]) -> None:
    if "table" in facts:
        print(for_terminal(f"for palimpsest audit -> {facts['table']} (secret: it holds the decoys)"))
    if "publish" in facts:
        print(for_terminal(f"to be planted -> {facts['publish']}"))


def _tell_disclosed(disclosure: Disclosure, file: Path, *, as_json: bool) -> None:
    shown = [{"id": one.trap.id, "arm": one.trap.arm, "n_rep": one.trap.n_rep} for one in disclosure.traps]
    if as_json:
        print(json.dumps({"file": str(file), "kind": "disclosure", "n_traps": disclosure.n_traps, "traps": shown}))
        return
    n_shown = counted(len(shown), "trap")
    print(for_terminal(f"{options.shown(file)}: {n_shown} of {disclosure.n_traps:,} stood in the ledger committed to:"))
    for one in shown:
        print(for_terminal(f"  {one['id']}  {one['arm']}, n_rep {one['n_rep']}"))
