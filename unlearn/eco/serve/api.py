"""The HTTP interface: /v1/chat/completions, /v1/completions, /v1/models, /health and /metrics.

Prompts and answers are never logged. A client hears nothing of whether its prompt was flagged, unless the server is
told to tell; how long an answer takes, and what it says, can still give it away.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from audit.text.safe import quoted

from .bodies import Asked, Kind, RefusedError, parse
from .counters import Counters
from .engine import BusyError, Engine, StoppedError
from .jobs import Ended, Event, Failed, Job, Piece, Started
from .replies import DONE, Reply, error_event

_PATHS: Final = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/health", "/metrics")
_LOOK: Final = 0.25  # seconds between looks for a client that has gone
_BODY_SECONDS: Final = 30.0
_GONE: Final = 499
_STATUS: Final = {"prompt": 400, "memory": 503, "deadline": 504, "closing": 503, "server": 500}


@dataclass(frozen=True, slots=True)
class Door:
    """How the server is reached.

    Attributes:
        model: The name under which the model is served.
        fingerprint: Told with each answer; the same as long as guard and model are.
        key: What clients send as "Authorization: Bearer ..."; None lets everybody in.
        metrics_key: What whoever reads /metrics sends in its place; they see how many prompts were flagged, which
            nobody else does unless ``tell_flagged``.
        tell_flagged: Whether each answer says if its prompt was flagged.
        max_body: Bytes of a request.
        max_prompts: Prompts of a request.
    """

    model: str
    fingerprint: str
    key: str | None = None
    metrics_key: str | None = None
    tell_flagged: bool = False
    max_body: int = 1_048_576
    max_prompts: int = 16


def make_app(engine: Engine, door: Door, *, drain_seconds: float = 30.0) -> FastAPI:
    """The application; it starts the engine and stops it.

    Args:
        engine: Not yet started.
        door: How it is reached.
        drain_seconds: What runs at the end may go on for so long.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        engine.start()
        yield
        await asyncio.to_thread(engine.stop, seconds=drain_seconds)

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False, lifespan=lifespan)
    app.add_middleware(_Counted, counters=engine.counters)
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(HTTPException, _not_found)
    app.add_exception_handler(Exception, _broken)

    async def chat(request: Request) -> Response:
        return await _answer(request, "chat", engine, door)

    async def completions(request: Request) -> Response:
        return await _answer(request, "completions", engine, door)

    async def models(request: Request) -> Response:
        _check_key(request, door.key)
        one = {"id": door.model, "object": "model", "created": 0, "owned_by": "palimpsest"}
        return JSONResponse({"object": "list", "data": [one]})

    async def health(_request: Request) -> Response:
        found = engine.health()
        return JSONResponse(found, status_code=200 if found["status"] == "ok" else 503)

    async def metrics(request: Request) -> Response:
        _check_key(request, door.metrics_key or door.key)
        told = door.tell_flagged or door.metrics_key is not None
        return Response(engine.counters.text(flagged=told), media_type=CONTENT_TYPE_LATEST)

    app.add_route("/v1/chat/completions", chat, methods=["POST"])
    app.add_route("/v1/completions", completions, methods=["POST"])
    app.add_route("/v1/models", models, methods=["GET"])
    app.add_route("/health", health, methods=["GET"])
    app.add_route("/metrics", metrics, methods=["GET"])
    return app


# --- a request -------------------------------------------------------------------------------------------------------


class _GoneError(Exception):
    """The client has gone."""


class _Events:
    """The events of a request's jobs, carried from the engine's thread into the event loop."""

    def __init__(self, request: Request, asked: Asked, engine: Engine) -> None:
        self._request, self._counters = request, engine.counters
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._since = self._looked = time.perf_counter()
        self._spoken = False
        self.jobs = [
            Job(
                prompt,
                replace(asked.draw, index=index),
                partial(self._put, index),
                seconds=engine.limits.seconds,
            )
            for index, prompt in enumerate(asked.prompts)
        ]

    def _put(self, index: int, event: Event) -> None:
        self._loop.call_soon_threadsafe(self._queue.put_nowait, (index, event))

    async def next(self) -> tuple[int, Event]:
        """Raises `_GoneError` where the client has gone in the meantime."""
        while True:
            if time.perf_counter() - self._looked > _LOOK:
                self._looked = time.perf_counter()
                if await self._request.is_disconnected():
                    raise _GoneError
            try:
                async with asyncio.timeout(_LOOK):
                    index, event = await self._queue.get()
            except TimeoutError:
                continue
            if isinstance(event, Piece) and not self._spoken:
                self._spoken = True
                self._counters.first_seconds.observe(time.perf_counter() - self._since)
            return index, event

    def cancel(self) -> None:
        for job in self.jobs:
            job.cancel()


async def _answer(request: Request, kind: Kind, engine: Engine, door: Door) -> Response:
    _check_key(request, door.key)
    content = await _body(request, door.max_body)
    asked = parse(
        content,
        kind,
        model=door.model,
        max_prompts=min(door.max_prompts, engine.limits.max_waiting),
        max_new_tokens=engine.limits.max_new_tokens,
    )
    events = _Events(request, asked, engine)
    try:
        engine.submit(events.jobs)
    except BusyError:
        raise RefusedError(
            "too many prompts wait already; ask again in a second.",
            status=429,
            code="too_many_requests",
            headers={"Retry-After": "1"},
        ) from None
    except StoppedError:
        raise RefusedError("the server takes no requests any more.", status=503, code="unavailable") from None
    reply = Reply(kind, door.model, door.fingerprint)
    try:
        early, started = await _all_started(events)
        if asked.stream:
            chunks = _stream(events, reply, early, started, asked=asked, tell=door.tell_flagged)
            return _Stream(chunks, on_end=events.cancel)
        return JSONResponse(await _whole(events, reply, early, started, tell=door.tell_flagged))
    except _GoneError:
        events.cancel()
        return Response(status_code=_GONE)
    except BaseException:
        events.cancel()
        raise


