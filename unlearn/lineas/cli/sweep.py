"""``palimpsest steer sweep MODEL --steering DIR --prompts FILE --wanted FILE --unwanted FILE ... --out DIR``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audit.cli import options

from . import flags
from .from_flags import folder_of, numbers_of, run_table
from .sweep_plan import TEXT_FILES

Texts = Annotated[str, typer.Option(help="txt (one a line); jsonl, json, csv, parquet.")]


def sweep(
    model: flags.Model,
    steering: Annotated[
        list[Path], typer.Option(help="OUT of `palimpsest steer fit`; several are compared, the first of them is ours.")
    ],
    prompts: Annotated[str, typer.Option(help="Prompts to be continued: txt (one a line); jsonl, json, csv, parquet.")],
    wanted: Annotated[str, typer.Option(help="Texts that show what is wanted; judges are trained on them.")],
    unwanted: Annotated[str, typer.Option(help="Texts that show what is unwanted; likewise.")],
    neutral: Annotated[str, typer.Option(help="Texts of neither side; their perplexity is what steering costs.")],
    target_text: Annotated[str, typer.Option(help="Texts of the wanted side; their perplexity is taken as well.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    neither: Annotated[
        str | None,
        typer.Option(help="Texts that show no side, for the judges: without them they toss a coin on such texts."),
    ] = None,
    field: Annotated[str | None, typer.Option(help="Field that holds the text. [default: text]")] = None,
    instruction: Annotated[str | None, typer.Option(help="Words before each prompt: one more arm.")] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(help="A method to be fitted on --source and --target, as --method of `steer fit` names it."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Sentences that the steerings were fitted on, the unwanted side.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="The wanted side.")] = None,
    goal: Annotated[
        str | None,
        typer.Option(help="raise (the rate of what is wanted) or lower (of what is unwanted). [default: raise]"),
    ] = None,
    strengths: Annotated[
        str | None,
        typer.Option(help="Of all arms, with commas; above 1 is not in the paper. [default: 0.25,0.5,0.75,1]"),
    ] = None,
    baseline_strengths: Annotated[str | None, typer.Option(help="Of all arms but ours. [default: --strengths]")] = None,
    strength: Annotated[
        float | None, typer.Option(help="Ours, at which arms are compared. [default: 1, as fitted]")
    ] = None,
    choose: Annotated[
        bool | None,
        typer.Option(
            "--choose",
            help="Choose our strength by the judge of words on some of the prompts; the other judges report the rest.",
        ),
    ] = None,
    validation: Annotated[float | None, typer.Option(help="Share of the prompts that choose. [default: 0.5]")] = None,
    most_percent: Annotated[
        float | None, typer.Option(help="Most that the perplexity of neutral texts may rise. [default: 5]")
    ] = None,
    rule: Annotated[
        str | None, typer.Option(help="What a judge's threshold is best at: balanced or f1. [default: balanced]")
    ] = None,
    encoder: Annotated[
        Path | None, typer.Option(help="Sentence encoder of the second judge. [default: the embedded one]")
    ] = None,
    judge_folder: Annotated[
        Path | None, typer.Option(help="A text classifier of two classes (transformers), one more judge.")
    ] = None,
    judge_label: Annotated[
        str | None,
        typer.Option(help="Its class that is counted: what is wanted, or with --goal lower unwanted. [default: 1]"),
    ] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Of a continuation. [default: 32]")] = None,
    temperature: Annotated[float | None, typer.Option(help="[default: 1; 0 is greedy]")] = None,
    top_p: Annotated[float | None, typer.Option(help="[default: 0.3]")] = None,
    samples: Annotated[int | None, typer.Option(help="Continuations of each prompt. [default: 1]")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens of a text that are scored. [default: all]")] = None,
    show_text: Annotated[
        bool | None, typer.Option("--show-text", help="Quote some prompts and continuations in the report.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of everything random. [default: 42]")] = None,
    revision: options.Revision = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    trust_remote_code: options.TrustRemoteCode = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Measure steerings at strengths: how often an attribute is shown, and what that costs in perplexity.

    Judges are trained on the labelled texts; baselines are compared with ours at the same perplexity. Killed at any
    moment, the same command goes on.
    """
    table = {
        "model": model,
        "steering": [folder_of("--steering", one) for one in steering],
        "prompts": prompts,
        "wanted": wanted,
        "unwanted": unwanted,
        "neutral": neutral,
        "target_text": target_text,
        "neither": neither,
        "field": field,
        "instruction": instruction,
        "baselines": baseline,
        "source": source,
        "target": target,
        "goal": goal,
        "strengths": numbers_of("--strengths", strengths),
        "baseline_strengths": numbers_of("--baseline-strengths", baseline_strengths),
        "strength": strength,
        "choose": choose,
        "validation": validation,
        "most_percent": most_percent,
        "rule": rule,
        "encoder": None if encoder is None else folder_of("--encoder", encoder),
        "judge_folder": None if judge_folder is None else folder_of("--judge-folder", judge_folder),
        "judge_label": judge_label,
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "samples": samples,
        "max_tokens": max_tokens,
        "show_text": show_text,
        "seed": seed,
        "revision": revision,
        "dtype": dtype,
        "device": device,
        "trust_remote_code": trust_remote_code,
    }
    run_table("sweep", table, verb="sweep", out=out, quiet=quiet, as_json=as_json, files=TEXT_FILES)
