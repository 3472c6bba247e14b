"""``palimpsest steer fit MODEL --source FILE --target FILE --out DIR``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audit.cli import options
from audit.errors import InputError

from . import flags
from .from_flags import FILES, run_table


def fit(
    model: flags.Model,
    source: Annotated[
        str | None,
        typer.Option(help="Sentences that show what is unwanted: txt (one a line); jsonl, json, csv, parquet."),
    ] = None,
    target: Annotated[str | None, typer.Option(help="Sentences that show what is wanted; not paired.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; the maps lie in OUT/steering.")] = None,
    field: Annotated[str | None, typer.Option(help="Field that holds the sentence. [default: text]")] = None,
    method: flags.Method = None,
    sites: flags.Sites = None,
    loss_sites: flags.LossSites = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the sites, write nothing.")] = False,
    optimizer: flags.Optimizer = None,
    lr: flags.Lr = None,
    steps: flags.Steps = None,
    batch: flags.Batch = None,
    gamma: flags.Gamma = None,
    floor: flags.Floor = None,
    microbatch: Annotated[
        int | None, typer.Option(help="Sentences in memory at a time; the loss stays that of the whole batch.")
    ] = None,
    checkpointing: Annotated[
        bool | None, typer.Option("--checkpointing", help="Less memory, more time: compute activations twice.")
    ] = None,
    held_out: flags.HeldOut = None,
    patience: Annotated[
        int | None, typer.Option(help="Looks at held-out sentences without improvement before the fit stops.")
    ] = None,
    pooling: Annotated[
        str | None,
        typer.Option(help="How tokens become one vector: mean, last or max. [default: mean; of other methods theirs]"),
    ] = None,
    skip_bos: Annotated[
        bool | None, typer.Option("--skip-bos", help="Leave the beginning-of-sequence token out of the pooling.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longer sentences are cut. [default: 128]")] = None,
    neurons: Annotated[
        str | None, typer.Option(help="How a site's neurons are reduced: sum or mean. [default: sum]")
    ] = None,
    over_sites: Annotated[str | None, typer.Option(help="How sites are: sum or mean. [default: mean]")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of the sentences' order and of the bootstrap. [default: 42]")
    ] = None,
    revision: options.Revision = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    trust_remote_code: options.TrustRemoteCode = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Learn maps that lead from what is unwanted to what is wanted (LinEAS, arXiv:2503.10679), or fit a baseline.

    The model is frozen and never changed; the maps lie in OUT/steering. Killed at any moment, the same command goes on.
    """
    table = {
        "model": model,
        "source": source,
        "target": target,
        "field": field,
        "method": method,
        "sites": sites,
        "loss_sites": loss_sites,
        "pooling": pooling,
        "skip_bos": skip_bos,
        "max_tokens": max_tokens,
        "held_out": held_out,
        "neurons": neurons,
        "over_sites": over_sites,
        "optimizer": optimizer,
        "lr": lr,
        "steps": steps,
        "batch": batch,
        "gamma": gamma,
        "floor": floor,
        "microbatch": microbatch,
        "checkpointing": checkpointing,
        "patience": patience,
        "seed": seed,
        "revision": revision,
        "dtype": dtype,
        "device": device,
        "trust_remote_code": trust_remote_code,
    }
    if dry_run:
        options.quiet_libraries()
        from .dry_run import list_sites

        subject = options.subject(
            model,
            revision=revision,
            adapter=None,
            dtype=dtype,
            device=device,
            device_map=None,
            trust_remote_code=trust_remote_code,
        )
        list_sites(subject, method=method, sites=sites, loss_sites=loss_sites, as_json=as_json)
        return
    for name, given in (("--source", source), ("--target", target), ("--out", out)):
        if given is None:
            raise InputError(f"give {name}; without --source, --target and --out only --dry-run does something.")
    assert out is not None
    run_table("steer", table, verb="fit", out=out, quiet=quiet, as_json=as_json, files=FILES)
