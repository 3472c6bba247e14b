"""Flags that the verbs of ``palimpsest steer`` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[str, typer.Argument(help="The model: a folder, or a Hugging Face id.")]
Steering = Annotated[Path, typer.Argument(help="The steering: OUT of `palimpsest steer fit`, or OUT/steering.")]
Strength = Annotated[
    float, typer.Option(help="0 is the model as it is, 1 the maps as they were fitted; above 1 is not in the paper.")
]

# How maps are fitted.
Method = Annotated[
    str | None,
    typer.Option(
        help="lineas; or mean-act, mean-act-sequential, gaussian, linear-act, linear-act-at-once, unclipped, "
        "unclipped-at-once, caa, caa-middle, iti-c, iti-m, repe, aura. [default: lineas]"
    ),
]
Sites = Annotated[
    str | None,
    typer.Option(
        help="Where maps stand: norms, o_proj, mlp_out, layers, or a regular expression over whole module names. "
        "[default: norms; of other methods their own]"
    ),
]
LossSites = Annotated[str | None, typer.Option(help="Where distances are taken. [default: --sites]")]
Optimizer = Annotated[str | None, typer.Option(help="sgd or adam. [default: sgd]")]
Lr = Annotated[float | None, typer.Option(help="First learning rate. [default: 0.1 for sgd, 1e-3 for adam]")]
Steps = Annotated[int | None, typer.Option(help="[default: 1000]")]
Batch = Annotated[int | None, typer.Option(help="Source sentences of a step. [default: 32]")]
Gamma = Annotated[
    list[float] | None,
    typer.Option(
        help="Weight of the sparse group lasso, for maps that change few neurons; several are a path that is "
        "chosen from by held-out sentences. [default: 0]"
    ),
]
Floor = Annotated[float | None, typer.Option(help="Least scale; 0 allows no map that reflects.")]
HeldOut = Annotated[
    float | None,
    typer.Option(help="Share of both sides' sentences, drawn by --seed, that nothing is fitted on. [default: 0]"),
]
