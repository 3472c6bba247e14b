"""``palimpsest dashboard``: what it starts, and what it refuses; the real thing is started in tests/browser."""

from __future__ import annotations

import importlib.util
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from audit.cli import dashboard
from audit.errors import InputError, MissingDependencyError


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What would have been run in place of this process."""
    seen: dict[str, Any] = {}

    def execve(path: str, command: list[str], environment: dict[str, str]) -> None:
        seen.update(path=path, command=command, environment=environment)

    monkeypatch.setattr(os, "execve", execve)
    return seen


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def run(*arguments: str) -> Any:
    return CliRunner().invoke(dashboard.app, list(arguments), catch_exceptions=False)


def test_it_listens_on_this_machine_alone_sends_nothing_and_names_the_runs(
    tmp_path: Path, started: dict[str, Any]
) -> None:
    port = free_port()
    said = run("--runs", str(tmp_path), "--port", str(port))
    assert f"http://127.0.0.1:{port}" in said.output
    assert "warning" not in said.output
    flags = set(started["command"])
    assert {
        "--server.address=127.0.0.1", f"--server.port={port}", "--browser.gatherUsageStats=false",
        "--server.enableXsrfProtection=true", "--server.enableCORS=true", "--server.allowedHosts=127.0.0.1",
        "--client.disableDataExport=true", "--server.fileWatcherType=none",
    } <= flags  # fmt: skip
    assert "--server.allowedHosts=*" not in flags
    assert started["environment"][dashboard.RUNS] == str(tmp_path)


def test_another_address_is_taken_with_a_warning(tmp_path: Path, started: dict[str, Any]) -> None:
    said = run("--runs", str(tmp_path), "--port", str(free_port()), "--host", "0.0.0.0")
    assert "warning: 0.0.0.0 is not this machine alone" in said.stderr
    assert "--server.address=0.0.0.0" in started["command"]


@pytest.mark.parametrize(
    ("host", "flag", "switch"),
    [("127.0.0.1", [], "on"), ("0.0.0.0", [], "off"), ("0.0.0.0", ["--playground"], "on"),
     ("127.0.0.1", ["--no-playground"], "off")],
)  # fmt: skip
def test_pages_load_models_only_where_nobody_else_can_reach_them_unless_asked(
    host: str, flag: list[str], switch: str, tmp_path: Path, started: dict[str, Any]
) -> None:
    said = run("--runs", str(tmp_path), "--port", str(free_port()), "--host", host, *flag)
    assert started["environment"][dashboard.PLAYGROUND] == switch
    assert ("load models here" in said.stderr) == (switch == "on" and host == "0.0.0.0")


def test_every_flag_is_one_that_streamlit_knows(tmp_path: Path, started: dict[str, Any]) -> None:
    pytest.importorskip("streamlit")
    from streamlit import config

    run("--runs", str(tmp_path), "--port", str(free_port()))
    known = config.get_config_options()
    for flag in started["command"][5:]:
        assert flag.removeprefix("--").partition("=")[0] in known, flag


def test_a_port_in_use_is_refused_with_a_way_out(tmp_path: Path, started: dict[str, Any]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"cannot listen on 127.0.0.1, port {port}: .* Give another --port"):
            run("--runs", str(tmp_path), "--port", str(port))
    assert not started


@pytest.mark.parametrize("host", ["evil.invalid", "300.1.1.1", "\x00"])
def test_an_address_of_nowhere_is_refused(host: str, tmp_path: Path, started: dict[str, Any]) -> None:
    with pytest.raises((InputError, ValueError), match="no address|null"):
        run("--runs", str(tmp_path), "--port", str(free_port()), "--host", host)


def test_a_file_is_no_folder_of_runs(tmp_path: Path, started: dict[str, Any]) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file. Give the folder"):
        run("--runs", str(tmp_path / "file"))


def test_without_streamlit_the_pip_line_is_given(
    tmp_path: Path, started: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'palimpsest-audit\[dashboard\]'"):
        run("--runs", str(tmp_path))
