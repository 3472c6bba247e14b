"""Whatever is done to a sealed run is caught and named."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.errors import DataError, IncompleteRunError, InputError
from audit.runs.seal import make
from audit.runs.seal.check import Checked, verify_run
from audit.runs.seal.files import find_files
from audit.runs.seal.make import seal_run
from audit.runs.seal.record import FORMAT, SEAL_NAME, SealRecord, parsed, spelled
from audit.runs.store import Run
from tests.runs.seal.made import KEY, OTHER_KEY, make_run

ROOT = Path(__file__).parents[3]
ODD = 'remedies/a b/naïve "x"\nline\\.txt'


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed run; read only, but for who puts everything back."""
    folder = make_run(tmp_path_factory.mktemp("sealed") / "run")
    seal_run(folder, key=KEY)
    return folder


@pytest.fixture
def run(signed: Path, tmp_path: Path) -> Path:
    """A copy of it to tamper with."""
    return Path(shutil.copytree(signed, tmp_path / "run"))


def kinds(checked: Checked) -> set[tuple[str, str]]:
    return {(problem.kind, problem.path) for problem in checked.problems}


def read(folder: Path) -> SealRecord:
    return parsed((folder / SEAL_NAME).read_bytes(), SealRecord, SEAL_NAME, format=FORMAT)


def test_a_sealed_run_verifies_and_every_file_is_covered(signed: Path) -> None:
    checked = verify_run(signed, head=read(signed).head, public_key=KEY.public_key, rows=True)
    assert checked.problems == ()
    there = {path.relative_to(signed).as_posix() for path in signed.rglob("*") if path.is_file()}
    assert {entry.path for entry in read(signed).files} == there - {SEAL_NAME, ".lock"}
    assert {ODD, "remedies/a b/empty", "attempts/000002.json", "opening.json", "seal.secret"} <= there
    assert (signed / "seal.secret").stat().st_mode & 0o777 == 0o600
    assert [entry.rows for entry in read(signed).tables] == [3, 7]


@settings(max_examples=250)
@given(data=st.data())
def test_any_byte_that_flips_is_caught_and_named(signed: Path, data: st.DataObject) -> None:
    names = [*find_files(signed).files, SEAL_NAME]
    sized = [name for name in names if (signed / name).stat().st_size]
    name = data.draw(st.sampled_from([*sized, SEAL_NAME, SEAL_NAME, SEAL_NAME]))
    path = signed / name
    before = path.read_bytes()
    place = data.draw(st.integers(0, len(before) - 1))
    mask = data.draw(st.integers(1, 255))
    try:
        path.write_bytes(before[:place] + bytes([before[place] ^ mask]) + before[place + 1 :])
        problems = verify_run(signed).problems
    finally:
        path.write_bytes(before)
    if name == SEAL_NAME:
        assert any(SEAL_NAME in problem.says for problem in problems)
    else:
        assert [(problem.kind, problem.path) for problem in problems if problem.kind == "changed"] == [
            ("changed", name)
        ]


def _swap(run: Path) -> None:
    one, other = run / "items" / "traps.parquet", run / "items" / "more.parquet"
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


