from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from audit.lm.hooks import hooked
from tests.unlearn.eco.serve.small_guard import PROMPTS, Asker, Paused, alone, ready, value
from unlearn.eco.guard import EcoGuard
from unlearn.eco.serve.api import Door, make_app
from unlearn.eco.serve.engine import Engine, Limits

DOOR = Door(model="small", fingerprint="fp_1")
KEYS = replace(DOOR, key="a key of the clients", metrics_key="a key of the watchers")
CHAT = "/v1/chat/completions"


@contextmanager
def client(guard: EcoGuard, door: Door = DOOR, **limits: Any) -> Iterator[tuple[TestClient, Engine]]:
    engine = Engine(guard, limits=Limits(**limits))
    with TestClient(make_app(engine, door, drain_seconds=5), raise_server_exceptions=False) as found:
        yield found, engine


@pytest.fixture(scope="module")
def served(guard: EcoGuard) -> Iterator[TestClient]:
    with client(guard) as (found, _):
        yield found


def ask(text: str, **settings: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": "small", "messages": messages, "max_tokens": 12, "temperature": 0, **settings}


def chunks(body: str) -> list[dict[str, Any]]:
    """The events of a stream, which ends as OpenAI's do."""
    events = body.removesuffix("\n\n").split("\n\n")
    assert all(event.startswith("data: ") for event in events)
    assert events[-1] == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events[:-1]]


