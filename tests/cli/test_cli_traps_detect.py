"""From a ledger to findings by the command line: planted, learnt or not, in context, and for several owners."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import audit.traps.run
from audit.lm.load import load
from audit.testbed.planted import Testbed
from audit.testbed.sizes import Training
from audit.testbed.tiny_lm import make_batches, train
from tests.cli.conftest import Call

Refused = Callable[..., str]
DRAW = ["--lengths", "12", "--edges", "2,500", "--temperatures", "1", "--max-jaccard", "0.7", "--members", "6"]
DRAW += ["--decoys", "24", "--samples-per-round", "128", "--n-draws", "199", "--device", "cpu", "--quiet"]
SMALL = ["--repetitions", "1,40", "--placement", "scattered"]


@pytest.fixture(scope="module")
def world(testbed_tiny: Testbed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference, two hundred documents, two ledgers, the documents planted from the first, and a model of them."""
    import os

    from audit.cli.main import main

    folder = tmp_path_factory.mktemp("detect")
    shutil.copytree(testbed_tiny.models["reference"], folder / "reference")
    texts = [document.text for document in testbed_tiny.world.documents_of("fresh")]
    (folder / "docs.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")

    def run(*arguments: object) -> None:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        assert not end.value.code

    before = Path.cwd()
    os.chdir(folder)
    try:
        for name, seed in (("ann", 5), ("bob", 6)):
            run("traps", "generate", "--model", "reference", "--out", f"{name}.json", "--seed", seed, *SMALL, *DRAW)
        run("traps", "inject", "ann.json", "docs.jsonl", "--out", "planted.jsonl", "--placements", "P.json", "--quiet")
    finally:
        os.chdir(before)
    lm = load(folder / "reference")
    planted = [json.loads(line)["text"] for line in (folder / "planted.jsonl").read_text().splitlines()]
    training = Training(4e-3, batch_size=4, block=64)
    torch.set_num_threads(2)
    lm.model.requires_grad_(True)
    tokenizer: Any = lm.tokenizer
    model: Any = lm.model
    train(model, make_batches(planted, [], tokenizer, training, seed=0), training, stage="model")
    lm.model.save_pretrained(str(folder / "model"))
    for path in (folder / "reference").glob("tokenizer*"):
        shutil.copy(path, folder / "model" / path.name)
    return folder


