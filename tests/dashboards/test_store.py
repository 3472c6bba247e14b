"""What the listing says of runs that are well, half written, damaged, of a newer version or changed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from audit.runs.schema import Findings
from dashboards.store import Store, files_key
from tests.dashboards.hostile import FOLDER, hostile_run

Make = Callable[..., Path]


def test_a_row_says_what_the_runs_files_say(tmp_path: Path, make_run: Make) -> None:
    make_run(tmp_path / "one")
    (row,) = Store(tmp_path).rows()
    assert (row.id, row.kind, row.model, row.state, row.verdict) == ("one", "audit", "out/subject", "complete", "Found")
    assert row.blocking == (("traps.members", "found"), ("traps.single_copy", "inconclusive"))
    assert (row.audits, row.sealed, row.problem) == (("traps",), False, None)


def test_the_newest_run_is_first_and_the_unreadable_last(tmp_path: Path, make_run: Make) -> None:
    for at, name in enumerate(("old", "new")):
        folder = make_run(tmp_path / name)
        record = json.loads((folder / "run.json").read_text())
        record["provenance"]["created"] = f"2026-0{at + 1}-01T00:00:00+00:00"
        (folder / "run.json").write_text(json.dumps(record))
    (make_run(tmp_path / "zzz") / "run.json").write_text("{")
    assert [row.id for row in Store(tmp_path).rows()] == ["new", "old", "zzz"]


def _half_written(folder: Path) -> None:
    (folder / "run.json").unlink()


def _no_json(folder: Path) -> None:
    (folder / "run.json").write_bytes(b'{"id": "x')


def _deep(folder: Path) -> None:
    (folder / "findings.json").write_text("[" * 100_000)


def _newer(folder: Path) -> None:
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"schema_version": 99}))


def _other_plan(folder: Path) -> None:
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"plan": {"other": 1}}))


def _no_findings(folder: Path) -> None:
    (folder / "findings.json").unlink()


def _wrong_findings(folder: Path) -> None:
    record = json.loads((folder / "findings.json").read_text())
    record["sections"][0]["findings"][0]["verdict"] = "FOUND"
    (folder / "findings.json").write_text(json.dumps(record))


def _a_folder_for_a_file(folder: Path) -> None:
    (folder / "findings.json").unlink()
    (folder / "findings.json").mkdir()


DAMAGES = {
    _half_written: "no run.json",
    _no_json: "is not JSON",
    _deep: "is not JSON",
    _newer: "schema version 99",
    _other_plan: "the plan in it is not the one",
    _no_findings: "has no findings.json, though the run is complete",
    _wrong_findings: "was changed or damaged",
    _a_folder_for_a_file: "could not read findings.json",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__.strip("_"))
def test_what_is_wrong_is_said_and_the_other_runs_still_show(
    damage: Callable[[Path], None], tmp_path: Path, make_run: Make
) -> None:
    make_run(tmp_path / "well")
    damage(make_run(tmp_path / "hurt"))
    store = Store(tmp_path)
    rows = {row.id: row for row in store.rows()}
    assert rows["well"].problem is None
    for problem in (rows["hurt"].problem, store.open("hurt").problem):
        assert problem is not None
        assert DAMAGES[damage] in problem
        assert str(tmp_path) not in problem, "a path of the server is nobody's business"
    assert store.open("well").problem is None


def test_a_run_that_has_not_ended_says_so(tmp_path: Path, make_run: Make) -> None:
    make_run(tmp_path / "begun", finish=False)
    store = Store(tmp_path)
    (row,) = store.rows()
    assert row.problem == "This run has not ended (interrupted)."
    assert row.verdict == "Found"
    assert "has not ended" in str(store.open("begun").problem)


@pytest.mark.parametrize("id_", ["../outside", "..", "/", "", "\x00", "well/", "./well", "x" * 100_000])
def test_only_ids_of_the_listing_open(id_: str, tmp_path: Path, make_run: Make) -> None:
    make_run(tmp_path / "outside")
    make_run(tmp_path / "runs" / "well")
    opened = Store(tmp_path / "runs").open(id_)
    assert (opened.folder, opened.run, opened.findings) == (None, None, None)
    assert "There is no run of this name" in str(opened.problem)


def test_hostile_names_and_texts_are_listed_and_opened(tmp_path: Path, findings: Findings) -> None:
    hostile_run(tmp_path / FOLDER.replace("/", "|"), findings)
    store = Store(tmp_path)
    (row,) = store.rows()
    assert store.open(row.id).findings is not None


def test_a_name_that_is_not_utf8_is_listed_and_opened(tmp_path: Path, make_run: Make) -> None:
    os.rename(make_run(tmp_path / "one"), os.fsencode(tmp_path) + b"/\xff\xfe")
    store = Store(tmp_path)
    (row,) = store.rows()
    row.id.encode()
    assert store.open(row.id).run is not None


def test_a_folder_that_is_a_run_itself_is_listed(tmp_path: Path, make_run: Make) -> None:
    folder = make_run(tmp_path / "one")
    assert [row.id for row in Store(folder).rows()] == ["one"]


def test_a_folder_that_is_not_there_is_an_empty_store(tmp_path: Path) -> None:
    assert Store(tmp_path / "none").rows() == []


def test_a_changed_file_changes_the_key_and_the_row(tmp_path: Path, make_run: Make) -> None:
    """Also where size and time of the change are those of before: the inode's own time tells."""
    folder = make_run(tmp_path / "one")
    store = Store(tmp_path)
    before, key = store.rows()[0], store.open("one").key
    path = folder / "findings.json"
    stat = path.stat()
    changed = path.read_text().replace('"verdict": "found"', '"verdict": "fOUND"')
    assert len(changed) == stat.st_size
    path.write_text(changed)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert store.open("one").key != key
    assert before.problem is None
    assert store.rows()[0].problem is not None


def test_the_key_changes_with_items_though_the_seal_stays(tmp_path: Path, make_run: Make) -> None:
    from audit.runs.seal.make import seal_run

    folder = make_run(tmp_path / "one")
    seal_run(folder)
    key = files_key(folder)
    assert files_key(folder) == key
    path = folder / "items" / "scores.parquet"
    path.write_bytes(path.read_bytes() + b" ")
    assert files_key(folder) != key


def test_the_run_folder_is_only_read(tmp_path: Path, make_run: Make) -> None:
    folder = make_run(tmp_path / "one")
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
    store = Store(tmp_path)
    store.rows()
    store.open("one")
    assert {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]} == before


def test_a_link_out_of_the_run_is_no_file_of_it(tmp_path: Path, make_run: Make) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    folder = make_run(tmp_path / "runs" / "one")
    (folder / "report.html").symlink_to(secret)
    (folder / "linked").symlink_to(tmp_path)
    opened = Store(tmp_path / "runs").open("one")
    assert opened.file("report.html") is None
    assert opened.file("linked", "secret") is None
    assert opened.file("..", "..", "secret") is None
    assert opened.file("findings.json") == folder / "findings.json"
