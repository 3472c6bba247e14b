"""``palimpsest eco serve GUARD MODEL``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from audit.cli import options
from audit.text.safe import for_terminal

from . import flags


def serve(
    guard: flags.Guard,
    model: flags.Model,
    host: Annotated[str, typer.Option(help="Where to listen; anything but this machine needs a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8000,
    name: Annotated[
        str | None, typer.Option(help="What clients call the model. [default: the last part of MODEL]")
    ] = None,
    max_running: Annotated[int, typer.Option(min=1, help="Prompts that run at a time.")] = 32,
    max_waiting: Annotated[int, typer.Option(min=1, help="Prompts that wait at most.")] = 256,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens of one answer at most.")] = 4096,
    seconds: Annotated[float, typer.Option(help="From its arrival until a prompt is given up.")] = 300.0,
    max_body: Annotated[int, typer.Option(min=1, help="Bytes of a request at most.")] = 1_048_576,
    max_prompts: Annotated[int, typer.Option(min=1, help="Prompts of a request at most.")] = 16,
    tell_flagged: Annotated[
        bool, typer.Option("--tell-flagged", help="Tell clients whether a prompt was flagged; it helps to get past.")
    ] = False,
    encoder: flags.Encoder = None,
    revision: options.Revision = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    trust_remote_code: options.TrustRemoteCode = False,
    quiet: options.Quiet = False,
) -> None:
    """Serve the model behind its guard as OpenAI's API does, so that a client keeps its code.

    Clients send the key of PALIMPSEST_ECO_API_KEY, where it is set. PALIMPSEST_ECO_KEY is the secret of the noise: set
    it, so that answers to flagged prompts are the same after a restart.
    """
    options.quiet_libraries()
    from ..serve.start import check_address, serve as run_server  # isort: skip  # first: it says what is not installed
    from ..judge import KEY_VARIABLE
    from ..serve.engine import Limits
    from .loading import load_all

    check_address(host, port)
    subject = options.subject(
        model,
        revision=revision,
        adapter=None,
        dtype=dtype,
        device=device,
        device_map=device_map,
        trust_remote_code=trust_remote_code,
    )
    limits = Limits(max_rows=max_running, max_waiting=max_waiting, max_new_tokens=max_new_tokens, seconds=seconds)
    loaded = load_all(guard, subject, encoder=encoder)
    if not quiet and KEY_VARIABLE not in os.environ:
        print(f"{KEY_VARIABLE} is not set: after a restart flagged prompts get other answers", file=sys.stderr)

    def ready(address: str) -> None:
        if not quiet:
            print(for_terminal(f"listening on {address}"), file=sys.stderr, flush=True)

    run_server(
        loaded.guard,
        model=name or Path(model).name,
        fingerprint=loaded.fingerprint,
        host=host,
        port=port,
        limits=limits,
        max_body=max_body,
        max_prompts=max_prompts,
        tell_flagged=tell_flagged,
        on_ready=ready,
    )