@pytest.fixture
def there(call: Call, world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder is the world's."""
    monkeypatch.chdir(world)
    return world


def findings(run: Path) -> dict[str, Any]:
    section = json.loads((run / "findings.json").read_text())["sections"][0]
    return {finding["id"]: finding for finding in section["findings"]}


def test_a_model_of_the_planted_text_is_found_with_the_ledgers_plan_and_commitment(
    call: Call, there: Path, tmp_path: Path
) -> None:
    commitment = call("traps", "commit", "ann.json").out.strip()
    run = tmp_path / "run"
    flags = ["--model", "model", "--reference", "reference", "--commitment", commitment, "--placements", "P.json"]
    flags += ["--planted", "planted.jsonl", "--context-tokens", "20", "--scores", "lowercase,ratio_of_losses,min_20"]
    done = call("traps", "detect", "ann.json", *flags, "--out", run, "--quiet")
    assert done.code == 0, done.err
    found = findings(run)
    assert found["traps.overall"]["verdict"] == "found"
    assert found["traps.copies_40"]["verdict"] == "found"
    assert f"those of the commitment {commitment}, compared with the comm" in found["traps.commitment"]["claim"]
    placements = hashlib.sha256((there / "P.json").read_bytes()).hexdigest()
    assert f"the publisher's record, of SHA-256 {placements}." in found["traps.commitment"]["claim"]
    assert "documents with traps" in found["traps.documents"]["claim"]
    assert found["traps.in_context"]["estimates"]["share_higher"]["n"] == 12
    assert "first_s" not in (run / "run.json").read_text()  # no secret of a ledger is kept for the replay
    again = call("runs", "replay", run)
    assert again.code == 0, again.out
    assert found["traps.all"]["p_values"]["all"]["n"] == 199  # the ledger's number of re-draws
    items = pd.read_parquet(run / "items" / "traps.parquet")
    for name in ("traps", "traps-in-context"):  # they tell decoys
        assert stat.S_IMODE((run / "items" / f"{name}.parquet").stat().st_mode) == 0o600
    assert items["n_exact"].tolist() == items["n_rep"].tolist()
    assert not items["n_near"].any()
    assert {"lowercase_score", "ratio_of_losses_score", "min_20_score"} <= set(items.columns)
    record = json.loads((run / "run.json").read_text())["plan"]
    assert record["traps"]["n_draws"] == 199
    assert record["traps"]["fixed_reference"] == load(there / "reference").fingerprint.weights
    assert set(record["inputs"]) == {"ledger of all traps", "placements of all traps"}
    shutil.copy(run / "plan.toml", there / "again.toml")  # whose paths start at its own folder
    assert call("audit", "again.toml", "--out", tmp_path / "again", "--quiet").code == 0
    assert (tmp_path / "again" / "findings.json").read_bytes() == (run / "findings.json").read_bytes()


def test_a_model_that_saw_nothing_is_not_found(call: Call, there: Path, tmp_path: Path) -> None:
    done = call(
        *("traps", "detect", "bob.json", "--model", "model", "--reference", "reference", "--out", tmp_path / "run"),
        "--quiet",
    )
    assert done.code == 4
    assert findings(tmp_path / "run")["traps.overall"]["verdict"] == "inconclusive"


def test_two_owners_are_told_apart(call: Call, there: Path, tmp_path: Path) -> None:
    flags = ["--model", "model", "--reference", "reference", "--out", tmp_path / "run", "--quiet"]
    assert call("traps", "detect", "Ann=ann.json", "Bob=bob.json", "--placements", "Ann=P.json", *flags).code == 0
    found = findings(tmp_path / "run")
    assert found["traps.owner_1"]["verdict"] == "found"
    assert found["traps.owner_2"]["verdict"] in ("inconclusive", "not found")
    assert found["traps.commitment"]["claim"].startswith("'Ann': No published commitment was given")
    assert " 'Bob': No published commitment was given" in found["traps.commitment"]["claim"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["ann.json", "bob.json"], "give each as OWNER=VALUE"),
        (["A=ann.json", "A=bob.json"], "names the owner 'A' twice"),
        (["ann.json", "--commitment", "0" * 64], "is not what was committed to"),
        (["bob.json", "--placements", "P.json"], "the placements are of another ledger"),
        (["A=ann.json", "--placements", "B=P.json"], "[traps] placements is given for 'B'"),
        (["ann.json", "--context-tokens", "5"], "a test in context needs context_tokens, planted"),
        (["ann.json", "--scores", "recal"], "recall"),
        (["ann.json", "--scores", "recall"], 'the score "recall" needs shots'),
        (["ann.json", "--neighbours", "5"], 'neighbours and masked are of the score "neighbourhood"'),
        (["nothing.json"], "nothing.json"),
        (["ann.json", "--scores", "neighbourhood", "--masked", "nowhere/at-all"], "no folder"),
        (
            ["ann.json", "--placements", "P.json", "--planted", "docs.jsonl", "--context-tokens", "5"],
            "was changed after traps were planted in it",
        ),
    ],
)
def test_what_cannot_be_tested_is_refused_with_one_message(
    refused: Refused, there: Path, arguments: list[str], told: str
) -> None:
    flags = ["--model", "model", "--reference", "reference", "--out", "refused"]
    assert told in refused("traps", "detect", *arguments, *flags)
    assert not (there / "refused").exists()


def test_a_reference_that_the_ledger_needs_is_asked_for_by_its_flag(refused: Refused, there: Path) -> None:
    said = refused("traps", "detect", "ann.json", "--model", "model", "--out", "refused")
    assert "--reference" in said
    assert "the ledger fixed that score" in said


def test_tokenizers_that_differ_in_settings_only_are_not_called_different(
    call: Call, there: Path, tmp_path: Path
) -> None:
    shutil.copytree(there / "reference", tmp_path / "other")
    settings = tmp_path / "other" / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"remark": "none"}))
    flags = ["--model", "model", "--reference", tmp_path / "other", "--out", tmp_path / "run", "--quiet"]
    assert call("traps", "detect", "bob.json", *flags).code == 4
    assert json.loads((tmp_path / "run" / "findings.json").read_text())["limitations"] == []


def test_a_reference_other_than_the_ledgers_is_refused_before_the_run_begins(
    call: Call, refused: Refused, there: Path, tmp_path: Path, llama: Path
) -> None:
    fixed = json.loads((there / "bob.json").read_text())["plan"]["reference"]
    said = refused("traps", "detect", "bob.json", "--model", "model", "--reference", llama, "--out", tmp_path / "run")
    given = load(llama).fingerprint.weights
    assert f"the weights of that have SHA-256 {fixed[:12]}..., those given {given[:12]}..." in said
    assert not (tmp_path / "run").exists()


