"""``palimpsest runs seal|verify|disclose|check-proof|export``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tests.runs.seal.made import make_run

RAW = "07" * 32
Refused = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(RAW)
    path.chmod(0o600)
    return path


def test_seal_verify_disclose_and_check(run: Path, key: Path, call: Call) -> None:
    code, out, _ = call("runs", "seal", run, "--key", key)
    assert code == 0
    assert RAW not in out
    head = out.split("head       ")[1].split()[0]
    assert f"palimpsest run {json.loads((run / 'run.json').read_text())['id']} sealed {head}" in out
    public = out.split("signed by  ")[1].split()[0]
    Path("key.pub").write_text(public)
    code, out, _ = call("runs", "verify", run, "--head", head.upper(), "--public-key", "key.pub", "--rows")
    assert code == 0
    assert "(the one that was given)" in out
    assert "whoever made that head or holds that key" in out
    code, out, _ = call("runs", "verify", run)
    assert "It does not show that nobody changed the run on purpose" in out
    code, out, _ = call(
        "runs", "disclose", run, "--items", "items/traps.parquet", "--id", "trap-4", "--out", "proof.json"
    )
    assert code == 0
    assert Path("proof.json").stat().st_mode & 0o777 == 0o600
    code, out, _ = call("runs", "check-proof", "proof.json", "--head", head)
    assert code == 0
    assert "  trap_id: trap-4\n" in out
    assert "these rows stood so in that run" in out
    code, out, _ = call("runs", "check-proof", "proof.json")
    assert "which anybody's does" in out
    code, out, _ = call("runs", "check-proof", "proof.json", "--json")
    told = json.loads(out)
    assert told["rows"][0]["place"] == 4
    assert (told["head_given"], told["public_key_given"], told["public_key"]) == (False, False, public)
    told = json.loads(call("runs", "check-proof", "proof.json", "--head", head, "--json").out)
    assert (told["head_given"], told["public_key_given"]) == (True, False)
    Path("other").write_text("ab" * 32)
    code, out, err = call("runs", "check-proof", "proof.json", "--public-key", "other")
    assert code == 2
    assert "abab" not in out + err
    code, out, _ = call("runs", "disclose", run, "--items", "items/traps.parquet", "--row", 1, "--quiet")
    assert json.loads(out)["rows"][0]["row"]["trap_id"] == "trap-1"


def test_the_key_may_stand_in_the_environment(run: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_SIGNING_KEY", RAW)
    code, out, _ = call("runs", "seal", run, "--json")
    assert code == 0
    told = json.loads(out)
    assert told["how"] == "sealed"
    assert len(told["public_key"]) == 64
    assert not any(RAW.encode() in path.read_bytes() for path in run.rglob("*") if path.is_file())


def test_a_broken_seal_is_code_2_with_a_line_for_each_problem(run: Path, call: Call, refused: Refused) -> None:
    call("runs", "seal", run)
    (run / "plan.toml").unlink()
    (run / "items" / "\x1b[31mred").write_text("x")
    message = refused("runs", "verify", run)
    assert "is not as it was sealed; it cannot be relied on:" in message
    assert "- 'plan.toml' was removed\n" in message
    assert "\x1b" not in message
    assert "\\x1b[31mred' was added" in message
    code, out, _ = call("runs", "verify", run, "--json")
    assert code == 2
    told = json.loads(out)
    assert told["intact"] is False
    assert {problem["kind"] for problem in told["problems"]} == {"removed", "added"}
    assert "nothing differs" not in refused("runs", "seal", run)


def test_what_cannot_be_done_says_why(run: Path, call: Call, refused: Refused, tmp_path: Path) -> None:
    assert "is not sealed: it has no seal.json" in refused("runs", "verify", run)
    assert "there is no policy none.toml" in refused("runs", "seal", run, "--policy", "none.toml")
    assert RAW not in refused("runs", "seal", run, "--key", RAW)  # a key pasted where its file belongs
    call("runs", "seal", run)
    assert "nothing differs" in call("runs", "seal", run).out
    assert "--head 'abc' is no head" in refused("runs", "verify", run, "--head", "abc")
    disclosed = ("runs", "disclose", run, "--items", "items/traps.parquet", "--id", "trap-4")
    assert "lies in the sealed run" in refused(*disclosed, "--out", run / "proof.json")
    call(*disclosed, "--out", "proof.json")
    content = Path("proof.json").read_text().replace('"trap-4"', '"trap-5"')
    Path("proof.json").write_text(content)
    assert "proves nothing: row 4 is not the one" in refused("runs", "check-proof", "proof.json")
    assert "there is no file missing.json" in refused("runs", "check-proof", "missing.json")


def test_that_there_is_no_opening_is_said_with_both_reasons(run: Path, call: Call) -> None:
    (run / "opening.json").unlink()
    said = call("runs", "seal", run).out
    assert "opening    none: an older version made this run, or it was removed" in said


def test_an_unfinished_run_is_code_3(tmp_path: Path, call: Call) -> None:
    from audit.runs.store import Run

    with Run.start(tmp_path / "open", kind="audit", plan={}, plan_text=None, command=["palimpsest"]):
        pass
    code, _, err = call("runs", "seal", tmp_path / "open")
    assert code == 3
    assert "only a complete run can be sealed" in err


def test_statements_are_written(run: Path, call: Call) -> None:
    call("runs", "seal", run)
    code, out, _ = call("runs", "export", run, "--format", "in-toto", "--out", "statement.json")
    assert code == 0
    assert json.loads(Path("statement.json").read_text())["predicateType"].endswith("reference/v0.1")
    code, out, _ = call("runs", "export", run, "--format", "cyclonedx", "--assessor", "A", "--own")
    assert json.loads(out)["declarations"]["assessors"][0]["thirdParty"] is False


POLICY = """schema_version = 1
name = "small"
title = "A small policy"
reading = "Ours."

