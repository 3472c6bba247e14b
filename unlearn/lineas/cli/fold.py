"""``palimpsest steer fold STEERING MODEL --out DIR --strength S``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from audit.cli import options
from audit.text.safe import for_terminal

from . import flags


def fold(
    steering: flags.Steering,
    model: flags.Model,
    out: Annotated[Path, typer.Option(help="New folder of the steered model, an ordinary Hugging Face checkpoint.")],
    strength: flags.Strength,
    as_llama: Annotated[
        bool,
        typer.Option(
            "--as-llama", help="Write a Qwen2 or Mistral model as the Llama that it equals, which has biases."
        ),
    ] = False,
    revision: options.Revision = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.AsJson = False,
) -> None:
    """Write the steered model as a checkpoint of its own, which needs no hooks.

    It is loaded again and compared with the hooked model; what is not the same is removed. The model is left as it is.
    """
    options.quiet_libraries()
    from ..fold import fold as fold_maps
    from ..maps import check_strength
    from .loading import load_all

    check_strength(strength)
    subject = options.subject(
        model,
        revision=revision,
        adapter=None,
        dtype=dtype,
        device=device,
        device_map=None,
        trust_remote_code=trust_remote_code,
    )
    loaded = load_all(steering, subject)
    told = fold_maps(loaded.lm, loaded.maps, strength, out, as_llama=as_llama, record=loaded.record)
    if as_json:
        print(json.dumps(told.to_record()))
        return
    print(for_terminal(f"steered model at strength {told.strength:g} -> {options.shown(out)}"))
    print(
        f"  {told.architecture}, {told.dtype}: {told.n_weights:,} weights changed, {told.n_added:,} of them new biases"
    )
    print(
        f"  largest difference of a logit to the hooked model: {told.difference:.3g} as written, "
        f"{told.exact_difference:.3g} before weights were rounded ({told.n_tokens:,} tokens, logits up to "
        f"{told.largest_logit:.3g})"
    )
