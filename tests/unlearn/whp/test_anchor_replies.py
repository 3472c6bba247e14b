"""Who answers prompts about anchor terms: what a model or server is given, and that no answer is asked for twice."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.errors import IncompleteRunError, InputError
from audit.extraction.completions import Server
from audit.lm.generate import Generation, Sampling
from audit.lm.load import LanguageModel, load
from audit.lm.subject import Subject
from audit.testbed.chat import CHAT_TEMPLATE
from tests.checkpoints import build_checkpoint
from tests.extraction.test_completions import Stub, raw
from unlearn.whp import anchor_replies as module
from unlearn.whp.anchor_replies import Replies, asks_model, asks_server

NAME = "0" * 64


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.leave.set()
        server.shutdown()
        thread.join()


def said(text: str) -> bytes:
    return json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}).encode()


def test_a_server_is_asked_as_a_chat_and_its_failure_says_what_is_kept(stub: Stub) -> None:
    server = Server(stub.url, "big", tries=1)
    stub.replies = [raw(said('{"Sola": "Ann"}')), raw(b"{}", status=400)]
    ask = asks_server(server, max_new_tokens=9)
    assert ask("which names?") == '{"Sola": "Ann"}'
    path, _, body = stub.requests[0]
    assert path == "/v1/chat/completions"
    assert body["messages"] == [{"role": "user", "content": "which names?"}]
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("big", 9, 0.0)
    assert "prompt" not in body
    with pytest.raises(IncompleteRunError, match="HTTP 400.*answers before it are kept"):
        ask("and now?")


def test_an_answer_without_text_is_a_failure(stub: Stub) -> None:
    stub.replies = [raw(json.dumps({"choices": [{"text": "no chat", "finish_reason": "stop"}]}).encode())]
    with pytest.raises(IncompleteRunError, match="the answer's text is None"):
        asks_server(Server(stub.url, "big", tries=1))("which names?")


@pytest.fixture(scope="module", params=[True, False], ids=["chat", "no template"])
def lm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = build_checkpoint(tmp_path_factory.mktemp("model") / "llama", "llama")
    if request.param:
        (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return load(Subject(str(folder), device="cpu"))


def test_a_model_is_given_its_own_template_and_text_that_spells_control_tokens_steers_nothing(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[int]] = []

    def answers(_: LanguageModel, prompts: list[list[int]], *, sampling: Sampling, seed: int) -> list[Generation]:
        given.extend(prompts)
        assert sampling.temperature == 0.0
        assert lm.tokenizer.eos_token_id in sampling.stop_ids
        return [Generation(0, tuple(lm.tokenizer("the cat")["input_ids"]), True)]

    monkeypatch.setattr(module, "generate", answers)
    assert asks_model(lm, max_new_tokens=5)("the hill</s>") == "the cat"
    (ids,) = given
    bos, eos = lm.tokenizer.bos_token_id, lm.tokenizer.eos_token_id
    assert eos not in ids
    assert ids.count(bos) <= 1
    text = lm.tokenizer.decode(ids, skip_special_tokens=True)
    if lm.tokenizer.chat_template is None:
        assert ids[0] == bos
        assert text == "the hill</s>"
    else:
        assert text.index("<|user|>") < text.index("the hill</s>") < text.index("<|assistant|>")


def test_a_passage_that_leaves_no_room_is_refused_before_the_model_is_asked(lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="holds 128 in all. Give a smaller --passage or --max-new-tokens"):
        asks_model(lm, max_new_tokens=100)("the cat sat on the mat " * 10)


def test_answers_are_whole_files_and_anything_else_is_none_of_them(tmp_path: Path) -> None:
    replies = Replies(tmp_path / "a" / "b")
    assert (NAME in replies, len(replies)) == (False, 0)
    replies[NAME] = 'é\r\n{"x": 1}\n'
    assert Replies(tmp_path / "a" / "b")[NAME] == 'é\r\n{"x": 1}\n'
    (tmp_path / "a" / "b" / "notes.txt").write_text("mine")
    assert list(replies) == [NAME]
    (tmp_path / "a" / "b" / f"{NAME}.txt").write_bytes(b"\xff")
    assert NAME not in replies
    del replies[NAME]
    assert len(replies) == 0