[[rules]]
id = "traps"
title = "No trap was found"
severity = "block"
estimate = "traps.copies_64/verdict"
one_of = ["not found"]
"""


def test_an_edited_result_of_a_gate_is_refused_where_the_policy_is_given(
    run: Path, call: Call, refused: Refused
) -> None:
    call("runs", "seal", run)
    Path("small.toml").write_text(POLICY)
    done = call("gate", run, "--policy", "small.toml", "--format", "json", "--out", "gate.json")
    assert done.code == 1, done.err
    exported = ("runs", "export", run, "--format", "in-toto", "--policy", "small.toml", "--gate", "gate.json")
    told = json.loads(call(*exported).out)["predicate"]
    assert (told["result"], told["failedTests"]) == ("FAILED", ["traps"])
    told = json.loads(call(*exported[:-2], "--today", "2999-01-01").out)["predicate"]
    assert told["urn:palimpsest:gate"]["waiversReadOn"] == "2999-01-01"
    assert (told["result"], told["urn:palimpsest:gate"]["judgedAnew"]) == ("FAILED", True)
    gate = json.loads(Path("gate.json").read_text())
    gate["verdict"] = "pass"
    for rule in gate["rules"]:
        rule["outcome"] = "pass"
    Path("gate.json").write_text(json.dumps(gate))
    assert "rule 'traps': 'block pass', and not 'block breached'" in refused(*exported)
    done = call(*exported[:-4], "--gate", "gate.json", "--out", "statement.json")
    assert "gate.json was believed: --policy judges the run anew" in done.out


def test_listing_runs_loads_nothing_of_seals() -> None:
    code = (
        "import sys, audit.cli.runs; "
        "sys.exit(any(name.startswith(('audit.runs.seal', 'cryptography', 'torch')) for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 0


def test_seals_need_no_library_for_signatures_until_one_is_there(run: Path) -> None:
    script = "import sys; sys.modules['cryptography'] = None\nfrom audit.cli.main import main\nmain(sys.argv[1:])\n"

    def palimpsest(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        import os

        command = [sys.executable, "-c", script, *map(str, arguments)]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[2],
            env={**os.environ, **environment},
        )

    asked = palimpsest("runs", "seal", run, PALIMPSEST_SIGNING_KEY=RAW)
    assert asked.returncode == 2
    assert "pip install 'palimpsest-audit[sign]'" in asked.stderr
    assert not (run / "seal.json").exists()
    assert palimpsest("runs", "seal", run).returncode == 0
    assert palimpsest("runs", "verify", run).returncode == 0
