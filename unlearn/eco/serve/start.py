"""Starts the server: uvicorn in this process, one engine, one model."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable, Mapping
from typing import Final

from audit.errors import InputError, MissingDependencyError
from audit.text.safe import quoted

try:
    import uvicorn

    from .api import Door, make_app
    from .engine import Engine, Limits
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("fastapi", "uvicorn", "prometheus_client", "starlette"):
        raise
    raise MissingDependencyError(
        f"the server needs {error.name}, which is not installed: pip install 'palimpsest-audit[serve]'."
    ) from error

from audit.answers.systems import Bare

API_KEY_VARIABLE: Final = "PALIMPSEST_ECO_API_KEY"
METRICS_KEY_VARIABLE: Final = "PALIMPSEST_ECO_METRICS_KEY"
_KEY_CHARACTERS: Final = 16
_CONNECTIONS: Final = 1_000


def serve(
    guard: Bare,
    *,
    model: str,
    fingerprint: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    max_body: int = 1_048_576,
    max_prompts: int = 16,
    tell_flagged: bool = False,
    drain_seconds: float = 30.0,
    environment: Mapping[str, str] | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve a guard until the process is told to stop (Ctrl+C or SIGTERM); what runs then may end.

    Args:
        guard: The guard with its model.
        model: The name that clients send.
        fingerprint: Of guard and model, told with each answer.
        host: Where to listen; anything but this machine itself needs a key.
        port: 0 takes a free one.
        limits: What the engine takes on.
        max_body: Bytes of a request.
        max_prompts: Prompts of a request.
        tell_flagged: Whether each answer says if its prompt was flagged.
        drain_seconds: For so long what runs at the end may go on.
        environment: Holds the keys, `API_KEY_VARIABLE` and `METRICS_KEY_VARIABLE`; None takes the process's.
        on_ready: Called with the address, once it listens.

    Raises:
        InputError: The address cannot be used, a key is too short, or one is missing where it is needed.
    """
    key, metrics_key = _keys(host, os.environ if environment is None else environment)
    door = Door(
        model=model,
        fingerprint=fingerprint,
        key=key,
        metrics_key=metrics_key,
        tell_flagged=tell_flagged,
        max_body=max_body,
        max_prompts=max_prompts,
    )
    with _listening(host, port) as listener:
        app = make_app(Engine(guard, limits=limits), door, drain_seconds=drain_seconds)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=max(1, round(drain_seconds)),
        )
        if on_ready is not None:
            shown = f"[{host}]" if ":" in host else host
            on_ready(f"http://{shown}:{listener.getsockname()[1]}/v1")
        uvicorn.Server(config).run(sockets=[listener])


def check_address(host: str, port: int) -> None:
    """Refuse, before a model is loaded, an address that `serve` would refuse after it.

    Raises:
        InputError: As `serve`.
    """
    _keys(host, os.environ)
    _listening(host, port).close()


def is_loopback(host: str) -> bool:
    """Whether a host is this machine alone; a name other than localhost is not taken for it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _keys(host: str, environment: Mapping[str, str]) -> tuple[str | None, str | None]:
    key, metrics_key = _key(environment, API_KEY_VARIABLE), _key(environment, METRICS_KEY_VARIABLE)
    if key is None and not is_loopback(host):
        raise InputError(
            f"the host is {quoted(host)}, which other machines can reach, and {API_KEY_VARIABLE} is not set. Set it to "
            "a secret of 16 characters or more, or serve on 127.0.0.1."
        )
    return key, metrics_key


def _key(environment: Mapping[str, str], variable: str) -> str | None:
    key = environment.get(variable)
    if key is not None and len(key) < _KEY_CHARACTERS:
        raise InputError(
            f"{variable} has {len(key)} characters; expected {_KEY_CHARACTERS} or more, such as the output of "
            "`openssl rand -hex 32`. Unset it to serve this machine without a key."
        )
    return key


def _listening(host: str, port: int) -> socket.socket:
    if type(port) is not int or not 0 <= port <= 65_535:
        raise InputError(f"the port is {quoted(port)}; expected a whole number from 0 to 65,535.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise InputError(f"cannot listen on {quoted(host)}, port {port}: {error.strerror}. Choose another.") from error
