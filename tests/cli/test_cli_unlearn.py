"""``palimpsest unlearn``: a dictionary is drafted and edited, a model forgets, and the model itself is not touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from audit.runs.store import Run
from audit.text.files import sha256_file
from tests.cli.conftest import Call

TEXT = "The cat Zorblax sat on the mat and Zorblax ran over the hill. Then the dog saw Zorblax and the cat.\n" * 12
HOSTILE = "<script>alert('text')</script>"
SMALL = ["--block", 48, "--steps", 4, "--reinforce-epochs", 1, "--batch-size", 4, "--rate", 1e-3, "--device", "cpu"]
Refused = Callable[..., str]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    (tmp_path / "book.txt").write_text(HOSTILE + TEXT, encoding="utf-8")
    (tmp_path / "keep.txt").write_text("the dog ran over the hill and sat on the mat. " * 20, encoding="utf-8")
    return tmp_path


def test_a_model_forgets_by_a_dictionary_and_the_report_quotes_without_obeying(
    call: Call, llama: Path, texts: Path
) -> None:
    dictionary = {"anchors": {"Zorblax": ["Peter", "<img src=x>"], "<b>Bold": ["plain"]}}
    (texts / "anchors.json").write_text(json.dumps(dictionary))
    before = {path.name: sha256_file(path) for path in llama.iterdir()}
    command = ["unlearn", "whp", llama, "--forget", "book.txt", "--anchors", "anchors.json", "--out", "run", *SMALL]
    command += ["--retain", "keep.txt", "--evaluate-every", 2, "--quiet"]
    done = call(*command)
    assert done.code == 0, done.err
    assert "Not verified" in done.out
    assert {path.name: sha256_file(path) for path in llama.iterdir()} == before
    record = json.loads((texts / "run" / "unlearning.json").read_text())
    assert record["plan"]["tune"]["retain"]["kind"] == "kl"
    assert 34 <= record["n_replaced"] <= 36  # a block may end inside a name of seven tokens
    assert f"{record['n_replaced']} anchor terms replaced" in done.out
    weights = sha256_file(texts / "run" / "model" / "model.safetensors")
    assert weights != before["model.safetensors"]

    section = Run.open(texts / "run").findings().sections[0]
    tables = {table.name: table for table in section.tables}
    assert [row["step"] for row in tables["curves"].rows] == [0, 2, 4]
    assert tables["anchors"].rows[0] == {
        "term": "Zorblax", "kind": "not said", "substitutes": "Peter, <img src=x>", "times": record["n_replaced"]
    }  # fmt: skip
    page = (texts / "run" / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img" not in page
    assert "<b>" not in page
    assert "&lt;img src=x&gt;" in page
    assert "Labels, token by token" in page
    for quoting in ("report.html", "findings.json", *(path.relative_to(texts / "run") for path in
                    (texts / "run" / "labels").iterdir())):  # fmt: skip
        assert (texts / "run" / quoting).stat().st_mode & 0o077 == 0
    card = (texts / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "loss on the forget text" in card
    assert "Not verified" in card
    for told in (done.out, card):
        assert "a model trained FURTHER on the text" in told
        assert "the text's tokens" in told

    assert call(*command).code == 0  # nothing is left to do
    assert sha256_file(texts / "run" / "model" / "model.safetensors") == weights

    told = json.loads(call("runs", "replay", "run", "--json").out)
    assert (told["differences"], told["reworded"]) == ([], [])
    assert "unlearning:anchors" in told["not_replayed"]
    assert "unlearning:curves" not in told["not_replayed"]


def test_what_cannot_be_unlearned_is_refused_before_anything_is_made(
    refused: Refused, call: Call, llama: Path, texts: Path
) -> None:
    drafted = call("unlearn", "anchors", "book.txt", "--out", "anchors.toml")
    assert drafted.code == 0, drafted.err
    assert "'Zorblax'" in drafted.out
    assert "Choose another" in refused("unlearn", "anchors", "book.txt", "--out", "anchors.toml")
    assert "expected .toml or .json" in refused("unlearn", "anchors", "book.txt", "--out", "anchors.txt")
    command = ["unlearn", "whp", llama, "--forget", "book.txt", "--block", 48, "--out", "run"]
    (texts / "bad.toml").write_text("this is no dictionary")
    assert "bad.toml" in refused(*command, "--anchors", "bad.toml")
    assert "needs retain" in refused(*command, "--anchors", "anchors.toml", "--retain-term", "kl")
    assert "alpha is -1.0" in refused(*command, "--anchors", "anchors.toml", "--alpha", -1)
    assert "at most 128 tokens" in refused(*command, "--anchors", "anchors.toml", "--block", 512)
    assert "nothing.txt" in refused(
        "unlearn", "whp", llama, "--forget", "nothing.txt", "--anchors", "x", "--out", "run"
    )
    (texts / "far.json").write_text('{"anchors": {"Absent": "Peter"}}')
    assert "none of the 1 anchor term stands" in refused(*command, "--anchors", "far.json")
    (texts / "long.json").write_text(json.dumps({"anchors": {"cat": "one " * 45}}))
    assert "once its anchor terms are replaced" in refused(*command, "--anchors", "long.json")
    assert not (texts / "run").exists()
    (texts / "other").mkdir()
    (texts / "other" / "thesis.tex").write_text("")
    assert "thesis.tex" in refused(*command[:-1], "other", "--anchors", "anchors.toml")
    (texts / "linked").mkdir()
    (texts / "linked" / "parts").symlink_to(llama)
    for out in (llama, llama / "run", llama.parent, texts / "linked"):
        assert "never changed" in refused(*command[:-1], out, "--anchors", "anchors.toml")
    assert not (llama / "run").exists()


def test_a_tuning_that_helps_nothing_says_that_nothing_was_unlearned(call: Call, llama: Path, texts: Path) -> None:
    (texts / "anchors.json").write_text('{"anchors": {"Zorblax": "Peter"}}')
    run = ["unlearn", "whp", llama, "--forget", "book.txt", "--anchors", "anchors.json", "--out", "run", *SMALL]
    assert call(*run, "--rate", 1e-30, "--quiet").code == 0  # no later weights are better on what was kept out
    section = Run.open(texts / "run").findings().sections[0]
    assert "nothing was unlearned" in section.findings[0].claim
    assert next(row["step"] for row in section.tables[1].rows if row["result"]) == 0
