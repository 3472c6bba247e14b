from __future__ import annotations

import csv
import json
import os
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest

from audit.errors import DataError, InputError, StorageError
from audit.text.tables import read_parquet, write_table


def _csv(path: Path) -> list[list[str]]:
    with path.open(newline="") as stream:
        return list(csv.reader(stream, strict=True))


def test_csv_marks_texts_that_a_spreadsheet_would_run_and_leaves_numbers(tmp_path: Path) -> None:
    cells = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "fine", "a=b", "", None]
    table = pa.table({"=name": cells, "number": [-1.5] * 10, "kind": pa.array(["-x"] * 10).dictionary_encode()})
    write_table(tmp_path / "a.csv", table)
    rows = _csv(tmp_path / "a.csv")
    assert rows[0] == ["'=name", "number", "kind"]
    assert [row[0] for row in rows[1:]] == [
        *("'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\tx", "'\rx"),
        *("fine", "a=b", "", ""),
    ]
    assert {row[1] for row in rows[1:]} == {"-1.5"}
    assert {row[2] for row in rows[1:]} == {"'-x"}


def test_csv_quotes_commas_quotes_and_line_ends(tmp_path: Path) -> None:
    text = 'one, "two"\nthree\u2028'
    write_table(tmp_path / "a.csv", pa.table({"text": [text]}))
    assert _csv(tmp_path / "a.csv") == [["text"], [text]]


def test_jsonl_is_one_object_on_each_line(tmp_path: Path) -> None:
    table = pa.table({"text": ["=a\nb\u2028", None], "n": [1, 2], "when": [datetime(2026, 1, 2), None], "l": [[1], []]})
    write_table(tmp_path / "a.jsonl", table)
    lines = (tmp_path / "a.jsonl").read_bytes().split(b"\n")
    assert lines.pop() == b""
    assert [json.loads(line) for line in lines] == [
        {"text": "=a\nb\u2028", "n": 1, "when": "2026-01-02T00:00:00", "l": [1]},
        {"text": None, "n": 2, "when": None, "l": []},
    ]


@pytest.mark.parametrize("column", [[1.0, float("nan")], [[1.0], [float("inf")]]])
def test_jsonl_refuses_numbers_that_json_lacks(tmp_path: Path, column: list[object]) -> None:
    with pytest.raises(InputError, match="row 2.*Choose|row 2.*choose"):
        write_table(tmp_path / "a.jsonl", pa.table({"x": column}))
    assert os.listdir(tmp_path) == []


def test_parquet_comes_back_equal_and_damage_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"x": list(range(1000)), "t": ["=a"] * 1000})
    write_table(path, table)
    assert read_parquet(path).equals(table)
    assert read_parquet(path, ["t"]).column_names == ["t"]
    with pytest.raises(InputError, match=r"has no column 'tt'; it has x, t\. Did you mean 't'\?|has no column 'tt'"):
        read_parquet(path, ["tt"])
    with pytest.raises(InputError, match=r": it is a folder\. Give a parquet file"):
        read_parquet(tmp_path)
    content = bytearray(path.read_bytes())
    content[60] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="could not read .*damaged: restore"):
        read_parquet(path)


def test_what_cannot_be_written_is_refused_with_a_way_out(tmp_path: Path) -> None:
    table = pa.table({"x": [[1]], "b": [b"1"]})
    with pytest.raises(InputError, match=r"as \.xlsx; name it \*\.parquet, \*\.jsonl or \*\.csv"):
        write_table(tmp_path / "a.xlsx", table)
    with pytest.raises(InputError, match=r"column 'x' holds list<.*Choose \.parquet"):
        write_table(tmp_path / "a.csv", table)
    with pytest.raises(InputError, match="row 1: JSON cannot hold it: a value of type bytes"):
        write_table(tmp_path / "a.jsonl", table)
    with pytest.raises(InputError, match="column 'x' stands more than once"):
        write_table(tmp_path / "a.csv", pa.table([[1], [2]], names=["x", "x"]))
    with pytest.raises(StorageError, match="its folder does not exist"):
        write_table(tmp_path / "absent" / "a.csv", pa.table({"x": [1]}))
    assert os.listdir(tmp_path) == []
