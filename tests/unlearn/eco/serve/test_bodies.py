from __future__ import annotations

import json
from typing import Any

import pytest

from unlearn.eco.serve.bodies import Asked, Kind, RefusedError, parse

ASK = {"model": "small", "messages": [{"role": "user", "content": "the cat"}]}


def parsed(body: Any, kind: Kind = "chat") -> Asked:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse(content, kind, model="small", max_prompts=3, max_new_tokens=50)


def test_what_openai_clients_send_is_understood() -> None:
    asked = parsed(
        {
            **ASK,
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "the "}, {"type": "text", "text": "cat"}]},
                {"role": "assistant", "content": "sat", "refusal": None},
                {"role": "user", "content": "and?", "name": "me"},
            ],
            "n": 1,
            "max_completion_tokens": 7,
            "temperature": 0,
            "top_p": 0.5,
            "seed": -3,
            "stop": "x",
            "stream": True,
            "stream_options": {"include_usage": True},
            "user": "me",
            "tools": [],
            "response_format": {"type": "text"},
            "logit_bias": None,
            "frequency_penalty": 0.0,
        }
    )
    assert [message["role"] for message in asked.prompts[0]] == ["system", "user", "assistant", "user"]
    assert asked.prompts[0][1] == {"role": "user", "content": "the cat"}
    draw = asked.draw
    assert (draw.max_new_tokens, draw.temperature, draw.top_p, draw.seed, draw.stop) == (7, 0.0, 0.5, -3, ("x",))
    assert asked.stream
    assert asked.with_usage


def test_defaults_are_openais_and_a_seed_of_chance() -> None:
    chat, again = parsed(ASK).draw, parsed(ASK).draw
    assert (chat.max_new_tokens, chat.temperature, chat.top_p, chat.stop) == (None, 1.0, 1.0, ())
    assert chat.seed != again.seed
    completions = parsed({"prompt": ["a", "b"]}, "completions")
    assert completions.prompts == ("a", "b")
    assert completions.draw.max_new_tokens == 16


@pytest.mark.parametrize(
    ("changes", "param", "words"),
    [
        ({"prompt_embeds": "AAAA"}, "prompt_embeds", "no embeddings"),
        ({"input_embeds": [[0.1]]}, "input_embeds", "no embeddings"),
        ({"x_Embeddings_y": 1}, "x_Embeddings_y", "no embeddings"),
        ({"tools": [{"type": "function"}]}, "tools", "not done"),
        ({"logprobs": True}, "logprobs", "not done"),
        ({"response_format": {"type": "json_object"}}, "response_format", "not done"),
        ({"n": 2}, "n", "not done"),
        ({"n": True}, "n", "not done"),
        ({"presence_penalty": 0.5}, "presence_penalty", "not done"),
        ({"top_k": 5}, "top_k", "no field"),
        ({"temprature": 1}, "temprature", "Did you mean 'temperature'"),
        ({"model": "gpt"}, "model", "not served"),
        ({"temperature": 2.1}, "temperature", "from 0 to 2"),
        ({"temperature": "1"}, "temperature", "from 0 to 2"),
        ({"temperature": 10**400}, "temperature", "from 0 to 2"),
        ({"top_p": -0.1}, "top_p", "from 0 to 1"),
        ({"max_tokens": 0}, "max_tokens", "from 1 to 50"),
        ({"max_tokens": 51}, "max_tokens", "from 1 to 50"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", "differ"),
        ({"seed": 2**63}, "seed", "whole number"),
        ({"stop": ["a", ""]}, "stop", "stop"),
        ({"stop": list("abcde")}, "stop", "stop"),
        ({"stream": "yes"}, "stream", "true or false"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "goes with"),
        ({"messages": []}, "messages", "no list"),
        ({"messages": "the cat"}, "messages", "no list"),
        ({"messages": [{"role": "user", "content": "a"}] * 129}, "messages", "at most 128"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0]", "role"),
        ({"messages": [{"role": ["user"], "content": "a"}]}, "messages[0]", "role"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0]", "expected a text"),
        ({"messages": [{"role": "user", "content": "  "}]}, "messages[0]", "empty"),
        ({"messages": [{"role": "user", "content": [1, 2]}]}, "messages[0]", "only texts"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}, "messages[0]", "only"),
        ({"messages": [{"role": "user", "content": [{"type": "prompt_embeds", "data": "x"}]}]}, "messages[0]", "only"),
        ({"messages": [{"role": "user", "content": "a", "embeds": "x"}]}, "messages[0]", "embeds"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0]", "surrogate"),
        ({"messages": [7]}, "messages[0]", "JSON number"),
    ],
)
def test_what_is_not_done_is_refused_by_name(changes: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(RefusedError) as caught:
        parsed({**ASK, **changes})
    assert words in caught.value.message
    assert caught.value.param == param
    error = caught.value.to_record()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ([1, 2, 3], "Token ids"),
        ([[1, 2], [3]], "Token ids"),
        ({"prompt_embeds": "x"}, "embeddings are refused"),
        ("", "empty"),
        (["a", " "], "prompt 1 is empty"),
        ([], "empty list"),
        (list("abcd"), "at most 3"),
    ],
)
def test_prompts_that_are_no_texts_are_refused(prompt: Any, words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        parsed({"prompt": prompt}, "completions")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[1]", b"null", b'{"messages": NaN}', b"[" * 100_000, b'{"seed": ' + b"9" * 5_000 + b"}"],
)
def test_a_body_that_is_no_json_object_is_refused(content: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        parsed(content)
    assert caught.value.status == 400
