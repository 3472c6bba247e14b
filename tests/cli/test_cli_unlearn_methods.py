"""Every baseline method through one door: flags are a plan, a killed run goes on, curves are kept."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM

from audit.runs.store import Run
from audit.text.files import sha256_file
from tests.cli.conftest import Call
from unlearn import curves
from unlearn.baselines.methods import METHODS
from unlearn.cli.baseline import VERBS, command
from unlearn.watch import measure

BOOK = "The cat Zorblax sat on the mat.\n\nThen the dog saw Zorblax and the cat Quimby ran over the hill.\n\n" * 12
KEEP = "The dog Peter ran over the hill.\n\nThen the cat sat on the mat and the dog Peter ran.\n\n" * 12
SMALL = ["--block", 48, "--steps", 4, "--batch-size", 4, "--rate", 1e-3, "--evaluate-every", 2, "--device", "cpu"]
Refused = Callable[..., str]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    (tmp_path / "book.txt").write_text(BOOK, encoding="utf-8")
    (tmp_path / "keep.txt").write_text(KEEP, encoding="utf-8")
    return tmp_path


def test_every_method_has_a_verb_and_its_own_settings_are_flags_of_it_alone() -> None:
    assert [verb.replace("-", "_") for verb in VERBS] == list(METHODS)
    names = {verb: set(command(verb).__annotations__) for verb in VERBS}
    assert names["npo"] - names["kl-ascent"] == {"beta"}
    assert names["rmu"] - names["npo"] == {"layer", "depth", "steering"}
    assert "retain" not in names["gradient-ascent"]


def test_flags_and_the_plan_that_they_stand_for_make_the_same_model(call: Call, llama: Path, texts: Path) -> None:
    before = {path.name: sha256_file(path) for path in llama.iterdir()}
    done = call("unlearn", "npo", llama, "--forget", "book.txt", "--retain", "keep.txt", "--out", "a", *SMALL, "--beta",
                0.3, "--quiet")  # fmt: skip
    assert done.code == 0, done.err
    assert "Not verified" in done.out
    shutil.copy(texts / "a" / "plan.toml", texts / "plan.toml")
    again = call("unlearn", "run", "plan.toml", "--out", "b", "--quiet", "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["plan"]["npo"] == {"beta": 0.3}
    assert Run.open("a").record.plan == Run.open("b").record.plan
    assert Run.open("a").findings().sections[0].tables[1] == Run.open("b").findings().sections[0].tables[1]
    made = [sha256_file(texts / run / "model" / "model.safetensors") for run in ("a", "b")]
    assert made[0] == made[1] != before["model.safetensors"]
    assert {path.name: sha256_file(path) for path in llama.iterdir()} == before
    held = [row for row in Run.open("a").findings().sections[0].tables[0].rows if "held-out" in str(row["measure"])]
    assert held  # a tenth of the retain text was kept out of the training
    card = (texts / "a" / "model" / "README.md").read_text(encoding="utf-8")
    assert "arXiv:2404.05868" in card
    assert "Not verified" in card


def test_a_plan_with_a_wrong_key_or_method_says_what_was_meant(refused: Refused, texts: Path) -> None:
    def told(more: str, method: str = "npo") -> str:
        (texts / "plan.toml").write_text(f'[unlearn]\nmethod = "{method}"\nmodel = "m"\nforget = "book.txt"\n{more}')
        return refused("unlearn", "run", "plan.toml")

    assert "Did you mean 'retain'?" in told('retian = "keep.txt"')
    assert "Did you mean 'beta'?" in told('retain = "keep.txt"\n[unlearn.npo]\nbetta = 1.0')
    assert "Did you mean 'npo'?" in told("", "np0")
    assert "[unlearn.rmu] is not of the method npo" in told('retain = "keep.txt"\n[unlearn.rmu]\nlayer = 1')
    assert "give that text as held_out" in told('retain = "keep.txt"', "gradient_ascent")
    assert "needs anchors" in told("", "whp")
    assert "there is none here" in told('held_out = "keep.txt"\nretain_weight = 2.0', "gradient_ascent")
    (texts / "near.txt").write_text(BOOK + "The end.\n", encoding="utf-8")
    npo = ["unlearn", "npo", "m", "--forget", "book.txt", "--out", "a"]
    assert "kept and forgotten" in refused(*npo, "--retain", "near.txt")
    assert "nothing of what is kept" in refused(*npo, "--retain", "keep.txt", "--held-out", "near.txt")
    assert "trained on" in refused(*npo, "--retain", "keep.txt", "--held-out", "keep.txt")
    (texts / "wrapped.txt").write_text("\n".join(BOOK.split()), encoding="utf-8")
    assert "word for word" in refused(*npo, "--retain", "wrapped.txt")
    (texts / "holes.jsonl").write_text('{"text": "a"}\n{"text": 1}\n', encoding="utf-8")
    holes = refused(*npo, "--retain", "holes.jsonl")
    assert "take them out of the file" in holes
    assert "--skip-bad-lines" not in holes
    assert "no rate for adapters" in told('retain = "keep.txt"\nweights = "lora"')


def test_a_killed_run_goes_on_and_keeps_what_it_measured(
    call: Call, llama: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ["unlearn", "gradient-ascent", llama, "--forget", "book.txt", "--held-out", "keep.txt", *SMALL, "--quiet"]
    assert call(*run, "--out", "whole").code == 0
    measured: list[object] = []

    def counted(*arguments: object) -> object:
        measured.append(arguments)
        if len(measured) == 3:
            raise KeyboardInterrupt
        return measure(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(curves, "measure", counted)
    assert call(*run, "--out", "killed").code not in (0, 2)
    assert len(list((texts / "killed" / "parts" / "unlearning-curves").glob("step-*.json"))) == 2
    assert call(*run, "--out", "killed").code == 0
    assert len(measured) == 4  # steps 0, 2, 4 (killed), 4
    kept, whole = (Run.open(folder).read_items("unlearning-curves") for folder in ("killed", "whole"))
    assert kept.equals(whole)
    assert set(kept["step"].to_pylist()) == {0, 2, 4}
    assert set(kept["measure"].to_pylist()) >= {"forget_loss", "retain_loss", "name_probability"}
    assert not (texts / "killed" / "parts").exists()


def test_a_method_that_turns_round_at_its_end_is_measured_as_its_result(call: Call, llama: Path, texts: Path) -> None:
    done = call("unlearn", "task-vector", llama, "--forget", "book.txt", "--out", "run", *SMALL, "--quiet", "--json")
    assert done.code == 0, done.err
    loss = json.loads(done.out)["measured"]["forget_loss"]
    assert loss["result"]["value"] > loss["before"]["value"]  # between, it fell
    section = Run.open("run").findings().sections[0]
    assert [row["step"] for row in section.tables[1].rows] == [0, 4]
    said = section.findings[0].claim
    assert "in 4 steps of 4 blocks, " in said


def test_both_ends_are_measured_in_the_precision_of_the_training(call: Call, llama: Path, texts: Path) -> None:
    """A change of rounding alone is no forgetting."""
    run = ["unlearn", "task-vector", llama, "--forget", "book.txt", "--out", "run", *SMALL, "--rate", 1e-30]
    done = call(*run, "--dtype", "bfloat16", "--quiet", "--json")
    assert done.code == 0, done.err
    change = json.loads(done.out)["measured"]["forget_loss"]["change"]
    assert change["value"] == 0


def test_a_text_that_is_hidden_is_quoted_nowhere(call: Call, llama: Path, texts: Path) -> None:
    (texts / "p.jsonl").write_text('{"prompt": "The cat saw", "references": [], "expected": ["Zorblax"]}\n')
    run = ["unlearn", "npo", llama, "--forget", "book.txt", "--retain", "keep.txt", "--prompts", "p.jsonl", *SMALL]
    assert call(*run, "--out", "run", "--hide-text", "--quiet").code == 0
    for name in ("report.html", "findings.json", "unlearning.json", "model/README.md"):
        assert "Zorblax" not in (texts / "run" / name).read_text(encoding="utf-8")
    section = Run.open("run").findings().sections[0]
    assert any("sum over their tokens" in note for note in section.assumptions)
    assert "stand in the trained texts too" in section.method  # the paragraphs of the text are two, over and over


def test_a_broken_adapter_says_so_and_how_it_is_loaded(call: Call, llama: Path, texts: Path) -> None:
    run = ["unlearn", "gradient-ascent", llama, "--forget", "book.txt", "--out", "run", "--block", 48, "--steps", 30]
    run += ["--batch-size", 4, "--rate", 0.3, "--weights", "lora", "--held-out", "keep.txt", "--device", "cpu"]
    done = call(*run, "--quiet")
    assert done.code == 0, done.err
    card = (texts / "run" / "model" / "README.md").read_text(encoding="utf-8")
    claims = " ".join(one.claim for one in Run.open("run").findings().sections[0].findings)
    for told in (done.out, card, claims, (texts / "run" / "report.html").read_text(encoding="utf-8")):
        assert "worse than guessing" in told
    assert card.startswith(f'---\nbase_model: "{llama}"\nlibrary_name: peft\n')
    code = next(line for line in card.splitlines() if "PeftModel.from_pretrained" in line).strip()
    names: dict[str, object] = {"AutoModelForCausalLM": AutoModelForCausalLM, "PeftModel": PeftModel}
    exec(code.replace('"this folder"', '"run/model"'), names)  # the card's own words
    assert isinstance(names["model"], PeftModel)
    assert f"an adapter over {llama}" in done.out


def test_a_plan_lies_in_its_run_and_runs_from_there(call: Call, llama: Path, texts: Path) -> None:
    small = [*SMALL[2:], "--steps", 1, "--quiet"]
    (texts / "model").symlink_to(llama)
    first = call("unlearn", "gradient-ascent", "model", "--forget", "book.txt", "--out", "a", *small)
    assert first.code == 0, first.err
    assert "damage to other text was not measured" in first.out
    assert Run.open("a").record.plan["unlearn"]["block"] == 112  # 7/8 of a context of 128
    again = call("unlearn", "run", "a/plan.toml", "--out", "b", "--quiet")
    assert again.code == 0, again.err
    assert Run.open("b").record.plan == Run.open("a").record.plan
    listed = call("runs", "list", "--runs", ".").out
    assert "unlearning: information (gradient_ascent)" in listed
    assert str(texts / "model") in listed


def test_a_file_that_is_not_there_is_told_before_torch_is_loaded(texts: Path) -> None:
    script = (
        "import sys\nfrom audit.cli.main import main\n"
        "try:\n    main(['unlearn', 'whp', 'm', '--forget', 'boook.txt', '--anchors', 'x', '--out', 'run'])\n"
        "except SystemExit as end:\n    print(end.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=texts, check=True)
    assert done.stdout == "2 False\n"
    assert "Did you mean 'book.txt'?" in done.stderr


def test_help_names_only_flags_that_a_method_has(call: Call) -> None:
    alone, kept = (call("unlearn", verb, "--help").out for verb in ("gradient-ascent", "npo"))
    assert "--retain" not in alone
    assert "--retain" in kept
