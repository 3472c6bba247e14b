"""Post-training rows: every shape of record, what is left out and why, and what is refused."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from audit.errors import DataError, InputError
from audit.extraction.parse import Parsed, parse
from audit.extraction.presets import PRESETS
from audit.extraction.rows import Rows, read_rows

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " What barks? "},
    {"role": "assistant", "content": "A dog."},
    {"role": "user", "content": "And meows?"},
    {"role": "assistant", "content": "A cat."},
]


def jsonl(folder: Path, *records: Any) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def rows_of(folder: Path, *records: Any, **how: Any) -> Rows:
    return read_rows(jsonl(folder, *records), **how)


@pytest.mark.parametrize(
    ("record", "fields"),
    [
        ({"question": "Q?", "answer": "A."}, ("question", "answer")),
        ({"instruction": "Q?", "output": "A."}, ("instruction", "output")),
        ({"prompt": "Q?", "response": "A."}, ("prompt", "response")),
        ({"messages": [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "A."}]}, ("messages",)),
        ({"prompt": "other", "messages": [{"role": "user", "content": "Q?"}, *TALK[2:3]]}, ("messages",)),
    ],
)
def test_the_shape_of_a_row_is_recognised(tmp_path: Path, record: dict[str, Any], fields: tuple[str, ...]) -> None:
    rows = rows_of(tmp_path, record, record)
    assert rows.fields == fields
    assert rows.questions == ("Q?", "Q?")
    assert rows.ids == ("1", "2")


def test_named_fields_are_read_instead(tmp_path: Path) -> None:
    record = {"question": "no", "answer": "no", "q": "Q?", "a": "A.", "key": 7}
    rows = rows_of(tmp_path, record, question_field="q", answer_field="a", id_field="key")
    assert (rows.questions, rows.answers, rows.wholes, rows.ids) == (("Q?",), ("A.",), ("Q?\nA.",), ("7",))


def test_of_messages_the_first_pair_is_matched_and_the_whole_without_the_system(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, {"messages": TALK})
    assert (rows.questions, rows.answers) == (("What barks?",), ("A dog.",))
    assert rows.wholes == ("What barks?\nA dog.\nAnd meows?\nA cat.",)


def test_a_row_has_the_same_whole_as_a_generation_of_it(tmp_path: Path) -> None:
    chat = PRESETS["chatml"]
    text = f"What barks?{chat.assistant}A dog.{chat.user}And meows?{chat.assistant}A cat.{chat.end}"
    parsed = parse(text, finish_reason="stop", chat=chat)
    assert isinstance(parsed, Parsed)
    rows = rows_of(tmp_path, {"messages": TALK})
    assert (parsed.question, parsed.answer, parsed.whole) == (rows.questions[0], rows.answers[0], rows.wholes[0])


def test_markers_are_cut_out_of_rows_that_were_stored_with_them(tmp_path: Path) -> None:
    record = {"prompt": "<|im_start|>user\nQ?<|im_end|>\n", "response": "A.<|im_end|>\n"}
    rows = rows_of(tmp_path, record, markers=["<|im_end|>", "<|im_start|>user"])
    assert rows.wholes == ("Q?\nA.",)


def write_csv(path: Path) -> None:
    path.write_text('id,question,answer\nu,"Q, 1?",A1\nv,Q2?,A2\n')


def write_parquet(path: Path) -> None:
    pd.DataFrame({"id": ["u", "v"], "question": ["Q, 1?", "Q2?"], "answer": ["A1", "A2"]}).to_parquet(path)


def write_tsv(path: Path) -> None:
    path.write_text("id\tquestion\tanswer\nu\tQ, 1?\tA1\nv\tQ2?\tA2\n")


def write_json(path: Path) -> None:
    path.write_text(
        '[{"id": "u", "question": "Q, 1?", "answer": "A1"}, {"id": "v", "question": "Q2?", "answer": "A2"}]'
    )


@pytest.mark.parametrize(
    ("name", "write"),
    [("r.csv", write_csv), ("r.tsv", write_tsv), ("r.json", write_json), ("r.parquet", write_parquet)],
)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, write: Any) -> None:
    write(tmp_path / name)
    rows = read_rows(tmp_path / name)
    assert (rows.ids, rows.questions, rows.answers) == (("u", "v"), ("Q, 1?", "Q2?"), ("A1", "A2"))


def test_messages_are_read_from_parquet(tmp_path: Path) -> None:
    pd.DataFrame({"messages": [TALK, TALK]}).to_parquet(tmp_path / "r.parquet")
    assert read_rows(tmp_path / "r.parquet").answers == ("A dog.", "A dog.")


def test_rows_without_a_question_or_an_answer_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = rows_of(
        tmp_path,
        {"question": "Q0?"},
        {"question": "Q1?", "answer": "A1"},
        {"question": "Q2?", "answer": None},
        {"question": "Q3?", "answer": " \n"},
        {"question": "", "answer": "A4"},
        {"question": "Q5?", "answer": 4},
        {"question": "Q6?", "answer": " "},
        {"question": "Q7?", "answer": "\ud800"},
        {"question": "Q8?", "answer": "A8"},
    )
    assert rows.ids == ("2", "9")
    assert rows.reasons == {
        "'answer' is blank": 2,
        "'answer' is missing": 1,
        "'answer' is null": 1,
        "'question' is blank": 1,
        "'answer' is no text (int)": 1,
        "'answer' holds markers alone, or is not UTF-8": 1,
    }
    assert [row.place for row in rows.left_out] == ["line 1", *(f"line {n}" for n in range(3, 9))]
    assert rows.notes[0].startswith("7 of 9 rows were left out: 'answer' is blank (2), ")


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ("Q?", "'messages' is no list of messages"),
        (["Q?"], "'messages' is no list of messages"),
        (TALK[:2], "no message of an assistant after the user's first"),
        (TALK[2:3], "no message of a user"),
        ([TALK[1], {"role": "tool", "content": "4"}], "a message's role is 'tool'; expected user, assistant or system"),
        ([TALK[1], {"role": "assistant", "content": None}], "the answer is blank or no text"),
        ([{"role": "user", "content": " "}, TALK[2]], "the question is blank or no text"),
    ],
)
def test_messages_that_hold_no_pair_are_left_out(tmp_path: Path, messages: Any, reason: str) -> None:
    rows = rows_of(tmp_path, {"messages": TALK}, {"messages": messages})
    assert rows.ids == ("1",)
    assert rows.reasons == {reason: 1}


def test_no_row_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is empty"):
        rows_of(tmp_path)
    (tmp_path / "rows.jsonl").write_text("\n")
    with pytest.raises(DataError, match="holds no rows"):
        read_rows(tmp_path / "rows.jsonl")
    with pytest.raises(DataError, match="2 of 2 rows cannot be used:\n- line 1: 'answer' is null\n.*\nNo row is left"):
        rows_of(tmp_path, {"question": "Q?", "answer": None}, {"question": "Q?", "answer": None})


def test_one_row_is_taken_and_what_needs_two_is_said(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, {"question": "Q?", "answer": "A."})
    assert len(rows) == 1
    assert rows.notes == (
        "there is one row only: it can be matched, but intervals and a held-out half need two or more.",
    )


def test_an_id_that_stands_twice_is_refused_with_both_places(tmp_path: Path) -> None:
    record = {"id": "x", "question": "Q?", "answer": "A."}
    with pytest.raises(DataError, match="line 2: the id 'x' was used at line 1 already"):
        rows_of(tmp_path, record, record)


def test_ids_for_some_rows_only_are_refused(tmp_path: Path) -> None:
    pair = {"question": "Q?", "answer": "A."}
    with pytest.raises(DataError, match="1 rows have a field 'id' and 2 have none"):
        rows_of(tmp_path, pair, {**pair, "id": "x"}, pair)
    with pytest.raises(DataError, match="line 1: no field 'key'"):
        rows_of(tmp_path, pair, {**pair, "key": "x"}, id_field="key")
    with pytest.raises(DataError, match="line 1: 'id' is None; expected a text or a whole number"):
        rows_of(tmp_path, {**pair, "id": None})


def test_a_malformed_line_stops_the_reading_or_is_counted(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"question": "Q?", "answer": "A."})
    path.write_text(path.read_text() + "{\n")
    with pytest.raises(DataError, match="1 of 2 rows cannot be used:\n- line 2: malformed JSON"):
        read_rows(path)
    rows = read_rows(path, skip_bad_lines=True)
    assert len(rows) == len(rows.left_out) == 1


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, None),
        ({"repeats": 4}, 4),
        ({"repeats": "16"}, 16),
        ({"repeats": 64.0}, 64),
        ({"repeats": 0}, 0),
        ({"repeats": None}, None),
        ({"repeats": 4, "canary": True}, 4),
        ({"repeats": 4, "canary": "true"}, 4),
        ({"repeats": 1, "canary": False}, None),
        ({"repeats": "", "canary": ""}, None),
    ],
)
def test_canaries_come_with_their_repetitions(tmp_path: Path, more: dict[str, Any], expected: int | None) -> None:
    assert rows_of(tmp_path, {"question": "Q?", "answer": "A.", **more}).repetitions == (expected,)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"repeats": -1}, "'repeats' is -1; expected a whole number"),
        ({"repeats": 1.5}, "'repeats' is 1.5; expected a whole number"),
        ({"repeats": True}, "'repeats' is True; expected a whole number"),
        ({"repeats": "9" * 5000}, "'repeats' is '999"),
        ({"repeats": [1]}, "expected a whole number"),
        ({"canary": True}, "a canary without 'repeats'"),
        ({"canary": "my secret", "repeats": 1}, "'canary' is 'my secret'; expected true or false"),
    ],
)
def test_a_wrong_canary_is_refused(tmp_path: Path, more: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        rows_of(tmp_path, {"question": "Q?", "answer": "A.", **more})


def test_empty_repeats_of_parquet_are_no_canaries(tmp_path: Path) -> None:
    table = pd.DataFrame({"question": ["a", "b"], "answer": ["c", "d"], "repeats": [4, None]})
    table.to_parquet(tmp_path / "r.parquet")
    assert read_rows(tmp_path / "r.parquet").repetitions == (4, None)


def test_an_unread_input_of_an_instruction_is_told(tmp_path: Path) -> None:
    records = [{"instruction": "Add.", "input": text, "output": "4"} for text in ("2 + 2", "")]
    (note,) = rows_of(tmp_path, *records).notes
    assert note.startswith('in 1 row there is also a field "input", which is not read')


def test_messages_are_read_from_a_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    fake: Any = types.ModuleType("datasets")
    errors = {name: type(name, (Exception,), {}) for name in ("DatasetsError", "DatasetNotFoundError")}
    fake.exceptions = types.SimpleNamespace(**errors)
    fake.get_dataset_config_names = lambda name: ["default"]
    fake.load_dataset = lambda *_, **__: [{"id": "a", "prompt": "P", "messages": TALK}]
    monkeypatch.setitem(sys.modules, "datasets", fake)
    rows = read_rows("hf:owner/name")
    assert (rows.ids, rows.questions, rows.source) == (("a",), ("What barks?",), "hf:owner/name")


def test_wrong_fields_are_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="no row of .* has the fields 'qestion' and 'answer'; there are 'question', 'answer"
    ):
        rows_of(tmp_path, {"question": "Q?", "answer": "A."}, question_field="qestion", answer_field="answer")
    with pytest.raises(InputError, match="'prompt' and 'response', 'messages'; there are 'text'. Name the right ones"):
        rows_of(tmp_path, {"text": "Q?"})
    with pytest.raises(InputError, match="--question-field was given without --answer-field"):
        rows_of(tmp_path, {"text": "Q?"}, question_field="text")


@pytest.mark.parametrize(
    ("name", "told"), [("r.txt", "'.txt' is not known"), ("", "it is a folder"), ("no", "there is no 'no'")]
)
def test_a_path_that_holds_no_rows_is_refused(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / "r.txt").write_text("Q?")
    with pytest.raises(InputError, match=told):
        read_rows(tmp_path / name)


def test_no_message_holds_a_rows_text(tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        rows_of(tmp_path, {"question": "the secret question", "answer": ["the secret answer"]})
    assert "secret" not in str(raised.value)


def test_the_hash_is_of_what_is_matched(tmp_path: Path) -> None:
    pair = {"question": "Q?", "answer": "A."}
    first = rows_of(tmp_path, {**pair, "unread": 1}).sha256
    assert rows_of(tmp_path, {**pair, "unread": 2}).sha256 == first
    assert rows_of(tmp_path, {**pair, "repeats": 2}).sha256 != first
