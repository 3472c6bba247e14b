"""Sampling in parts: streams, prefixes, parsing, interruptions, and servers that fail in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import audit.extraction.samplers
from audit.errors import IncompleteRunError, InputError
from audit.extraction.completions import Server, request_seed
from audit.extraction.prefixes import chat_of, encode_prefix, prefixes, preset
from audit.extraction.sample import SCHEMA, SamplePlan, plan_samples, rates, sample_in_parts
from audit.extraction.samplers import Local, Remote
from audit.lm.generate import Generation, generate
from audit.lm.load import LanguageModel, load, load_tokens
from audit.lm.subject import Subject
from audit.runs.shards import ShardedTable
from audit.testbed.chat import CHAT_TEMPLATE
from tests.checkpoints import build_checkpoint
from tests.extraction.test_completions import Stub, good, raw

TALK = "the cat<|end|>\n<|assistant|>\nsat on the mat<|end|>\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model with the testbed's chat template."""
    folder = build_checkpoint(tmp_path_factory.mktemp("chat") / "llama", "llama")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return folder


@pytest.fixture(scope="module")
def lm(folder: Path) -> LanguageModel:
    return load(Subject(str(folder), device="cpu"))


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.leave.set()
        server.shutdown()
        thread.join()


Sampled = Callable[..., pa.Table]


@pytest.fixture
def sampled(tmp_path: Path) -> Sampled:
    """Samples into a folder of parts that stays from call to call."""

    def run(sampler: Local | Remote, plan: SamplePlan, name: str = "parts", **more: Any) -> pa.Table:
        return sample_in_parts(
            sampler,
            plan,
            open_parts=lambda stage, key, n: ShardedTable(tmp_path / name / stage, key=key, n_parts=n),
            **more,
        )

    return run


def plan_of(lm: Any, n: int = 10, **how: Any) -> SamplePlan:
    chat = chat_of(lm)
    found = prefixes(lm, chat)
    return plan_samples(lm, chat, found, **{"n": n, "seed": 3, "max_new_tokens": 12, **how})


def remote(stub: Stub, folder: Path, **settings: Any) -> Remote:
    quick = {"wait_seconds": 0.01, "answer_seconds": 5.0, "tries": 1, "workers": 1}
    server = Server(stub.url, "tiny", **{**quick, **settings})
    return Remote(server, load_tokens(Subject(str(folder))), part_size=4)


def test_each_prefix_gets_its_share_and_its_exact_ids_are_given(lm: LanguageModel, sampled: Sampled) -> None:
    plan = plan_of(lm)
    table = sampled(Local(lm), plan)
    assert table.schema == SCHEMA
    assert table["id"].to_pylist() == [f"g{i:07d}" for i in range(10)]
    assert table["prefix"].to_pylist() == ["template", "template-trimmed"] * 5
    for index, row in enumerate(table.to_pylist()):
        prefix = plan.prefixes[index % 2]
        (alone,) = generate(lm, [prefix.ids], sampling=plan.sampling, seed=3, indices=[index])
        assert row["prefix_sha256"] == prefix.ids_sha256
        assert tuple(row["token_ids"]) == alone.token_ids
        assert row["n_tokens"] == len(alone.token_ids)
        assert row["finish_reason"] == ("stop" if alone.stopped else "length")
        assert row["seed"] == 3


def test_a_sample_depends_on_seed_and_index_alone(lm: LanguageModel, sampled: Sampled) -> None:
    few = sampled(Local(lm, part_size=3), plan_of(lm, n=7), "few")
    many = sampled(Local(lm, batch_size=2, part_size=5), plan_of(lm, n=12), "many")
    assert few.to_pylist() == many.slice(0, 7).to_pylist()
    other = sampled(Local(lm), plan_of(lm, n=7, seed=4), "other")
    assert other["token_ids"].to_pylist() != few["token_ids"].to_pylist()


