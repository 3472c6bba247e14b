"""What ``palimpsest traps generate`` tells before a ledger is committed to, and that a failed draw leaves nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import audit.traps.generate
from audit.lm.load import load
from tests.checkpoints import build_checkpoint
from tests.cli.conftest import Call

Refused = Callable[..., str]
DRAW = ["traps", "generate", "--watermark", "--lengths", "20", "--repetitions", "1,4", "--members", "2", "--quiet"]
DRAW += ["--decoys", "5", "--out", "L.json"]
MARKS = [*DRAW, "--primary", "loss"]


@pytest.fixture(scope="session")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("generator"), "llama", letters_only=True)


def draw(generator: Path) -> list[Any]:
    flags = ["--edges", "1,1000", "--max-jaccard", "0.9", "--samples-per-round", "8", "--repetitions", "1"]
    flags += ["--members", "1", "--decoys", "2", "--device", "cpu", "--quiet", "--out", "L.json"]
    return ["traps", "generate", "--model", generator, *flags]


def test_what_has_to_be_planted_is_told_and_is_what_inject_asks_for(call: Call, refused: Refused) -> None:
    """4 traps, 10 copies of 20 characters and 2 separators: 220 characters are 1% beside 21,780."""
    err = call(*MARKS).err
    assert (
        "note: 10 copies of 4 traps are to be planted. `traps inject` needs 4 documents of 4 words or more, each for "
        "one trap, with room for the most copies of any; and 21,780 characters of text, if traps are to be 1% of it at "
        "most. Whether yours are enough, before you commit: palimpsest traps inject L.json SOURCE "
    ) in err
    inject = ["traps", "inject", "L.json", "a.jsonl", "--out", "b.jsonl", "--placements", "P.json", "--quiet"]
    rows = [json.dumps({"text": "one two three four"}) + "\n"] * 4
    Path("a.jsonl").write_text("".join(rows[1:]))
    assert "4 traps need a document each, with 4 word positions or more" in refused(*inject, "--dry-run")
    Path("a.jsonl").write_text("".join(rows).replace("four", "", 1))
    assert "4 traps need a document each, with 4 word positions or more" in refused(*inject, "--dry-run")
    Path("a.jsonl").write_text("".join(rows))
    assert call(*inject).code == 0


def test_the_room_for_scattered_copies_is_told_and_is_what_inject_asks_for(call: Call, refused: Refused) -> None:
    err = call(*MARKS, "--placement", "scattered").err
    assert "`traps inject` needs documents with 10 words in all; and 21,780 characters" in err
    inject = ["traps", "inject", "L.json", "a.txt", "--out", "b.txt", "--placements", "P.json", "--quiet"]
    Path("a.txt").write_text(" ".join("w" * 9))
    assert "10 copies were to be planted, but the documents have 9 word positions" in refused(*inject)
    Path("a.txt").write_text(" ".join("w" * 10))
    assert call(*inject).code == 0


def test_a_primary_score_that_needs_a_reference_needs_it_now(call: Call, refused: Refused, generator: Path) -> None:
    assert (
        "claims would rest on the score 'ratio', which compares with a reference model, and the ledger fixes which "
        "one: give --reference MODEL, one that cannot have read your texts. Or test without a reference: --primary and "
        "one of loss, min_k, min_k_plus_plus, zlib."
    ) in refused(*DRAW)
    assert os.listdir() == []
    err = call(*MARKS).err
    assert err.count("note: ") == 1
    assert "reference" not in err
    assert json.loads(Path("L.json").read_text())["plan"]["reference"] is None
    Path("L.json").unlink()
    weights = load(generator).fingerprint.weights
    told = call(*DRAW, "--reference", generator, "--json")
    assert json.loads(told.out)["reference"] == weights
    assert (
        f"note: the ledger fixes the reference model (claims will rest on the score 'ratio', which needs it): "
        f"{generator}, weights of SHA-256 {weights}. `traps detect` takes no other"
    ) in told.err
    assert json.loads(Path("L.json").read_text())["plan"]["reference"] == weights
    Path("L.json").unlink()
    assert "no folder" in refused(*DRAW, "--reference", "./none")
    assert os.listdir() == []


def test_a_model_that_draws_is_the_reference_unless_another_is_named(call: Call, generator: Path, llama: Path) -> None:
    drawn = [*draw(generator), "--lengths", "8"]
    err = call(*drawn).err
    assert f"which needs it): {generator}, weights" in err
    kept = json.loads(Path("L.json").read_text())
    assert kept["plan"]["reference"] == kept["generator"]["weights"]
    Path("L.json").unlink()
    assert f"(where one is used): {llama}, weights" in call(*drawn, "--primary", "loss", "--reference", llama).err
    kept = json.loads(Path("L.json").read_text())
    assert kept["plan"]["reference"] == load(llama).fingerprint.weights != kept["generator"]["weights"]


@pytest.mark.parametrize("keeps", [True, False])
def test_an_interrupted_draw_keeps_its_folder_only_once_a_round_is_finished(
    call: Call, generator: Path, monkeypatch: pytest.MonkeyPatch, keeps: bool
) -> None:
    real = audit.traps.generate._sample_round

    def interrupt(*given: Any, **named: Any) -> Any:
        if keeps and named["round_"] == 0:
            return real(*given, **named).slice(0, 0)
        raise KeyboardInterrupt

    monkeypatch.setattr(audit.traps.generate, "_sample_round", interrupt)
    code, out, err = call(*draw(generator), "--lengths", "8", "--seed", "6")
    assert (code, out) == (3, "")
    if keeps:
        assert "interrupted; what was finished is kept, and the same command goes on from there." in err
        assert os.listdir() == ["L.json.parts"]
    else:
        assert "interrupted; no round was finished, so nothing is kept. The same command with --seed 6 draws" in err
        assert os.listdir() == []


def test_lengths_beyond_the_models_window_are_named_and_nothing_is_left(refused: Refused, generator: Path) -> None:
    window = json.loads((generator / "config.json").read_text())["max_position_embeddings"]
    message = refused(*draw(generator), "--lengths", f"8,{window}")
    assert f"--lengths holds {window:,}" in message
    assert f"the model's window holds {window:,} in all. Ask for " in message
    assert "max_new_tokens" not in message
    assert os.listdir() == []


@pytest.mark.slow
def test_the_longest_length_that_the_message_offers_is_the_longest_that_fits(
    refused: Refused, generator: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = json.loads((generator / "config.json").read_text())["max_position_embeddings"]
    message = refused(*draw(generator), "--lengths", window)
    most = int(message.split("Ask for ")[1].split(" ")[0].replace(",", ""))
    one_more = refused(*draw(generator), "--lengths", most + 1)
    assert f"--lengths holds {most + 1:,}" in one_more
    told = refused(*draw(generator), "--lengths", most, "--max-rounds", "1", "--edges", "1,1.0001")
    assert f"after 1 rounds not every perplexity bucket of length {most} holds" in told
