"""``palimpsest dashboard``."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError, MissingDependencyError
from ..text.safe import for_terminal, printable
from . import options

app = typer.Typer(rich_markup_mode=None, add_completion=False)
PACKAGE = "dashboards"  # by name only: nothing in audit imports it
RUNS, PLAYGROUND = "PALIMPSEST_DASHBOARD_RUNS", "PALIMPSEST_DASHBOARD_PLAYGROUND"  # what the application reads
_AND_LOAD = ", and load models here"


@app.command()
def dashboard(
    runs: Annotated[Path, typer.Option(help="Folder that holds runs.")] = Path("palimpsest-runs"),
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen on.")] = 8501,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Any other than this machine's own shows the runs to others.")
    ] = "127.0.0.1",
    playground: Annotated[
        bool | None,
        typer.Option(
            "--playground/--no-playground",
            help="Whether pages may load models and start the demo; by default only where nobody else can reach them.",
        ),
    ] = None,
) -> None:
    """Show runs in a browser: what was found, how sure it is, and whether the model may ship.

    It only reads runs. It listens on this machine alone; Ctrl-C ends it.
    """
    folder = _require_dashboard()
    if runs.exists() and not runs.is_dir():
        raise InputError(f"--runs {printable(runs)} is a file. Give the folder that holds runs.")
    address = _require_free(host, port)
    is_local = ipaddress.ip_address(address).is_loopback
    may_run = is_local if playground is None else playground
    if not is_local:
        print(
            for_terminal(
                f"warning: {host} is not this machine alone. Whoever reaches port {port} can read every run in "
                f"{options.shown(runs)}, prompts and generations too{_AND_LOAD if may_run else ''}. "
                "There is no password."
            ),
            file=sys.stderr,
        )
    shown = f"[{address}]" if ":" in address else address
    print(for_terminal(f"Dashboard: http://{shown}:{port}  (runs: {options.shown(runs)}; Ctrl-C ends it)"), flush=True)
    environment = {
        **os.environ,
        RUNS: str(runs.absolute()),
        PLAYGROUND: "on" if may_run else "off",
        "PYTHONPATH": _path_with(folder.parent),
    }
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(folder / "start" / "dashboard.py"),
        *_flags(address, host, port),
    ]
    os.execve(sys.executable, command, environment)  # in place of this process: Ctrl-C and signals reach it


def _require_dashboard() -> Path:
    """Folder of the application."""
    if importlib.util.find_spec("streamlit") is None:
        raise MissingDependencyError(
            "the dashboard needs the package streamlit. Install it with: pip install 'palimpsest-audit[dashboard]'"
        )
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise MissingDependencyError("the package dashboards is not there: this installation is not whole. Reinstall.")
    return Path(found.submodule_search_locations[0])


def _require_free(host: str, port: int) -> str:
    """The address that ``host`` means, where the port can be had."""
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InputError(f"--host {host!r} is no address of this machine. Give one, such as 127.0.0.1.") from error
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(place)
        except OSError as error:
            raise InputError(
                f"cannot listen on {host}, port {port}: {error.strerror}. Give another --port, or end what uses it."
            ) from error
    return str(place[0])


def _flags(address: str, host: str, port: int) -> list[str]:
    """Streamlit's settings; a flag goes before any configuration file of the user's."""
    from importlib import import_module

    is_local = ipaddress.ip_address(address).is_loopback
    names = ["localhost", "127.0.0.1", "[::1]", "::1"] if is_local else ["*"]  # else a rebound name reads the runs
    return [
        f"--server.address={address}",
        f"--server.port={port}",
        "--server.headless=true",
        "--server.showEmailPrompt=false",
        "--server.fileWatcherType=none",
        "--server.runOnSave=false",
        "--server.enableCORS=true",
        "--server.enableXsrfProtection=true",
        "--server.enableStaticServing=false",
        "--server.maxUploadSize=2",
        *(f"--server.allowedHosts={name}" for name in dict.fromkeys((*names, *([host] if is_local else [])))),
        "--browser.gatherUsageStats=false",
        f"--browser.serverAddress={address}",
        "--client.toolbarMode=viewer",
        "--client.showErrorDetails=type",
        "--client.showErrorLinks=false",
        "--client.disableDataExport=true",  # its CSV lets a spreadsheet run cells; the page Run has one that does not
        "--logger.level=warning",
        *import_module(f"{PACKAGE}.theme").options(),
    ]


def _path_with(folder: Path) -> str:
    """Where Python looks for packages, with the one that holds the application."""
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
