"""``palimpsest steer``: maps are fitted, looked at, used and written; killed runs go on; bad input is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from audit.cli.replay import replayed
from audit.lm.load import load
from audit.runs.store import Run
from audit.text.files import sha256_file
from tests.checkpoints import build_checkpoint
from tests.cli.conftest import Call
from tests.unlearn.lineas.cli.conftest import ADAM, SECRET, fit_command
from unlearn.lineas import fit as core
from unlearn.lineas.cli import execute
from unlearn.lineas.files import load_maps
from unlearn.lineas.steer import steered

Refused = Callable[..., str]


@pytest.fixture(scope="module")
def fitted(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that fitted maps."""
    from audit.cli.main import main

    out = tmp_path_factory.mktemp("fitted") / "run"
    with pytest.raises(SystemExit) as end:
        main([str(one) for one in fit_command(small, out, *ADAM)])
    assert end.value.code == 0
    return out


def maps_hash(out: Path) -> str:
    return sha256_file(out / "steering" / "maps.safetensors")


def test_a_fit_leaves_maps_with_their_evidence_and_no_sentence(small: Path, fitted: Path, call: Call) -> None:
    run = Run.open(fitted)
    assert run.complete
    assert [stage.name for stage in run.record.stages] == ["fit", "measure"]
    (section,) = run.findings().sections
    tables = {table.name: table for table in section.tables}
    assert set(tables) == {"sites", "distances", "held-out-distances", "losses", "sentences"}
    assert [row["changed"] for row in tables["sites"].rows] == [32, 32, 32]
    whole = tables["distances"].rows[-1]
    assert whole["site"] == "all sites"
    assert whole["after"] < 0.2 * whole["before"]  # type: ignore[operator]
    (distance,) = [one for one in section.findings if one.id == "steer.distance"]
    removed = distance.estimates["removed, held-out sentences"]
    assert removed.low is not None
    assert removed.low > 0
    assert removed.n == 10 + 11
    assert [(row["side"], row["fitted"], row["held_out"]) for row in tables["sentences"].rows] == [
        ("source", 14, 10), ("target", 17, 11),
    ]  # fmt: skip
    assert run.read_items("steer-losses").num_rows == 25
    assert run.read_items("steer-neurons").num_rows == 96
    for path in fitted.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path
    page = (fitted / "report.html").read_text(encoding="utf-8")
    assert "palimpsest steer run plan.toml" in page
    assert "Distances of held-out sentences" in page
    assert not (fitted / "training").exists()
    again = call(*fit_command(small, fitted, *ADAM), "--json")  # nothing is left to do
    assert again.code == 0
    told = json.loads(again.out)
    assert told["changed"] == 96
    assert told["held_out_distances"]["all sites"]["removed"]["value"] == removed.value


def test_a_fit_is_what_its_maps_and_draws_give(fitted: Path, tmp_path: Path) -> None:
    """But distances of the sentences that were fitted on."""
    found = replayed(Run.open(fitted))
    assert (found.differences, list(found.not_replayed)) == ([], ["steer:distances"])
    assert found.compared["estimates"] == 3
    run = tmp_path / "run"
    shutil.copytree(fitted, run)
    file = run / "items" / "steer-draws.parquet"
    table = pq.read_table(file)
    after = table["after"].to_pylist()
    after[-5] *= 2
    pq.write_table(table.set_column(table.column_names.index("after"), "after", [after]), file)
    seen = {one.address for one in replayed(Run.open(run)).differences}
    assert {"steer.distance/removed, held-out sentences", "steer:held-out-distances[4]/removed"} <= seen
    assert "steer:held-out-distances[4]/before" not in seen
    file.unlink()  # as runs before had it
    assert list(replayed(Run.open(run)).not_replayed) == ["steer"]


