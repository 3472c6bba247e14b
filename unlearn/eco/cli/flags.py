"""Flags that the verbs of ``palimpsest eco`` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Guard = Annotated[Path, typer.Argument(help="The guard: OUT of `palimpsest eco fit`, or the folder OUT/guard.")]
Model = Annotated[str, typer.Argument(help="The model that it stands before: a folder, or a Hugging Face id.")]
Forget = Annotated[
    str,
    typer.Option(
        help='Questions about what is to be forgotten: jsonl, json, csv or parquet, fields "question" and "answer"; '
        '"paraphrased_question", "perturbed_answer" and "author" are read too, as TOFU has them.'
    ),
]
Retain = Annotated[str, typer.Option(help="Questions that may pass, of the kind that users will ask; same fields.")]
Out = Annotated[Path, typer.Option(help="Folder of the run.")]
Choices = Annotated[
    bool, typer.Option("--choices", help='Rows are multiple choice: "question", "options", "answer"; or MMLU\'s CSV.')
]
ClusterSize = Annotated[
    int | None, typer.Option(help="So many rows that stand together are of one author, where the file does not say.")
]
Encoder = Annotated[
    str | None, typer.Option(help="Folder of the sentence encoder. [default: the embedded all-MiniLM-L6-v2]")
]
ShowText = Annotated[
    bool, typer.Option("--show-text/--hide-text", help="Quote prompts in the report: false positives and misses.")
]
General = Annotated[str | None, typer.Option(help="General questions, to count false positives on; any rows.")]
Gold = Annotated[
    str | None,
    typer.Option(help="A model that was never trained on what is to be forgotten; for judging, never for fitting."),
]
RealAuthors = Annotated[str | None, typer.Option(help="TOFU's real authors, for the utility.")]
WorldFacts = Annotated[str | None, typer.Option(help="TOFU's world facts, for the utility.")]
Passages = Annotated[
    str | None,
    typer.Option(
        help='Protected texts: rows with their beginning ("prompt") and what follows in the original ("continuation"), '
        'and "source" where one work has many. How near each system comes to the original is measured.'
    ),
]
PassageTokens = Annotated[int, typer.Option(min=1, help="Tokens of a passage that are written at most.")]
Baselines = Annotated[
    str | None, typer.Option(help="What else is measured, with commas: filter (refuses) and prefix (an instruction).")
]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="Tokens of an answer at most.")]
