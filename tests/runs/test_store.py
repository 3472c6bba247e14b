from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from audit.errors import DataError, IncompleteRunError, InputError, StorageError
from audit.runs import provenance as provenance_module
from audit.runs import store as store_module
from audit.runs.listing import list_runs
from audit.runs.schema import Findings
from audit.runs.store import Run
from audit.text.tables import read_parquet

FIXTURES = Path(__file__).parent / "fixtures"
PLAN: dict[str, Any] = {"seed": 0, "traps": {"n_controls": 99, "files": ["a.jsonl"]}}


def _start(folder: Path, plan: dict[str, Any] = PLAN, **options: Any) -> Run:
    return Run.start(folder, kind="audit", plan=plan, plan_text="seed = 0\n", command=["palimpsest"], **options)


def _complete(folder: Path) -> Run:
    with _start(folder) as run:
        with run.stage("score") as detail:
            run.write_items("scores", pa.table({"id": ["a"], "score": [0.5]}))
            detail["n"] = 1
        run.write_findings(Findings(sections=()))
        run.finish()
    return run


def _sleep_and_fail(run: Run, seconds: float) -> None:
    with run.stage("score"):
        time.sleep(seconds)
        raise RuntimeError("stop")


def test_a_run_is_made_and_read_back(tmp_path: Path) -> None:
    with _start(tmp_path / "a" / "run", hardware={"gpu": ["H200"]}) as run:
        run.add_subject("subject", {"fingerprint": "f", "n": (1, 2)})
        run.add_seed("traps", 5)
        with run.stage("score") as detail:
            run.write_items("scores", pa.table({"id": ["a", "b"], "score": [0.5, 0.25]}))
            detail["n"] = 2
        run.write_findings(Findings(sections=(), limitations=("small",)))
        run.finish()
    back = Run.open(tmp_path / "a" / "run")
    assert back.record == run.record
    assert back.record.status == "complete"
    assert back.record.id.startswith("audit-20")
    assert back.record.plan == PLAN
    assert back.record.subjects == {"subject": {"fingerprint": "f", "n": [1, 2]}}
    assert back.record.seeds == {"traps": 5}
    assert back.record.provenance.hardware["gpu"] == ["H200"]
    assert [(stage.name, stage.detail) for stage in back.record.stages] == [("score", {"n": 2})]
    assert back.read_items("scores", ["score"]).to_pydict() == {"score": [0.5, 0.25]}
    assert back.findings().limitations == ("small",)
    assert back.attempts() == (back.record.provenance,)
    names = sorted(path.name for path in back.folder.iterdir())
    assert names == [".lock", "findings.json", "items", "opening.json", "plan.toml", "run.json"]
    assert (back.folder / "plan.toml").read_text() == "seed = 0\n"


def test_an_unfinished_run_goes_on_where_it_was(tmp_path: Path) -> None:
    with _start(tmp_path) as first:
        with first.stage("one"):
            pass
        first.add_seed("a", 1)
    with _start(tmp_path) as second:
        assert second.record.id == first.record.id
        assert second.has("one")
        assert not second.has("two")
        second.add_seed("a", 1)
        with second.stage("two"):
            pass
        assert len(second.attempts()) == 2
        second.finish()
    assert [stage.name for stage in Run.open(tmp_path).record.stages] == ["one", "two"]


def test_seconds_count_over_all_attempts_and_once_each(tmp_path: Path) -> None:
    began = time.monotonic()
    for _ in range(2):
        with _start(tmp_path) as run, pytest.raises(RuntimeError, match="stop"):
            _sleep_and_fail(run, 0.1)
        assert not run.has("score")
    with _start(tmp_path) as run:
        outer_began = time.monotonic()
        with run.stage("outer"):
            with pytest.raises(RuntimeError, match="stop"):
                _sleep_and_fail(run, 0.1)
            with run.stage("score"):
                time.sleep(0.1)
        outer_took, took = time.monotonic() - outer_began, time.monotonic() - began
        run.finish()
    seconds = {stage.name: stage.seconds for stage in run.record.stages}
    assert 0.4 <= seconds["score"] <= took
    assert 0.2 <= seconds["outer"] <= outer_took
    assert not (tmp_path / "seconds.json").exists()


