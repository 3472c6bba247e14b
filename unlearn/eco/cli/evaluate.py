"""``palimpsest eco evaluate GUARD MODEL --forget FILE --retain FILE --out DIR``."""

from __future__ import annotations

from typing import Annotated

import typer

from audit.cli import options

from . import flags
from .from_flags import listed, run_tables


def evaluate(
    guard: flags.Guard,
    model: flags.Model,
    forget: flags.Forget,
    retain: flags.Retain,
    out: flags.Out,
    gold: flags.Gold = None,
    general: flags.General = None,
    real_authors: flags.RealAuthors = None,
    world_facts: flags.WorldFacts = None,
    passages: flags.Passages = None,
    passage_tokens: flags.PassageTokens = 256,
    baselines: flags.Baselines = None,
    choices: flags.Choices = False,
    cluster_size: flags.ClusterSize = None,
    noise_seeds: Annotated[int, typer.Option(min=1, help="Draws of the noise that forget quality is told for.")] = 5,
    max_rows: Annotated[int, typer.Option(min=1, help="Rows of a part that are answered; more are drawn from.")] = 300,
    max_new_tokens: flags.MaxNewTokens = 200,
    latency_prompts: Annotated[
        int, typer.Option(min=0, help="Prompts of each kind, clean and flagged, that are timed; 0 times nothing.")
    ] = 8,
    encoder: flags.Encoder = None,
    show_text: flags.ShowText = False,
    seed: options.Seed = 0,
    revision: options.Revision = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    trust_remote_code: options.TrustRemoteCode = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Measure a guard: what it recognises, whom it stops by mistake, what is still known behind it, what it costs.

    Rows that the guard was fitted on are left out and counted. Nothing is fitted here. Killed at any moment, the same
    command goes on.
    """
    table = {
        "guard": str(guard),
        "model": model,
        "forget": forget,
        "retain": retain,
        "gold": gold,
        "general": general,
        "real_authors": real_authors,
        "world_facts": world_facts,
        "passages": passages,
        "passage_tokens": passage_tokens,
        "baselines": listed(baselines),
        "choices": choices,
        "cluster_size": cluster_size,
        "noise_seeds": noise_seeds,
        "max_rows": max_rows,
        "max_new_tokens": max_new_tokens,
        "latency_prompts": latency_prompts,
        "encoder": encoder,
        "show_text": show_text,
        "seed": seed,
        "revision": revision,
        "dtype": dtype,
        "device": device,
        "device_map": device_map,
        "trust_remote_code": trust_remote_code,
    }
    run_tables({"evaluate": table}, "evaluate", out=out, quiet=quiet, as_json=as_json)
