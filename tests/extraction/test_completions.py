"""The completions client against a local server that misbehaves in every way we know, and against a real one."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from audit.errors import InputError
from audit.extraction.completions import Completion, Server, complete, request_seed
from audit.lm.generate import Sampling
from tests.checkpoints import build_checkpoint

SAMPLING = Sampling(max_new_tokens=5)
KEY = "sk-very-secret-4711"
Reply = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers each request with the next of the server's replies; the last one is for all further requests."""

    protocol_version = "HTTP/1.1"
    server: Stub
    body: dict[str, Any]

    def do_POST(self) -> None:
        self.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append((self.path, dict(self.headers), self.body))
            reply = self.server.replies[min(len(self.server.requests), len(self.server.replies)) - 1]
        try:
            reply(self)
        except OSError:
            self.close_connection = True  # the client has gone

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Stub(ThreadingHTTPServer):
    """A server on a free port of this machine."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: list[Reply] = [good()]
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.lock, self.leave = threading.Lock(), threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


def good(text: str = "hello", **more: Any) -> Reply:
    choice = {"index": 0, "text": text, "finish_reason": "stop", "logprobs": None, **more}
    return raw(json.dumps({"object": "text_completion", "choices": [choice]}).encode())


def raw(body: bytes, status: int = 200, **headers: str) -> Reply:
    return lambda handler: handler.send(status, body, **headers)


def hang(handler: Handler) -> None:
    handler.server.leave.wait(30)


def drip(handler: Handler) -> None:
    """One byte at a time, which no limit on silence can end."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    while not handler.server.leave.wait(0.05):
        handler.wfile.write(b" ")
        handler.wfile.flush()


def half(handler: Handler) -> None:
    handler.send(200, b'{"choices": [{"te', Content_Length="500")
    handler.close_connection = True


def half_chunk(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"40\r\n{")
    handler.close_connection = True


