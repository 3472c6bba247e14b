"""``palimpsest gate``: exit codes, formats, explain, lint, and messages."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from audit.runs.seal.make import seal_run
from tests.cli.conftest import Call
from tests.gates.made import HEAD, estimate, finding, findings, rule, run_of
from tests.runs.seal.made import KEY, OTHER_KEY

AUC = {"estimate": "traps.copies_1/auc", "direction": "at_most", "limit": 0.6, "unit": "auc"}
NUMBERS = {"clear": (0.5, 0.45, 0.55), "unsure": (0.5, 0.4, 0.65), "over": (0.9, 0.85, 0.95)}


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "release.toml"
    path.write_text(HEAD + rule(id="traps.auc", **AUC), encoding="utf-8")
    return path


def made(tmp_path: Path, name: str, **more: bool) -> Path:
    auc = {"auc": estimate(*NUMBERS[name], n=60)}
    return run_of(tmp_path / name, findings(finding("traps.copies_1", estimates=auc)), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "code", "said"), [("clear", 0, "PASS"), ("over", 1, "BREACHED"), ("unsure", 4, "INCON")]
)
def test_the_exit_code_is_the_verdict(
    call: Call, tmp_path: Path, policy: Path, name: str, code: int, said: str
) -> None:
    run = made(tmp_path, name)
    for words in (("gate", run), ("gate", "check", run), ("gate", "--policy", policy, run)):
        answer = call(*words, *([] if "--policy" in words else ["--policy", policy]))
        assert answer.code == code
        assert answer.out.startswith(said)


def test_a_run_that_has_not_ended_is_3(call: Call, tmp_path: Path, policy: Path) -> None:
    answer = call("gate", made(tmp_path, "clear", finished=False), "--policy", policy)
    assert answer.code == 3
    assert "has not ended" in answer.err


def test_a_self_test_that_is_asked_for_and_absent_is_5(call: Call, tmp_path: Path) -> None:
    answer = call("gate", made(tmp_path, "clear"), "--policy", "strict", "--today", "2026-11-28")
    assert answer.code == 5
    assert "SELF-TEST FAILED" in answer.out


def test_formats_are_written_to_a_file_or_printed(call: Call, tmp_path: Path, policy: Path) -> None:
    run = made(tmp_path, "over")
    heads = {
        "json": "{",
        "junit": "<?xml",
        "sarif": "{",
        "github": "::error file=release.toml,line=",
        "text": "BREACHED",
    }
    for name, head in heads.items():
        printed = call("gate", run, "--policy", policy, "--format", name, "--today", "2026-11-28")
        assert printed.code == 1
        assert printed.out.startswith(head) or (name == "github" and "::error file=release.toml,line=7" in printed.out)
        out = tmp_path / f"gate.{name}"
        written = call("gate", run, "--policy", policy, "--format", name, "--today", "2026-11-28", "--out", out)
        assert written.code == 1
        assert written.out == f"breached: gate.{name}\n"
        assert out.read_text(encoding="utf-8") == printed.out
    result = json.loads((tmp_path / "gate.json").read_text(encoding="utf-8"))
    assert (result["verdict"], result["today"]) == ("breached", "2026-11-28")
    assert [one["outcome"] for one in result["rules"] if one["id"] == "traps.auc"] == ["breached"]


def test_a_published_head_is_compared(call: Call, refused: Callable[..., str], tmp_path: Path, policy: Path) -> None:
    run = made(tmp_path, "clear")
    assert "is not sealed" in refused("gate", run, "--policy", policy, "--head", "0" * 64)
    head = seal_run(run).record.head
    answer = call("gate", run, "--policy", policy, "--head", head)
    assert answer.code == 0
    assert "sealed, as it was, with the head that was given" in " ".join(answer.out.split())
    assert head in answer.out
    assert "not the one that was given" in refused("gate", run, "--policy", policy, "--head", "0" * 64)


def test_a_day_that_brings_an_expired_waiver_back_is_told(call: Call, tmp_path: Path, policy: Path) -> None:
    """On that day the waiver counts; by the clock it does no more."""
    held = rule(id="held", **AUC | {"limit": 0.99})
    waiver = '[[waivers]]\nrule = "traps.auc"\nreason = "x"\napprover = "y"\nexpires = "2020-01-02"\n'
    policy.write_text(policy.read_text(encoding="utf-8") + held + waiver, encoding="utf-8")
    run = made(tmp_path, "over")
    content = {path: path.read_text(encoding="utf-8").replace("2026-11-27T", "2020-01-01T")
               for path in (run / "run.json", run / "opening.json")}  # fmt: skip
    for path, text in content.items():
        path.write_text(text, encoding="utf-8")
    answer = call("gate", run, "--policy", policy, "--today", "2020-01-02")
    assert answer.code == 0
    assert "warning: on 2020-01-02 the waiver of traps.auc counts; it expired on 2020-01-02, and it is " in answer.err
    assert "Waivers are read on 2020-01-02, the day that was given." in answer.out
    told = json.loads(call("gate", run, "--policy", policy, "--today", "2020-01-02", "--format", "json").out)
    assert told["today_given"] is True
    explained = call("gate", "explain", "traps.auc", run, "--policy", policy, "--today", "2020-01-02")
    assert "the day that was given" in explained.out
    answer = call("gate", run, "--policy", policy)
    assert (answer.code, answer.err) == (1, "")
    assert ", today, by the clock." in answer.out


def test_the_key_that_must_have_signed_is_compared(
    call: Call, refused: Callable[..., str], tmp_path: Path, policy: Path
) -> None:
    run = made(tmp_path, "clear")
    signed = seal_run(run, key=KEY).record.public_key
    other = seal_run(made(tmp_path, "unsure"), key=OTHER_KEY).record.public_key
    (tmp_path / "key.pub").write_text(str(signed), encoding="utf-8")
    (tmp_path / "other.pub").write_text(str(other), encoding="utf-8")
    answer = call("gate", run, "--policy", policy, "--public-key", tmp_path / "key.pub")
    assert answer.code == 0
    assert "with the key that was given" in " ".join(answer.out.split())
    assert "agrees with its own seal" in refused(
        "gate", run, "--policy", policy, "--public-key", tmp_path / "other.pub"
    )


def test_explain_says_what_would_have_to_change(call: Call, tmp_path: Path, policy: Path) -> None:
    answer = call("gate", "explain", "traps.auc", made(tmp_path, "unsure"), "--policy", policy)
    assert answer.code == 0
    assert "about 135 items instead of 60" in " ".join(answer.out.split())


def test_lint_prints_file_and_line(call: Call, tmp_path: Path, policy: Path) -> None:
    assert call("gate", "lint", policy, "strict").out == "2 policies without a problem\n"
    bad = tmp_path / "bad.toml"
    bad.write_text(HEAD + rule(**AUC | {"limit": 95}) + rule(**AUC), encoding="utf-8")
    answer = call("gate", "lint", policy, bad)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith(f"{bad}:7: rules[1]: wrong unit: the limit 95 lies outside of [0, 1]")


def test_policies_lists_the_shipped_ones(call: Call) -> None:
    answer = call("gate", "policies")
    assert answer.code == 0
    for name in ("strict", "research", "nist-ai-600-1", "eu-gpai-code", "iso-42001"):
        assert f"{name}: " in answer.out


def test_what_is_wrong_is_told_in_one_message(refused: Callable[..., str], tmp_path: Path, policy: Path) -> None:
    run = made(tmp_path, "clear")
    assert "Did you mean 'strict'?" in refused("gate", run, "--policy", "strikt")
    assert "there is no policy at" in refused("gate", run, "--policy", "releas.toml")
    assert "there is no run folder at" in refused("gate", tmp_path / "cleer", "--policy", policy)
    assert "--today is 'soon'; expected a day" in refused("gate", run, "--policy", policy, "--today", "soon")
    assert "the policy has no rule 'traps.auk'" in refused("gate", "explain", "traps.auk", run, "--policy", policy)
    assert "lies in the run" in refused("gate", run, "--policy", policy, "--out", run / "gate.json")
    evidence = run / "items" / "traps.parquet"
    assert "lies in the run" in refused("gate", run, "--policy", policy, "--out", evidence)
    assert not evidence.exists()
    policy.write_text(HEAD + rule(**AUC, limt=1), encoding="utf-8")
    assert "unknown key 'limt' in [rules[1]]" in refused("gate", run, "--policy", policy)


def test_a_gate_needs_no_torch() -> None:
    code = (
        "import sys, audit.cli.gate, audit.gates.verdict, audit.gates.lint, audit.runs.seal.check; "
        "sys.exit(bool({'torch', 'transformers', 'pandas'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 0
