"""``palimpsest steer inspect STEERING``."""

from __future__ import annotations

from typing import Annotated

import typer

from audit.cli import options

from . import flags


def inspect(
    steering: flags.Steering,
    model: Annotated[str | None, typer.Option(help="A model: whether the steering is its own.")] = None,
    revision: options.Revision = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.AsJson = False,
) -> None:
    """Show what a steering is: model, sites, neurons that are changed, method, settings. Sentences are not in it."""
    options.quiet_libraries()
    from .inspecting import facts_of, tell

    subject = None
    if model is not None:
        subject = options.subject(
            model,
            revision=revision,
            adapter=None,
            dtype=dtype,
            device=device,
            device_map=None,
            trust_remote_code=trust_remote_code,
        )
    tell(facts_of(steering, subject), as_json=as_json)