def hang_up(handler: Handler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def endless(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.close_connection = True
    while not handler.server.leave.is_set():
        handler.wfile.write(b" " * 65_536)


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.leave.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TEST_SERVER_KEY", KEY)
    return "TEST_SERVER_KEY"


def server_at(stub: Stub, **settings: Any) -> Server:
    quick = {"wait_seconds": 0.01, "connect_seconds": 2.0, "read_seconds": 2.0, "answer_seconds": 5.0, "tries": 3}
    return Server(stub.url, "tiny", **{**quick, **settings})


def one(stub: Stub, **settings: Any) -> Completion:
    (completion,) = complete(server_at(stub, **settings), ["prompt"], sampling=SAMPLING, seed=0)
    return completion


def test_a_sample_comes_with_what_the_local_sampler_tells(stub: Stub) -> None:
    stub.replies = [good("hi", token_ids=[5, 6], finish_reason="length")]
    (completion,) = complete(server_at(stub), [[1, 2]], sampling=SAMPLING, seed=7, indices=[40])
    assert completion == Completion(40, request_seed(7, 40), "hi", (5, 6), "length", 1)


def test_every_field_of_the_sampling_is_sent(stub: Stub) -> None:
    complete(server_at(stub), [[1, 2]], sampling=SAMPLING, seed=7)
    path, _, body = stub.requests[0]
    assert path == "/v1/completions"
    assert body == {
        "model": "tiny",
        "prompt": [1, 2],
        "max_tokens": 5,
        "temperature": 1.0,
        "top_p": 1.0,
        "seed": request_seed(7, 0),
    }


def test_vllm_is_told_of_stop_ids_and_to_keep_special_tokens(stub: Stub) -> None:
    stub.replies = [good("hi</s>", token_ids=[5, 6, 2])]
    sampling = Sampling(max_new_tokens=5, top_k=3, min_p=0.1, stop_ids=(2,))
    (completion,) = complete(server_at(stub, dialect="vllm"), ["a"], sampling=sampling, seed=7)
    expected = {"top_k": 3, "min_p": 0.1, "stop_token_ids": [2], "ignore_eos": True, "add_special_tokens": False}
    assert expected.items() <= stub.requests[0][2].items()
    assert stub.requests[0][2]["skip_special_tokens"] is False
    assert completion.token_ids == (5, 6)  # the stop id left out, as the local sampler does


@pytest.mark.parametrize("setting", [{"top_k": 3}, {"min_p": 0.1}, {"forbidden_ids": (1,)}])
def test_what_a_dialect_cannot_say_is_refused_before_any_request(stub: Stub, setting: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"the dialect openai cannot ask for {next(iter(setting))}"):
        complete(server_at(stub), ["a"], sampling=Sampling(max_new_tokens=5, **setting), seed=0)
    assert not stub.requests


def test_token_ids_are_refused_where_the_server_takes_text_only(stub: Stub) -> None:
    with pytest.raises(InputError, match="takes a text as prompt"):
        complete(server_at(stub, dialect="transformers"), [[1]], sampling=SAMPLING, seed=0)


def test_seeds_differ_within_a_job_and_between_jobs() -> None:
    seeds = {request_seed(seed, index) for seed in (0, 1) for index in range(1000)}
    assert len(seeds) == 2000
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize(
    "bad", [raw(b"oops", 500), raw(b"", 503), raw(b"slow down", 429), raw(b"", 408), half, half_chunk, hang_up]
)
def test_a_passing_fault_is_tried_again(stub: Stub, bad: Reply) -> None:
    stub.replies = [bad, bad, good("at last")]
    completion = one(stub)
    assert (completion.text, completion.n_tries, completion.failure) == ("at last", 3, None)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (raw(b'{"error": {"message": "out of memory"}}', 500), "HTTP 500: 'out of memory'"),
        (raw(b"<html>", 502), "HTTP 502: '<html>'"),
        (half, "half an answer: 483 bytes did not come"),
        (half_chunk, "half an answer"),
        (hang_up, "RemoteDisconnected"),
    ],
)
def test_a_fault_that_stays_is_a_record_with_its_reason(stub: Stub, bad: Reply, told: str) -> None:
    stub.replies = [bad]
    completion = one(stub)
    assert told in (completion.failure or "")
    assert (completion.text, completion.finish_reason, completion.n_tries) == ("", None, 3)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (raw(b"not json"), "no JSON"),
        (raw(b"\xff\xfe\xff"), "no JSON"),
        (raw(b"[" * 100_000), "no JSON"),
        (raw(b"[]"), "no single choice"),
        (raw(b'{"choices": []}'), "no single choice"),
        (raw(b'{"choices": [3]}'), "no single choice"),
        (raw(b'{"error": "no such model"}'), "no single choice: 'no such model'"),
        (good(text=None), "text is None"),  # type: ignore[arg-type]
        (good(finish_reason=None), "finish_reason is None"),
        (good(finish_reason="content_filter"), "finish_reason is 'content_filter'"),
        (good(token_ids=[1, "2"]), "token_ids are"),
        (good(token_ids=[2**70]), "token_ids are"),
        (raw(b'{"detail": "model missing"}', 404), "HTTP 404: 'model missing'"),
        (raw(b"x" * 20_001), "more than max_bytes = 20,000"),
        (endless, "more than max_bytes = 20,000"),
    ],
)
def test_a_wrong_answer_is_not_asked_for_again(stub: Stub, bad: Reply, told: str) -> None:
    stub.replies = [bad]
    completion = one(stub, max_bytes=20_000) if told.startswith("more") else one(stub)
    assert told in (completion.failure or "")
    assert completion.n_tries == len(stub.requests) == 1


def test_one_bad_request_does_not_lose_the_others(stub: Stub) -> None:
    stub.replies = [good("a"), raw(b"{}"), good("c")]
    texts = [
        (c.text, c.failure is None) for c in complete(server_at(stub, workers=1), "xyz", sampling=SAMPLING, seed=0)
    ]
    assert texts == [("a", True), ("", False), ("c", True)]


def test_a_text_with_half_a_surrogate_can_be_written_down(stub: Stub) -> None:
    stub.replies = [raw(b'{"choices": [{"text": "a\\ud800", "finish_reason": "stop"}]}')]
    assert one(stub).text.encode() == b"a\\ud800"


def test_silence_ends_with_the_read_time_out(stub: Stub) -> None:
    stub.replies = [hang]
    started = time.monotonic()
    assert one(stub, read_seconds=0.2, tries=2).failure == "no word from the server for 0.2 s"
    assert time.monotonic() - started < 2


def test_an_answer_in_drips_ends_with_its_own_time_out(stub: Stub) -> None:
    stub.replies = [drip]
    started = time.monotonic()
    assert one(stub, answer_seconds=0.4, tries=1).failure == "no whole answer within 0.4 s"
    assert time.monotonic() - started < 2


def test_a_server_that_is_not_there_is_a_recorded_failure(stub: Stub) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    server = Server(f"http://127.0.0.1:{port}/v1", "tiny", tries=2, wait_seconds=0.01)
    (completion,) = complete(server, ["a"], sampling=SAMPLING, seed=0)
    assert "ConnectionRefusedError" in (completion.failure or "")


def test_retry_after_is_waited_for_in_seconds_and_as_a_date(stub: Stub) -> None:
    for asked in (lambda: "1", lambda: formatdate(time.time() + 2, usegmt=True)):  # a date has whole seconds
        stub.requests.clear()
        stub.replies = [raw(b"", 429, Retry_After=asked()), good()]
        started = time.monotonic()
        assert one(stub).failure is None
        assert time.monotonic() - started > 0.9


