"""``palimpsest steer evaluate MODEL --truthfulqa FILE | --choices FILE | --concept WORDS --out DIR``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audit.cli import options

from . import flags
from .evaluate_plan import TEXT_FILES
from .from_flags import folder_of, numbers_of, run_table


def evaluate(
    model: flags.Model,
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    truthfulqa: Annotated[
        str | None, typer.Option(help="TruthfulQA.csv: MC1 and MC2, maps fitted on one half and measured on the other.")
    ] = None,
    sentences: Annotated[
        int | None, typer.Option(help="Sentences of each side that are fitted on in a half. [default: 32]")
    ] = None,
    primer: Annotated[
        bool | None,
        typer.Option(
            "--primer/--no-primer", help="The benchmark's own six questions before each. [default: with them]"
        ),
    ] = None,
    choices: Annotated[
        str | None,
        typer.Option(help="Multiple-choice questions (MMLU's CSV; jsonl, json, parquet), by letter and by option."),
    ] = None,
    max_rows: Annotated[
        int | None, typer.Option(help="Questions of a file at most; more are drawn from. [default: all]")
    ] = None,
    concept: Annotated[
        list[str] | None,
        typer.Option(help="Words of a concept, with commas: how often continuations show it. Several: together, too."),
    ] = None,
    opening: Annotated[str | None, typer.Option(help="What is continued. [default: Once upon a time]")] = None,
    continuations: Annotated[int | None, typer.Option(help="How many. [default: 200]")] = None,
    neutral: Annotated[
        str | None, typer.Option(help="Texts whose perplexity tells what a concept costs: txt, jsonl, json, csv.")
    ] = None,
    steering: Annotated[
        list[Path] | None,
        typer.Option(help="OUT of `palimpsest steer fit`, for --choices and --concept; several act one after another."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Or fit the maps here: sentences that show what is unwanted.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="Sentences that show what is wanted.")] = None,
    field: Annotated[str | None, typer.Option(help="Field that holds a text or sentence. [default: text]")] = None,
    strengths: Annotated[
        str | None, typer.Option(help="Of the maps, with commas; above 1 is not in the paper. [default: 1, as fitted]")
    ] = None,
    method: flags.Method = None,
    sites: flags.Sites = None,
    loss_sites: flags.LossSites = None,
    optimizer: flags.Optimizer = None,
    lr: flags.Lr = None,
    steps: flags.Steps = None,
    batch: flags.Batch = None,
    gamma: flags.Gamma = None,
    floor: flags.Floor = None,
    held_out: flags.HeldOut = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of everything random. [default: 42]")] = None,
    revision: options.Revision = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    trust_remote_code: options.TrustRemoteCode = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Measure what steering does to answers (TruthfulQA, multiple choice) and to what is written (concepts).

    Fits are told as in `steer fit`; further settings stand in the plan. Killed at any moment, the same command goes on.
    """
    table = {
        "model": model,
        "truthfulqa": truthfulqa,
        "sentences": sentences,
        "primer": primer,
        "choices": choices,
        "max_rows": max_rows,
        "concept": concept,
        "opening": opening,
        "continuations": continuations,
        "neutral": neutral,
        "steering": [folder_of("--steering", one) for one in steering or ()],
        "source": source,
        "target": target,
        "field": field,
        "strengths": numbers_of("--strengths", strengths),
        "method": method,
        "sites": sites,
        "loss_sites": loss_sites,
        "optimizer": optimizer,
        "lr": lr,
        "steps": steps,
        "batch": batch,
        "gamma": gamma,
        "floor": floor,
        "held_out": held_out,
        "seed": seed,
        "revision": revision,
        "dtype": dtype,
        "device": device,
        "trust_remote_code": trust_remote_code,
    }
    run_table("evaluate", table, verb="evaluate", out=out, quiet=quiet, as_json=as_json, files=TEXT_FILES)
