"""Parts of a page: never of older files than the rest, never of a run behind a link, the gravest finding first."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import local_script_runner

from tests.dashboards.conftest import drawn, words
from tests.dashboards.rooms import extraction_run, guard_run, loop_run
from tests.dashboards.rooms import section as section_of
from tests.gates.made import finding


def only_the_fragments(test: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws the page's fragments alone, as the browser asks for when a widget in one of them changes."""
    queue = list(test._fragment_storage._fragments)
    assert queue
    with monkeypatch.context() as patch:
        original = local_script_runner.RerunData
        patch.setattr(local_script_runner, "RerunData", partial(original, fragment_id_queue=queue))
        test.run()
    assert not test.exception, test.exception


def test_a_part_is_not_drawn_of_other_files_than_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = extraction_run(tmp_path / "run", n=20)
    test = drawn("extraction", tmp_path, run="run")
    only_the_fragments(test, monkeypatch)
    assert "It was drawn anew" not in words(test)
    path = folder / "findings.json"
    path.write_text(path.read_text().replace("The claim of extraction", "Another claim"))
    only_the_fragments(test, monkeypatch)
    assert "It was drawn anew" in words(test)
    assert "Another claim" in words(test)
    only_the_fragments(test, monkeypatch)
    test.run()
    assert "It was drawn anew" not in words(test)


def test_a_run_behind_a_link_inside_a_loop_is_not_offered(tmp_path: Path) -> None:
    guard_run(tmp_path / "elsewhere" / "run")
    loop = loop_run(tmp_path / "runs" / "loop")
    (loop / "remedies" / "whole").symlink_to(tmp_path / "elsewhere")
    (loop / "remedies" / "inner").mkdir()
    (loop / "remedies" / "inner" / "run").symlink_to(loop / "remedies" / "eco" / "run")
    test = drawn("eco", tmp_path / "runs", run="loop")
    assert test.selectbox(key="part").options == ["eco"]


def test_findings_of_a_run_inside_a_loop_behind_a_link_are_not_shown(tmp_path: Path) -> None:
    guard_run(tmp_path / "elsewhere")
    loop = loop_run(tmp_path / "runs" / "loop")
    path = loop / "remedies" / "eco" / "run" / "findings.json"
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere" / "findings.json")
    assert "flagged above a score of" not in words(drawn("eco", tmp_path / "runs", run="loop"))


def _findings(section: object) -> None:
    from dashboards.shown import show_findings

    show_findings(section, ())


def test_the_gravest_findings_are_shown_where_there_are_too_many() -> None:
    from streamlit.testing.v1 import AppTest

    many = tuple(finding(f"traps.f{number}", "not found") for number in range(99))
    section = section_of("traps").model_copy(update={"findings": (*many, finding("traps.last", "found"))})
    test = AppTest.from_function(_findings, args=(section,), default_timeout=60).run()
    said = words(test).replace("\\", "")
    assert "traps.last" in said
    assert said.index("traps.last") < said.index("traps.f0")
    assert "40 more findings stand in findings.json." in said


def test_items_behind_a_link_are_told_on_the_page(tmp_path: Path) -> None:
    folder = extraction_run(tmp_path / "runs" / "run", n=20)
    (folder / "items").rename(tmp_path / "elsewhere")
    (folder / "items").symlink_to(tmp_path / "elsewhere")
    test = drawn("extraction", tmp_path / "runs", run="run")
    assert "g0001" not in words(test)
