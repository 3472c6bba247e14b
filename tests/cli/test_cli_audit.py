"""``palimpsest audit`` from end to end on two tiny random models, and ``palimpsest runs`` on what it left."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import audit.lm.load
from tests.cli.conftest import Call, make_traps

ROOT = Path(__file__).parents[2]
Refused = Callable[..., str]


@pytest.fixture(scope="module")
def finished(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder ``run`` of a finished audit, its plan and traps beside it; made by the installed command. Read only."""
    root = tmp_path_factory.mktemp("audit")
    make_traps(root / "traps.parquet")
    text = f'[subject]\nmodel = "{models / "llama"}"\n[reference]\nmodel = "{models / "qwen2"}"\n'
    (root / "plan.toml").write_text(text + '[traps]\ntable = "traps.parquet"\nn_draws = 99\n', encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "audit", "audit", "plan.toml", "--out", "run", "--quiet"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4, done.stderr  # untrained models and few traps: nothing can be said
    assert "INCONCLUSIVE" in done.stdout
    assert "Report: run/report.html" in done.stdout
    assert done.stderr == ""
    return root


def swap(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_an_audit_leaves_items_findings_and_report(finished: Path) -> None:
    run = finished / "run"
    items = pd.read_parquet(run / "items" / "traps.parquet")
    assert len(items) == 24
    assert (items["ratio_score"] == items["reference_loss"] - items["loss"]).all()
    assert json.loads((run / "run.json").read_text())["status"] == "complete"
    assert json.loads((run / "findings.json").read_text())["sections"][0]["audit"] == "traps"
    assert "<html" in (run / "report.html").read_text(encoding="utf-8")
    assert (run / "plan.toml").read_text() == (finished / "plan.toml").read_text()
    assert not (run / "parts").exists()


def test_the_same_plan_again_does_nothing_and_says_the_same(
    call: Call, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(audit.lm.load, "load", load)
    before = {path: path.stat().st_mtime_ns for path in (finished / "run").rglob("*") if path.is_file()}
    shown = call("runs", "show", finished / "run")
    again = call("audit", finished / "plan.toml", "--out", finished / "run")
    assert (again.code, again.out) == (4, shown.out)
    as_json = call("audit", finished / "plan.toml", "--out", finished / "run", "--json")
    assert json.loads(as_json.out) == json.loads((finished / "run" / "findings.json").read_text())
    after = {path: path.stat().st_mtime_ns for path in (finished / "run").rglob("*") if path.is_file()}
    assert {path.name for path in after if after[path] != before.get(path)} <= {".lock"}


def test_an_interrupted_audit_goes_on_and_ends_with_equal_findings(
    call: Call, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the third of six parts and then again before the report; the first two parts are not redone."""
    import audit.cli.audit
    import audit.membership.parts

    for name in ("plan.toml", "traps.parquet"):
        shutil.copy(finished / name, tmp_path / name)
    monkeypatch.setattr(audit.membership.parts, "PART_TEXTS", 8)
    real, sizes = audit.membership.parts.score_tokens, []

    def interrupted(lm: Any, sequences: Any, *rest: Any, **named: Any) -> Any:
        sizes.append(len(sequences))
        if len(sizes) == 3:
            raise KeyboardInterrupt
        return real(lm, sequences, *rest, **named)

    monkeypatch.setattr(audit.membership.parts, "score_tokens", interrupted)
    stopped = call("audit", "plan.toml", "--out", "run", "--quiet")
    assert stopped.code == 3
    assert "the same command goes on from there" in stopped.err
    assert call("runs", "show", "run").code == 3
    with monkeypatch.context() as patch:
        patch.setattr("audit.report.write.draw_where_missing", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        assert call("audit", "plan.toml", "--out", "run", "--quiet").code == 3
    ended = call("audit", "plan.toml", "--out", "run", "--quiet")
    assert ended.code == 4
    assert sizes == [8] * 7  # three until the stop, one of them lost; then the missing four
    assert call("audit", "plan.toml", "--out", "whole", "--quiet").code == 4
    for name in ("findings.json", "items/traps.parquet"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("n_draws", "n_drwas", "unknown key 'n_drwas' in [traps]; known here: "),
        ("n_draws", "n_drwas", "Did you mean 'n_draws'?"),
        ("[subject]", "[subjct]", "Did you mean 'subject'?"),
        ("[traps]", "[trap]", "the table [traps] is missing; add it."),
        ("n_draws = 99", "n_draws = 9", "plan.toml: traps: n_draws is 9; expected 99 to 10,000,000"),
        ('table = "traps.parquet"', 'table = "~nosuchuser/x"', "no home folder for '~nosuchuser' in '~nosuchuser/x'"),
        ('table = "traps.parquet"', 'table = ""', "traps.table is ''; expected a text of 1 or more characters"),
        ('table = "traps.parquet"', 'table = "."', "it is a folder. Give a parquet file"),
        ('table = "traps.parquet"', f'table = "{"x" * 300}"', "the name is too long. Choose a shorter name"),
        (
            "[traps]",
            "[traps]\nlevel = 0.9999999999999999",
            "traps.level is 0.9999999999999999; expected a number of",
        ),
        ("[reference]", '[reference]\nadapter = ""', "reference.adapter is ''; expected a text of 1 or more"),
        ("[traps]", "[traps]\nseed = 2026-01-01", "traps.seed is the date or time 2026-01-01; a plan holds none"),
        ("n_draws = 99", 'n_draws = "99"', "traps.n_draws is '99'; expected a whole number"),
        ("n_draws = 99", 'primary = "los"', "Did you mean 'loss'?"),
        ("[traps]", "[traps", "plan.toml is not TOML"),
        ('table = "traps.parquet"', 'table = "trap.parquet"', "Did you mean 'traps.parquet'?"),
        ('table = "traps.parquet"', 'table = "plan.toml"', "plan.toml as parquet"),
        ('/llama"', '/lama"', "Did you mean 'llama'?"),
        ('/qwen2"', '/qwen3"', "Did you mean 'qwen2'?"),
        ('/qwen2"', '/llama"', "every ratio would be 0"),
        ('device = "cpu"', 'device = "cuda:97"', "cuda:97"),
    ],
)
def test_a_wrong_plan_is_refused_before_a_run_is_made(
    refused: Refused, plan: Path, old: str, new: str, says: str
) -> None:
    swap(plan, old, new)
    assert says in refused("audit", plan, "--out", "run")
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.drop(columns="stratum"), "lacks the columns stratum"),
        (lambda t: t.assign(trap_id="same"), "trap 'same' occurs more than once"),
        (lambda t: t.assign(arm="decoy", n_rep=0), "has no members"),
        (lambda t: t.assign(text=["xyz " * 200, *t["text"][1:]]), "accepts at most 127"),
        (lambda t: t.assign(text=["", *t["text"][1:]]), "row 1: text is blank"),
        (lambda t: t.assign(text=[None, *t["text"][1:]]), "column text has empty cells"),
    ],
    ids=range(6),
)
def test_a_wrong_table_is_refused_before_a_run_is_made(
    refused: Refused, plan: Path, change: Callable[[pd.DataFrame], pd.DataFrame], says: str
) -> None:
    table = plan.parent / "traps.parquet"
    change(pd.read_parquet(table)).to_parquet(table)
    assert says in refused("audit", plan, "--out", "run")
    assert not Path("run").exists()


def test_a_ratio_without_a_reference_is_refused(refused: Refused, plan: Path) -> None:
    text = plan.read_text()
    plan.write_text(text[: text.index("[reference]")] + text[text.index("[traps]") :])
    message = refused("audit", plan, "--out", "run")
    assert 'plan.toml: the primary score is "ratio"' in message
    assert "none was given. Give a model that never saw the traps (--reference, or [reference] in a plan)" in message
    assert not Path("run").exists()


def test_folders_that_cannot_take_the_run_are_refused(refused: Refused, call: Call, plan: Path, finished: Path) -> None:
    assert "could not read the plan .: Is a directory" in refused("audit", ".")
    assert "there is no plan at plam.toml. Did you mean 'plan.toml'?" in refused("audit", "plam.toml")
    Path("full").mkdir()
    Path("full", "thesis.tex").write_text("mine")
    assert "full holds no run but is not empty (it has 'thesis.tex')" in refused("audit", plan, "--out", "full")
    assert "could not create the folder plan.toml/run" in refused("audit", plan, "--out", "plan.toml/run")
    message = refused("audit", plan, "--out", finished / "run")
    assert 'holds a run of another plan: reference.device was "auto", is "cpu"' in message
    message = refused("audit", finished / "plan.toml", "--out", finished / "run", "--no-resume")
    assert "holds the run audit-" in message


def test_two_audits_in_one_folder_are_refused(call: Call, plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second starts in the middle of the first."""
    inner: list[Any] = []
    real = audit.lm.load.load

    def load(subject: Any) -> Any:
        if not inner:
            inner.append(None)
            inner[0] = call("audit", plan, "--out", "run", "--quiet")
        return real(subject)

    monkeypatch.setattr(audit.lm.load, "load", load)
    assert call("audit", plan, "--out", "run", "--quiet").code == 4
    assert inner[0].code == 2
    assert "run is in use by this process itself" in inner[0].err


def test_runs_are_listed_newest_first_and_damaged_ones_are_named(call: Call, finished: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for name in ("good", "cut", "torn", "empty-findings"):
        shutil.copytree(finished / "run", runs / name)
    (runs / "no-run").mkdir()
    (runs / "cut" / "run.json").write_text('{"schema_version": 1')
    (runs / "torn" / "findings.json").write_text("[]")
    bare = json.loads((runs / "empty-findings" / "findings.json").read_text())
    bare["sections"][0]["findings"] = []
    (runs / "empty-findings" / "findings.json").write_text(json.dumps(bare))
    code, out, err = call("runs", "list", "--runs", runs)
    assert code == 0
    assert len(out.splitlines()) == 2
    assert "traps: inconclusive" in out
    assert "traps: no finding" in out
    assert f"not readable: {runs / 'cut'}: " in err
    assert f"not readable: {runs / 'torn'}: " in err
    rows = json.loads(call("runs", "list", "--runs", runs, "--json").out)
    assert {Path(row["folder"]).name: row["verdict"] for row in rows} == {
        "good": "traps: inconclusive",
        "empty-findings": "traps: no finding",
    }


def test_the_list_tells_the_gravest_verdict_of_an_audit_not_its_first(
    call: Call, finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished / "run", tmp_path / "runs" / "one")
    path = tmp_path / "runs" / "one" / "findings.json"
    told = json.loads(path.read_text())
    told["sections"][0]["findings"][1]["verdict"] = "found"
    path.write_text(json.dumps(told))
    assert "traps: found" in call("runs", "list", "--runs", "runs").out


def test_a_policy_that_a_gate_could_not_apply_is_refused_before_anything_is_scored(
    refused: Refused, plan: Path, tmp_path: Path
) -> None:
    """The hash is recorded before scoring: a mistake that came out at the gate could not be mended any more."""
    (tmp_path / "typo.toml").write_text('title = "x"\nrule = []\n')
    assert "typo.toml" in refused("audit", plan, "--policy", "typo.toml", "--out", "run")
    assert "Did you mean 'strict'?" in refused("audit", plan, "--policy", "stric", "--out", "run")
    assert "there is no policy at" in refused("audit", plan, "--policy", "none.toml", "--out", "run")
    plan.write_text('policy = "strikt"\n' + plan.read_text())
    assert "no shipped policy has that name" in refused("audit", plan, "--out", "run")
    assert not (tmp_path / "run").exists()


def test_a_shipped_policy_is_named_by_its_name(call: Call, plan: Path, tmp_path: Path) -> None:
    assert call("audit", plan, "--policy", "strict", "--out", "run", "--quiet").code == 4
    shipped = ROOT / "data" / "policies" / "strict.toml"
    told = json.loads((tmp_path / "run" / "opening.json").read_text())
    assert told["policy_sha256"] == hashlib.sha256(shipped.read_bytes()).hexdigest()


def test_an_audit_without_a_finding_is_no_pass(call: Call, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    path = tmp_path / "copy" / "run" / "findings.json"
    bare = json.loads(path.read_text())
    bare["sections"][0]["findings"] = []
    path.write_text(json.dumps(bare))
    code, out, _ = call("audit", tmp_path / "copy" / "plan.toml", "--out", tmp_path / "copy" / "run")
    assert code == 4
    assert "not a pass" in out


def test_runs_show_refuses_what_is_no_run(refused: Refused, call: Call, finished: Path) -> None:
    Path("empty").mkdir()
    assert "empty holds no run: it has no run.json" in refused("runs", "show", "empty")
    assert "there is no run folder at emty. Did you mean 'empty'?" in refused("runs", "show", "emty")
    Path("file").write_text("x")
    assert "file is a file; give the folder of a run." in refused("runs", "show", "file")
    assert "could not list the runs in none" in refused("runs", "list", "--runs", "none")
    assert json.loads(call("runs", "show", finished / "run", "--json").out)["schema_version"] == 1


def test_a_complete_run_that_lost_its_findings_does_not_advise_to_run_again(
    refused: Refused, finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    (tmp_path / "copy" / "run" / "findings.json").unlink()
    for arguments in (["runs", "show"], ["audit", tmp_path / "copy" / "plan.toml", "--out"]):
        message = refused(*arguments, tmp_path / "copy" / "run")
        assert "Restore findings.json from a copy, or begin anew with another --out." in message


def test_the_report_says_how_to_do_it_again_and_that_works(call: Call, finished: Path) -> None:
    """The fixture's plan has a relative path, so the copy in the run's folder works only where the plan lay."""
    page = (finished / "run" / "report.html").read_text(encoding="utf-8")
    assert f"this one lay in <code>{finished}</code>: copy <code>plan.toml</code> there" in page
    shutil.copy(finished / "run" / "plan.toml", finished / "again.toml")
    code, _, err = call("audit", finished / "again.toml", "--out", "new", "--quiet")
    assert code == 4, err
    assert Path("new/findings.json").read_bytes() == (finished / "run" / "findings.json").read_bytes()


def test_hostile_names_in_a_run_never_reach_the_terminal_raw(call: Call, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "run", tmp_path / "runs" / "\x1b[31mred")
    path = tmp_path / "runs" / "\x1b[31mred" / "run.json"
    record = json.loads(path.read_text())
    record["subjects"]["subject"]["model"] = "\x1b]0;owned\x07evil\nforged line"
    path.write_text(json.dumps(record))
    code, out, err = call("runs", "list", "--runs", "runs")
    assert code == 0
    assert "\x1b" not in out + err
    assert len(out.splitlines()) == 1
    assert "evil forged line" in out
    code, out, err = call("runs", "show", "runs/\x1b[31mred")
    assert code == 0
    assert "\x1b" not in out + err
    assert "\x1b" not in call("runs", "show", "runs/\x1b[31mblue").err
    assert "\x1b" not in call("\x1b[31mscore").err
