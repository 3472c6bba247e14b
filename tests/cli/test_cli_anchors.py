"""``palimpsest unlearn anchors``: who finds the terms, what of several sources is kept, and what a killed one asks."""

from __future__ import annotations

import json
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Call
from tests.extraction.test_completions import KEY, Stub, raw

TEXT = "".join(
    f"The cat {name} sat on the mat and {name} ran over the hill. Then the dog saw {name} and the cat.\n\n"
    for name in ("Zorblax", "Quumbal", "Zorblax", "Quumbal")
)
Refused = Callable[..., str]


@pytest.fixture(autouse=True)
def book(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.leave.set()
        server.shutdown()
        thread.join()


def said(table: dict[str, Any]) -> Any:
    choice = {"message": {"content": json.dumps(table)}, "finish_reason": "stop"}
    return raw(json.dumps({"choices": [choice]}).encode())


def terms(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))["anchors"]


def asking(stub: Stub, *more: object) -> list[object]:
    return ["unlearn", "anchors", "book.txt", "--out", "a.toml", "--endpoint", stub.url, "--served-model", "big", *more]


def test_a_server_s_terms_a_person_s_and_counted_ones_are_joined(call: Call, stub: Stub, tmp_path: Path) -> None:
    stub.replies = [said({"the hill": "the road", "Quumbal": "Anna", "Zorblax and the cat": "Tom and the cow"})]
    (tmp_path / "mine.toml").write_text('[anchors]\nZorblax = "Quumbal Road"\n"the dog" = "the cow"\n')
    more = ["--statistics", "--merge", "mine.toml", "--passage", 10_000, "--quiet"]
    done = call(*asking(stub, *more))
    assert done.code == 0, done.err
    assert {key: one["substitutes"] for key, one in terms(tmp_path / "a.toml").items()} == {
        "Zorblax": ["Quumbal Road"],  # the person's: nothing is added, and what it holds is no term of others
        "the dog": ["the cow"],
        "the hill": ["the road"],
        "Zorblax and the cat": ["Tom and the cow"],
    }
    assert "found: 2 of mine.toml, 3 of model, 2 of statistics; 1 left out, as a substitute of yours" in done.out
    assert "Authorization" not in stub.requests[0][1]


def test_a_command_that_broke_off_asks_for_no_answer_twice(
    call: Call, refused: Refused, stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    stub.replies = [said({"Zorblax": "Tom"}), raw(b"{}", status=400), said({"Quumbal": "Anna"})]
    command = asking(stub, "--passage", 200, "--key-env", "MY_KEY", "--quiet")
    broken = call(*command)
    assert broken.code == 3
    assert "the same command goes on from there" in broken.err
    assert not (tmp_path / "a.toml").exists()
    done = call(*command)
    assert done.code == 0, done.err
    assert len(stub.requests) == 3
    prompts = [body["messages"][0]["content"] for _, _, body in stub.requests]
    assert prompts[0] != prompts[1] == prompts[2]
    assert all(headers["Authorization"] == f"Bearer {KEY}" for _, headers, _ in stub.requests)
    assert set(terms(tmp_path / "a.toml")) == {"Zorblax", "Quumbal"}
    assert not any(KEY in path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    (tmp_path / "a.toml").unlink()
    other = [*command[:-6], "small", *command[-5:]]
    assert call(*other).code == 0
    assert len(stub.requests) == 5  # another model's answers are not taken for this one's


def test_a_model_here_whose_answers_hold_nothing_is_told_of_and_not_asked_again(
    call: Call, refused: Refused, llama: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "long"
    folder.mkdir()
    for path in llama.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 4096}))
    command = ["unlearn", "anchors", "book.txt", "--out", "a.toml", "--device", "cpu", "--max-new-tokens", 4, "--quiet"]
    err = refused(*command, "--by-model", folder)
    assert "no anchor term was found in book.txt (0 of model)" in err
    assert "note: 1 of 1 answer of the model gave nothing; first reason: " in err
    assert "holds 128 in all" in refused(*command, "--by-model", llama)
    (reply,) = (tmp_path / "a.toml.replies").rglob("*.txt")
    reply.write_text('{"Zorblax": "Tom"}')
    assert call(*command, "--by-model", folder).code == 0
    assert set(terms(tmp_path / "a.toml")) == {"Zorblax"}


def test_flags_that_do_not_go_together_are_refused(refused: Refused, tmp_path: Path) -> None:
    command = ["unlearn", "anchors", "book.txt", "--out", "a.toml"]
    server = ["--endpoint", "http://127.0.0.1:9/v1", "--served-model", "big"]
    for more, message in (
        (["--by-model", "m", *server], "give one of them"),
        (server[:2], "--endpoint needs --served-model"),
        (["--served-model", "big"], "--served-model is of a server"),
        (["--key-env", "KEY"], "--key-env is of a server"),
        ([*server, "--key-env", "NOT_SET"], "'NOT_SET' is not set or empty"),
        ([*server, "--contrast", "book.txt"], "add --statistics for both"),
        ([*server, "--passage", 100], "--passage is 100; expected 200"),
        (["--no-statistics"], "leaves no source"),
        (["--merge", "none.toml"], "there is no file of anchor terms at none.toml"),
        (["--endpoint", "http://me:secret@host/v1", "--served-model", "x"], "plain URL"),
    ):
        assert message in refused(*command, *more)
    (tmp_path / "one.toml").write_text('[anchors]\nZorblax = "Tom"\n')
    (tmp_path / "two.toml").write_text('[anchors]\nTom = "Zorblax"\n')
    assert "a cycle" in refused(*command, "--merge", "one.toml", "--merge", "two.toml")
    (tmp_path / "latin.txt").write_bytes(b"The caf\xe9 of Zorblax")
    assert "byte 0xe9 at offset 7 of the file's text is not UTF-8" in refused(
        "unlearn", "anchors", "latin.txt", *command[3:]
    )
    assert "there is no folder" in refused(*command[:-1], "nowhere/a.toml")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "book.txt",
        "latin.txt",
        "one.toml",
        "two.toml",
    ]


def test_a_name_that_stands_in_any_contrast_text_is_no_anchor(call: Call, tmp_path: Path) -> None:
    for name in ("Zorblax", "Quumbal"):
        (tmp_path / f"{name}.txt").write_text(f"The dog saw {name} on the hill, and {name} ran. " * 9, encoding="utf-8")
    (tmp_path / "book.txt").write_text(TEXT + TEXT.replace("Zorblax", "Trellik"), encoding="utf-8")
    done = call("unlearn", "anchors", "book.txt", "--contrast", "Zorblax.txt", "--contrast", "Quumbal.txt", "--out",
                "a.toml")  # fmt: skip
    assert done.code == 0, done.err
    assert "Read and edit it before use" in done.out
    assert set(tomllib.loads((tmp_path / "a.toml").read_text())["anchors"]) == {"Trellik"}
