"""The page Extraction: recorded similarities counted at any threshold, matches read word by word, texts hidden."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from audit.errors import InputError
from audit.extraction.rows import read_rows
from audit.runs.store import Run
from dashboards.training_rows import only_this_machine, training_rows
from tests.dashboards.conftest import assert_inert, drawn, words
from tests.dashboards.hostile import ALL
from tests.dashboards.rooms import extraction_run

# As `rooms.extraction_run` makes them: 250 cosines from 1 to 0.5, the first two not compared; 100 from 0.6 to 0.3.
GENERATED = np.linspace(1.0, 0.5, 250).round(4)[2:]
HELD_OUT = np.linspace(0.6, 0.3, 100)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("extraction")
    extraction_run(root / "run")
    return root


@pytest.fixture(autouse=True)
def _only_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboards.training_rows.st.get_option", lambda name: "127.0.0.1")


def counts(test: object) -> list[tuple[int, int]]:
    table = next(frame.value for frame in test.dataframe if "Above" in frame.value)  # type: ignore[attr-defined]
    return list(zip(table["Compared"].tolist(), table["Above"].tolist(), strict=True))


def test_the_slider_counts_the_recorded_similarities_above_it(root: Path) -> None:
    test = drawn("extraction", root, run="run")
    assert test.slider(key="threshold").value == 0.8  # the run's own
    assert counts(test) == [(248, int((GENERATED > 0.8).sum())), (100, 0)]
    test.slider(key="threshold").set_value(0.55).run()
    assert counts(test) == [(248, int((GENERATED > 0.55).sum())), (100, int((HELD_OUT > 0.55).sum()))]
    assert "without an interval" in words(test)
    assert test.query_params["threshold"] == "0.55"


def test_a_link_opens_the_same_threshold_filters_and_match(root: Path) -> None:
    test = drawn("extraction", root, run="run", threshold="0.7", matches="no hits", match="g0008")
    assert test.slider(key="threshold").value == 0.7
    assert test.selectbox(key="match").value == "g0008"
    assert "Rows 1 to 63 of 63 that pass, of 250 in all" in words(test)
    assert test.selectbox(key="match").options[0].startswith("g0000 and row-0000")


def test_matches_come_a_page_at_a_time(root: Path) -> None:
    test = drawn("extraction", root, run="run")
    assert "Rows 1 to 100 of 250." in words(test)
    test.number_input(key="match-page").set_value(3).run()
    assert "Rows 201 to 250 of 250." in words(test)
    table = next(frame.value for frame in test.dataframe if "Training row" in frame.value)
    assert table["Training row"].tolist() == [f"row-{number:04d}" for number in range(200, 250)]


def test_texts_are_hidden_until_somebody_asks_and_then_differ_word_by_word(root: Path) -> None:
    test = drawn("extraction", root, run="run", match="g0001")
    assert "lamp keeper" not in words(test)
    assert "The texts are hidden" in words(test)
    test.toggle(key="show-texts-extraction").set_value(True).run()
    said = words(test)
    assert "sleeps in the :orange-background[**south**] tower" in said
    assert "sleeps in the :orange-background[**north**] tower" in said
    assert "show-texts" not in str(test.query_params)


def test_rows_that_are_not_those_that_were_compared_are_not_shown(tmp_path: Path) -> None:
    extraction_run(tmp_path / "run", n=20)
    rows = tmp_path / "run-rows.jsonl"
    rows.write_text(rows.read_text().replace("tower", "cellar"))
    test = drawn("extraction", tmp_path, run="run")
    test.toggle(key="show-texts-extraction").set_value(True).run()
    said = words(test).replace("\\", "")
    assert "is not the file that was compared" in said
    assert read_rows(rows).sha256 not in said  # which would tell of a file that only its reader may know
    assert "run-rows" not in said
    assert "cellar" not in words(test)
    assert "The model wrote" in words(test)
    rows.unlink()
    test.run()
    assert "is not where the plan says" in words(test)


@pytest.mark.parametrize("content", ['{"api_key": "SECRET"}\n', "SECRET\n", ""])
def test_nothing_is_told_of_another_file_that_a_plan_names(tmp_path: Path, content: str) -> None:
    extraction_run(tmp_path / "run", n=20)
    rows = tmp_path / "run-rows.jsonl"
    rows.write_text(content)
    test = drawn("extraction", tmp_path, run="run")
    test.toggle(key="show-texts-extraction").set_value(True).run()
    said = words(test).replace("\\", "")
    assert "the file of the training rows cannot be read as rows" in said
    assert not any(secret in said for secret in ("api_key", "SECRET", "run-rows", str(tmp_path)))


@pytest.mark.parametrize("address", [None, "0.0.0.0", "192.168.0.7", "example.org"])
def test_training_rows_are_not_read_where_others_can_reach_the_server(
    root: Path, monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    monkeypatch.setattr("dashboards.training_rows.st.get_option", lambda name: address)
    test = drawn("extraction", root, run="run", match="g0001")
    test.toggle(key="show-texts-extraction").set_value(True).run()
    said = words(test).replace("\\", "")
    assert "this server can be reached from other machines" in said
    assert "north" not in said


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost"])
def test_this_machine_alone_reaches_its_own_addresses(address: str) -> None:
    assert only_this_machine(address)


def test_training_rows_that_are_too_large_unpacked_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboards.training_rows._MOST_BYTES", 2**20)
    run = Run.open(extraction_run(tmp_path / "run", n=20))
    packed = tmp_path / "rows.jsonl.gz"
    line = json.dumps({"question": "q", "answer": "a" * 100_000}) + "\n"
    with gzip.open(packed, "wt") as stream:
        stream.writelines(line for _ in range(20))
    run.record.plan["extraction"]["train"] = str(packed)
    with pytest.raises(InputError, match="too large to be read here: more than 1 MiB unpacked"):
        training_rows("key", run)
    packed.write_bytes(packed.read_bytes()[:-20])
    monkeypatch.setattr("dashboards.training_rows._MOST_BYTES", 2**30)
    with pytest.raises(InputError, match=r"cannot be read as rows\.$"):
        training_rows("key", run)


def test_coverage_and_rates_are_drawn_and_told(root: Path) -> None:
    test = drawn("extraction", root, run="run")
    titles = [one.value for one in test.subheader]
    assert titles[1:3] == ["Coverage by number of generations", "Memorisation rate by view and arm"]
    assert len(test.get("vega_lite_chart")) == 3
    assert "0.600 [0.550, 0.650], n 40" in words(test)


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    extraction_run(tmp_path / "run", word=f"{ALL} ", n=20)
    test = drawn("extraction", tmp_path, run="run")
    test.toggle(key="show-texts-extraction").set_value(True).run()
    assert not test.exception
    assert_inert(test)


def test_what_the_run_lacks_is_said(tmp_path: Path) -> None:
    extraction_run(tmp_path / "run", n=20)
    for file in (tmp_path / "run" / "items").glob("*.parquet"):
        file.unlink()
    said = words(drawn("extraction", tmp_path, run="run"))
    assert "This run kept no items of this audit" in said
    assert "This run kept no matches." in said


def test_damaged_items_are_told_where_they_would_stand(tmp_path: Path) -> None:
    extraction_run(tmp_path / "run", n=20)
    path = tmp_path / "run" / "items" / "extraction-maxima.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    test = drawn("extraction", tmp_path, run="run")
    assert any("items/extraction" in one.value.replace("\\", "") for one in test.warning)
    assert str(tmp_path) not in words(test)
    assert "Rows 1 to 20 of 20." in words(test)  # the matches are still there


def test_a_line_of_100_kb_is_cut(tmp_path: Path) -> None:
    extraction_run(tmp_path / "run", word="w" * 100_000, n=4)
    test = drawn("extraction", tmp_path, run="run")
    test.toggle(key="show-texts-extraction").set_value(True).run()
    assert not test.exception
    assert max(len(str(element.value)) for element in test.markdown) < 20_000
    assert "The model wrote\\, the first 1 of" in words(test)