TAMPERINGS: dict[str, tuple[Callable[[Path], object], set[tuple[str, str]]]] = {
    "removed": (lambda run: (run / "plan.toml").unlink(), {("removed", "plan.toml")}),
    "removed, empty": (lambda run: (run / "remedies/a b/empty").unlink(), {("removed", "remedies/a b/empty")}),
    "added": (lambda run: (run / "items" / "new.txt").write_text("x"), {("added", "items/new.txt")}),
    "added, hidden": (lambda run: (run / ".hidden").write_text("x"), {("added", ".hidden")}),
    "renamed": (lambda run: (run / ODD).rename(run / "plain.txt"), {("renamed", "plain.txt")}),
    "moved": (
        lambda run: (run / "items").rename(run / "things"),
        {
            ("renamed", "things/more.parquet"),
            ("renamed", "things/traps.parquet"),
        },
    ),
    "swapped": (_swap, {("replaced", "items/traps.parquet"), ("replaced", "items/more.parquet")}),
    "truncated": (lambda run: os.truncate(run / "findings.json", 10), {("changed", "findings.json")}),
    "emptied": (lambda run: os.truncate(run / "plan.toml", 0), {("replaced", "plan.toml")}),
    "appended": (lambda run: (run / ODD).write_text("odd\n\n"), {("changed", ODD)}),
    "other line ends": (lambda run: (run / "plan.toml").write_bytes(b"seed = 0\r\n"), {("changed", "plan.toml")}),
    "a link to a copy": (
        lambda run: (
            (run / "plan.toml").rename(run.parent / "copy"),
            (run / "plan.toml").symlink_to(run.parent / "copy"),
        ),
        {("changed", "plan.toml")},
    ),
    "a pipe": (lambda run: os.mkfifo(run / "pipe"), {("changed", "pipe")}),
    "a name that is no UTF-8": (
        lambda run: Path(os.fsdecode(os.fsencode(run) + b"/\xff")).write_text("x"),
        {("changed", "\udcff")},
    ),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_each_tampering_is_named(run: Path, name: str) -> None:
    tamper, expected = TAMPERINGS[name]
    tamper(run)
    assert kinds(verify_run(run)) == expected


def test_a_lock_and_an_interrupted_write_are_no_evidence(run: Path) -> None:
    (run / ".lock").write_text("{}")
    (run / "items" / f".palimpsest-1-{'0' * 16}.tmp").write_text("half")
    (run / "nothing").mkdir()
    assert verify_run(run).problems == ()


def test_a_lock_below_the_top_is_a_file_like_any(run: Path) -> None:
    for name in (".lock", "items/.lock"):
        (run / name).write_text("the scores that were left out")
    assert kinds(verify_run(run)) == {("added", "items/.lock")}


def test_a_key_that_was_given_is_not_shown(run: Path) -> None:
    """64 digits may be the private key, given by mistake."""
    given = "ab" * 32
    for _ in range(2):
        problems = verify_run(run, public_key=given).problems
        assert [problem.kind for problem in problems] == ["key"]
        assert given not in problems[0].says
        _resealed(run, None)


def test_line_ends_and_spaces_of_the_seal_count(run: Path) -> None:
    seal = run / SEAL_NAME
    content = seal.read_bytes()
    for other in (
        content.replace(b"\n", b"\r\n"),
        content + b"\n",
        content.replace(b'": ', b'":  ', 1),
        b"\xef\xbb\xbf" + content,
    ):
        seal.write_bytes(other)
        assert [problem.kind for problem in verify_run(run).problems] == ["seal"]
    twice = content.replace(b'  "head":', b'  "head": "' + b"0" * 64 + b'",\n  "head":', 1)
    seal.write_bytes(twice)
    assert [problem.kind for problem in verify_run(run).problems] == ["seal"]


def _resealed(run: Path, key: object) -> None:
    (run / SEAL_NAME).unlink()
    seal_run(run, key=key)  # type: ignore[arg-type]


def test_sealing_anew_is_seen_by_the_head_and_by_the_key(run: Path) -> None:
    """Whoever holds the folder can seal it anew; only what was published or handed on shows it."""
    head = read(run).head
    (run / "plan.toml").write_text("seed = 1\n")
    _resealed(run, OTHER_KEY)
    assert verify_run(run).problems == ()
    checked = verify_run(run, head=head)
    assert kinds(checked) == {("given head", SEAL_NAME)}
    assert checked.is_of_another  # nothing was changed since: it is the seal that is another
    (run / "plan.toml").write_text("seed = 2\n")
    assert not verify_run(run, head=head).is_of_another
    (run / "plan.toml").write_text("seed = 1\n")
    assert kinds(verify_run(run, public_key=KEY.public_key)) == {("key", SEAL_NAME)}
    _resealed(run, None)
    assert kinds(verify_run(run, public_key=KEY.public_key)) == {("key", SEAL_NAME)}


def test_a_signature_put_on_by_another_key_is_caught(run: Path) -> None:
    record = read(run)
    forged = record.model_copy(update={"signature": OTHER_KEY.sign(record.head)})
    (run / SEAL_NAME).write_bytes(spelled(forged))
    assert kinds(verify_run(run)) == {("signature", SEAL_NAME)}
    for missing in ("signature", "public_key"):
        (run / SEAL_NAME).write_bytes(spelled(record.model_copy(update={missing: None})))
        assert kinds(verify_run(run)) == {("signature", SEAL_NAME)}


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a//b", "./a", "a\0b", "", "\udcff"])
def test_a_seal_that_names_a_path_outside_is_refused(run: Path, path: str) -> None:
    record = read(run)
    entry = record.files[0].model_copy(update={"path": path})
    (run / SEAL_NAME).write_bytes(spelled(record.model_copy(update={"files": (entry, *record.files[1:])})))
    problems = verify_run(run).problems
    assert any(problem.kind == "seal" and SEAL_NAME in problem.says for problem in problems)


def test_a_forged_heading_does_not_fit_the_run(run: Path) -> None:
    """With the folder's files as they are, another plan, policy or run cannot be put into the heading."""
    record = read(run)
    for change in (
        {"plan_sha256": "0" * 64},
        {"id": "other"},
        {"policy_sha256": "0" * 64, "policy_named": "in-record"},
    ):
        heading = record.heading.model_copy(update=change)
        forged = record.model_copy(
            update={"heading": heading, "head": heading.head(), "public_key": None, "signature": None}
        )
        (run / SEAL_NAME).write_bytes(spelled(forged))
        assert ("plan", "run.json") in kinds(verify_run(run))
    heading = record.heading.model_copy(update={"opening_sha256": None})
    forged = record.model_copy(
        update={"heading": heading, "head": heading.head(), "public_key": None, "signature": None}
    )
    (run / SEAL_NAME).write_bytes(spelled(forged))
    assert ("plan", "opening.json") in kinds(verify_run(run))


def test_only_a_complete_plain_and_consistent_run_is_sealed(tmp_path: Path) -> None:
    with Run.start(tmp_path / "open", kind="audit", plan={}, plan_text=None, command=["palimpsest"]):
        pass
    with pytest.raises(IncompleteRunError, match="has not ended \\(interrupted\\); only a complete run can be sealed"):
        seal_run(tmp_path / "open")
    made = make_run(tmp_path / "made")
    (made / "link").symlink_to("plan.toml")
    with pytest.raises(DataError, match="'link' is a symbolic link\nReplace links by copies"):
        seal_run(made)
    (made / "link").unlink()
    opening = json.loads((made / "opening.json").read_text())
    (made / "opening.json").write_text(json.dumps(opening | {"plan_sha256": "0" * 64}))
    with pytest.raises(DataError, match="opening.json has plan_sha256 '000.* run.json"):
        seal_run(made)
    (made / "opening.json").write_text(json.dumps(opening | {"created": "2020-01-01T00:00:00+00:00"}))
    with pytest.raises(DataError, match="opening.json has created '2020-01-01.* run.json"):
        seal_run(made)
    (made / "opening.json").unlink()
    told = json.loads((made / "run.json").read_text())
    (made / "run.json").write_text(json.dumps(told | {"kind": "audit\nplan 0"}))
    with pytest.raises(DataError, match="the kind 'audit\\\\nplan 0'; expected a word"):
        seal_run(made)
    assert not (made / SEAL_NAME).exists()


def test_a_sealed_run_is_not_sealed_anew(run: Path) -> None:
    before = (run / SEAL_NAME).read_bytes()
    assert seal_run(run).how == seal_run(run, key=KEY).how == "unchanged"
    with pytest.raises(InputError, match="signed by another key"):
        seal_run(run, key=OTHER_KEY)
    (run / "plan.toml").write_text("seed = 1\n")
    with pytest.raises(DataError, match="is not as it was sealed:\n- 'plan.toml' was changed .*its size is the same"):
        seal_run(run)
    assert (run / SEAL_NAME).read_bytes() == before


def test_a_signature_can_be_added_and_leaves_the_head(tmp_path: Path) -> None:
    made = make_run(tmp_path / "run")
    head = seal_run(made).record.head
    signed = seal_run(made, key=KEY)
    assert (signed.how, signed.record.head) == ("signed", head)
    assert verify_run(made, head=head, public_key=KEY.public_key).problems == ()


def test_the_policy_is_the_one_that_the_run_began_with(tmp_path: Path) -> None:
    policy, other = tmp_path / "release.toml", tmp_path / "other.toml"
    policy.write_text("a = 1\n")
    other.write_text("a = 2\n")
    sha256 = hashlib.sha256(policy.read_bytes()).hexdigest()
    begun = make_run(tmp_path / "begun", policy=sha256)
    with pytest.raises(InputError, match="was begun with a policy of SHA-256"):
        seal_run(begun, policy=other)
    heading = seal_run(begun, policy=policy).record.heading
    assert (heading.policy_sha256, heading.policy_named) == (sha256, "before-scoring")
    with pytest.raises(InputError, match="is sealed with the policy"):
        seal_run(begun, policy=other)
    late = make_run(tmp_path / "late")
    assert seal_run(late, policy=policy).record.heading.policy_named == "at-sealing"
    checked = verify_run(late)
    assert checked.problems == ()
    assert any("first named when the run was sealed" in note for note in checked.notes)


def test_an_opening_of_another_moment_is_seen_under_a_seal_that_was_made_anew(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a program would make it that does not compare them."""
    (run / SEAL_NAME).unlink()
    opening = json.loads((run / "opening.json").read_text())
    (run / "opening.json").write_text(json.dumps(opening | {"created": "2020-01-01T00:00:00+00:00"}))
    monkeypatch.setattr(make, "_policy", lambda *_: (None, None))
    seal_run(run)
    problems = verify_run(run).problems
    assert [(one.kind, one.path) for one in problems] == [("plan", "opening.json")]
    assert "its created is not that of run.json" in problems[0].says


def test_a_run_without_an_opening_is_sealed_and_it_is_said(tmp_path: Path) -> None:
    made = make_run(tmp_path / "run")
    (made / "opening.json").unlink()
    seal_run(made)
    checked = verify_run(made)
    assert checked.problems == ()
    assert "an older version made it, or it was removed before sealing" in checked.notes[0]
    assert "nothing fixes its plan before scoring" in checked.notes[0]


def test_a_run_that_is_not_sealed_says_how(tmp_path: Path) -> None:
    made = make_run(tmp_path / "run")
    with pytest.raises(InputError, match="is not sealed: it has no seal.json. Seal it: palimpsest runs seal"):
        verify_run(made)
    seal_run(made)
    (made / SEAL_NAME).unlink()
    with pytest.raises(InputError, match="it was sealed once"):
        verify_run(made)


def test_a_secret_that_others_can_read_is_told(run: Path) -> None:
    (run / "seal.secret").chmod(0o644)
    assert any("others can read seal.secret" in note for note in verify_run(run).notes)


def test_rows_that_do_not_fit_the_sealed_root_are_seen(run: Path) -> None:
    """Only a sealer who cheats can make this: the file is as sealed, the root over its rows is not."""
    record = read(run)
    tables = (record.tables[0].model_copy(update={"root": "0" * 64}), *record.tables[1:])
    forged = record.model_copy(update={"tables": tables, "public_key": None, "signature": None})
    from audit.runs.seal.record import Tree, entries_root

    heading = record.heading.model_copy(update={"tables": Tree(count=len(tables), root=entries_root(tables))})
    (run / SEAL_NAME).write_bytes(spelled(forged.model_copy(update={"heading": heading, "head": heading.head()})))
    assert verify_run(run).problems == ()
    assert kinds(verify_run(run, rows=True)) == {("rows", "items/more.parquet")}


def test_a_reader_recomputes_the_head_from_the_page_alone(signed: Path) -> None:
    page = (ROOT / "docs" / "methods" / "seal.md").read_text(encoding="utf-8")
    script = re.search(r"```python\n(.*?)```", page, re.S)
    assert script is not None
    done = subprocess.run(
        [sys.executable, "-I", "-c", script[1], str(signed)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == read(signed).head
    lines = read(signed).heading.text().encode()
    shell = subprocess.run(["sha256sum"], input=lines, capture_output=True, check=True)
    assert shell.stdout.split()[0].decode() == read(signed).head


def test_one_thread_and_many_say_the_same_and_progress_is_told(tmp_path: Path) -> None:
    from audit.runs.seal.files import hash_files

    names = [f"{number}.bin" for number in range(20)]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(os.urandom(number * 300_000))
    with (tmp_path / "sparse").open("wb") as stream:
        stream.truncate(200 << 20)
    told: list[tuple[str, int, int]] = []
    one = hash_files(tmp_path, [*names, "sparse"], threads=1)
    many = hash_files(tmp_path, [*names, "sparse"], threads=4, progress=lambda *step: told.append(step))
    assert one == many
    assert one[3].sha256 == hashlib.sha256((tmp_path / "3.bin").read_bytes()).hexdigest()
    done = [step[1] for step in told]
    assert done == sorted(done)
    assert told[-1][1] == told[-1][2] > 200
