"""Rows from files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from audit.answers.rows import QaRow, read_choices, read_qa
from audit.errors import DataError, InputError

TOFU = {"question": "Who?", "answer": "Her.", "paraphrased_question": "Whom?", "perturbed_answer": ["Him.", "Them."]}


def written(path: Path, rows: list[object]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_tofus_json_lines_and_a_list_are_read_alike(tmp_path: Path) -> None:
    rows = [TOFU, {**TOFU, "question": "Where?"}]
    lines = read_qa(written(tmp_path / "a.json", list(rows)), cluster_size=2)
    (tmp_path / "b.json").write_text(json.dumps(rows))
    assert lines == read_qa(tmp_path / "b.json", cluster_size=2)
    assert lines[0] == QaRow("1", "0", "Who?", "Her.", "Whom?", "", ("Him.", "Them."))
    assert [row.cluster for row in read_qa(tmp_path / "b.json")] == ["1", "2"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"topic": "x"}], "no field question or prompt"),
        ([{"question": " "}], "blank"),
        ([{"question": 3}], "expected a text"),
        ([{"question": "a", "perturbed_answer": "no list"}], "no list of texts"),
        ([{"question": "a", "id": "x"}, {"question": "b", "id": "x"}], "two rows have the id"),
        ([], "empty|no rows"),
        (["no object"], "not an object"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, rows: list[object], message: str) -> None:
    with pytest.raises((DataError, InputError), match=message):
        read_qa(written(tmp_path / "a.jsonl", rows))


def test_files_that_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected .jsonl"):
        read_qa(written(tmp_path / "a.docx", []))
    with pytest.raises(InputError):
        read_qa(tmp_path / "missing.jsonl")
    with pytest.raises(InputError, match="leave the cluster size out"):
        read_qa(written(tmp_path / "a.jsonl", [{"question": "a", "author": "x"}]), cluster_size=2)


def test_multiple_choice(tmp_path: Path) -> None:
    (tmp_path / "law_test.csv").write_text('"What is law?",rules,"a, cat",x,y,B\nWhy?,1,2,3,4,D\n')
    first, second = read_choices(tmp_path / "law_test.csv")
    assert (first.options, first.right, second.right) == (("rules", "a, cat", "x", "y"), 1, 3)
    assert first.asked == "What is law?\nA. rules\nB. a, cat\nC. x\nD. y\nAnswer:"
    (tmp_path / "named.csv").write_text("question,choice0,choice1,answer\nWhy?,so,1,1\nWho?,she,,A\n")
    third, fourth = read_choices(tmp_path / "named.csv")
    assert (third.options, third.right, fourth.options, fourth.right) == (("so", "1"), 1, ("she", "(empty)"), 0)
    path = written(tmp_path / "a.jsonl", [{"question": "q", "options": ["x", "y", "z"], "answer": 2}])
    assert read_choices(path)[0].letters == ("A", "B", "C")
    for bad in (
        {"options": ["x"], "answer": 0},
        {"options": ["x", "y"], "answer": "C"},
        {"options": ["x", "y"], "answer": True},
    ):
        with pytest.raises(DataError):
            read_choices(written(tmp_path / "b.jsonl", [{"question": "q", **bad}]))
    (tmp_path / "bad.csv").write_text("What?,a,b,A\nWhere?,a\n")
    with pytest.raises(DataError, match="row 2: 2 cells; expected 4"):
        read_choices(tmp_path / "bad.csv")
