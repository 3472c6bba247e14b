"""Samples from an OpenAI-compatible ``/v1/completions`` server, with what went wrong recorded instead of raised.

Raw completions take any text, template markers included; chat endpoints put their own template around it and are of
no use here. A server answers one request of thousands badly sooner or later, so each request ends as one record:
its sample, or why there is none.
"""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import http.client
import json
import os
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, get_args
from urllib.parse import SplitResult, urlsplit

from ..errors import InputError
from ..lm.generate import Sampling
from ..text.safe import counted, printable, quoted

Dialect = Literal["openai", "vllm", "transformers"]
FINISHED = {"stop": "stop", "length": "length", "eos_token": "stop", "stop_sequence": "stop"}  # the last two: TGI
RETRIED = {408, 425, 429}  # and every 5xx
CHUNK = 65_536  # bytes read at a time


@dataclass(frozen=True, slots=True)
class Server:
    """Where samples come from and how patiently they are asked for. Proxies of the environment are not used.

    Attributes:
        url: Base such as "http://localhost:8000/v1", or the whole ".../v1/completions"; no user, password or query.
        model: Name of the model there.
        key_variable: Environment variable that holds the key; the key itself is kept nowhere. None sends no key.
        dialect: What may be asked. "openai" is what every server takes, and says nothing of ``top_k``, ``min_p``,
            stop ids or special tokens: most servers then leave markers that are special tokens out of the text.
            "vllm" and "transformers" (``transformers serve``) name every field in that server's words; the latter
            leaves special tokens out of the text whatever it is asked.
        connect_seconds: Longest wait for a connection.
        read_seconds: Longest silence while an answer is awaited or read.
        answer_seconds: Longest time for one whole answer.
        max_bytes: Largest answer.
        tries: Requests at most for one sample.
        wait_seconds: Wait before the second try; doubled for each further one, then shortened at random by up to half.
        max_wait_seconds: Longest such wait. A server that asks for a longer one is not asked again.
        per_minute: Requests a minute at most, over all workers; None sets no limit.
        workers: Requests at a time.
        give_up_after: Failures in a row after which the rest is not asked for.
    """

    url: str
    model: str
    key_variable: str | None = None
    dialect: Dialect = "openai"
    connect_seconds: float = 10.0
    read_seconds: float = 120.0
    answer_seconds: float = 600.0
    max_bytes: int = 8_388_608
    tries: int = 6
    wait_seconds: float = 1.0
    max_wait_seconds: float = 120.0
    per_minute: float | None = None
    workers: int = 4
    give_up_after: int = 20

    def __post_init__(self) -> None:
        _parts(self.url)
        if self.dialect not in get_args(Dialect):
            raise InputError(f"dialect is {quoted(self.dialect)}; expected one of {', '.join(get_args(Dialect))}")
        for name in ("connect_seconds", "read_seconds", "answer_seconds", "max_wait_seconds", "per_minute"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < float("inf"):
                raise InputError(f"{name} is {value}; expected a positive number")
        for name in ("max_bytes", "tries", "workers", "give_up_after"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if not 0.0 <= self.wait_seconds < float("inf"):
            raise InputError(f"wait_seconds is {self.wait_seconds}; expected 0 or a positive number")

    def to_record(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Completion:
    """What became of one request.

    Attributes:
        index: Position in the whole job, as of a sample of `audit.lm.generate`.
        seed: What the server was given; whether it makes the sample again is up to the server.
        text: The sample; "" where there is none. A server may leave the string of a stop id at its end.
        token_ids: Its ids where the server tells them, a stop id at the end left out.
        finish_reason: "stop" or "length"; None where there is no sample.
        n_tries: Requests that were sent for it.
        failure: Why there is no sample; None where there is one.
    """

    index: int
    seed: int
    text: str = ""
    token_ids: tuple[int, ...] | None = None
    finish_reason: str | None = None
    n_tries: int = 0
    failure: str | None = None


class _Answer(NamedTuple):
    status: int
    location: str | None
    retry_after: str | None
    body: bytes


class _FailedError(Exception):
    """A request failed; ``again`` says whether another try may help, ``wait`` how long the server asks to wait."""

    def __init__(self, reason: str, *, again: bool = False, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.again, self.wait = again, wait


class _StoppedError(Exception):
    """The whole job is being left."""


def complete(
    server: Server,
    prompts: Sequence[str | Sequence[int]],
    *,
    sampling: Sampling,
    seed: int,
    indices: Sequence[int] | None = None,
    on_done: Callable[[int], None] | None = None,
    chat: bool = False,
) -> list[Completion]:
    """One sample for each prompt; a request that fails is a record with its reason.

    Args:
        server: Where.
        prompts: Text or token ids. Ids keep a server from putting a second BOS before a text that has one.
        sampling: How tokens are drawn; each field that the dialect knows is sent.
        seed: Seed of the whole job; `request_seed` gives that of each request.
        indices: Position of each prompt in the whole job; default 0, 1, 2, ...
        on_done: Called with 1 after each request, failed ones included.
        chat: Ask ``/v1/chat/completions`` instead, a prompt being what the user says: for questions to a model that
            follows instructions, never for what a model gives away. In the dialect "openai" alone.

    Returns:
        One `Completion` for each prompt, in the order given.

    Raises:
        InputError: The key's variable is empty, or the settings or prompts are more than the dialect can say.
    """
    job = _Job(server, _key(server), stop_ids=sampling.stop_ids, chat=chat)
    indices = range(len(prompts)) if indices is None else indices
    seeds = [request_seed(seed, index) for index in indices]
    body = _chat_body if chat else _body
    bodies = [body(server, prompt, sampling, number) for prompt, number in zip(prompts, seeds, strict=True)]
    results: dict[int, Completion] = {}
    with ThreadPoolExecutor(server.workers) as pool:
        try:
            waiting = {
                pool.submit(job.sample, *request): position
                for position, request in enumerate(zip(indices, seeds, bodies, strict=True))
            }
            for future in as_completed(waiting):
                results[waiting[future]] = future.result()
                if on_done is not None:
                    on_done(1)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            job.stop()
            raise
    return [results[position] for position in range(len(prompts))]


def request_seed(seed: int, index: int) -> int:
    """The seed of one request, in [0, 2^31): another for each index, from a start that depends on the job's seed."""
    start = int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:4], "big")
    return (start + index) % 2**31


def _parts(url: str) -> SplitResult:
    """The parts of a server's URL; a message never repeats what may be a credential."""
    expected = "expected http://HOST:PORT/v1 or https://HOST/v1"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise InputError(f"the server's URL cannot be read; {expected}.") from None
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise InputError(
            "the server's URL holds a user, password or query, which would end up in records; name an environment "
            f"variable that holds the key instead, and give a plain URL: {expected}."
        )
    if parts.scheme not in ("http", "https") or not host or not url.isascii() or not url.isprintable() or " " in url:
        raise InputError(f"the server's URL is {quoted(url, limit=200)}; {expected}.")
    return parts


def _key(server: Server) -> str | None:
    if server.key_variable is None:
        return None
    key = os.environ.get(server.key_variable, "").strip()
    if not key:
        raise InputError(
            f"the environment variable {quoted(server.key_variable)} is not set or empty; expected the server's key. "
            "Set it, or name no variable if the server needs no key."
        )
    if not key.isascii() or not key.isprintable() or " " in key:  # http.client would repeat it in its own error
        raise InputError(f"the key in {quoted(server.key_variable)} holds a space or another character no key has.")
    return key


def _body(server: Server, prompt: str | Sequence[int], sampling: Sampling, seed: int) -> bytes:
    """The request, every field of the sampling named, since a server's defaults come from the checkpoint.

    Raises:
        InputError: The dialect has no word for a setting, or takes no token ids.
    """
    body: dict[str, Any] = {
        "model": server.model,
        "prompt": prompt if isinstance(prompt, str) else list(prompt),
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": seed,
    }
    unsaid: dict[str, Any] = {"forbidden_ids": sampling.forbidden_ids}
    if server.dialect == "openai":
        unsaid |= {"top_k": sampling.top_k, "min_p": sampling.min_p}
    for name, value in unsaid.items():
        if value:
            raise InputError(f"the dialect {server.dialect} cannot ask for {name} = {quoted(value)}; leave it out.")
    if server.dialect == "vllm":
        body |= {
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "repetition_penalty": 1.0,
            "stop_token_ids": list(sampling.stop_ids),
            "ignore_eos": True,  # an end of sequence may close the question; stop ids say what ends a sample
            "add_special_tokens": False,
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
            "return_token_ids": True,
        }
    elif server.dialect == "transformers":
        if not isinstance(prompt, str):
            raise InputError("the dialect transformers takes a text as prompt, not token ids; give the prefix's text.")
        greedy = sampling.temperature == 0.0
        drawn = {name: getattr(sampling, name) for name in ("temperature", "top_p", "top_k", "min_p")}
        settings = {
            "do_sample": not greedy,
            **({} if greedy else drawn),
            "max_new_tokens": sampling.max_new_tokens,
            "eos_token_id": list(sampling.stop_ids) or None,
            "repetition_penalty": 1.0,
        }
        body = {name: body[name] for name in ("model", "prompt", "seed")} | {"generation_config": json.dumps(settings)}
    return json.dumps(body).encode()


def _chat_body(server: Server, prompt: str | Sequence[int], sampling: Sampling, seed: int) -> bytes:
    """The request as a chat of one message.

    Raises:
        InputError: As in `_body`; or another dialect, or token ids.
    """
    if server.dialect != "openai" or not isinstance(prompt, str):
        raise InputError(f"a chat is asked with a text in the dialect openai; this is {server.dialect}.")
    body = json.loads(_body(server, prompt, sampling, seed))
    body["messages"] = [{"role": "user", "content": body.pop("prompt")}]
    return json.dumps(body).encode()


class _Job:
    """What the workers of one `complete` share: the key, the pace, and whether to go on."""

    def __init__(self, server: Server, key: str | None, *, stop_ids: Sequence[int], chat: bool) -> None:
        self._server, self._key, self._stop_ids = server, key, frozenset(stop_ids)
        self._chat = chat
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._next_free = 0.0  # time.monotonic() of the next request
        self._failed_in_a_row = 0

    def stop(self) -> None:
        """End all waits and all open connections."""
        self._stopping.set()
        with self._lock:
            for connection in self._sockets:
                _shut(connection)

    def sample(self, index: int, seed: int, body: bytes) -> Completion:
        for n_tries in range(1, self._server.tries + 1):
            with self._lock:
                hopeless = self._failed_in_a_row >= self._server.give_up_after
            if hopeless:
                reason = f"not asked (any more): {counted(self._server.give_up_after, 'request')} in a row had failed"
                return Completion(index, seed, n_tries=n_tries - 1, failure=reason)
            self._wait_for_turn()
            try:
                text, token_ids, finish_reason = _sample_of(self._checked(self._ask(body)), chat=self._chat)
            except _FailedError as error:
                reason = self._without_key(str(error))
                backoff = min(self._server.max_wait_seconds, self._server.wait_seconds * 2 ** (n_tries - 1))
                if error.wait > self._server.max_wait_seconds:
                    reason += f"; the server asks to wait {error.wait:,.0f} s, longer than max_wait_seconds"
                elif error.again and n_tries < self._server.tries:
                    self._pause(backoff * random.uniform(0.5, 1.0), everyone=error.wait)
                    continue
                with self._lock:
                    self._failed_in_a_row += 1
                return Completion(index, seed, n_tries=n_tries, failure=reason)
            with self._lock:
                self._failed_in_a_row = 0
            if token_ids and token_ids[-1] in self._stop_ids:
                token_ids = token_ids[:-1]
            return Completion(index, seed, self._without_key(text), token_ids, finish_reason, n_tries)
        raise AssertionError("the last try returns")

    def _wait_for_turn(self) -> None:
        with self._lock:
            turn = max(self._next_free, time.monotonic())
            self._next_free = turn + (60.0 / self._server.per_minute if self._server.per_minute else 0.0)
        if self._stopping.wait(max(0.0, turn - time.monotonic())):
            raise _StoppedError

    def _pause(self, seconds: float, *, everyone: float) -> None:
        """Wait before the next try; ``everyone`` is what the server asked for, which holds for all workers."""
        with self._lock:
            self._next_free = max(self._next_free, time.monotonic() + everyone if everyone else 0.0)
        if self._stopping.wait(max(seconds, everyone)):
            raise _StoppedError

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text

    def _ask(self, body: bytes) -> _Answer:
        """Send one request and read its answer, within the time-outs."""
        parts = _parts(self._server.url)
        host = parts.hostname or ""
        connection = (
            http.client.HTTPSConnection(
                host, parts.port, timeout=self._server.connect_seconds, context=ssl.create_default_context()
            )
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, parts.port, timeout=self._server.connect_seconds)
        )
        headers = {"Content-Type": "application/json", "Connection": "close"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        path = parts.path.rstrip("/")
        late = threading.Event()
        deadline: threading.Timer | None = None
        channel: socket.socket | None = None
        try:
            connection.connect()
            channel = connection.sock
            channel.settimeout(self._server.read_seconds)
            deadline = threading.Timer(self._server.answer_seconds, _end_late, (channel, late))
            deadline.daemon = True
            deadline.start()
            with self._lock:
                self._sockets.add(channel)
            if self._stopping.is_set():
                raise _StoppedError
            end = "/chat/completions" if self._chat else "/completions"
            whole = path if path.endswith(end) else f"{path}{end}"
            connection.request("POST", whole, body=body, headers=headers)
            answer = _read(connection.getresponse(), self._server.max_bytes)
            if late.is_set():
                raise TimeoutError
        except (OSError, http.client.HTTPException, _FailedError) as error:
            if self._stopping.is_set():
                raise _StoppedError from None
            if late.is_set():
                raise _FailedError(f"no whole answer within {self._server.answer_seconds:g} s", again=True) from None
            if isinstance(error, _FailedError):
                raise
            if isinstance(error, TimeoutError):
                seconds = self._server.read_seconds if channel is not None else self._server.connect_seconds
                what = "no word from the server" if channel is not None else "no connection"
                raise _FailedError(f"{what} for {seconds:g} s", again=True) from None
            if isinstance(error, http.client.IncompleteRead):
                raise _FailedError("half an answer: the connection ended within it", again=True) from None
            raise _FailedError(f"{type(error).__name__}: {quoted(str(error), limit=200)}", again=True) from None
        finally:
            if deadline is not None:
                deadline.cancel()
            if channel is not None:
                with self._lock:
                    self._sockets.discard(channel)
            connection.close()
        # Before anything is cut off it for a message, so that no part of the key is left in one.
        return answer._replace(body=answer.body.replace(self._key.encode(), b"[key]")) if self._key else answer

    def _checked(self, answer: _Answer) -> bytes:
        """The body of an answer that is one."""
        if answer.status == 200:
            return answer.body
        if 300 <= answer.status < 400:
            raise _FailedError(
                f"the server redirects (HTTP {answer.status}) to {quoted(_host(answer.location))}, where neither "
                "prompt nor key is sent; give the final address"
            )
        if answer.status in (401, 403):  # what it says of the key may repeat a part of it
            raise _FailedError(f"the server refuses access (HTTP {answer.status}); check the key and its variable")
        again = answer.status in RETRIED or answer.status >= 500
        wait = _retry_after(answer.retry_after) if again else 0.0
        said = self._without_key(_message(answer.body))
        raise _FailedError(f"HTTP {answer.status}: {quoted(said, limit=200)}", again=again, wait=wait)


def _end_late(channel: socket.socket, late: threading.Event) -> None:
    late.set()
    _shut(channel)


def _shut(channel: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it may be closed already
        socket.socket.shutdown(channel, socket.SHUT_RDWR)  # of a TLS socket too, under its encryption


def _read(response: http.client.HTTPResponse, max_bytes: int) -> _Answer:
    body = bytearray()
    while chunk := response.read1(CHUNK):
        body += chunk
        if len(body) > max_bytes:
            raise _FailedError(f"the answer has more than max_bytes = {max_bytes:,}")
    if response.length:  # what Content-Length promised and did not come
        raise _FailedError(f"half an answer: {counted(response.length, 'byte')} did not come", again=True)
    return _Answer(response.status, response.getheader("Location"), response.getheader("Retry-After"), bytes(body))


def _sample_of(body: bytes, *, chat: bool) -> tuple[str, tuple[int, ...] | None, str]:
    """Text, token ids and finish reason of an answer whose form is checked."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _FailedError(f"the answer is no JSON ({type(error).__name__}): {quoted(body[:100])}") from None
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise _FailedError(f"the answer holds no single choice: {quoted(_message(body), limit=200)}")
    text, token_ids, reason = (choices[0].get(name) for name in ("text", "token_ids", "finish_reason"))
    if chat:
        message = choices[0].get("message")
        text = message.get("content") if isinstance(message, dict) else None
    if not isinstance(text, str):
        raise _FailedError(f"the answer's text is {quoted(text)}; expected a string")
    if not isinstance(reason, str) or reason not in FINISHED:
        raise _FailedError(f"the answer's finish_reason is {quoted(reason)}; expected stop or length")
    if token_ids is not None and not (isinstance(token_ids, list) and all(map(_is_id, token_ids))):
        raise _FailedError(f"the answer's token_ids are {quoted(token_ids)}; expected whole numbers")
    return printable(text), None if token_ids is None else tuple(token_ids), FINISHED[reason]


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _message(body: bytes) -> str:
    """What a server says of an error, or how its body begins."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return body[:200].decode("utf-8", "replace")
    for name in ("error", "message", "detail"):
        if isinstance(answer, dict) and name in answer:
            answer = answer[name]
    return answer if isinstance(answer, str) else json.dumps(answer)[:200]


def _host(location: str | None) -> str | None:
    try:
        return urlsplit(location or "").hostname
    except ValueError:
        return None


def _retry_after(value: str | None) -> float:
    """Seconds that a Retry-After header asks to wait, as a number or a date; 0 where it says nothing readable."""
    if value is None:
        return 0.0
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError, OSError):
        return 0.0
