"""``palimpsest eco apply GUARD MODEL --prompt TEXT``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audit.cli import options
from audit.errors import InputError

from . import flags


def apply(
    guard: flags.Guard,
    model: flags.Model,
    prompt: Annotated[str | None, typer.Option(help="One prompt.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help='Many: txt (one a line), or jsonl, json, csv, parquet with a field "prompt".')
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File of rows (jsonl) that is written as answers come; it is gone on with.")
    ] = None,
    max_new_tokens: flags.MaxNewTokens = 200,
    encoder: flags.Encoder = None,
    revision: options.Revision = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    trust_remote_code: options.TrustRemoteCode = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Answer prompts through a guard: one row each with the answer, whether the prompt was flagged, and its score.

    The noise comes from the key in PALIMPSEST_ECO_KEY; without it flagged prompts get other answers in each process.
    """
    if (prompt is None) == (prompts is None):
        raise InputError("give --prompt TEXT or --prompts FILE, one of them.")
    if prompt is not None and not prompt.strip():
        raise InputError("--prompt is empty; expected a text.")
    options.quiet_libraries()
    from .answering import answer_all, read_prompts, tell

    asked = [("prompt", prompt)] if prompt is not None else read_prompts(prompts)  # type: ignore[arg-type]
    subject = options.subject(
        model,
        revision=revision,
        adapter=None,
        dtype=dtype,
        device=device,
        device_map=device_map,
        trust_remote_code=trust_remote_code,
    )
    rows = answer_all(guard, subject, asked, out=out, max_new_tokens=max_new_tokens, encoder=encoder, quiet=quiet)
    tell(rows, out=out, as_json=as_json)
