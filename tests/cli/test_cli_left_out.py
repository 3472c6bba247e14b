"""Of a folder only .txt is scored, and what else lies there is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import WORDS, Call

NOTES = [
    "note: 7 paths left out, of a kind that is not read here (5 .jsonl, 1 .md, 1 without an extension): "
    "in/0.jsonl, in/1.jsonl, in/2.jsonl, in/3.jsonl, in/4.jsonl and 2 more",
    "note: 1 path left out, hidden: in/.notes.txt",
]


@pytest.fixture
def mixed(call: Call) -> None:
    """A folder of 20 lines of text and of files of other kinds, and a file of 20 other lines."""
    Path("in").mkdir()
    for name in (*(f"{number}.jsonl" for number in range(5)), "a.md", "README", ".notes.txt"):
        Path("in", name).write_text("x")
    lines = [" ".join((WORDS * 2)[at : at + 8]) + f" {at} {'x' * at}\n" for at in range(40)]
    Path("in/b.txt").write_text("".join(lines[:20]))
    Path("v.txt").write_text("".join(lines[20:]))


@pytest.mark.usefixtures("mixed")
def test_score_tells_what_of_a_folder_it_did_not_read(call: Call, llama: Path) -> None:
    code, _, err = call("score", llama, "in", "--out", "s.jsonl", "--unit", "line", "--device", "cpu", "--quiet")
    assert (code, err.splitlines()) == (0, NOTES)


@pytest.mark.usefixtures("mixed")
def test_membership_tells_what_of_a_folder_it_did_not_read(call: Call, llama: Path, tmp_path: Path) -> None:
    sets = ["--suspect", "in", "--validation", "v.txt", "--unit", "line", "--splits", "2", "--checks", "100"]
    code, _, err = call("membership", llama, *sets, "--out", "run", "--device", "cpu", "--quiet")
    assert (code, err.replace(f"{tmp_path}/", "").splitlines()) == (4, NOTES)
