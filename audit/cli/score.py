"""``palimpsest score MODEL TEXTS --out SCORES``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from ..text.safe import counted, for_terminal
from . import options

if TYPE_CHECKING:
    from ..text.readers import TextTable

app = typer.Typer(rich_markup_mode=None, add_completion=False)
SHOWN = 20  # skipped records that are named on the screen


@app.command()
def score(
    model: Annotated[str, typer.Argument(help="Folder of a checkpoint, or a Hugging Face id.")],
    texts: Annotated[
        str,
        typer.Argument(help="jsonl, json, csv, tsv, txt (each also .gz), parquet, a folder of txt, or hf:owner/name."),
    ],
    out: Annotated[Path, typer.Option(help="Where the scores go: .parquet, .jsonl or .csv.")],
    reference: Annotated[
        str | None, typer.Option(help="Model that never saw the texts; adds the column ratio.")
    ] = None,
    field: Annotated[str, typer.Option(help="Field or column that holds the text.")] = "text",
    id_field: Annotated[
        str | None, typer.Option(help='Field that names each text; default "id" where it exists.')
    ] = None,
    unit: Annotated[str, typer.Option(help="What one text of a .txt file is: file, line or paragraph.")] = "file",
    k: Annotated[float, typer.Option(help="Share of the tokens that Min-K% and Min-K%++ average over.")] = 0.2,
    limit: Annotated[int | None, typer.Option(help="Score only the first so many texts.")] = None,
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Score the first tokens of texts longer than the context.")
    ] = False,
    skip_bad_lines: Annotated[
        bool,
        typer.Option(
            "--skip-bad-lines",
            help="Leave malformed lines, and files of a folder that cannot be read, out and record them.",
        ),
    ] = False,
    token_budget: Annotated[int | None, typer.Option(help="Tokens in a batch, padding included.")] = None,
    revision: options.Revision = None,
    adapter: options.Adapter = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    trust_remote_code: options.TrustRemoteCode = False,
    restart: Annotated[bool, typer.Option("--restart", help="Throw away what an earlier attempt finished.")] = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Score texts by membership inference.

    One row for each text: id, n_tokens, loss, perplexity, min_k, min_k_plus_plus, zlib, and ratio with --reference
    (truncated with --truncate). loss is the mean negative log-likelihood in nats over all tokens after the
    beginning-of-sequence token, which is prepended where the tokenizer has one; perplexity is left empty where it is
    too large for a number. Every other score is higher for a likelier member. A score of a text that was not drawn at
    random is indicative: it carries no p-value.
    """
    from ..lm.checkpoint import find_checkpoint, is_local
    from ..text.readers import read_texts
    from .left_out import tell_left_out
    from .outputs import check_out

    check_out(out, texts)
    if not 0 < k <= 1:
        raise InputError(f"--k is {k}; expected above 0 and at most 1.")
    if token_budget is not None and token_budget < 1:
        raise InputError(f"--token-budget is {token_budget}; expected 1 or more.")
    if unit not in ("file", "line", "paragraph"):
        raise InputError(f'--unit is "{unit}"; expected file, line or paragraph.')
    if limit is not None and limit < 1:
        raise InputError(f"--limit is {limit}; expected 1 or more.")
    how = {
        "dtype": dtype,
        "device": device,
        "device_map": device_map,
        "trust_remote_code": trust_remote_code,
    }
    subject = options.subject(model, revision=revision, adapter=adapter, **how)  # type: ignore[arg-type]
    other = None if reference is None else options.subject(reference, revision=None, adapter=None, **how)  # type: ignore[arg-type]
    for one in (subject, other):
        if one is not None and is_local(one.model):
            find_checkpoint(one)
    table = read_texts(
        texts,
        field=field,
        id_field=id_field,
        skip_bad_lines=skip_bad_lines,
        limit=limit,
        unit=unit,  # type: ignore[arg-type]
    )
    tell_left_out(table.left_out)
    _tell_skipped(table, out)
    options.quiet_libraries()  # before torch is imported
    from .scoring import Job, run_job

    job = Job(table=table, out=out, subject=subject, reference=other, k=k, truncate=truncate, token_budget=token_budget)
    summary = run_job(job, restart=restart, quiet=quiet)
    _tell(summary, as_json=as_json)


def _tell_skipped(table: TextTable, out: Path) -> None:
    for line in table.bad[:SHOWN]:
        print(for_terminal(f"skipped {line.place}: {line.reason}").replace("\n", " "), file=sys.stderr)
    if len(table.bad) > SHOWN:
        print(
            f"and {len(table.bad) - SHOWN:,} more; {for_terminal(str(out))}.meta.json will name them all",
            file=sys.stderr,
        )


def _tell(summary: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(summary))
        return
    for note in summary["notes"]:
        print(f"note: {note}", file=sys.stderr)
    skipped = f", {counted(summary['n_skipped'], 'record')} skipped" if summary["n_skipped"] else ""
    cut = f", {summary['n_truncated']:,} truncated" if summary["n_truncated"] else ""
    size = f"{counted(summary['n_texts'], 'text')}, {counted(summary['n_tokens'], 'token')}"
    print(f"{size}{skipped}{cut} -> {for_terminal(summary['out'])}")