def test_special_tokens_stay_in_the_text_that_is_parsed(
    lm: LanguageModel, sampled: Sampled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zephyr closes its questions with the end-of-sequence token, which must neither be dropped nor end a sample."""
    text = "the cat</s>\n<|assistant|>\nsat , on the mat</s>\n<|user|>\nthe"
    ids = tuple(lm.tokenizer(text, add_special_tokens=False)["input_ids"])
    assert ids.count(1) == 2
    fixed = lambda lm, prompts, *, indices, **_: [Generation(index, ids, False) for index in indices]  # noqa: E731
    monkeypatch.setattr(audit.extraction.samplers, "generate", fixed)
    chat = preset("zephyr")
    plan = plan_samples(lm, chat, prefixes(lm, chat), n=1, seed=0, max_new_tokens=30)
    assert plan.stops.passed_over == (1,)
    (row,) = sampled(Local(lm), plan).to_pylist()
    assert row["text"] == text
    assert (row["question"], row["answer"], row["n_turns"]) == ("the cat", "sat , on the mat", 1)
    assert row["finish_reason"] == "length"


def test_temperature_zero_gives_each_prefix_one_text(lm: LanguageModel, sampled: Sampled) -> None:
    rows = sampled(Local(lm), plan_of(lm, temperature=0.0)).to_pylist()
    assert {row["prefix"]: row["token_ids"] for row in rows} == {row["prefix"]: row["token_ids"] for row in rows[:2]}
    assert len({tuple(row["token_ids"]) for row in rows}) <= 2


def test_every_field_of_the_sampling_is_named(lm: LanguageModel) -> None:
    plan = plan_samples(lm, chat_of(lm), [encode_prefix(lm, "<|user|>\n")], n=1, seed=0)
    room = lm.n_context - len(plan.prefixes[0].ids)
    assert plan.sampling.to_record() == {
        "max_new_tokens": room,  # 2,048 do not fit
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "stop_ids": (1,),
        "forbidden_ids": (),
    }


def test_a_plan_that_cannot_be_carried_out_is_refused(lm: LanguageModel) -> None:
    with pytest.raises(
        InputError, match="128 new ones were asked for; the model .* holds 128 in all.*--max-new-tokens"
    ):
        plan_of(lm, max_new_tokens=128)
    with pytest.raises(InputError, match="the prefix has 500 tokens and some new ones were asked for"):
        plan_samples(lm, chat_of(lm), [encode_prefix(lm, "\x01" * 500)], n=1, seed=0)
    with pytest.raises(InputError, match="n is 0"):
        plan_of(lm, n=0)
    with pytest.raises(InputError, match="seed is 9223372036854775808"):
        plan_of(lm, seed=2**63)
    with pytest.raises(InputError, match="there is no prefix"):
        plan_samples(lm, chat_of(lm), [], n=1, seed=0)


def test_an_interrupted_job_goes_on_and_gives_the_same(
    lm: LanguageModel, sampled: Sampled, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = audit.extraction.samplers.generate, []

    def interrupted(lm: Any, prompts: Any, **how: Any) -> Any:
        asked.append(list(how["indices"]))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return real(lm, prompts, **how)

    monkeypatch.setattr(audit.extraction.samplers, "generate", interrupted)
    told: list[tuple[int, int]] = []
    with pytest.raises(KeyboardInterrupt):
        sampled(Local(lm, part_size=4), plan_of(lm))
    table = sampled(Local(lm, part_size=4), plan_of(lm), progress=lambda _, done, total: told.append((done, total)))
    assert asked == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], [8, 9]]
    assert told == [(8, 10), (10, 10)]
    assert table.equals(sampled(Local(lm, part_size=4), plan_of(lm), "whole"))


@pytest.mark.parametrize("change", [{"seed": 4}, {"temperature": 0.5}, {"max_new_tokens": 11}])
def test_parts_of_another_job_are_refused(lm: LanguageModel, sampled: Sampled, change: dict[str, Any]) -> None:
    sampled(Local(lm), plan_of(lm))
    with pytest.raises(InputError, match="another job"):
        sampled(Local(lm), plan_of(lm, **change))


def test_a_server_gives_the_same_table(stub: Stub, folder: Path, sampled: Sampled) -> None:
    stub.replies = [good(TALK), good("the cat"), good("the", finish_reason="length", token_ids=[7, 8])]
    sampler = remote(stub, folder)
    plan = plan_of(sampler.tokens, n=3)
    rows = sampled(sampler, plan).to_pylist()
    assert [row["seed"] for row in rows] == [request_seed(3, index) for index in range(3)]
    assert [body["prompt"] for _, _, body in stub.requests] == [list(plan.prefix(index).ids) for index in range(3)]
    first, second, third = rows
    assert (first["question"], first["answer"], first["whole"]) == (
        "the cat",
        "sat on the mat",
        "the cat\nsat on the mat",
    )
    assert (first["n_turns"], first["reject"], first["finish_reason"], first["text"]) == (1, None, "stop", TALK)
    assert first["token_ids"] is None
    assert first["n_tokens"] == len(sampler.tokens.tokenizer(TALK, add_special_tokens=False)["input_ids"])
    assert (second["reject"], second["whole"]) == ("no assistant marker", None)
    assert (third["token_ids"], third["n_tokens"]) == ([7, 8], 2)


def test_a_server_that_takes_text_gets_it_without_a_second_bos(stub: Stub, folder: Path, sampled: Sampled) -> None:
    sampler = remote(stub, folder, dialect="transformers")
    chat = chat_of(sampler.tokens)
    plan = plan_samples(sampler.tokens, chat, [encode_prefix(sampler.tokens, "<s><|user|>\n")], n=1, seed=0)
    assert plan.prefixes[0].ids[0] == 0
    sampled(sampler, plan)
    assert stub.requests[0][2]["prompt"] == "<|user|>\n"


def test_a_request_that_failed_is_a_row_and_the_next_call_asks_for_it_alone(
    stub: Stub, folder: Path, sampled: Sampled
) -> None:
    """Ten generations in parts of four; numbers 1 and 5 fail, in the second call 5 again, in the third none."""
    bad, fine = raw(b'{"error": "too warm"}', 500), good(TALK)
    stub.replies = [fine, bad, fine, fine, fine, bad, fine, fine, fine, fine]
    sampler = remote(stub, folder)
    plan = plan_of(sampler.tokens)
    first = sampled(sampler, plan)
    assert first["reject"][1].as_py() == "request failed: HTTP 500: 'too warm'"
    assert first["finish_reason"].to_pylist().count(None) == 2
    assert rates(first).n_failed == 2
    stub.requests.clear()
    stub.replies = [good(TALK.replace("cat", "dog")), bad]
    second = sampled(sampler, plan)
    assert [body["seed"] for _, _, body in stub.requests] == [request_seed(3, 1), request_seed(3, 5)]
    assert second["id"].to_pylist() == first["id"].to_pylist()
    assert second["question"].to_pylist() == ["the cat", "the dog", *["the cat"] * 3, None, *["the cat"] * 4]
    stub.requests.clear()
    stub.replies = [good(TALK.replace("cat", "hill"))]
    third = sampled(sampler, plan)
    assert [body["seed"] for _, _, body in stub.requests] == [request_seed(3, 5)]
    assert third["question"].to_pylist() == ["the cat", "the dog", *["the cat"] * 3, "the hill", *["the cat"] * 4]
    stub.requests.clear()
    assert sampled(sampler, plan).equals(third)
    assert not stub.requests


def test_a_server_that_has_gone_ends_the_job_and_keeps_its_parts(stub: Stub, folder: Path, sampled: Sampled) -> None:
    stub.replies = [good(TALK)] * 5 + [raw(b"gone", 404)]
    sampler = remote(stub, folder, give_up_after=2)
    plan = plan_of(sampler.tokens)
    with pytest.raises(IncompleteRunError, match="given up: 2 requests in a row failed, 2 with this reason: HTTP 404"):
        sampled(sampler, plan)
    stub.replies = [good(TALK)]
    stub.requests.clear()
    assert rates(sampled(sampler, plan)).n_parsed == 10
    assert len(stub.requests) == 6  # the first part of four was kept


def test_rates_count_what_was_parsed_and_why_the_rest_was_not() -> None:
    rows = [
        {"prefix": "a", "whole": "Q\nA", "reject": None},
        {"prefix": "b", "whole": "Q A ", "reject": None},
        {"prefix": "a", "whole": "Q\nB", "reject": None},
        {"prefix": "b", "reject": "no assistant marker"},
        {"prefix": "a", "reject": "request failed: HTTP 500: 'x'"},
        {"prefix": "b", "reject": "request failed: no word from the server for 5 s"},
    ]
    found = rates(pa.Table.from_pylist(rows, schema=SCHEMA))
    assert (found.n, found.n_parsed, found.n_distinct, found.n_failed, found.parsed_rate) == (6, 3, 2, 2, 0.5)
    assert found.rejects == {"request failed": 2, "no assistant marker": 1}
    assert found.by_prefix == {"a": (3, 2), "b": (3, 1)}
