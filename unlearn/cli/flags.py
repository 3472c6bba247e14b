"""Flags that the verbs of ``palimpsest unlearn`` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[str, typer.Argument(help="The model that is to forget: a folder, or a Hugging Face id.")]
Forget = Annotated[
    str,
    typer.Option(help="The whole text to be forgotten: txt, or a folder of txt; jsonl, csv, parquet, hf:owner/name."),
]
Out = Annotated[Path, typer.Option(help="Folder of the run; the result lies in OUT/model.")]
Retain = Annotated[
    str | None, typer.Option(help="Text that the model is to keep, like the forgotten one but not of it.")
]
RetainTerm = Annotated[
    str | None,
    typer.Option(help="mixed (ordinary loss), kl (divergence from the model as it was) or none, as the method has it."),
]
RetainWeight = Annotated[float, typer.Option(help="Of the retain term.")]
HeldOut = Annotated[
    str | None,
    typer.Option(
        help="Text like the retained one that nothing is trained on; its loss is measured. [default: a tenth of "
        "--retain, which is then not trained on]"
    ),
]
Contrast = Annotated[
    str | None,
    typer.Option(
        help="Other text: a name of the forget text that stands here too is not its own. [default: --retain and "
        "--held-out]"
    ),
]
Prompts = Annotated[
    str | None,
    typer.Option(
        help='Written prompts (jsonl: "prompt", "references", "expected") whose familiarity is measured. [default: '
        "prompts cut from the forget text where a name of its own is due]"
    ),
]
#: For methods without a retain term.
HeldOutAlone = Annotated[
    str | None,
    typer.Option(help="Text like that which is to be kept; nothing is trained on it, and its loss is measured."),
]
ContrastAlone = Annotated[
    str | None,
    typer.Option(
        help="Other text: a name of the forget text that stands here too is not its own. [default: --held-out]"
    ),
]
Weights = Annotated[str, typer.Option(help="full, or lora: an adapter is trained in place of all weights.")]
Block = Annotated[
    int | None,
    typer.Option(help="Tokens of a block. [default: 512, or 7/8 of the model's context where that is less]"),
]
Rate = Annotated[float | None, typer.Option(help="Peak learning rate. [default: 1e-5, untuned; needed for lora]")]
Steps = Annotated[int | None, typer.Option(help="Optimiser steps. [default: 10 passes over the forget text, untuned]")]
BatchSize = Annotated[int | None, typer.Option(help="Forget blocks in a step. [default: 32]")]
ForgetWeight = Annotated[float | None, typer.Option(help="Of the forget term. [default: 1]")]
EvaluateEvery = Annotated[
    int | None, typer.Option(help="Steps from one measurement to the next. [default: a sixth of all]")
]
ShowText = Annotated[
    bool, typer.Option("--show-text/--hide-text", help="Quote the forget text and the dictionary in the report.")
]