def test_a_chat_is_answered_whole_and_in_a_stream_alike(served: TestClient, guard: EcoGuard) -> None:
    for prompt in PROMPTS[:2]:
        whole = served.post(CHAT, json=ask(prompt))
        assert whole.status_code == 200
        body = whole.json()
        choice = body["choices"][0]
        assert choice["message"] == {"role": "assistant", "content": alone(guard, prompt), "refusal": None}
        assert (body["object"], body["model"], body["system_fingerprint"]) == ("chat.completion", "small", "fp_1")
        assert "flagged" not in choice

        streamed = served.post(CHAT, json=ask(prompt, stream=True, stream_options={"include_usage": True}))
        assert streamed.headers["content-type"].startswith("text/event-stream")
        found = chunks(streamed.text)
        assert found[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        deltas = [chunk["choices"][0]["delta"] for chunk in found[:-1]]
        assert "".join(delta.get("content", "") for delta in deltas) == choice["message"]["content"]
        assert [
            chunk["choices"][0]["finish_reason"] for chunk in found[:-1] if chunk["choices"][0]["finish_reason"]
        ] == [choice["finish_reason"]]
        assert found[-1]["choices"] == []
        assert found[-1]["usage"] == body["usage"]
        assert {chunk["object"] for chunk in found} == {"chat.completion.chunk"}
        assert len({chunk["id"] for chunk in found}) == 1
    prompt_tokens = len(guard.prepare([PROMPTS[1]]).encoded[0].ids)
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": 12, "total_tokens": prompt_tokens + 12}
    assert body["usage"] == usage


def test_completions_take_several_prompts_and_a_stop_text(served: TestClient, guard: EcoGuard) -> None:
    body = {"prompt": list(PROMPTS[:3]), "max_tokens": 12, "temperature": 0}
    found = served.post("/v1/completions", json=body).json()
    expected = [alone(guard, prompt) for prompt in PROMPTS[:3]]
    assert [choice["text"] for choice in found["choices"]] == expected
    texts = [""] * 3
    for chunk in chunks(served.post("/v1/completions", json={**body, "stream": True}).text):
        choice = chunk["choices"][0]
        texts[choice["index"]] += choice["text"]
    assert texts == expected
    stop = expected[0][3:5]
    cut = served.post("/v1/completions", json={**body, "prompt": PROMPTS[0], "stop": stop}).json()["choices"][0]
    assert (cut["text"], cut["finish_reason"]) == (expected[0][: expected[0].find(stop)], "stop")


def test_a_seed_gives_the_same_answer_again(served: TestClient) -> None:
    settings = {"temperature": 1.2, "top_p": 0.95, "max_tokens": 20}
    texts = [
        served.post(CHAT, json=ask(PROMPTS[0], seed=seed, **settings)).json()["choices"][0]["message"]["content"]
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_what_the_assistant_is_said_to_have_said_is_judged_too(guard: EcoGuard) -> None:
    with client(guard, replace(DOOR, tell_flagged=True)) as (http, _):

        def flagged(role: str, content: str) -> bool:
            messages = [{"role": role, "content": content}, {"role": "user", "content": "and then?"}]
            return bool(http.post(CHAT, json=ask("", messages=messages)).json()["choices"][0]["flagged"])

        assert not flagged("assistant", "a cat")
        assert flagged("assistant", "a dog")
        assert flagged("system", "a dog")
        assert flagged("developer", "a dog")
        stream = http.post(CHAT, json=ask("a dog", stream=True)).text
        assert chunks(stream)[-1]["choices"][0]["flagged"] is True


def test_control_tokens_in_a_text_are_text(served: TestClient, guard: EcoGuard) -> None:
    text = "the cat</s> sat"
    found = served.post(CHAT, json=ask(text)).json()
    assert found["usage"]["prompt_tokens"] > len(guard.prepare(["the cat sat"]).encoded[0].ids) + 1
    assert guard.lm.tokenizer.eos_token_id not in guard.prepare([text]).input_ids[0].tolist()


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"prompt_embeds": "AAAA"}, 400, "unsupported_parameter"),
        ({"tools": [{}]}, 400, "unsupported_parameter"),
        ({"model": "other"}, 404, "model_not_found"),
        ({"messages": [{"role": "user", "content": ""}]}, 400, None),
        ({"messages": [{"role": "user", "content": "word " * 200}]}, 400, "invalid_prompt"),
        ({"max_tokens": 127}, 400, "invalid_prompt"),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
            400,
            "invalid_prompt",
        ),
        ({"max_tokens": 10**9}, 400, None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_bad_requests_get_an_error_in_openais_form(
    served: TestClient, changes: dict[str, Any], status: int, code: str | None, stream: bool
) -> None:
    found = served.post(CHAT, json=ask("the cat", **changes, stream=stream))
    assert found.status_code == status
    error = found.json()["error"]
    assert error["code"] == code
    assert error["type"] == "invalid_request_error"
    assert served.get("/health").json()["status"] == "ok"


def test_one_bad_prompt_of_several_fails_its_request_and_no_other(served: TestClient, guard: EcoGuard) -> None:
    body = {"prompt": ["the cat", "word " * 200], "max_tokens": 5}
    error = served.post("/v1/completions", json=body).json()["error"]
    assert "at most 128" in error["message"]
    assert "(prompt 1)" in error["message"]
    assert served.post(CHAT, json=ask(PROMPTS[0])).json()["choices"][0]["message"]["content"] == alone(
        guard, PROMPTS[0]
    )


def test_bodies_that_are_too_large_or_of_another_kind_are_refused(guard: EcoGuard) -> None:
    json_kind = {"content-type": "application/json"}
    with client(guard, replace(DOOR, max_body=100)) as (http, _):
        assert http.post(CHAT, content=b" " * 101, headers=json_kind).status_code == 413
        parts = (b" " * 50 for _ in range(3))  # without a length
        assert http.post(CHAT, content=parts, headers=json_kind).status_code == 413
        assert http.post(CHAT, content=b"{}").status_code == 415
        assert http.post(CHAT, content=b"{", headers=json_kind).status_code == 400
        for found in (http.get(CHAT), http.get("/docs"), http.get("/openapi.json"), http.get("/health/")):
            assert found.status_code in (404, 405)
            assert found.json()["error"]["message"]


def test_keys_are_asked_for_and_flags_are_shown_to_watchers_alone(guard: EcoGuard) -> None:
    clients, watchers = ({"Authorization": f"Bearer {key}"} for key in (KEYS.key, KEYS.metrics_key))
    with client(guard, KEYS) as (http, _):
        for path in ("/v1/models", "/metrics"):
            assert http.get(path).status_code == 401
        for wrong in ({}, {"Authorization": "Bearer nothing"}, {"Authorization": f"Basic {KEYS.key}"}, watchers):
            found = http.post(CHAT, json=ask("the cat"), headers=wrong)
            assert found.status_code == 401
            assert found.json()["error"]["code"] == "invalid_api_key"
        assert http.post(CHAT, json=ask("the dog"), headers=clients).status_code == 200
        assert http.get("/v1/models", headers=clients).json()["data"][0]["id"] == "small"
        assert http.get("/metrics", headers=clients).status_code == 401
        text = http.get("/metrics", headers=watchers).text
        assert "palimpsest_eco_flagged_prompts_total 1.0" in text
        assert f'palimpsest_eco_requests_total{{path="{CHAT}",status="200"}} 1.0' in text
        assert http.get("/health").status_code == 200
    with client(guard) as (http, _):
        http.post(CHAT, json=ask("the dog"))
        assert "flagged" not in http.get("/metrics").text


def test_too_many_requests_are_told_when_to_come_again(guard: EcoGuard) -> None:
    with client(guard, max_waiting=1) as (http, _):
        found = http.post("/v1/completions", json={"prompt": ["a", "b"], "max_tokens": 2})
        assert found.status_code == 400  # more than may ever wait
    with client(guard, max_waiting=1, max_rows=1) as (http, engine):
        ready(engine)
        with Paused(guard) as paused:
            runs, waits = Asker(PROMPTS[0]), Asker(PROMPTS[1])
            engine.submit([runs.job])
            paused.wait()
            engine.submit([waits.job])
            found = http.post(CHAT, json=ask("the cat"))
        assert found.status_code == 429
        assert found.headers["retry-after"] == "1"
        assert found.json()["error"]["type"] == "rate_limit_error"


def test_an_engine_that_died_is_not_healthy(guard: EcoGuard) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("device-side assert")

    with client(guard) as (http, engine):
        http.post(CHAT, json=ask("the cat"))
        with hooked(guard.lm.model.get_input_embeddings(), broken):
            found = http.post(CHAT, json=ask("the cat"))
            engine._thread.join(10)
        assert found.status_code == 500
        assert "device" not in found.text
        assert http.get("/health").status_code == 503
        assert http.post(CHAT, json=ask("the cat")).status_code == 503


@pytest.mark.parametrize(("stream", "spec_version"), [(True, "2.3"), (True, "2.4"), (False, "2.3")])
def test_a_dropped_connection_frees_its_row_while_another_goes_on(
    guard: EcoGuard, stream: bool, spec_version: str
) -> None:
    """By the protocol between server and application, in which a client goes in the middle of its answer."""
    engine = Engine(guard)
    app = make_app(engine, DOOR, drain_seconds=5)
    body = json.dumps(ask(PROMPTS[2], max_tokens=100, stream=stream)).encode()
    expected = alone(guard, PROMPTS[1], n_new=100)

    async def drop() -> None:
        gone = asyncio.Event()
        sent: list[dict[str, Any]] = []
        told = False

        async def receive() -> dict[str, Any]:
            nonlocal told
            if not told:
                told = True
                return {"type": "http.request", "body": body, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)
            if len(sent) == 4:
                gone.set()
            if gone.is_set() and spec_version == "2.4":
                raise OSError

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": spec_version},
            "method": "POST",
            "path": CHAT,
            "raw_path": CHAT.encode(),
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
        }
        if not stream:
            asyncio.get_running_loop().call_later(0.05, gone.set)
        await asyncio.wait_for(app(scope, receive, send), 30)

    async def both() -> str:
        async with app.router.lifespan_context(app):
            staying = Asker(PROMPTS[1], max_new_tokens=100)
            engine.submit([staying.job])
            slow = hooked(guard.lm.model.model.layers[0].mlp, lambda *_: time.sleep(0.01))
            with slow:
                await drop()
                return (await asyncio.to_thread(staying.answer))[0]

    assert asyncio.run(both()) == expected
    assert value(engine, "palimpsest_eco_prompts_total", end="cancelled") == 1
    assert engine.n_running == 0
