"""Placements on disk, and taking copies out: the very bytes that were there, or a message and nothing."""

from __future__ import annotations

import json
import random
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.errors import DataError, InputError
from audit.traps.planting.hosts.document import Insertion
from audit.traps.planting.placements import read_placements, write_placements
from audit.traps.planting.restore import restore
from audit.traps.planting.splice import BLOCK, cut_out, first_change, put_in
from tests.traps.planting import DECOYS, HARD, Planted, planted, planting, restored

WORDS = " ".join(f"word{i}" for i in range(60))


@pytest.fixture
def done(tmp_path: Path) -> Planted:
    """A folder of three files: texts of 60 words, one long enough for several blocks."""
    source = tmp_path / "corpus"
    source.mkdir()
    (source / "a.txt").write_text("\n".join([WORDS] * 60), encoding="utf-8")
    rows = [{"text": WORDS}] * 3
    (source / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (source / "c.csv").write_text(f'text,n\n"{WORDS}",1\n{WORDS},2\n', encoding="utf-8")
    return planted(source, planting(seed=2))


def there(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- the bytes


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=3 * BLOCK),
    st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=40)), max_size=6),
)
def test_what_was_put_in_is_cut_out_again(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, pieces: list[tuple[float, bytes]]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "splice"
    folder.mkdir(exist_ok=True)
    (folder / "a").write_bytes(content)
    places = sorted((round(share * len(content)), piece) for share, piece in pieces)
    with (folder / "b").open("wb") as stream:
        before, after = put_in(folder / "a", stream, (Insertion(at, piece, None) for at, piece in places))
    expected, done = b"", 0
    cuts = []
    for at, piece in places:
        expected += content[done:at]
        cuts.append((len(expected), len(piece)))
        expected += piece
        done = at
    expected += content[done:]
    assert (folder / "b").read_bytes() == expected
    with (folder / "c").open("wb") as stream:
        again, back = cut_out(folder / "b", stream, cuts)
    assert (folder / "c").read_bytes() == content
    assert (again, back) == (after, before)


def test_the_first_change_is_found_in_its_block(tmp_path: Path) -> None:
    content = random.Random(0).randbytes(3 * BLOCK + 100)
    path = tmp_path / "a"
    path.write_bytes(content)
    known, _ = put_in(path, None, ())

    def change(new: bytes) -> tuple[int, int]:
        path.write_bytes(new)
        return first_change(path, known)

    flipped = bytearray(content)
    flipped[2 * BLOCK + 5] ^= 1
    assert change(bytes(flipped)) == (2 * BLOCK + 1, 3 * BLOCK)
    assert change(content[:BLOCK] + b"x" + content[BLOCK:]) == (BLOCK + 1, 2 * BLOCK)
    assert change(content + b"x") == (3 * BLOCK + 1, 3 * BLOCK + 101)
    assert change(content[:-1]) == (3 * BLOCK + 1, 3 * BLOCK + 100)
    assert change(b"") == (1, BLOCK)


# --- the file


def test_placements_are_read_as_they_were_written_and_only_their_owner_may(done: Planted, tmp_path: Path) -> None:
    copy = tmp_path / "again.json"
    write_placements(copy, done.placements)
    assert copy.read_bytes() == done.placements_path.read_bytes()
    assert read_placements(copy) == done.placements
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with pytest.raises(InputError, match="again.json is there already, and placements are never overwritten"):
        write_placements(copy, done.placements)


def test_placements_hold_every_member_and_no_decoy(done: Planted) -> None:
    assert [trap.text for trap in done.placements.traps] == list(HARD)
    text = done.placements_path.read_text(encoding="utf-8")
    assert not any(decoy in text for decoy in DECOYS)
    n_copies = [0, 0, 0]
    for document in done.placements.documents:
        for copy in document.copies:
            n_copies[copy.trap] += 1
    assert n_copies == [2, 2, 2]


def changed(done: Planted, change: Any) -> Path:
    value = json.loads(done.placements_path.read_bytes())
    change(value)
    path = done.placements_path.with_name("changed.json")
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["files"][0].update(path="../a.txt"), "the path '../a.txt' leads out of the folder"),
        (lambda v: v["files"][0].update(path="/etc/a.txt"), "the path '/etc/a.txt' leads out of the folder"),
        (lambda v: v["files"][0].update(path="b.jsonl"), "it names 3 files, 2 different ones"),
        (lambda v: v["documents"][0]["copies"].pop(), "has 1 copies; expected 2"),
        (lambda v: v["documents"][0].update(file=7), "is of file 7, out of order"),
        (lambda v: v["documents"][0]["copies"][0].__setitem__(0, 9), "holds trap number 9"),
        (lambda v: v["documents"][0]["copies"][0].__setitem__(5, 1), "what was inserted in '[abc].*' does not add up"),
        (lambda v: v["documents"][0]["copies"][0].__setitem__(4, -5), "what was inserted in '[abc].*' does not add up"),
        (lambda v: v["documents"][0]["copies"][0].__setitem__(4, "x"), "whole number"),
        (lambda v: v.update(seed=-1), "seed.* 0 or more"),
        (lambda v: v.update(more=1), "more"),
        (lambda v: v.update(format="palimpsest traps ledger"), "holds no placements of traps"),
        (lambda v: v.update(schema_version=9), "has schema version 9; Palimpsest .* reads version 1"),
    ],
)
def test_placements_that_were_changed_are_refused_with_what_does_not_fit(
    done: Planted, change: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_placements(changed(done, change))


def test_what_is_no_placements_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no 'p.json'"):
        read_placements(tmp_path / "p.json")
    with pytest.raises(InputError, match="is a folder; expected the placements"):
        read_placements(tmp_path)
    (tmp_path / "p.json").write_bytes(b"{")
    with pytest.raises(DataError, match="p.json is not JSON"):
        read_placements(tmp_path / "p.json")


# --- taking out


def test_a_changed_file_is_refused_with_the_place_and_nothing_is_written(done: Planted, tmp_path: Path) -> None:
    path = done.out / "a.txt"
    content = path.read_bytes()
    lines = content.split(b"\n")
    before = there(tmp_path)
    at = content.index(b"word59\n", 10_000)
    line = content[:at].count(b"\n") + 1
    path.write_bytes(content[:at] + b"WORD59" + content[at + 6 :])
    with pytest.raises(DataError, match="a.txt is not as it was planted.*The first change lies in bytes ") as error:
        restored(done)
    numbers = str(error.value).split("lines ")[1].split(".")[0].split(" to ")
    assert int(numbers[0]) <= line <= int(numbers[1])
    assert "make it again in the restored file" in str(error.value)
    assert there(tmp_path) == before
    assert len(lines) > 60
    path.write_bytes(content)
    restored(done)


def test_a_missing_file_is_named_and_a_new_one_is_told_but_not_restored(done: Planted) -> None:
    (done.out / "README").write_text("new", encoding="utf-8")
    back = done.source.with_name("back")
    told = restore(done.placements_path, done.out, back)
    assert told.others == ("README",)
    assert (told.n_files, told.n_copies) == (3, 6)
    assert there(back) == ["a.txt", "b.jsonl", "c.csv"]
    (done.out / "b.jsonl").unlink()
    with pytest.raises(DataError, match="b.jsonl is missing; it was planted as 'b.jsonl'"):
        restored(done)


def test_nothing_is_overwritten_and_files_are_not_folders(done: Planted, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="corpus is there already"):
        restore(done.placements_path, done.out, done.source)
    with pytest.raises(InputError, match="lies in the planted folder"):
        restore(done.placements_path, done.out, done.out / "back")
    with pytest.raises(InputError, match="were planted in a folder, but .* is a file"):
        restore(done.placements_path, done.out / "a.txt", tmp_path / "back")


def test_placements_that_would_cut_other_bytes_give_nothing(done: Planted, tmp_path: Path) -> None:
    """Shifted by one byte, the right number of bytes goes; what is left is not the original, and is not kept."""

    def shift(value: Any) -> None:
        for document in value["documents"]:
            for copy in document["copies"]:
                copy[4] += 1
            document["quotes"] = [quote + 1 for quote in document["quotes"]]

    path = changed(done, shift)
    with pytest.raises(DataError, match="without its copies it is not the original.*was changed"):
        restore(path, done.out, tmp_path / "back")
    assert not (tmp_path / "back").exists()
