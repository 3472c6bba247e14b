"""``palimpsest steer export STEERING MODEL --gguf FILE``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from audit.cli import options
from audit.text.safe import for_terminal

from . import flags


def export(
    steering: flags.Steering,
    model: flags.Model,
    gguf: Annotated[Path, typer.Option(help="File of the control vector.")],
    strength: flags.Strength = 1.0,
    revision: options.Revision = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.AsJson = False,
) -> None:
    """Write shifts of layers as a control vector of llama.cpp; maps that scale, or stand elsewhere, are refused."""
    options.quiet_libraries()
    from ..gguf import export_gguf
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
    written = export_gguf(loaded.lm, loaded.maps, gguf, strength=strength)
    if as_json:
        print(json.dumps({"file": str(gguf), "strength": strength, "layers": written}))
        return
    print(for_terminal(f"control vector of {len(written):,} layers at strength {strength:g} -> {options.shown(gguf)}"))
