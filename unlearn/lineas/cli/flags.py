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
