"""Runs side by side, with the numbers and refusals of ``palimpsest compare``."""

from __future__ import annotations

from pathlib import Path

from audit.report.numbers import estimate
from audit.runs.compare.make import compare
from audit.runs.schema import EstimateRecord
from tests.dashboards.conftest import drawn, words
from tests.runs.compare.made_runs import make_run

TWO = {"run": "one", "with": "two"}


def test_estimates_and_differences_are_those_of_the_command(tmp_path: Path) -> None:
    folders = [
        make_run(tmp_path / "one", [0.1 * at for at in range(30)]),
        make_run(tmp_path / "two", [0.1 * at + 0.5 for at in range(30)], weights="b" * 64),
    ]
    found = compare(folders, cells=False)
    said = words(drawn("compare", tmp_path, **TWO))
    assert found.rows
    for row in found.rows:
        for one in row.estimates:
            assert one is not None
            assert estimate(one) in said
        assert estimate(EstimateRecord.of(row.differences[0].estimate)) in said
        assert row.differences[0].how in said


def test_settings_that_matter_are_refused_by_name_and_can_be_let_through(tmp_path: Path) -> None:
    make_run(tmp_path / "one", [1.0, 2.0] * 15)
    make_run(tmp_path / "two", [1.0, 2.5] * 15, plan={"block": 32})
    test = drawn("compare", tmp_path, **TWO)
    assert "unlearn" in test.error[0].value
    assert "block" in test.error[0].value
    assert str(tmp_path) not in test.error[0].value
    test = drawn("compare", tmp_path, allow="unlearn.block", **TWO)
    assert not test.error
    assert "unlearning" in words(test)


def test_only_finished_runs_of_the_same_kind_are_offered(tmp_path: Path) -> None:
    make_run(tmp_path / "one", [1.0, 2.0] * 15)
    make_run(tmp_path / "other", [1.0, 2.0] * 15, kind="eco")
    make_run(tmp_path / "begun", [1.0, 2.0] * 15, finish=False)
    assert "no other finished run of the kind" in words(drawn("compare", tmp_path, run="one"))


def test_runs_without_anything_in_common_say_so(tmp_path: Path) -> None:
    make_run(tmp_path / "one", [1.0, 2.0] * 15)
    folder = make_run(tmp_path / "two", [1.0, 2.0] * 15)
    text = (folder / "findings.json").read_text()
    (folder / "findings.json").write_text(text.replace("unlearning.forget_loss", "unlearning.other"))
    assert len(drawn("compare", tmp_path, **TWO).error) == 1


def test_a_changed_run_is_compared_anew(tmp_path: Path) -> None:
    make_run(tmp_path / "one", [1.0, 2.0] * 15)
    folder = make_run(tmp_path / "two", [1.0, 2.0] * 15)
    assert not drawn("compare", tmp_path, **TWO).error
    (folder / "findings.json").write_text("{")
    test = drawn("compare", tmp_path, **TWO)
    assert "two" not in [row for frame in test.dataframe for row in frame.value.to_numpy().ravel()]
