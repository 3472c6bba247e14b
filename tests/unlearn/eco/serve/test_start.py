from __future__ import annotations

import json
import queue
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import uvicorn

from audit.errors import InputError
from tests.unlearn.eco.serve.small_guard import PROMPTS, alone
from unlearn.eco.guard import EcoGuard
from unlearn.eco.serve.start import API_KEY_VARIABLE, is_loopback, serve

KEY = "a key of sixteen characters"


@pytest.fixture
def address(guard: EcoGuard, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A real server on a free port; uvicorn's own handlers of signals belong to the main thread."""
    servers: list[Any] = []

    class Kept(uvicorn.Server):
        def __init__(self, config: uvicorn.Config) -> None:
            super().__init__(config)
            servers.append(self)

    monkeypatch.setattr(uvicorn, "Server", Kept)
    ready: queue.Queue[str] = queue.Queue()
    settings: dict[str, Any] = {
        "model": "small",
        "fingerprint": "fp",
        "port": 0,
        "environment": {API_KEY_VARIABLE: KEY},
        "on_ready": ready.put,
    }
    thread = threading.Thread(target=serve, args=(guard,), kwargs=settings)
    thread.start()
    yield ready.get(timeout=10)
    servers[0].should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def test_a_real_server_streams_outlives_a_dropped_connection_and_stops(guard: EcoGuard, address: str) -> None:
    def ask(prompt: str, n_new: int) -> dict[str, Any]:
        messages = [{"role": "user", "content": prompt}]
        return {"messages": messages, "max_tokens": n_new, "temperature": 0, "stream": True}

    with httpx2.Client(base_url=address, headers={"Authorization": f"Bearer {KEY}"}, timeout=30) as http:
        with http.stream("POST", "/chat/completions", json=ask(PROMPTS[2], 100)) as dropped:
            next(dropped.iter_lines())
        text = ""
        with http.stream("POST", "/chat/completions", json=ask(PROMPTS[1], 12)) as found:
            for line in found.iter_lines():
                if line.startswith("data: {"):
                    text += json.loads(line[6:])["choices"][0]["delta"].get("content", "")
        assert text == alone(guard, PROMPTS[1])
        assert "server" not in found.headers
        metrics = http.get(address.removesuffix("v1") + "metrics").text
        assert "palimpsest_eco_running_rows" in metrics


def test_a_host_that_others_reach_needs_a_key(guard: EcoGuard) -> None:
    with pytest.raises(InputError, match=f"{API_KEY_VARIABLE} is not set"):
        serve(guard, model="small", fingerprint="fp", host="0.0.0.0", environment={})
    with pytest.raises(InputError, match="5 characters"):
        serve(guard, model="small", fingerprint="fp", environment={API_KEY_VARIABLE: "short"})
    loopback = {host: is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")}
    others = {host: is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "localhost.example", "")}
    assert all(loopback.values())
    assert not any(others.values())


def test_a_port_that_is_taken_is_named(guard: EcoGuard) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port}"):
            serve(guard, model="small", fingerprint="fp", port=port, environment={})
    with pytest.raises(InputError, match="65,535"):
        serve(guard, model="small", fingerprint="fp", port=70_000, environment={})
