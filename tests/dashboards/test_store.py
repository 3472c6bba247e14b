"""What the listing says of runs that are well, half written, damaged, of a newer version or changed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from audit.runs.listing import list_runs
from audit.runs.schema import Findings
from audit.runs.store import Run
from dashboards import store as store_module
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


@pytest.mark.parametrize("name", ["run.json", "findings.json"])
def test_a_record_that_is_a_link_refuses_the_run(name: str, tmp_path: Path, make_run: Make) -> None:
    folder = make_run(tmp_path / "runs" / "one")
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    _refused(Store(tmp_path / "runs"), name)


def test_a_folder_of_a_run_that_is_a_link_refuses_the_run(tmp_path: Path, make_run: Make) -> None:
    folder = make_run(tmp_path / "runs" / "one")
    (folder / "items").rename(tmp_path / "elsewhere")
    (folder / "items").symlink_to(tmp_path / "elsewhere")
    _refused(Store(tmp_path / "runs"), "items")


def test_a_record_that_is_a_pipe_is_not_waited_for(tmp_path: Path, make_run: Make) -> None:
    folder = make_run(tmp_path / "one")
    (folder / "findings.json").unlink()
    os.mkfifo(folder / "findings.json")
    assert "no plain file" in str(Store(tmp_path).rows()[0].problem)


def _refused(store: Store, name: str) -> None:
    (row,) = store.rows()
    opened = store.open("one")
    assert (row.verdict, opened.run, opened.findings) == ("", None, None)
    for problem in (row.problem, opened.problem):
        assert str(problem).startswith(f"{name} in this run's folder is a link")


def test_a_link_counts_as_itself_in_the_key(tmp_path: Path, make_run: Make) -> None:
    folder = make_run(tmp_path / "runs" / "one")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_text("1")
    (folder / "folder").symlink_to(tmp_path / "a")
    (folder / "file").symlink_to(tmp_path / "a" / "file")
    key = files_key(folder)
    (tmp_path / "a" / "file").write_text("two")
    assert files_key(folder) == key, "targets are not followed"
    for name in ("folder", "file"):
        (folder / name).unlink()
        (folder / name).symlink_to(tmp_path / "b")
        assert files_key(folder) != key
        key = files_key(folder)


def test_an_unfinished_run_is_parsed_once_and_its_lock_asked_each_time(
    tmp_path: Path, make_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "begun", finish=False)
    parsed, findings = [], Run.findings
    monkeypatch.setattr(Run, "findings", lambda run: parsed.append(run) or findings(run))
    store = Store(tmp_path)
    for state in ("interrupted", "running", "interrupted"):
        monkeypatch.setattr("audit.runs.store.is_locked", lambda folder, state=state: state == "running")
        assert (store.rows()[0].state, store.rows()[0].problem) == (state, f"This run has not ended ({state}).")
        assert f"({state})" in str(store.open("begun").problem)
    assert len(parsed) == 2, "once for the list, once for the page"


def test_large_findings_are_not_read_for_the_list(
    tmp_path: Path, make_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LARGEST_LISTED", 100)
    make_run(tmp_path / "one")
    store = Store(tmp_path)
    (row,) = store.rows()
    assert (row.verdict, row.problem, row.kind) == ("", None, "audit")
    assert "too many to be read for this list" in str(row.note)
    assert store.open("one").findings is not None


def test_an_entry_that_cannot_be_looked_at_is_told_and_hides_no_other(
    tmp_path: Path, make_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link into a folder that nobody may enter, or a folder that may be listed alone."""
    make_run(tmp_path / "well")
    for name in ("shut", "zlink"):
        (tmp_path / name).mkdir()
    stat, scandir = Path.stat, os.scandir

    def refusing(path: Path, **named: bool) -> os.stat_result:
        if path.name == "zlink" or path.parent.name == "shut":
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **named)

    def shut(path: str | Path) -> object:
        if Path(path).name in ("zlink", "shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(Path, "stat", refusing)
    monkeypatch.setattr(os, "scandir", shut)
    store = Store(tmp_path)
    rows = {row.id: row for row in store.rows()}
    assert rows["well"].problem is None
    for name in ("shut", "zlink"):
        for problem in (rows[name].problem, store.open(name).problem):
            assert problem == "It could not be read: Permission denied."
    listed = list_runs(tmp_path)
    assert [one.folder.name for one in listed.runs] == ["well"]
    assert [folder.name for folder, _ in listed.unreadable] == ["shut", "zlink"]


def test_a_folder_that_cannot_be_listed_is_told_from_an_empty_one(tmp_path: Path) -> None:
    assert Store(tmp_path).unlisted() is None
    assert Store(tmp_path / "none").unlisted() is None
    (tmp_path / "file").write_text("no folder")
    assert "cannot be listed: Not a directory" in str(Store(tmp_path / "file").unlisted())


def test_what_is_no_date_counts_as_oldest(tmp_path: Path, make_run: Make) -> None:
    dates = {"old": "2026-01-01T00:00:00+00:00", "new": "2026-01-01T02:00:00+03:30", "none": "zzzz", "bidi": "\u202e9"}
    for name, date in dates.items():
        folder = make_run(tmp_path / name)
        record = json.loads((folder / "run.json").read_text())
        record["provenance"]["created"] = date
        (folder / "run.json").write_text(json.dumps(record))
    assert [row.id for row in Store(tmp_path).rows()] == ["old", "new", "none", "bidi"]


def test_a_seal_that_was_checked_is_told_until_a_file_changes(tmp_path: Path, make_run: Make) -> None:
    from audit.runs.seal.make import seal_run

    folder = make_run(tmp_path / "one")
    store = Store(tmp_path)
    assert store.rows()[0].seal == ""
    seal_run(folder)
    assert store.rows()[0].seal == "unchecked"
    store.remember_seal(store.open("one"), "broken")
    (row,) = store.rows()
    assert (row.seal, row.problem) == ("broken", None)
    assert "seal is broken" in str(row.wrong)
    (folder / "plan.toml").write_text("# other\n")
    assert store.rows()[0].seal == "unchecked"
