"""``palimpsest steer apply STEERING MODEL --prompt TEXT --strength S``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audit.cli import options
from audit.errors import InputError

from . import flags


def apply(
    steering: flags.Steering,
    model: flags.Model,
    prompt: Annotated[str | None, typer.Option(help="One prompt.")] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            help='Many: txt (one a line), or jsonl, json, csv, parquet with a field "prompt", and "strength" where '
            "rows differ in it."
        ),
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="0 is the model as it is, 1 the maps as fitted. Needed where rows have none.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File of rows (jsonl) that is written as they come; it is gone on with.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens that are written at most.")] = 32,
    temperature: Annotated[float, typer.Option(help="0 takes the most probable token.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Draw from the likeliest tokens of this probability.")] = 0.3,
    seed: options.Seed = 0,
    revision: options.Revision = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    trust_remote_code: options.TrustRemoteCode = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Continue prompts with a steered model; maps act on every token, of the prompt and of the continuation.

    Prompts get the same random numbers at every strength.
    """
    if (prompt is None) == (prompts is None):
        raise InputError("give --prompt TEXT or --prompts FILE, one of them.")
    if prompt is not None and not prompt.strip():
        raise InputError("--prompt is empty; expected a text.")
    options.quiet_libraries()
    from audit.lm.generate import Sampling

    from .applying import Ask, continue_all, read_asked, tell
    from .strengths import one_strength

    if prompts is not None:
        asked = read_asked(prompts, strength)
    else:
        assert prompt is not None
        asked = [Ask("prompt", prompt, one_strength(strength))]
    subject = options.subject(
        model,
        revision=revision,
        adapter=None,
        dtype=dtype,
        device=device,
        device_map=None,
        trust_remote_code=trust_remote_code,
    )
    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p)
    tell(
        continue_all(steering, subject, asked, sampling=sampling, seed=seed, out=out, quiet=quiet),
        out=out,
        as_json=as_json,
    )
