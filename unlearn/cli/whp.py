"""``palimpsest unlearn whp MODEL --forget TEXT --anchors ANCHORS --out DIR``."""

from __future__ import annotations

from typing import Annotated

import typer

from audit.cli import options

from . import flags
from .baseline import run_tables


def whp(
    model: flags.Model,
    forget: flags.Forget,
    anchors: Annotated[
        str, typer.Option(help="Dictionary of terms and substitutes (.toml, .json); `unlearn anchors` drafts one.")
    ],
    out: flags.Out,
    retain: flags.Retain = None,
    retain_term: Annotated[
        str | None,
        typer.Option(
            help="mixed (ordinary loss) or kl (divergence from the model as it was). [default: kl, if --retain]"
        ),
    ] = None,
    retain_weight: Annotated[float, typer.Option(help="Of the retain term beside the labels.")] = 1.0,
    held_out: flags.HeldOut = None,
    contrast: flags.Contrast = None,
    prompts: flags.Prompts = None,
    weights: Annotated[
        str, typer.Option(help="full, or lora: adapters for both trainings, with one set of weights in memory.")
    ] = "full",
    block: flags.Block = None,
    alpha: Annotated[float, typer.Option(help="How far what the reinforced model favours is pushed down.")] = 5.0,
    labels: Annotated[str, typer.Option(help="hard (the argmax, as published) or soft.")] = "hard",
    compat: Annotated[
        bool, typer.Option("--compat", help="Translate as the authors' script does, its slips included.")
    ] = False,
    places: Annotated[
        str, typer.Option(help="Where labels are trained on: all, as published, or anchors (ours: less damage).")
    ] = "all",
    hold_back: Annotated[
        str,
        typer.Option(help="What no label begins: substitutes, as published, or names (ours: all terms)."),
    ] = "substitutes",
    reinforce_epochs: Annotated[int, typer.Option(help="Passes over the text in the first training.")] = 3,
    steps: Annotated[int, typer.Option(help="Steps of the second training at most.")] = 120,
    reinforce_rate: Annotated[
        float | None, typer.Option(help="Peak rate of the first training. [default: 3e-6; lora: 2e-4]")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Peak rate of the second training. [default: 1e-6; lora: 2e-4]")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Blocks in a step.")] = 128,
    evaluate_every: Annotated[
        int | None, typer.Option(help="Steps from one evaluation to the next. [default: 20]")
    ] = None,
    show_text: flags.ShowText = True,
    seed: options.Seed = 0,
    revision: options.Revision = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    trust_remote_code: options.TrustRemoteCode = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Who's Harry Potter? (arXiv:2310.02238): tune a model until it answers as one that never read a text.

    The model is trained further on the text; what that makes likelier, and the anchor terms, are taken out of the
    labels that it is then tuned on. MODEL itself is never changed. Killed at any moment, the same command goes on.
    Rates and batch size of the paper are not sourced; the defaults are widely repeated values. Nothing is verified
    here: audit the result.
    """
    shared = {
        "method": "whp",
        "model": model,
        "forget": forget,
        "anchors": anchors,
        "retain": retain,
        "retain_term": retain_term,
        "retain_weight": retain_weight,
        "held_out": held_out,
        "contrast": contrast,
        "prompts": prompts,
        "weights": weights,
        "block": block,
        "steps": steps,
        "rate": rate,
        "batch_size": batch_size,
        "evaluate_every": evaluate_every,
        "show_text": show_text,
        "seed": seed,
        "revision": revision,
        "dtype": dtype,
        "device": device,
        "device_map": device_map,
        "trust_remote_code": trust_remote_code,
    }
    own = {
        "alpha": alpha,
        "labels": labels,
        "compat": compat,
        "places": places,
        "hold_back": hold_back,
        "reinforce_epochs": reinforce_epochs,
        "reinforce_rate": reinforce_rate,
    }
    run_tables({"unlearn": shared, "unlearn.whp": own}, "whp", out=out, quiet=quiet, as_json=as_json)