def test_a_killed_fit_goes_on_to_the_same_maps(
    small: Path, fitted: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in a step, and again while it measures."""
    steps, whole, measured = [], core.proximal_step, execute.held_out_distances

    def killed(*arguments: Any, **more: Any) -> None:
        steps.append(arguments)
        if len(steps) == 18:
            raise KeyboardInterrupt
        whole(*arguments, **more)

    def killed_too(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(core, "_SAVE_EVERY", 5)
    monkeypatch.setattr(core, "proximal_step", killed)
    monkeypatch.setattr(execute, "held_out_distances", killed_too)
    command = fit_command(small, tmp_path / "run", *ADAM)
    assert call(*command).code == 3
    assert not (tmp_path / "run" / "steering").exists()
    assert call(*command).code == 3
    assert len(steps) == 18 + 10  # a state is kept after 15
    monkeypatch.setattr(execute, "held_out_distances", measured)
    monkeypatch.setattr(execute, "fit_into", lambda *_: pytest.fail("fitted again"))
    done = call(*command)
    assert done.code == 0, done.err
    assert maps_hash(tmp_path / "run") == maps_hash(fitted)
    findings, other = (Run.open(one).findings().sections[0].tables for one in (tmp_path / "run", fitted))
    assert findings == other


def test_a_dry_run_lists_the_sites_and_writes_nothing(small: Path, call: Call, tmp_path: Path) -> None:
    done = call("steer", "fit", small / "model", "--dry-run", "--device", "cpu")
    assert done.code == 0
    assert "model.layers.2.post_attention_layernorm  LlamaRMSNorm  32" in done.out
    assert "3 sites, 96 neurons" in done.out
    command = ["steer", "fit", small / "model", "--dry-run", "--device", "cpu", "--method", "caa-middle", "--json"]
    told = json.loads(call(*command, "--loss-sites", r".*\.up_proj").out)
    assert told["sites"] == [{"name": "model.layers.1", "class": "LlamaDecoderLayer", "neurons": 32}]
    assert [one["neurons"] for one in told["loss_sites"]] == [64, 64, 64]
    assert list(tmp_path.iterdir()) == []


def test_a_path_of_gammas_is_chosen_from_by_held_out_sentences(small: Path, call: Call, tmp_path: Path) -> None:
    flags = ("--gamma", 100, "--gamma", 1e-3, "--optimizer", "adam", "--lr", 0.05, "--steps", 12, "--held-out", 0.3)
    done = call(*fit_command(small, "run", *flags))
    assert done.code == 0, done.err
    assert "gamma 0.001 was chosen of 2" in done.out
    (section,) = Run.open(tmp_path / "run").findings().sections
    (path,) = [table for table in section.tables if table.name == "path"]
    assert [(row["gamma"], row["chosen"]) for row in path.rows] == [(1e-3, True), (100.0, False)]
    assert path.rows[1]["support"] == 0
    maps, record = load_maps(tmp_path / "run" / "steering")
    assert record.settings["gamma"] == 1e-3
    assert all(bool(one.support().any()) for one in maps.values())


def test_a_baseline_is_fitted_by_the_same_door(small: Path, call: Call, refused: Refused, tmp_path: Path) -> None:
    done = call(*fit_command(small, "run", "--method", "iti-m", "--held-out", 0.4))
    assert done.code == 0, done.err
    maps, record = load_maps(tmp_path / "run" / "steering")
    assert record.method == "ITI-m"
    assert record.evidence["strength"] == 0.5
    assert list(maps) == [f"model.layers.{n}.self_attn.o_proj" for n in range(3)]
    assert "at strength 0.5" in Run.open(tmp_path / "run").findings().sections[0].method
    assert "lr and gamma are of the method" in refused(
        *fit_command(small, "other", "--method", "caa", "--lr", 0.1, "--gamma", 1)
    )
    assert "Did you mean 'mean-act'?" in refused(*fit_command(small, "other", "--method", "mean-atc"))
    assert "pairs" in refused(*fit_command(small, "other", "--method", "repe"))  # 24 and 28 sentences


def test_apply_steers_each_row_at_its_strength_and_goes_on(
    small: Path, fitted: Path, call: Call, refused: Refused, tmp_path: Path
) -> None:
    rows = [{"prompt": "the cat"}, {"prompt": "the cat", "strength": 0}, {"prompt": "a mat", "strength": 0.5}]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    apply = ["steer", "apply", fitted, small / "model", "--device", "cpu", "--quiet", "--max-new-tokens", 4]
    command = [*apply, "--prompts", "prompts.jsonl", "--out", "rows.jsonl", "--temperature", 0, "--top-p", 1]
    assert 'has no "strength"' in refused(*command)
    done = call(*command, "--strength", 1)
    assert done.code == 0, done.err
    written = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["strength"] for row in written] == [1, 0, 0.5]
    assert "steered forward passes: 8; the map of each of 3 sites acted in all of them" in done.out
    lm = load(small / "model")
    maps, _ = load_maps(fitted / "steering")
    ids = lm.tokenizer("the cat", return_tensors="pt")["input_ids"]
    ids = torch.cat([torch.tensor([[lm.bos_id]]), ids], dim=1)
    for row, strength in zip(written, (1.0, 0.0), strict=False):
        with steered(lm.model, maps, strength):
            new = lm.model.generate(ids, max_new_tokens=4, do_sample=False)[0, ids.shape[1] :]
        assert lm.tokenizer.decode(new, skip_special_tokens=True) == row["continuation"]
    (tmp_path / "rows.jsonl").write_text(json.dumps(written[0]) + '\n{"id": "2", "pro')
    assert call(*command, "--strength", 1).code == 0
    assert [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == written
    assert "other prompts, strengths or settings" in refused(*command, "--strength", 0.9)
    one = call(*apply, "--prompt", "the cat", "--strength", 0.5, "--json")
    told = json.loads(one.out)
    assert set(told["calls"].values()) == {told["steered_passes"]} == {4}
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a", "strength": "much"}\n')
    for flags, words in (
        (("--prompt", "the cat"), "give --strength"),
        (("--prompt", "the cat", "--strength", "nan"), "expected a finite number"),
        (("--prompt", "the cat", "--strength", "inf"), "expected a finite number"),
        (("--prompt", " ", "--strength", 1), "empty"),
        (("--prompt", "long " * 200, "--strength", 1), "at most"),
        (("--prompts", "bad.jsonl"), "strength is 'much'"),
        (("--prompts", "prompts.jsonl", "--prompt", "a", "--strength", 1), "one of them"),
    ):
        assert words in refused(*apply, *flags), flags


def test_inspect_tells_what_a_steering_is_and_whose(
    small: Path, fitted: Path, call: Call, refused: Refused, tmp_path: Path
) -> None:
    done = call("steer", "inspect", fitted, "--model", small / "model", "--device", "cpu")
    assert done.code == 0
    assert "96 of 96 neurons (100%) changed" in done.out
    assert "it is a steering of" in done.out
    told = json.loads(call("steer", "inspect", fitted / "steering", "--json").out)
    assert told["settings"]["optimizer"] == "adam"
    assert [one["neurons"] for one in told["sites"]] == [32, 32, 32]
    assert "has other weights" in refused("steer", "inspect", fitted, "--model", small / "other", "--device", "cpu")
    assert "no steering at 'nowhere'" in refused("steer", "inspect", "nowhere")
    assert "holds no steering" in refused("steer", "inspect", small)
    shutil.copytree(fitted / "steering", tmp_path / "newer")
    record = json.loads((tmp_path / "newer" / "steering.json").read_text())
    (tmp_path / "newer" / "steering.json").write_text(json.dumps(record | {"version": 2}))
    assert "format version 2" in refused("steer", "inspect", "newer")


def test_fold_writes_the_steered_model(small: Path, fitted: Path, call: Call, refused: Refused, tmp_path: Path) -> None:
    command = ["steer", "fold", fitted, small / "model", "--out", "folded", "--device", "cpu", "--strength"]
    assert "expected a finite number" in refused(*command, "inf")
    assert "nothing to fold" in refused(*command, 0)
    done = call(*command, 0.5)
    assert done.code == 0, done.err
    assert "largest difference of a logit" in done.out
    lm, folded = load(small / "model"), load(tmp_path / "folded")
    ids = torch.arange(3, 20)[None]
    with steered(lm.model, load_maps(fitted / "steering")[0], 0.5):
        hooked = lm.model(ids).logits
    assert torch.allclose(hooked, folded.model(ids).logits, atol=1e-4)
    assert "is not empty" in refused(*command, 0.5)
    assert "other weights" in refused("steer", "fold", fitted, small / "other", "--out", "x", "--strength", 1)


def test_export_writes_shifts_of_layers_and_refuses_others(
    small: Path, fitted: Path, call: Call, refused: Refused, tmp_path: Path
) -> None:
    flags = ("--method", "mean-act", "--sites", r".*\.layers\.[12]")
    assert call(*fit_command(small, "shift", *flags)).code == 0
    done = call("steer", "export", "shift", small / "model", "--gguf", "x.gguf", "--device", "cpu", "--json")
    assert json.loads(done.out)["layers"] == {"1": 32, "2": 32}
    assert (tmp_path / "x.gguf").read_bytes()[:4] == b"GGUF"
    told = refused("steer", "export", fitted, small / "model", "--gguf", "y.gguf", "--device", "cpu")
    assert "is no layer" in told
    assert not (tmp_path / "y.gguf").exists()


def test_what_cannot_be_fitted_is_refused_before_anything_is_made(
    small: Path, refused: Refused, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in (small / "model").iterdir()}
    (tmp_path / "one.txt").write_text("the cat\n")
    (tmp_path / "few.txt").write_text("the cat\na mat\nthe hill\n")
    (tmp_path / "blank.jsonl").write_text('{"text": "a"}\n{"text": " "}\n')
    shutil.copytree(small / "model", tmp_path / "broken")
    weights = load_file(tmp_path / "broken" / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(weights, tmp_path / "broken" / "model.safetensors", metadata={"format": "pt"})
    build_checkpoint(tmp_path / "rare", "cohere")
    cases: dict[tuple[object, ...], str] = {
        ("--sites", r".*\.post_atention_layernorm"): "Did you mean 'model.layers.",
        ("--sites", "("): "is no regular expression",
        ("--source", "one.txt"): "there is 1 source sentence",
        ("--source", "few.txt"): "fewer than 4",
        ("--source", small / "target.jsonl"): "the same sentences",
        ("--source", "blank.jsonl"): "or take them out of the file",
        ("--source", "sorce.txt"): "--source: there is no file",
        ("--field", "txt"): "Did you mean 'text'?",
        ("--lr", "nan"): "lr is nan",
        ("--gamma", -1): "gamma is -1",
        ("--gamma", "nan"): "is nan; expected a finite number",
        ("--floor", 2): "a number up to 1",
        ("--batch", 0): "batch is 0",
        ("--pooling", "median"): "pooling",
        ("--patience", 2): "give held_out",
        ("--gamma", 0, "--gamma", 1): "give held_out",
        ("--held-out", 0.05): "leaves 1 held out",
    }
    for flags, words in cases.items():
        assert words in refused(*fit_command(small, "run", *flags)), flags
        assert not (tmp_path / "run").exists(), flags
    for folder, words in (("broken", "not finite"), ("rare", 'no preset "norms"')):
        command = fit_command(small, "run")
        command[2] = folder
        assert words in refused(*command)
    assert not (tmp_path / "run").exists()
    assert "give --target" in refused("steer", "fit", small / "model", "--source", small / "source.txt")
    assert "never changed" in refused(*fit_command(small, small / "model" / "run"))
    assert before == {path: path.read_bytes() for path in (small / "model").iterdir()}


def test_a_rate_that_is_too_high_ends_with_a_message(small: Path, refused: Refused) -> None:
    told = refused(*fit_command(small, "run", "--lr", 1e30, "--steps", 5))
    assert "lower --lr" in told or "not finite" in told


def test_a_plan_is_run_and_its_typos_are_told(
    small: Path, fitted: Path, call: Call, refused: Refused, tmp_path: Path
) -> None:
    text = (fitted / "plan.toml").read_text(encoding="utf-8")
    (tmp_path / "plan.toml").write_text(text, encoding="utf-8")
    done = call("steer", "run", "plan.toml", "--out", "run", "--quiet")
    assert done.code == 0, done.err
    assert maps_hash(tmp_path / "run") == maps_hash(fitted)
    (tmp_path / "bad.toml").write_text(text.replace("held_out =", "heldout ="))
    assert "Did you mean 'held_out'?" in refused("steer", "run", "bad.toml")
    (tmp_path / "none.toml").write_text("schema_version = 1\n")
    assert "expected one table" in refused("steer", "run", "none.toml")


def test_an_unknown_flag_is_told_before_torch_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom audit.cli.main import main\n"
        "try:\n    main(['steer', 'fit', 'm', '--sorce', 'x'])\n"
        "except SystemExit as end:\n    print(end.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "2 False\n"
    assert "--source" in done.stderr
