"""The table of runs, its filters, and what stands where there are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from audit.runs.schema import Findings
from dashboards import demo
from tests.dashboards.conftest import assert_inert, drawn, words
from tests.dashboards.hostile import FOLDER, hostile_run
from tests.gates.made import finding
from tests.gates.made import findings as made

Make = Callable[..., Path]


@pytest.fixture
def runs(tmp_path: Path, make_run: Make) -> Path:
    make_run(tmp_path / "bad")
    make_run(tmp_path / "good", found=made(finding("traps.overall", "not found")))
    make_run(tmp_path / "guard", kind="eco", found=made(finding("eco.fit")))
    make_run(tmp_path / "begun", finish=False)
    (make_run(tmp_path / "hurt") / "run.json").write_text("{")
    return tmp_path


def test_every_run_is_a_row_with_its_verdict_model_date_and_what_blocks(runs: Path) -> None:
    test = drawn("overview", runs)
    frame = test.dataframe[0].value.set_index("Run")
    assert set(frame.index) == {"bad", "good", "guard", "begun", "hurt"}
    assert frame["Verdict"].to_dict() == {
        "bad": "Found", "good": "Not found", "guard": "Information", "begun": "Found", "hurt": "-",
    }  # fmt: skip
    assert frame.loc["bad", "Findings that block"] == "1 found, 1 inconclusive: traps.members, traps.single_copy"
    assert frame.loc["bad", "Block"] == 2
    assert frame.loc["good", "Block"] == 0
    assert (frame.loc["hurt", "State"], frame.loc["begun", "State"]) == ("damaged", "interrupted")
    assert frame.loc["bad", "Model"] == "out/subject"
    assert frame["Begun"].notna().sum() == 4
    assert [metric.value for metric in test.metric] == ["5", "2", "1", "1"]
    assert "is not JSON" in words(test)


@pytest.mark.parametrize(
    ("query", "left"),
    [({"find": "traps.members"}, {"bad", "begun"}), ({"kind": "eco"}, {"guard"}), ({"verdict": "Not found"}, {"good"}),
     ({"verdict": ["Found", "Not found"], "find": "GO"}, {"good"}), ({"verdict": "Without a result"}, {"hurt"}),
     ({"kind": "<script>"}, {"bad", "good", "guard", "begun", "hurt"})],
)  # fmt: skip
def test_the_address_filters_the_table(query: dict[str, str], left: set[str], runs: Path) -> None:
    assert set(drawn("overview", runs, **query).dataframe[0].value["Run"]) == left


def test_filters_that_nothing_fits_say_so(runs: Path) -> None:
    assert "None of 5 runs fits" in words(drawn("overview", runs, find="nothing like it"))


def test_hostile_runs_are_rows_of_text(tmp_path: Path, findings: Findings) -> None:
    hostile_run(tmp_path / FOLDER.replace("/", "|"), findings)
    test = drawn("overview", tmp_path)
    shown = test.dataframe[0].value.iloc[0]
    assert_inert(test)
    assert len(shown["Model"]) < 500


def test_without_runs_the_page_says_how_to_make_one_and_offers_the_demo(tmp_path: Path) -> None:
    test = drawn("overview", tmp_path / "none")
    said = words(test)
    assert "No runs yet" in said
    assert "palimpsest audit plan.toml" in said
    assert test.button(key="run-demo").label == "Run the demo"
    assert not (tmp_path / "none").exists(), "looking makes nothing"


def test_the_demo_runs_shows_its_output_as_text_and_can_be_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the real thing, which takes minutes; `tests.browser` clicks the button of the real page."""
    slow = "import sys, time; print('\\x1b[31mworking :smile:', flush=True); time.sleep(60)"
    job = demo.DemoJob()
    monkeypatch.setattr(demo, "command", lambda root: [demo.sys.executable, "-c", slow])
    job.start(tmp_path / "runs")
    try:
        until = demo_output(job)
        assert until == "[U+001B][31mworking :smile:"
        assert job.running
    finally:
        job.cancel()
    assert not job.running
    assert job.was_cancelled