def test_a_complete_run_is_returned_as_it_is_and_cannot_change(tmp_path: Path) -> None:
    record = _complete(tmp_path).record
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"}
    again = _start(tmp_path)
    assert again.complete
    assert again.record == record
    for change in (
        lambda: again.add_seed("a", 1),
        lambda: again.write_findings(Findings(sections=())),
        lambda: again.write_items("x", pa.table({"a": [1]})),
        lambda: again.shards("x", key="k", n_parts=1),
        again.finish,
    ):
        with pytest.raises(InputError, match="a complete run, which cannot change. Begin one with another --out"):
            change()
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"}
    assert after == before


def test_an_opened_run_is_for_reading(tmp_path: Path) -> None:
    _start(tmp_path).close()
    run = Run.open(tmp_path)
    with pytest.raises(InputError, match="open for reading only. Use Run.start"):
        run.add_seed("a", 1)
    with pytest.raises(IncompleteRunError, match=r"has no findings\.json: the run has not ended \(interrupted\)"):
        run.findings()
    with pytest.raises(IncompleteRunError, match=r"has no items/scores\.parquet: the run has not ended"):
        run.read_items("scores")


def test_another_plan_is_refused_and_the_difference_named(tmp_path: Path) -> None:
    _start(tmp_path).close()
    other = {**PLAN, "traps": {**PLAN["traps"], "n_controls": 9}}
    with pytest.raises(InputError, match=r"another plan: traps\.n_controls was 99, is 9\. Choose another --out"):
        _start(tmp_path, other)
    with pytest.raises(InputError, match="traps was .*, is absent"):
        _start(tmp_path, {"seed": 0})
    with pytest.raises(InputError, match="a run of kind 'audit', not 'demo'"):
        Run.start(tmp_path, kind="demo", plan=PLAN, plan_text=None, command=[])
    with pytest.raises(InputError, match=r"holds the run audit-.* already \(running\)\. .* with --resume"):
        _start(tmp_path, resume=False)
    with _start(tmp_path):
        pass


def test_other_versions_cannot_go_on_with_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _start(tmp_path / "unfinished").close()
    _complete(tmp_path / "complete")
    monkeypatch.setattr(provenance_module, "__version__", "9.9.9")
    with pytest.raises(InputError, match=r'begun with palimpsest ".*", now it is "9\.9\.9"; going on would mix'):
        _start(tmp_path / "unfinished")
    assert _start(tmp_path / "complete").complete


def test_a_changed_model_or_seed_is_refused_on_resuming(tmp_path: Path) -> None:
    with _start(tmp_path) as run:
        run.add_subject("reference", {"fingerprint": {"weights": "a"}})
        run.add_seed("draw", 3)
        run.add_subject("reference", {"fingerprint": {"weights": "a"}})
        with pytest.raises(InputError, match=r'the reference model is not .*: fingerprint\.weights was "a", is "b"'):
            run.add_subject("reference", {"fingerprint": {"weights": "b"}})
        with pytest.raises(InputError, match="the seed 'draw' was 3 when this run began, is 4"):
            run.add_seed("draw", 4)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match=r"holds no run but is not empty \(it has 'thesis\.tex'\)"):
        _start(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(StorageError, match="could not create the folder .*thesis.tex"):
        _start(tmp_path / "thesis.tex")


def test_a_start_killed_before_its_record_was_written_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / f".palimpsest-1-{'0' * 16}.tmp").touch()
    with _start(tmp_path) as run:
        assert run.record.status == "running"


def test_two_writers_are_refused(tmp_path: Path) -> None:
    with _start(tmp_path), pytest.raises(InputError, match="is in use by this process itself"):
        _start(tmp_path)
    _start(tmp_path).close()


def test_stages_are_used_once_and_hold_plain_facts(tmp_path: Path) -> None:
    def stage_with(run: Run, fact: object) -> None:
        with run.stage("two") as detail:
            detail["fact"] = fact

    with _start(tmp_path) as run:
        with run.stage("one"):
            with pytest.raises(InputError, match="stage 'one' is running already"):
                run.stage("one").__enter__()
            with pytest.raises(InputError, match="stage 'one' has not ended"):
                run.finish()
        with pytest.raises(InputError, match="stage 'one' has ended already"):
            run.stage("one").__enter__()
        with pytest.raises(InputError, match=r"stage two\.fact is nan"):
            stage_with(run, float("nan"))
        assert not run.has("two")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 65, "a b"])
