"""``palimpsest traps simulate``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import InputError
from ...text.safe import counted, for_terminal, quoted
from .. import options
from ..endings import interrupted
from ..left_out import tell_left_out
from .outputs import LedgerFile, check_new

if TYPE_CHECKING:
    from ...lm.subject import Subject
    from ...traps.ledger.records import LedgerTrap
    from ...traps.survival.documents import Documents
    from ...traps.survival.survival import Survival

RESULT = (".json", ".parquet")


def simulate(
    ledger: LedgerFile,
    planted: Annotated[
        str,
        typer.Argument(
            metavar="PLANTED",
            help="The planted documents: file or folder as `traps inject` takes it, or hf:owner/name.",
        ),
    ],
    field: Annotated[str, typer.Option(help="Field that holds the text of a document.")] = "text",
    id_field: Annotated[str | None, typer.Option(help="Field that holds its identifier. [default: id]")] = None,
    variants: Annotated[
        Path | None, typer.Option(help="Fuzzy variants that were planted too, as `traps fuzz` wrote them.")
    ] = None,
    stages: Annotated[
        str | None,
        typer.Option(help="Filters in their order. [default: exact,minhash,repetition, and perplexity with --model]"),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Cut spans by this model's tokens, not by words: folder or Hugging Face id.")
    ] = None,
    ngram: Annotated[int, typer.Option(help="exact: tokens of a repeated span that is removed.")] = 50,
    keep: Annotated[str, typer.Option(help="exact: none removes every occurrence, first leaves one.")] = "none",
    rounds: Annotated[int, typer.Option(help="exact: how often it is run.")] = 2,
    model: Annotated[str | None, typer.Option(help="perplexity: a causal model, folder or Hugging Face id.")] = None,
    perplexity_percentile: Annotated[
        float | None, typer.Option(help="perplexity: documents above this percentile are dropped, such as 95.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the result: a new .json, or .parquet of traps.")] = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Simulate which planted copies published cleaning filters leave; nothing is changed.

    Filters: exact (repeated spans of 50 tokens, Lee et al. 2022), minhash (near-duplicate documents, SlimPajama),
    repetition (inside a document, Gopher), perplexity (under your model, at your percentile). It is no company's
    pipeline.
    """
    from ...traps.survival.plan import STAGES, Pipeline

    if (model is None) != (perplexity_percentile is None):
        raise InputError("--model and --perplexity-percentile go together; give both, or neither.")
    names = tuple(stages.split(",")) if stages else (STAGES if model is not None else STAGES[:-1])
    for name in names:
        if name not in STAGES:
            raise InputError(f"--stages has {quoted(name)}; expected some of {','.join(STAGES)}, with commas between.")
    if ("perplexity" in names) != (model is not None):
        what = "needs --model and --perplexity-percentile" if model is None else "is not among --stages"
        raise InputError(f"the filter perplexity {what}. Give all three, or none.")
    if tokenizer is not None and "exact" not in names:
        raise InputError("--tokenizer goes with the filter exact only; leave it out.")
    pipeline = Pipeline(
        stages=names,  # type: ignore[arg-type]
        ngram=ngram,
        keep=keep,  # type: ignore[arg-type]  # checked there, with a message
        rounds=rounds,
        percentile=perplexity_percentile,
    )
    check_new({"--out": (out, RESULT)})
    options.quiet_libraries()
    from ...lm.load import load, load_tokens
    from ...progress import progress_bars
    from ...traps.fuzzy.files import read_variants
    from ...traps.ledger.files import read_ledger
    from ...traps.ledger.make import check_ledger
    from ...traps.planting.hosts.document import HostOptions
    from ...traps.survival import survival as simulation
    from ...traps.survival.documents import read_documents
    from ...traps.survival.report import to_lines, to_record, to_table

    opened = read_ledger(ledger)
    check_ledger(opened, source=str(ledger))
    members = [trap for trap in opened.traps if trap.arm == "member"]
    followed = [simulation.Planted(trap.id, trap.text, False) for trap in members]
    if variants is not None:
        for trap_id, texts in read_variants(variants, {trap.id for trap in members}).items():
            followed += [simulation.Planted(trap_id, text, True) for text in texts]
    documents = read_documents(planted, HostOptions(opened.design.separator, field, id_field))
    decoys = [simulation.Planted(trap.id, trap.text, False) for trap in opened.traps if trap.arm == "decoy"]
    n_decoys = sum(copies.exact > 0 for copies in simulation.count_copies(documents.texts, decoys).values())
    tokens = None if tokenizer is None else load_tokens(_subject(tokenizer, dtype, device))
    lm = None if model is None else load(_subject(model, dtype, device))
    with interrupted("nothing was written. The same command starts anew."), progress_bars(quiet=quiet) as progress:
        found = simulation.simulate(documents.texts, followed, pipeline, tokens=tokens, lm=lm, progress=progress)
    record = to_record(found, members)
    record["tokens"] = "words" if tokenizer is None else tokenizer
    record["documents"] = {"source": documents.source, "sha256": documents.sha256, "n": len(documents.texts)}
    record["documents"] |= {"n_without_text": documents.n_without_text, "left_out": asdict(documents.left_out)}
    record["decoys_in_documents"] = n_decoys
    if out is not None and out.suffix.lower() == ".parquet":
        from ...text.tables import write_table

        write_table(out, to_table(found, members))
    elif out is not None:
        from ...text.files import write_json

        write_json(out, record)
    _tell_documents(documents)
    _warn(found, members, n_decoys)
    if as_json:
        print(json.dumps(record))
        return
    unit = "words" if tokenizer is None else f"tokens of {tokenizer}"
    if "exact" in names:
        print(for_terminal(f"Spans of {ngram:,} {unit}."))
    for line in to_lines(found, members):
        print(for_terminal(line))
    if out is not None:
        print(for_terminal(f"result -> {options.shown(out)}"))


def _subject(name: str, dtype: str, device: str) -> Subject:
    return options.subject(
        name, revision=None, adapter=None, dtype=dtype, device=device, device_map=None, trust_remote_code=False
    )


def _tell_documents(documents: Documents) -> None:
    """What of the documents was not looked at, or not as a pipeline would see it."""
    tell_left_out(documents.left_out)
    if documents.n_without_text:
        print(f"note: {counted(documents.n_without_text, 'record')} without a text left out.", file=sys.stderr)
    if documents.n_html:
        print(
            f"note: the filters saw the source of {counted(documents.n_html, 'HTML file')}, tags and all. A pipeline "
            "takes the text out first, which is not simulated: hidden copies may be lost there.",
            file=sys.stderr,
        )


def _warn(found: Survival, members: list[LedgerTrap], n_decoys: int) -> None:
    fewer = [trap for trap in members if found.planted[trap.id].exact < trap.n_rep]
    if fewer:
        print(
            for_terminal(
                f"note: of {counted(len(fewer), 'member')} fewer exact copies stand in the documents than the ledger "
                f"deals; first: {fewer[0].id}, {found.planted[fewer[0].id].exact:,} of {fewer[0].n_rep:,}. Shares are "
                "of the traps that are there."
            ),
            file=sys.stderr,
        )
    if n_decoys:
        print(
            for_terminal(
                f"note: decoys found in the documents: {n_decoys:,}. A decoy that is published is no control: "
                "do not publish these documents."
            ),
            file=sys.stderr,
        )
