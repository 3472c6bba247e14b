"""``palimpsest extract match GENERATIONS --train ROWS --held-out ROWS``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .. import options
from ..plan_text import plan_text
from . import flags

NAME = Path("match")  # of the plan that the flags stand for, and of the run's default folder


def match(
    generations: Annotated[Path, typer.Argument(help="What `extract sample` wrote: .parquet or .jsonl.")],
    train: flags.Train,
    held_out: flags.HeldOut,
    divided_at_random: flags.AtRandom,
    base: Annotated[
        Path | None,
        typer.Option(help="What `extract sample` wrote for the model before post-training, with the same prefix."),
    ] = None,
    question_field: flags.QuestionField = None,
    answer_field: flags.AnswerField = None,
    id_field: flags.IdField = None,
    encoder: flags.Encoder = None,
    threshold: flags.Threshold = None,
    primary: flags.Primary = "whole",
    target: flags.Target = 0.01,
    least_words: flags.LeastWords = 20,
    negligible: flags.Negligible = 0.01,
    alpha: flags.Alpha = 0.05,
    level: flags.Level = 0.95,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    cache: flags.Cache = None,
    skip_bad_lines: flags.SkipBadLines = False,
    show_text: flags.ShowText = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; default palimpsest-runs/match-<hash of the plan>.")
    ] = None,
    resume: flags.Resume = True,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Compare generations with the rows that a model was post-trained on; write items, findings and a report.

    Three views (question, answer, whole) by embedding, Levenshtein and Indel. The threshold is set on maxima of
    held-out rows and checked on others of them; where training and held-out rows were divided at random, the one is
    tested against the other exactly.
    Exit code: 0 when the audit ended with an answer, 4 when it is inconclusive or confounded, 2 for bad input.
    """
    from ...runs.plan import parse_plan
    from ..audit import execute, tell
    from ..audit_plan import AuditPlan

    table = {
        "generations": str(generations),
        "base_generations": None if base is None else str(base),
        "train": train,
        "held_out": held_out,
        "divided_at_random": divided_at_random,
        "question_field": question_field,
        "answer_field": answer_field,
        "id_field": id_field,
        "skip_bad_lines": skip_bad_lines,
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
    text = plan_text({"extraction": table}, made_by="palimpsest extract match")
    plan = parse_plan(text, AuditPlan, source="the flags")
    run = execute(
        plan,
        text,
        Path.cwd() / NAME,
        source=None,
        out=out,
        resume=resume,
        quiet=quiet,
        show_text=show_text,
    )
    sys.exit(tell(run, as_json=as_json))