def test_names_of_tables_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    with _start(tmp_path) as run:
        with pytest.raises(InputError, match="is no name for a table"):
            run.items_path(name)
        with pytest.raises(InputError, match="is no name for a table"):
            run.shards(name, key="k", n_parts=1)


def test_parts_go_when_their_table_is_safe_and_stay_otherwise(tmp_path: Path) -> None:
    with _start(tmp_path) as run:
        for name in ("kept", "gone"):
            with run.shards(name, key="k", n_parts=1) as parts:
                parts.write(0, pa.table({"a": [1]}))
                if name == "gone":
                    parts.write_parquet(run.items_path(name))
        run.finish()
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["kept"]
    assert run.read_items("gone").to_pydict() == {"a": [1]}


def test_finishing_leaves_a_strangers_file_among_the_parts(tmp_path: Path) -> None:
    with _start(tmp_path) as run:
        with run.shards("scores", key="k", n_parts=1) as parts:
            parts.write(0, pa.table({"a": [1]}))
            parts.write_parquet(run.items_path("scores"))
        (tmp_path / "parts" / "scores" / "thesis.tex").write_text("mine")
        run.finish()
    assert [path.name for path in (tmp_path / "parts" / "scores").iterdir()] == ["thesis.tex"]


def test_a_complete_run_that_lost_a_file_does_not_advise_to_run_again(tmp_path: Path) -> None:
    _complete(tmp_path)
    (tmp_path / "findings.json").unlink()
    (tmp_path / "items" / "scores.parquet").unlink()
    run = Run.open(tmp_path)
    with pytest.raises(
        DataError, match=r"no findings\.json, though the run is complete\. Restore findings\.json from a "
    ):
        run.findings()
    with pytest.raises(DataError, match=r"Restore items/scores\.parquet from a copy, or begin anew with another --out"):
        run.read_items("scores")


def test_a_folder_whose_name_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the run's folder .*r\\udcff is not UTF-8\. Give --out a path in UTF-8\."):
        _start(tmp_path / "r\udcff")
    assert not list(tmp_path.iterdir())


def test_the_folder_where_paths_of_the_plan_start_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _start(tmp_path / "run", plan_folder=Path("plans")).close()
    assert Run.open(tmp_path / "run").record.plan_folder == str(tmp_path / "plans")
    _start(tmp_path / "run", plan_folder=Path("elsewhere")).close()
    assert Run.open(tmp_path / "run").record.plan_folder == str(tmp_path / "plans")


def test_a_changed_or_damaged_record_is_refused(tmp_path: Path) -> None:
    _complete(tmp_path)
    path = tmp_path / "run.json"
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, "plan": {**PLAN, "seed": 1}}))
    with pytest.raises(DataError, match="the plan in it is not the one its plan_sha256 names"):
        Run.open(tmp_path)
    path.write_text(json.dumps({**value, "schema_version": 2}))
    with pytest.raises(DataError, match="has schema version 2; Palimpsest .* reads version 1"):
        Run.open(tmp_path)
    path.write_text(json.dumps({**value, "status": "done"}))
    with pytest.raises(DataError, match="status is 'done'; expected 'running' or 'complete'"):
        Run.open(tmp_path)
    (tmp_path / "items" / "scores.parquet").write_bytes(b"PAR1")
    path.write_text(json.dumps(value))
    with pytest.raises(DataError, match=r"scores\.parquet"):
        Run.open(tmp_path).read_items("scores")


def test_a_wrong_path_names_the_nearest_run(tmp_path: Path) -> None:
    _complete(tmp_path / "release-7")
    with pytest.raises(InputError, match=r"there is no run folder at .*relase-7\. Did you mean 'release-7'\?"):
        Run.open(tmp_path / "relase-7")
    with pytest.raises(InputError, match=r"holds no run: it has no run\.json"):
        Run.open(tmp_path)
    with pytest.raises(InputError, match=r"run\.json is a file; give the folder of a run\."):
        Run.open(tmp_path / "release-7" / "run.json")