def test_retry_after_holds_back_the_other_workers_too(stub: Stub) -> None:
    times: list[float] = []

    def timed(handler: Handler) -> None:
        times.append(time.monotonic())
        good()(handler)

    stub.replies = [raw(b"", 429, Retry_After="1"), timed]
    started = time.monotonic()
    complete(server_at(stub, workers=2, per_minute=600), "abcd", sampling=SAMPLING, seed=0)
    late = [moment for moment in times if moment - started > 0.9]
    assert len(late) >= 2  # the one that is tried again, and others; some were sent before the answer came


def test_a_wait_longer_than_the_limit_is_not_waited(stub: Stub) -> None:
    stub.replies = [raw(b"", 429, Retry_After="3600")]
    started = time.monotonic()
    assert "asks to wait 3,600 s" in (one(stub).failure or "")
    assert time.monotonic() - started < 2


def test_waits_grow_from_try_to_try(stub: Stub) -> None:
    times: list[float] = []

    def failing(handler: Handler) -> None:
        times.append(time.monotonic())
        handler.send(500, b"")

    stub.replies = [failing]
    one(stub, wait_seconds=0.2, tries=4)
    waits = [b - a for a, b in pairwise(times)]
    assert [wait >= least for least, wait in zip((0.1, 0.2, 0.4), waits, strict=True)] == [True] * 3


def test_no_more_requests_a_minute_than_allowed(stub: Stub) -> None:
    started = time.monotonic()
    complete(server_at(stub, per_minute=600, workers=4), "abcdef", sampling=SAMPLING, seed=0)
    assert time.monotonic() - started >= 0.49


def test_as_many_at_a_time_as_there_are_workers(stub: Stub) -> None:
    sleeping: list[None] = []
    at_once: list[int] = []

    def slow(handler: Handler) -> None:
        sleeping.append(None)
        at_once.append(len(sleeping))
        time.sleep(0.1)
        sleeping.pop()  # before the answer goes out: the next request may come at once
        good()(handler)

    stub.replies = [slow]
    done: list[int] = []
    complete(server_at(stub, workers=3), "abcdefghi", sampling=SAMPLING, seed=0, on_done=done.append)
    assert max(at_once) == 3
    assert done == [1] * 9


def test_samples_come_in_the_order_of_the_prompts(stub: Stub) -> None:
    def echo(handler: Handler) -> None:
        time.sleep(0.2 if handler.body["prompt"] == "a" else 0.0)
        good(handler.body["prompt"])(handler)

    stub.replies = [echo]
    assert [c.text for c in complete(server_at(stub), "abcd", sampling=SAMPLING, seed=0)] == list("abcd")


def test_a_server_that_only_fails_is_left_alone_after_a_while(stub: Stub) -> None:
    stub.replies = [raw(b"no", 400)]
    results = complete(server_at(stub, workers=1, give_up_after=3), "a" * 10, sampling=SAMPLING, seed=0)
    assert len(stub.requests) == 3
    assert [completion.n_tries for completion in results] == [1] * 3 + [0] * 7
    assert "3 requests in a row had failed" in (results[-1].failure or "")


def test_an_interrupted_job_ends_at_once(stub: Stub) -> None:
    stub.replies = [good(), hang]

    def interrupt(n: int) -> None:
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        complete(server_at(stub, workers=3), "a" * 50, sampling=SAMPLING, seed=0, on_done=interrupt)
    assert time.monotonic() - started < 1.5  # of read_seconds = 2


def test_the_key_is_sent_and_kept_nowhere(stub: Stub, key: str) -> None:
    server = server_at(stub, key_variable=key)
    assert complete(server, ["a"], sampling=SAMPLING, seed=0)[0].failure is None
    assert stub.requests[0][1]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in repr(server)
    assert KEY not in json.dumps(server.to_record())


@pytest.mark.parametrize(
    "bad",
    [
        raw(json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}}).encode(), 401),
        raw(json.dumps({"error": {"message": f"wrong: {KEY}"}}).encode(), 400),
        raw(f"{'x' * 190}{KEY}".encode(), 500),
        raw(f"{'x' * 90}{KEY}".encode()),
        good(f"you sent {KEY}"),
        good(finish_reason=KEY),
    ],
)
def test_a_key_that_the_server_repeats_is_in_no_record(stub: Stub, key: str, bad: Reply) -> None:
    stub.replies = [bad]
    completion = one(stub, key_variable=key, tries=1)
    for part in range(len(KEY) - 9):
        assert KEY[part : part + 10] not in repr(completion)


