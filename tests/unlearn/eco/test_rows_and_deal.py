"""Rows from files, and who sees which of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from audit.errors import DataError, InputError
from unlearn.eco.deal import Shares, deal
from unlearn.eco.rows import ChoiceRow, QaRow, read_choices, read_qa

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


def people(name: str, n: int, each: int) -> list[QaRow]:
    return [
        QaRow(f"{name}{who}-{row}", f"{name}{who}", f"{name}{who} row {row}?")
        for who in range(n)
        for row in range(each)
    ]


def test_parts_share_no_row_and_keep_clusters_together() -> None:
    forget, retain = people("f", 6, 4), people("r", 20, 5)
    dealt = deal(forget, retain, shares=Shares(), seed=1)
    assert sorted(row.id for row in (*dealt.tuning, *dealt.audit)) == sorted(row.id for row in forget)
    rest = (*dealt.training, *dealt.calibration, *dealt.test)
    assert sorted(row.id for row in rest) == sorted(row.id for row in retain)
    assert not {row.cluster for row in dealt.tuning} & {row.cluster for row in dealt.audit}
    trained = {row.cluster for row in dealt.training}
    assert not trained & {row.cluster for row in (*dealt.calibration, *dealt.test)}
    assert (len(dealt.tuning), len(dealt.training), len(dealt.calibration)) == (12, 40, 30)
    assert dealt == deal(forget, retain, shares=Shares(), seed=1)
    assert dealt != deal(forget, retain, shares=Shares(), seed=2)


def test_what_cannot_be_dealt() -> None:
    forget, retain = people("f", 6, 4), people("r", 20, 5)
    with pytest.raises(InputError, match="2 clusters or more"):
        deal(people("f", 1, 9), retain, shares=Shares(), seed=0)
    with pytest.raises(InputError, match="stand among the forget prompts"):
        deal(forget, [*retain, forget[0]], shares=Shares(), seed=0)
    with pytest.raises(InputError, match="between 0 and 1"):
        deal(forget, retain, shares=Shares(tuning=1.0), seed=0)
    with pytest.raises(InputError, match="are left for calibration"):
        deal(forget, people("r", 2, 1), shares=Shares(), seed=0)


def test_a_question_with_other_options_is_another_one() -> None:
    """MMLU asks "Which of the following is true?" in several subjects."""
    forget = [ChoiceRow(f"f{n}", f"f{n}", "Which is true?", (f"tax {n}", "none"), 0) for n in range(3)]
    retain = [ChoiceRow(f"r{n}", f"r{n}", "Which is true?", (f"law {n}", "none"), 1) for n in range(5)]
    dealt = deal(forget, retain, shares=Shares(), seed=0)
    assert len(dealt.tuning) + len(dealt.audit) == 3
    same = ChoiceRow("r9", "r9", "which  is true?", ("TAX 1", "none"), 0)
    with pytest.raises(InputError, match="1 retain prompts stand among the forget prompts"):
        deal(forget, [*retain, same], shares=Shares(), seed=0)