def test_a_row_is_the_run_that_was_drawn_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser tells a number; the folder may hold other runs by then."""
    from dashboards.pages import overview

    state = {"runs-x": {"selection": {"rows": [1]}}}
    monkeypatch.setattr("streamlit.session_state", state)
    overview._row_was_picked("runs-x", ("new", "old"))
    assert state["picked-row"] == "old"
    overview._row_was_picked("runs-x", ("new",))
    assert state["picked-row"] == "old"


def test_a_broken_seal_is_told_and_counted_once_seals_were_checked(tmp_path: Path, make_run: Make) -> None:
    from audit.runs.seal.make import seal_run

    for name in ("well", "hurt"):
        seal_run(make_run(tmp_path / name))
    (tmp_path / "hurt" / "plan.toml").write_text("# other\n")
    test = drawn("overview", tmp_path)
    assert set(test.dataframe[0].value["Seal"]) == {"not checked yet"}
    assert test.metric[3].value == "0"
    test.button(key="check-seals").click().run()
    assert not test.exception
    assert test.dataframe[0].value.set_index("Run")["Seal"].to_dict() == {"well": "holds", "hurt": "broken"}
    assert test.metric[3].value == "1"
    assert "Its seal is broken" in words(test)


def test_large_findings_are_said_not_to_be_read(
    tmp_path: Path, make_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboards.store.LARGEST_LISTED", 100)
    make_run(tmp_path / "one")
    test = drawn("overview", tmp_path)
    assert test.dataframe[0].value["Verdict"].tolist() == ["not read"]
    assert "too many to be read" in words(test)
    assert test.metric[3].value == "0"


def test_a_folder_that_cannot_be_listed_offers_no_demo(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    said = words(drawn("overview", tmp_path / "file"))
    assert "cannot be listed" in said
    assert "No runs yet" not in said


def test_the_address_between_two_pages_brings_the_filters_back(runs: Path) -> None:
    """Back from a run leads over ``/?run=...``."""
    test = drawn("overview", runs, find="guard")
    test.query_params.clear()
    test.query_params["run"] = "guard"
    test.run()
    assert test.text_input(key="find").value == "guard"
    assert test.dataframe[0].value["Run"].tolist() == ["guard"]
    assert test.query_params["find"] in ("guard", ["guard"])
    assert "run" not in test.query_params
    test.query_params.clear()
    test.run()
    assert test.text_input(key="find").value == ""


@pytest.mark.parametrize(("code", "is_shown"), [("import time; time.sleep(60)", True), ("raise SystemExit(3)", True),
                                                ("pass", False)])  # fmt: skip
def test_the_demos_box_stands_beside_its_own_first_run(
    code: str, is_shown: bool, tmp_path: Path, make_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "one")
    job = demo.DemoJob()
    monkeypatch.setattr(demo, "demo_job", lambda root: job)
    monkeypatch.setattr(demo, "command", lambda root: [demo.sys.executable, "-c", code])
    assert "The demo" not in [one.value for one in drawn("overview", tmp_path).subheader]
    job.start(tmp_path)
    assert job._process is not None
    try:
        if "sleep" not in code:
            job._process.wait(30)
        test = drawn("overview", tmp_path)
        assert ("The demo" in [one.value for one in test.subheader]) is is_shown
        assert ("exit code 3" in words(test)) is ("3" in code)
    finally:
        job.cancel()


def demo_output(job: demo.DemoJob) -> str:
    import time

    for _ in range(200):
        if said := job.output().strip():
            return said
        time.sleep(0.05)
    raise AssertionError("no output")


def test_the_demos_command_is_one_that_exists() -> None:
    from typer.testing import CliRunner

    from unlearn.cli.demo import app

    assert demo.command(Path("/runs"))[1:5] == ["-m", "audit", "demo", "--audit-only"]
    assert "--audit-only" in CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
