"""Flags that several verbs of ``palimpsest extract`` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Train = Annotated[str, typer.Option(help="Post-training rows: jsonl, json, csv, tsv, parquet or hf:owner/name.")]
HeldOut = Annotated[str, typer.Option(help="Rows of the same source that the model was not trained on.")]
AtRandom = Annotated[
    bool,
    typer.Option(
        "--random/--not-random",
        help="Say whether training and held-out rows were divided at random. Only then can the one be tested against "
        "the other, and the verdict rests on it.",
    ),
]
QuestionField = Annotated[str | None, typer.Option(help="Field that holds the question, in both sets.")]
AnswerField = Annotated[str | None, typer.Option(help="Field that holds the answer, in both sets.")]
IdField = Annotated[str | None, typer.Option(help='Field that names each row; default "id" where it is.')]
SkipBadLines = Annotated[bool, typer.Option("--skip-bad-lines", help="Leave malformed rows out.")]

Prefix = Annotated[
    list[str] | None,
    typer.Option(
        help="Text that opens a chat, \\n for a line end; may be given more than once. [default: read from the chat "
        "template, with and without the white space at its end]"
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="Chat format by name, where there is no template: tulu, olmo2, qwen2.5, chatml, llama3, gemma, zephyr, "
        "orz-user, orz-problem."
    ),
]
Assistant = Annotated[
    str | None,
    typer.Option(help="Of --prefix: text between question and answer, where neither template nor preset has it."),
]
Bos = Annotated[
    bool | None,
    typer.Option(
        "--bos/--no-bos",
        help="Put the beginning-of-sequence token first, or leave it out; default as template and tokenizer do.",
    ),
]
N = Annotated[int, typer.Option("--n", help="Generations, shared out evenly among the prefixes.")]
Temperature = Annotated[float, typer.Option(help="Divides the logits; 0 is greedy.")]
TopP = Annotated[float, typer.Option(help="Sample from the smallest set with this probability; 1: all.")]
TopK = Annotated[int, typer.Option(help="Sample from the k most probable tokens; 0: all.")]
MaxNewTokens = Annotated[
    int | None, typer.Option(help="Tokens of a generation at most. [default: 2048, or what the context leaves]")
]
BatchSize = Annotated[int | None, typer.Option(help="Generations at a time. [default: 64 on a CPU, 256 elsewhere]")]

Encoder = Annotated[
    Path | None, typer.Option(help="Folder of a sentence-transformers model; default the embedded MiniLM.")
]
Threshold = Annotated[
    float | None,
    typer.Option(
        help="Cosine of a hit, given beforehand; default set on the held-out rows. The paper's 0.95 is of another "
        "encoder and does not transfer; the rate at which it errs here is told."
    ),
]
Primary = Annotated[str, typer.Option(help="View of the verdict: whole, question or answer.")]
Target = Annotated[float, typer.Option(help="False-positive rate at which the threshold is set.")]
LeastWords = Annotated[int, typer.Option(help="Words of a text at least; shorter ones are not compared.")]
Negligible = Annotated[float, typer.Option(help='Rate that "not found" excludes.')]
Alpha = Annotated[float, typer.Option(help="Error rate of the test of trained against held-out rows.")]
Level = Annotated[float, typer.Option(help="Level of the intervals.")]
Cache = Annotated[
    Path | None, typer.Option(help="Folder that keeps embeddings for other runs; default inside the run.")
]
ShowText = Annotated[
    bool, typer.Option("--show-text", help="Show the strongest matches side by side in the report: training text.")
]
Resume = Annotated[bool, typer.Option(help="Go on with a run of the same flags that was interrupted.")]