def test_a_redirect_is_not_followed_and_the_key_not_sent_on(stub: Stub, key: str) -> None:
    with Stub() as elsewhere:
        threading.Thread(target=elsewhere.serve_forever, args=(0.02,), daemon=True).start()
        for status in (301, 302, 307, 308):
            location = f"http://localhost:{elsewhere.server_port}/v1/completions?token={KEY}"
            stub.replies = [raw(b"", status, Location=location)]
            completion = one(stub, key_variable=key)
            assert f"redirects (HTTP {status}) to 'localhost'" in (completion.failure or "")
            assert KEY not in repr(completion)
        assert not elsewhere.requests
        elsewhere.shutdown()


def test_nothing_is_sent_where_the_encryption_fails(stub: Stub, key: str) -> None:
    server = server_at(stub, key_variable=key, tries=2)
    encrypted = Server(stub.url.replace("http:", "https:"), "tiny", key_variable=key, tries=2, wait_seconds=0.01)
    (completion,) = complete(encrypted, ["a"], sampling=SAMPLING, seed=0)
    assert "SSL" in (completion.failure or "")
    assert not stub.requests
    assert complete(server, ["a"], sampling=SAMPLING, seed=0)[0].failure is None


def test_a_missing_key_is_refused_before_any_request(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_SERVER_KEY", raising=False)
    with pytest.raises(InputError, match="'TEST_SERVER_KEY' is not set or empty"):
        one(stub, key_variable="TEST_SERVER_KEY")
    assert not stub.requests


def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_SERVER_KEY", f"{KEY}\r\nX-Other: 1")
    with pytest.raises(InputError) as caught:
        one(stub, key_variable="TEST_SERVER_KEY")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "rest",
    [f"user:{KEY}@host/v1", f"{KEY}@host/v1", f"host/v1?key={KEY}", f"host/#{KEY}", f"user:{KEY}@host:port/v1"],
)
def test_a_url_with_a_credential_is_refused_without_showing_it(rest: str) -> None:
    with pytest.raises(InputError, match="expected http://HOST:PORT/v1") as caught:
        Server(f"https://{rest}", "tiny")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["", "host/v1", "ftp://host/v1", "http:///v1", "http://host/v1\r\nX: 1", "http://h ost/"]
)
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="expected http://HOST:PORT/v1"):
        Server(url, "tiny")


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"dialect": "vlm"}, "dialect is 'vlm'; expected one of openai, vllm, transformers"),
        ({"per_minute": 0.0}, "per_minute is 0.0"),
        ({"read_seconds": float("nan")}, "read_seconds is nan"),
        ({"tries": 0}, "tries is 0; expected 1 or more"),
        ({"wait_seconds": -1.0}, "wait_seconds is -1.0"),
    ],
)
def test_a_setting_out_of_range_is_refused(setting: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Server("http://host/v1", "tiny", **setting)


def test_the_whole_address_may_be_given(stub: Stub) -> None:
    server = Server(f"{stub.url}/completions/", "tiny")
    assert complete(server, ["a"], sampling=SAMPLING, seed=0)[0].text == "hello"
    assert stub.requests[0][0] == "/v1/completions"


@pytest.mark.slow
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("fastapi", "uvicorn", "openai")),
    reason="transformers serve needs: pip install 'transformers[serving]'",
)
def test_a_real_server_samples_from_a_tiny_checkpoint(tmp_path: Path) -> None:
    checkpoint = build_checkpoint(tmp_path / "tiny", "llama", letters_only=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code = "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; main()"
    command = [sys.executable, "-c", code, "serve", str(checkpoint), "--port", str(port), "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 90
        while not _answers(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.5)
        server = Server(f"http://127.0.0.1:{port}/v1", str(checkpoint), dialect="transformers", workers=1)
        sampling = Sampling(max_new_tokens=12, stop_ids=(1,))
        prompts = ["the cat"] * 4
        first = complete(server, prompts, sampling=sampling, seed=0)
        again = complete(server, prompts, sampling=sampling, seed=0)
        greedy = complete(server, prompts, sampling=Sampling(max_new_tokens=12, temperature=0.0), seed=0)
        missing = complete(
            Server(server.url, "another/model", workers=1), ["a"], sampling=Sampling(max_new_tokens=2), seed=0
        )
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
    assert [completion.failure for completion in first] == [None] * 4
    assert {completion.finish_reason for completion in first} <= {"stop", "length"}
    assert len({completion.text for completion in first}) > 1  # drawn, not greedy
    assert [completion.text for completion in first] == [completion.text for completion in again]
    assert len({completion.text for completion in greedy}) == 1
    assert "HTTP 400" in (missing[0].failure or "")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