async def _all_started(events: _Events) -> tuple[list[tuple[int, Event]], list[Started]]:
    """Waits until every prompt was read, so that a bad one is answered with a status of its own."""
    early: list[tuple[int, Event]] = []
    started: dict[int, Started] = {}
    while len(started) < len(events.jobs):
        index, event = await events.next()
        if isinstance(event, Failed):
            raise _error(index, event)
        if isinstance(event, Started):
            started[index] = event
        else:
            early.append((index, event))
    return early, [started[index] for index in range(len(events.jobs))]


async def _later(events: _Events, early: Sequence[tuple[int, Event]]) -> AsyncIterator[tuple[int, Piece | Ended]]:
    """Pieces and ends, until every answer is whole."""
    n_open = len(events.jobs)
    waiting = list(early)
    while n_open:
        index, event = waiting.pop(0) if waiting else await events.next()
        if isinstance(event, Failed):
            raise _error(index, event)
        if isinstance(event, Ended):
            n_open -= 1
        if isinstance(event, Piece | Ended):
            yield index, event


async def _whole(
    events: _Events, reply: Reply, early: Sequence[tuple[int, Event]], started: Sequence[Started], *, tell: bool
) -> dict[str, Any]:
    texts = [""] * len(started)
    ends: dict[int, Ended] = {}
    async for index, event in _later(events, early):
        if isinstance(event, Piece):
            texts[index] += event.text
        else:
            ends[index] = event
    return reply.whole(
        texts,
        [ends[index].reason for index in range(len(texts))],
        n_prompt=sum(one.n_prompt for one in started),
        n_new=sum(end.n_new for end in ends.values()),
        flagged=[one.flagged for one in started] if tell else None,
    )


async def _stream(
    events: _Events,
    reply: Reply,
    early: Sequence[tuple[int, Event]],
    started: Sequence[Started],
    *,
    asked: Asked,
    tell: bool,
) -> AsyncIterator[bytes]:
    n_new = 0
    try:
        for index in range(len(started)):
            opening = reply.opening(index)
            if opening:
                yield opening
        async for index, event in _later(events, early):
            if isinstance(event, Piece):
                yield reply.piece(index, event.text)
            else:
                n_new += event.n_new
                yield reply.closing(index, event.reason, flagged=started[index].flagged if tell else None)
        if asked.with_usage:
            yield reply.totals(n_prompt=sum(one.n_prompt for one in started), n_new=n_new)
    except RefusedError as error:
        yield error_event(error.to_record())
    except _GoneError:
        return
    yield DONE


class _Stream(StreamingResponse):
    """Server-sent events; whatever ends the response, the rows of its jobs are set free."""

    def __init__(self, content: AsyncIterator[bytes], *, on_end: Callable[[], None]) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(content, media_type="text/event-stream", headers=headers)
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except ClientDisconnect:
            pass
        finally:
            self._on_end()


# --- what is refused -------------------------------------------------------------------------------------------------


def _check_key(request: Request, key: str | None) -> None:
    if key is None:
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    # Headers are bytes, which the framework reads as Latin-1.
    fits = hmac.compare_digest(given.strip().encode("latin-1", "replace"), key.encode())
    if scheme.lower() != "bearer" or not fits:
        raise RefusedError(
            "the API key is missing or wrong; send it as Authorization: Bearer KEY.",
            status=401,
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )


async def _body(request: Request, most: int) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # nor can another site's page have a browser send it
        raise RefusedError(f"the body is {quoted(kind)}; expected application/json.", status=415)
    too_much = RefusedError(f"the body has more than {most:,} bytes, which is too much.", status=413)
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > 18 or int(length) > most):
        raise too_much
    content = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                content += chunk
                if len(content) > most:
                    raise too_much
    except TimeoutError:
        raise RefusedError(f"the body did not come within {_BODY_SECONDS:g} seconds.", status=408) from None
    except ClientDisconnect:
        raise RefusedError("the connection was dropped.", status=_GONE) from None
    return bytes(content)


def _error(index: int, event: Failed) -> RefusedError:
    status = _STATUS[event.trouble]
    code = {"prompt": "invalid_prompt", "memory": "out_of_memory", "deadline": "timeout"}.get(event.trouble)
    where = f" (prompt {index})" if index else ""
    headers = {"Retry-After": "1"} if status == 503 else None
    return RefusedError(event.message + where, status=status, code=code, headers=headers)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return JSONResponse(error.to_record(), status_code=error.status, headers=error.headers)


async def _not_found(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known = f"this server has {', '.join(_PATHS)}."
    words = {404: f"there is nothing here; {known}", 405: f"another method is expected here; {known}"}
    refused = RefusedError(words.get(error.status_code, str(error.detail)), status=error.status_code)
    return JSONResponse(refused.to_record(), status_code=error.status_code, headers=error.headers)


async def _broken(_request: Request, _error: Exception) -> Response:
    return JSONResponse(RefusedError("the server failed on this request.", status=500).to_record(), status_code=500)


class _Counted:
    """Counts responses and how long they took."""

    def __init__(self, app: ASGIApp, counters: Counters) -> None:
        self._app, self._counters = app, counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in _PATHS else "other"
        since = time.perf_counter()
        status = 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            self._counters.requests.labels(path, str(status)).inc()
            self._counters.seconds.labels(path).observe(time.perf_counter() - since)