def test_a_reference_exchanged_while_the_run_was_cut_off_is_refused_too(
    call: Call, refused: Refused, there: Path, tmp_path: Path, llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(there / "reference", tmp_path / "other")
    flags = ["--model", "model", "--reference", tmp_path / "other", "--out", tmp_path / "run", "--quiet"]

    def cut_off(*_given: Any, **_named: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(audit.traps.run, "scored", cut_off)
        assert call("traps", "detect", "bob.json", *flags).code == 3
    assert (tmp_path / "run" / "run.json").exists()
    shutil.rmtree(tmp_path / "other")
    shutil.copytree(llama, tmp_path / "other")
    assert "this is not the reference model that the ledger fixed" in refused("traps", "detect", "bob.json", *flags)


def test_ledgers_of_two_references_are_tested_one_at_a_time(call: Call, refused: Refused, there: Path) -> None:
    drawn = ["--model", "reference", "--seed", "6", *SMALL, *DRAW]
    assert call("traps", "generate", *drawn, "--reference", "model", "--out", "cy.json").code == 0
    flags = ["--model", "model", "--reference", "reference", "--out", "refused"]
    assert "fixed different reference models" in refused("traps", "detect", "A=ann.json", "C=cy.json", *flags)
    (there / "cy.json").unlink()


def test_where_no_reference_is_fixed_and_none_is_needed_any_may_be_looked_at(
    call: Call, there: Path, tmp_path: Path
) -> None:
    draw = ["--watermark", "--primary", "loss", "--lengths", "24", "--repetitions", "1", "--members", "3", "--quiet"]
    draw += ["--decoys", "12", "--n-draws", "99", "--seed", "1"]
    assert call("traps", "generate", *draw, "--out", tmp_path / "w.json").code == 0
    flags = ["--model", "model", "--reference", "reference", "--out", tmp_path / "run", "--quiet"]
    assert call("traps", "detect", tmp_path / "w.json", *flags).code == 4
    assert "ratio_score" in pd.read_parquet(tmp_path / "run" / "items" / "traps.parquet")
    record = json.loads((tmp_path / "run" / "run.json").read_text())["plan"]["traps"]
    assert (record["primary"], "fixed_reference" in record) == ("loss", False)


def test_a_ledgers_plan_cannot_be_changed_afterwards(refused: Refused, there: Path) -> None:
    (there / "late.toml").write_text(
        '[subject]\nmodel = "model"\n[reference]\nmodel = "reference"\n[traps]\nledger = "ann.json"\nalpha = 0.2\n'
    )
    assert "alpha: the plan of detection was fixed in the ledger" in refused("audit", "late.toml")


def test_a_document_that_could_be_another_is_not_disclosed(call: Call, refused: Refused, there: Path) -> None:
    placements = json.loads((there / "P.json").read_text())
    first, second = placements["documents"][:2]
    other = dict(placements["files"][0], path="z.jsonl", original_bytes=1, planted_bytes=1, blocks="")
    inside = sum(copy[5] for copy in second["copies"])
    placements["files"] = [dict(placements["files"][0]), other | {"planted_bytes": 1 + inside}]
    placements["files"][0]["original_bytes"] += inside
    second |= {"file": 1, "id": first["id"]}
    placements["documents"].append(placements["documents"].pop(1))
    placements["single_file"] = False
    (there / "Q.json").write_text(json.dumps(placements))
    disclose = ["traps", "disclose", "ann.json", "--placements", "Q.json", "--out", "q.json", "--document"]
    said = refused(*disclose, first["id"])
    assert f"Q.json names 2 documents {first['id']!r}; give the one you mean as --document and one of " in said
    names = [f"{file['path']}, {first['id']}" for file in placements["files"]]
    assert f"{names[0]!r}, {names[1]!r}." in said
    assert not (there / "q.json").exists()
    assert call(*disclose, names[1]).code == 0
    shown = {one["trap"]["id"] for one in json.loads((there / "q.json").read_text())["traps"]}
    assert shown == {placements["traps"][copy[0]]["id"] for copy in second["copies"]}
    (there / "q.json").unlink()


def test_the_traps_of_one_document_are_disclosed_and_no_other(call: Call, refused: Refused, there: Path) -> None:
    placements = json.loads((there / "P.json").read_text())
    document = placements["documents"][0]
    expected = {placements["traps"][copy[0]]["id"] for copy in document["copies"]}
    of_it = ["--placements", "P.json", "--document", document["id"]]
    assert call("traps", "disclose", "ann.json", *of_it, "--out", "d.json").code == 0
    assert {shown["trap"]["id"] for shown in json.loads((there / "d.json").read_text())["traps"]} == expected
    commitment = call("traps", "commit", "ann.json").out.strip()
    assert call("traps", "verify-ledger", "d.json", "--commitment", commitment).code == 0
    out = ["--out", "e.json"]
    assert "go together" in refused("traps", "disclose", "ann.json", "--document", "x", *out)
    assert "names no document 'x'" in refused(
        "traps", "disclose", "ann.json", "--document", "x", "--placements", "P.json", *out
    )
    assert "belongs to another ledger" in refused("traps", "disclose", "bob.json", *of_it, *out)
    assert "nothing to disclose; give --trap ID" in refused("traps", "disclose", "ann.json", *out)
