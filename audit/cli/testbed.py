"""``palimpsest testbed build``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from . import options

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    help="Build small models whose truth is known because it was planted.",
)


@app.callback()
def main() -> None:
    """Build small models whose truth is known because it was planted."""


@app.command()
def build(
    size: Annotated[str, typer.Option(help="tiny (seconds), small (minutes), medium or large (a GPU).")] = "small",
    seed: options.Seed = 0,
    corpus: Annotated[
        Path | None, typer.Option(help="Folder of .txt files that stand in place of the generated stories.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Where testbeds are kept; default $PALIMPSEST_CACHE, else ~/.cache/palimpsest.")
    ] = None,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Build a testbed, or take it from the cache; prints where its models and truth tables are.

    Killed at any moment and started again, it goes on where it stopped.
    """
    options.quiet_libraries()  # before torch is imported
    from ..progress import progress_bars
    from ..testbed.planted import build as build_testbed

    with progress_bars(quiet=quiet) as progress:
        testbed = build_testbed(size, seed=seed, corpus=corpus, cache=cache, device=device, progress=progress)
    where = {"folder": str(testbed.folder), "traps": str(testbed.traps_path)}
    where |= {name: str(path) for name, path in testbed.models.items()}
    if as_json:
        print(json.dumps(where))
        return
    wide = max(map(len, where))
    for name, path in where.items():
        print(f"{name:<{wide}}  {path}")