def test_runs_are_listed_and_unreadable_ones_reported(tmp_path: Path) -> None:
    _complete(tmp_path / "b")
    _start(tmp_path / "a").close()
    (tmp_path / "notes").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    found = list_runs(tmp_path)
    assert {run.folder.name: (run.state, run.has_findings) for run in found.runs} == {
        "a": ("interrupted", False),
        "b": ("complete", True),
    }
    assert [folder.name for folder, _ in found.unreadable] == ["broken"]
    assert "is not JSON" in found.unreadable[0][1]
    assert [run.folder for run in list_runs(tmp_path / "b").runs] == [tmp_path / "b"]
    with pytest.raises(InputError, match="could not list the runs in"):
        list_runs(tmp_path / "absent")


def test_a_run_says_whether_it_goes_on_was_interrupted_or_failed(tmp_path: Path) -> None:
    def fails() -> None:
        with _start(tmp_path):
            raise InputError("the trap is 'secret'")

    with _start(tmp_path):
        assert Run.open(tmp_path).state() == "running"
    assert Run.open(tmp_path).state() == "interrupted"
    with pytest.raises(InputError):
        fails()
    assert Run.open(tmp_path).state() == "failed (InputError)"
    assert "secret" not in (tmp_path / "run.json").read_text()
    with _start(tmp_path) as run:
        assert run.state() == "running"
    assert Run.open(tmp_path).state() == "interrupted"  # the next attempt did not fail


def test_an_interrupt_keeps_the_seconds_and_the_lock_is_freed(tmp_path: Path) -> None:
    def interrupted() -> None:
        with _start(tmp_path) as run, run.stage("score"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert json.loads((tmp_path / "seconds.json").read_text())["score"] >= 0
    with _start(tmp_path) as run:
        assert run.record.status == "running"


def test_an_error_on_its_way_is_not_hidden_by_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StorageError("the disk is full")

    with _start(tmp_path) as run:
        monkeypatch.setattr(store_module, "write_json", full)
        with pytest.raises(RuntimeError, match="stop"):
            _sleep_and_fail(run, 0.0)


def test_a_run_of_version_1_still_reads(tmp_path: Path) -> None:
    """The folder was written by the first version of this code; a change that breaks it breaks users' archives."""
    shutil.copytree(FIXTURES / "v1", tmp_path / "v1")
    run = Run.open(tmp_path / "v1")
    assert run.complete
    assert run.record.kind == "job"
    assert run.record.plan == {"n_parts": 12, "rows": 200, "seed": 7}
    assert run.record.seeds == {"job": 7}
    assert [stage.name for stage in run.record.stages] == ["score", "judge"]
    assert len(run.attempts()) == 2
    scores = run.read_items("scores").column("score").to_numpy()
    estimate = run.findings().sections[0].findings[0].estimates["mean"].estimate()
    assert estimate.n == 2400
    assert estimate.value == pytest.approx(scores.mean(), rel=1e-12)
    assert read_parquet(tmp_path / "v1" / "items" / "scores.parquet").num_rows == 2400
    assert [found.folder.name for found in list_runs(tmp_path).runs] == ["v1"]


def test_the_plan_and_the_policy_are_fixed_before_anything_is_scored(tmp_path: Path) -> None:
    """opening.json is written once: a resumed run keeps it to the byte."""
    asked = {"kind": "audit", "plan": {"a": 1}, "plan_text": None, "command": ["palimpsest"], "policy_sha256": "f" * 64}
    with Run.start(tmp_path / "run", **asked) as run:
        opening = (run.folder / "opening.json").read_bytes()
        told = json.loads(opening)
        assert told["plan_sha256"] == run.record.plan_sha256
        assert told["policy_sha256"] == run.record.policy_sha256 == "f" * 64
        assert told["id"] == run.record.id
    with Run.start(tmp_path / "run", **asked) as run:
        run.finish()
    assert (tmp_path / "run" / "opening.json").read_bytes() == opening


def test_a_run_killed_between_its_first_two_files_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "opening.json").write_text("{}", encoding="utf-8")
    with Run.start(tmp_path, kind="audit", plan={}, plan_text=None, command=["palimpsest"]) as run:
        assert json.loads((tmp_path / "opening.json").read_text())["id"] == run.record.id
