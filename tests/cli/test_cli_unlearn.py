"""``palimpsest unlearn``: a dictionary is drafted and edited, a model forgets, and the model itself is not touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from audit.text.files import sha256_file
from tests.cli.conftest import Call

TEXT = "The cat Zorblax sat on the mat and Zorblax ran over the hill. Then the dog saw Zorblax and the cat.\n" * 12
SMALL = ["--block", 48, "--steps", 4, "--reinforce-epochs", 1, "--batch-size", 4, "--rate", 1e-3, "--device", "cpu"]
Refused = Callable[..., str]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    (tmp_path / "book.txt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "keep.txt").write_text("the dog ran over the hill and sat on the mat. " * 20, encoding="utf-8")
    return tmp_path


def test_a_model_forgets_by_a_dictionary_that_was_drafted(call: Call, llama: Path, texts: Path) -> None:
    drafted = call("unlearn", "anchors", "book.txt", "--out", "anchors.toml")
    assert drafted.code == 0, drafted.err
    assert "1 anchor term -> anchors.toml" in drafted.out
    assert "'Zorblax'" in drafted.out
    before = {path.name: sha256_file(path) for path in llama.iterdir()}
    command = ["unlearn", "whp", llama, "--forget", "book.txt", "--anchors", "anchors.toml", "--out", "run", *SMALL]
    done = call(*command, "--retain", "keep.txt", "--quiet")
    assert done.code == 0, done.err
    assert "Not verified" in done.out
    assert {path.name: sha256_file(path) for path in llama.iterdir()} == before
    record = json.loads((texts / "run" / "unlearning.json").read_text())
    assert record["plan"]["tune"]["retain"]["kind"] == "kl"
    assert 34 <= record["n_replaced"] <= 36  # a block may end inside a name of seven tokens
    assert f"{record['n_replaced']} anchor terms replaced" in done.out
    weights = sha256_file(texts / "run" / "model" / "model.safetensors")
    assert weights != before["model.safetensors"]
    assert call(*command, "--retain", "keep.txt", "--quiet").code == 0  # nothing is left to do
    assert sha256_file(texts / "run" / "model" / "model.safetensors") == weights


def test_what_cannot_be_unlearned_is_refused_before_anything_is_made(
    refused: Refused, call: Call, llama: Path, texts: Path
) -> None:
    assert call("unlearn", "anchors", "book.txt", "--out", "anchors.toml").code == 0
    assert "Choose another" in refused("unlearn", "anchors", "book.txt", "--out", "anchors.toml")
    assert "expected .toml or .json" in refused("unlearn", "anchors", "book.txt", "--out", "anchors.txt")
    command = ["unlearn", "whp", llama, "--forget", "book.txt", "--out", "run"]
    (texts / "bad.toml").write_text("this is no dictionary")
    assert "bad.toml" in refused(*command, "--anchors", "bad.toml")
    assert "needs --retain" in refused(*command, "--anchors", "anchors.toml", "--retain-term", "kl")
    assert "alpha is -1.0" in refused(*command, "--anchors", "anchors.toml", "--alpha", -1)
    assert "nothing.txt" in refused(
        "unlearn", "whp", llama, "--forget", "nothing.txt", "--anchors", "x", "--out", "run"
    )
    assert not (texts / "run").exists()
    (texts / "other").mkdir()
    (texts / "other" / "thesis.tex").write_text("")
    assert "thesis.tex" in refused(*command[:-1], "other", "--anchors", "anchors.toml")
    assert "never changed" in refused(*command[:-1], llama, "--anchors", "anchors.toml")
