"""What the server counts, for Prometheus; in a registry of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from .jobs import End, Trouble

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Counters:
    """Counts of one server.

    Which prompts are flagged is counted apart (`text` with ``flagged=True``): whoever could read that number between
    two requests would learn the verdict on their own prompt.
    """

    def __init__(self) -> None:
        self._open, self._closed = CollectorRegistry(), CollectorRegistry()
        self.requests = Counter(
            "palimpsest_eco_requests", "HTTP requests by path and status", ["path", "status"], registry=self._open
        )
        self.seconds = Histogram(
            "palimpsest_eco_request_seconds",
            "Seconds until a response was sent whole",
            ["path"],
            registry=self._open,
            buckets=_SECONDS,
        )
        self.first_seconds = Histogram(
            "palimpsest_eco_first_token_seconds",
            "Seconds from a request to the first of its answer",
            registry=self._open,
            buckets=_SECONDS,
        )
        self.prompts = Counter(
            "palimpsest_eco_prompts",
            "Prompts by their end: stop, length, cancelled, prompt, memory, deadline, closing, server",
            ["end"],
            registry=self._open,
        )
        self.tokens = Counter("palimpsest_eco_tokens", "Tokens read and drawn", ["kind"], registry=self._open)
        self._flagged = Counter("palimpsest_eco_flagged_prompts", "Prompts flagged", registry=self._closed)

    def watch(self, *, waiting: Callable[[], float], running: Callable[[], float]) -> None:
        """Where the numbers of waiting prompts and of running rows are to be asked for."""
        for name, what, ask in (
            ("waiting_prompts", "Prompts that wait for a row", waiting),
            ("running_rows", "Rows that the model runs", running),
        ):
            gauge = Gauge(f"palimpsest_eco_{name}", what, registry=self._open)
            gauge.set_function(ask)

    def started(self, *, n_prompt: int, flagged: bool) -> None:
        self.tokens.labels("prompt").inc(n_prompt)
        if flagged:
            self._flagged.inc()

    def ended(self, end: End | Trouble | Literal["cancelled"], *, n_new: int) -> None:
        self.prompts.labels(end).inc()
        self.tokens.labels("completion").inc(n_new)

    def text(self, *, flagged: bool) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._open) + (generate_latest(self._closed) if flagged else b"")
