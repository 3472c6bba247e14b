"""``palimpsest extract run MODEL --train ROWS --held-out ROWS``: sample, match and compare likelihoods in one run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .. import options
from ..plan_text import model_tables, plan_text
from . import flags

NAME = Path("extract")  # of the plan that the flags stand for, and of the run's default folder


def run(
    model: Annotated[str, typer.Argument(help="Folder of a checkpoint, or a Hugging Face id.")],
    train: flags.Train,
    held_out: flags.HeldOut,
    divided_at_random: flags.AtRandom,
    base: Annotated[
        str | None,
        typer.Option(
            help="The model before post-training: sampled as well, and both are asked how likely the questions are."
        ),
    ] = None,
    question_field: flags.QuestionField = None,
    answer_field: flags.AnswerField = None,
    id_field: flags.IdField = None,
    prefix: flags.Prefix = None,
    preset: flags.Preset = None,
    assistant: flags.Assistant = None,
    bos: flags.Bos = None,
    n: flags.N = 1000,
    temperature: flags.Temperature = 1.0,
    top_p: flags.TopP = 1.0,
    top_k: flags.TopK = 0,
    max_new_tokens: flags.MaxNewTokens = None,
    batch_size: flags.BatchSize = None,
    likelihood_questions: Annotated[
        int, typer.Option(help="Questions of each half whose likelihood is compared, with --base; 0: none.")
    ] = 2_000,
    encoder: flags.Encoder = None,
    threshold: flags.Threshold = None,
    primary: flags.Primary = "whole",
    target: flags.Target = 0.01,
    least_words: flags.LeastWords = 20,
    negligible: flags.Negligible = 0.01,
    alpha: flags.Alpha = 0.05,
    level: flags.Level = 0.95,
    seed: options.Seed = 0,
    cache: flags.Cache = None,
    skip_bad_lines: flags.SkipBadLines = False,
    revision: options.Revision = None,
    adapter: options.Adapter = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    trust_remote_code: options.TrustRemoteCode = False,
    show_text: flags.ShowText = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; default palimpsest-runs/extract-<hash of the plan>.")
    ] = None,
    resume: flags.Resume = True,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Ask a model for its post-training data, and compare what it writes with the rows; one run, one report.

    As `extract sample` and `extract match` one after the other, and with --base also the likelihood of trained and
    held-out questions before and after post-training. Killed at any moment and started again with the same flags, it
    goes on. A server is sampled with `extract sample --endpoint`.
    Exit code: 0 when the audit ended with an answer, 4 when it is inconclusive or confounded, 2 for bad input.
    """
    from ...runs.plan import parse_plan
    from ..audit import execute, tell
    from ..audit_plan import AuditPlan
    from .asked import unescaped

    tables = model_tables(
        model,
        base,
        revision=revision,
        adapter=adapter,
        dtype=dtype,
        device=device,
        device_map=device_map,
        trust_remote_code=trust_remote_code,
    )
    tables["extraction"] = {
        "train": train,
        "held_out": held_out,
        "divided_at_random": divided_at_random,
        "question_field": question_field,
        "answer_field": answer_field,
        "id_field": id_field,
        "skip_bad_lines": skip_bad_lines,
        "base": None if base is None else "reference",
        "prefix": None if prefix is None else [unescaped(text) for text in prefix],
        "preset": preset,
        "assistant": None if assistant is None else unescaped(assistant),
        "bos": bos,
        "n": n,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "max_new_tokens": max_new_tokens,
        "batch_size": batch_size,
        "likelihood_questions": likelihood_questions,
        "encoder": None if encoder is None else str(encoder),
        "device": device,
        "cache": None if cache is None else str(cache),
        "threshold": threshold,
        "primary": primary,
        "target": target,
        "least_words": least_words,
        "negligible": negligible,
        "alpha": alpha,
        "level": level,
        "seed": seed,
    }
    text = plan_text(tables, made_by="palimpsest extract run")
    plan = parse_plan(text, AuditPlan, source="the flags")
    made = execute(
        plan,
        text,
        Path.cwd() / NAME,
        source=None,
        out=out,
        resume=resume,
        quiet=quiet,
        show_text=show_text,
    )
    sys.exit(tell(made, as_json=as_json))
