"""One run: its numbers as they stand in its files, its seal, its time, and what can be taken away."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audit.report.numbers import estimate, p_value
from audit.runs.schema import Findings
from audit.runs.seal.make import seal_run
from dashboards.downloads import as_csv
from dashboards.plain import plain
from tests.dashboards.conftest import assert_inert, drawn, words
from tests.dashboards.hostile import hostile_run
from tests.gates.made import finding
from tests.gates.made import findings as made

Make = Callable[..., Path]
VIEWS = ("Findings", "Plan", "Provenance", "Seal", "Time and cost", "Downloads")


def test_every_number_stands_there_with_its_interval_n_and_method(
    tmp_path: Path, make_run: Make, findings: Findings
) -> None:
    make_run(tmp_path / "one")
    said = words(drawn("run", tmp_path, run="one"))
    for section in findings.sections:
        for one in section.findings:
            assert plain(one.claim, 2_000) in said
            for name, record in one.estimates.items():
                assert f"{plain(name)}: **{plain(estimate(record))}**, n {record.n:,}; {plain(record.method)}" in said
            for name, p in one.p_values.items():
                assert f"{plain(name)}: **p = {plain(p_value(p))}**, n {p.n:,}; {plain(p.method)}" in said
    assert plain(findings.limitations[0]) in said


def test_findings_are_filtered_by_the_address_and_told_page_by_page(tmp_path: Path, make_run: Make) -> None:
    many = made(*(finding(f"traps.f{number}", "found" if number % 2 else "inconclusive") for number in range(50)))
    make_run(tmp_path / "one", found=many)
    first = words(drawn("run", tmp_path, run="one"))
    second = words(drawn("run", tmp_path, run="one", page="2"))
    assert r"traps\.f19 says so" in first
    assert r"traps\.f20 says so" not in first
    assert r"traps\.f20 says so" in second
    only = words(drawn("run", tmp_path, run="one", finding="Inconclusive"))
    assert r"traps\.f1 says so" not in only
    assert r"traps\.f38 says so" in only


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_of_a_sound_run_draws(view: str, tmp_path: Path, make_run: Make) -> None:
    make_run(tmp_path / "one")
    assert len(words(drawn("run", tmp_path, run="one", view=view))) > 100


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_of_a_hostile_run_draws_text(view: str, tmp_path: Path, findings: Findings) -> None:
    hostile_run(tmp_path / "one", findings)
    assert_inert(drawn("run", tmp_path, run="one", view=view))


def test_texts_of_100_kb_are_cut(tmp_path: Path, findings: Findings) -> None:
    hostile_run(tmp_path / "one", findings, payload="x" * 100_000)
    assert len(words(drawn("run", tmp_path, run="one"))) < 200_000


def test_a_run_without_findings_is_no_pass(tmp_path: Path, make_run: Make) -> None:
    make_run(tmp_path / "one", found=Findings(sections=()))
    said = words(drawn("run", tmp_path, run="one"))
    assert "No result" in said
    assert "There is no finding. An empty result is not a pass." in said


def test_a_damaged_run_says_what_is_wrong_and_nothing_else(tmp_path: Path, make_run: Make) -> None:
    (make_run(tmp_path / "one") / "run.json").write_text("{")
    said = words(drawn("run", tmp_path, run="one"))
    assert "is not JSON" in said
    assert str(tmp_path) not in said


def test_a_damaged_run_with_a_sound_record_shows_the_rest(tmp_path: Path, make_run: Make) -> None:
    (make_run(tmp_path / "one") / "findings.json").write_text("{")
    assert "is not JSON" in words(drawn("run", tmp_path, run="one"))
    assert "out/subject" in words(drawn("run", tmp_path, run="one", view="Provenance"))


def test_the_seal_is_checked_against_the_files(tmp_path: Path, make_run: Make) -> None:
    folder = make_run(tmp_path / "one")
    assert "Not sealed" in words(drawn("run", tmp_path, run="one", view="Seal"))
    seal_run(folder)
    assert json.loads((folder / "seal.json").read_text())["head"] in words(
        drawn("run", tmp_path, run="one", view="Seal")
    )
    path = folder / "items" / "scores.parquet"
    path.write_bytes(path.read_bytes() + b" ")
    said = words(drawn("run", tmp_path, run="one", view="Seal"))
    assert "Not as it was sealed" in said
    assert r"items\/scores\.parquet" in said
    assert "Seal holds" not in said


def test_time_is_that_of_the_stages(tmp_path: Path, make_run: Make) -> None:
    folder = make_run(tmp_path / "one")
    test = drawn("run", tmp_path, run="one", view="Time and cost")
    recorded = json.loads((folder / "run.json").read_text())["stages"]
    frame = test.dataframe[0].value
    assert frame["Stage"].tolist() == [stage["name"] for stage in recorded]
    assert frame["Seconds"].tolist() == [stage["seconds"] for stage in recorded]
    assert test.metric[0].value == f"{sum(stage['seconds'] for stage in recorded):.1f} s"
    assert test.metric[2].value == "1"


def test_a_csv_runs_no_formula_and_leaves_lists_out(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    table = pa.table(
        {"=id": ["=1+1", "+2", "-3", "@x", "\t=4", "fine"], "score": [-1.0, 2, 3, 4, 5, 6], "list": [[1]] * 6}
    )
    pq.write_table(table, path)
    rows = list(csv.reader(io.StringIO(as_csv(path).decode())))
    assert rows[0] == ["'=id", "score"]
    assert [row[0] for row in rows[1:]] == ["'=1+1", "'+2", "'-3", "'@x", "'\t=4", "fine"]
    assert rows[1][1] == "-1"


def test_links_out_of_the_run_are_not_offered(tmp_path: Path, make_run: Make) -> None:
    folder = make_run(tmp_path / "runs" / "one")
    (tmp_path / "secret.parquet").write_bytes(b"secret")
    (folder / "items" / "linked.parquet").symlink_to(tmp_path / "secret.parquet")
    test = drawn("run", tmp_path / "runs", run="one", view="Downloads", items="linked")
    assert test.selectbox(key="items").options == ["scores"]


def test_a_damaged_table_says_so(tmp_path: Path, make_run: Make) -> None:
    (make_run(tmp_path / "one") / "items" / "scores.parquet").write_bytes(b"PAR1 no")
    assert "This table cannot be read" in words(drawn("run", tmp_path, run="one", view="Downloads"))


def test_two_sections_of_one_name_have_widgets_of_their_own(tmp_path: Path, make_run: Make, findings: Findings) -> None:
    twice = findings.model_copy(update={"sections": (*findings.sections, *findings.sections)})
    make_run(tmp_path / "one", found=twice)
    test = drawn("run", tmp_path, run="one")
    n_tables = len([box for box in test.selectbox if box.label == "Table"])
    assert n_tables == 2 * sum(bool(section.tables) for section in findings.sections) > 0


def test_many_sections_are_told_page_by_page(tmp_path: Path, make_run: Make, findings: Findings) -> None:
    one = findings.sections[0]
    many = tuple(
        one.model_copy(update={"title": f"Part {number}", "findings": (), "tables": ()}) for number in range(3_000)
    )
    make_run(tmp_path / "one", found=findings.model_copy(update={"sections": many}))
    test = drawn("run", tmp_path, run="one", sections="2")
    told = [box.label for box in test.expander if box.label.startswith("How it was done")]
    assert told[0].endswith(": Part 20")
    assert len(told) == 20
