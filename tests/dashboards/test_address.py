"""The run and the filters stand in the address, and an address can ask for nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.dashboards.conftest import SECONDS, words


def _script(root: str, kinds: tuple[str, ...] | None) -> None:
    from pathlib import Path

    import streamlit as st

    from dashboards.address import Between, chosen_run, kept
    from dashboards.store import Store

    opened = chosen_run(Store(Path(root)), kinds)
    st.text("none" if opened is None else f"chosen {opened.id}")
    st.text(f"level {st.slider('Level', 0.0, 1.0, **kept('level', 0.5, Between(0.0, 1.0)))}")
    st.text(f"sides {st.multiselect('Sides', ['a', 'b', 'c'], **kept('side', ['a'], ['a', 'b', 'c']))}")
    st.text(f"texts {st.toggle('Texts', **kept('texts', False))}")
    st.text(f"score {st.selectbox('Score', ['x', 'y'], **kept('score', 'x', ['x', 'y']))}")
    st.text(f"page {st.number_input('Page', 1, 9, **kept('page', 1, Between(1, 9)))}")


def visited(root: Path, kinds: tuple[str, ...] | None = None, **query: Any) -> AppTest:
    test = AppTest.from_function(_script, args=(str(root), kinds), default_timeout=SECONDS)
    test.query_params.update(query)
    test.run()
    assert not test.exception, test.exception
    return test


def test_without_an_address_the_newest_sound_run_is_shown_and_named(
    tmp_path: Path, make_run: Callable[..., Path]
) -> None:
    make_run(tmp_path / "one")
    make_run(tmp_path / "two", finish=False)
    test = visited(tmp_path)
    assert "chosen one" in words(test)
    assert test.query_params["run"] == "one"


def test_the_address_chooses_the_run_and_the_filters(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    for name in ("one", "two"):
        make_run(tmp_path / name)
    test = visited(tmp_path, run="one", level="0.25", side=["b", "c"], texts="true", score="y", page="3")
    said = words(test)
    for told in ("chosen one", "level 0.25", "sides ['b', 'c']", "texts True", "score y", "page 3"):
        assert told in said


def test_what_is_chosen_on_the_page_stands_in_the_address(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    for name in ("one", "two"):
        make_run(tmp_path / name)
    test = visited(tmp_path, run="one")
    test.selectbox(key="picked-run").select("two").run()
    test.slider(key="level").set_value(0.75).run()
    test.multiselect(key="side").set_value(["b", "c"]).run()
    test.toggle(key="texts").set_value(True).run()
    test.selectbox(key="score").select("y").run()
    test.number_input(key="page").set_value(4).run()
    said = words(test)
    for told in ("chosen two", "level 0.75", "sides ['b', 'c']", "texts True", "score y", "page 4"):
        assert told in said
    query = {name: test.query_params[name] for name in ("run", "level", "texts", "score", "page")}
    assert query == {"run": "two", "level": "0.75", "texts": "true", "score": "y", "page": "4"}
    assert list(test.query_params["side"]) == ["b", "c"]
    test.selectbox(key="score").select("x").run()
    assert "score" not in test.query_params, "a default stands in no address"


@pytest.mark.parametrize(
    ("name", "value"),
    [("level", "nan"), ("level", "2"), ("level", "1e999"), ("level", "x" * 10_000), ("page", "0"), ("page", "1.5"),
     ("texts", "yes"), ("score", "../x"), ("side", "z"), ("level", "")],
)  # fmt: skip
def test_a_value_that_is_not_allowed_counts_as_absent(
    name: str, value: str, tmp_path: Path, make_run: Callable[..., Path]
) -> None:
    make_run(tmp_path / "one")
    said = words(visited(tmp_path, **{name: value}))
    for told in ("level 0.5", "sides ['a']", "texts False", "score x", "page 1"):
        assert told in said


@pytest.mark.parametrize(
    "asked",
    ["../outside", "..", ".", "/etc", "runs/../../outside", "one/../one", "./one", "one/", "%2e%2e", "\x00", ""],
)
def test_an_address_reaches_no_folder_outside_of_the_listing(
    asked: str, tmp_path: Path, make_run: Callable[..., Path]
) -> None:
    make_run(tmp_path / "outside")
    make_run(tmp_path / "runs" / "one")
    test = visited(tmp_path / "runs", run=asked)
    said = words(test)
    if asked:
        assert "There is no run" in said
        assert "chosen" not in said
    else:
        assert "chosen one" in said
    assert "outside" not in said.replace("outside", "", 1) or "outside" in asked


def test_only_runs_of_the_kinds_are_offered_and_one_of_another_kind_is_said(
    tmp_path: Path, make_run: Callable[..., Path]
) -> None:
    make_run(tmp_path / "one")
    make_run(tmp_path / "two", kind="eco")
    assert visited(tmp_path, ("audit",)).selectbox(key="picked-run").options[0].startswith("one")
    assert "no run of this kind" in words(visited(tmp_path, ("steer",)))


def test_two_allowed_numbers_are_two_numbers_and_a_range_is_named() -> None:
    from dashboards.address import Between, _read

    assert _read("2", 1, (1, 3)) is None
    assert _read("3", 1, [1, 3]) == 3
    assert _read("2", 1, Between(1, 3)) == 2
    assert _read("4", 1, Between(1, 3)) is None


def test_a_date_in_the_picker_is_cleaned(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    import json

    folder = make_run(tmp_path / "one")
    record = json.loads((folder / "run.json").read_text())
    record["provenance"]["created"] = "\u202e9\x00" + "x" * 20
    (folder / "run.json").write_text(json.dumps(record))
    (option,) = visited(tmp_path).selectbox(key="picked-run").options
    assert "\u202e" not in option
    assert "\x00" not in option
    assert "U+202E" in option


def test_a_folder_that_cannot_be_listed_is_not_called_empty(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert "cannot be listed" in words(visited(tmp_path / "file"))
    assert "no runs in this folder yet" in words(visited(tmp_path / "none"))


def test_a_tampered_run_is_told_on_every_page(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    from audit.runs.seal.make import seal_run

    folder = make_run(tmp_path / "one")
    seal_run(folder)
    assert "Seal holds" in words(visited(tmp_path))
    (folder / "plan.toml").write_text("# other\n")
    said = words(visited(tmp_path))
    assert "Seal broken" in said
    assert "Not as it was sealed" in said
    assert r"plan\.toml" in said
