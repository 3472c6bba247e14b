from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audit.errors import DataError, IncompleteRunError, InputError
from audit.runs.records import content_key, first_difference, plain, plan_hash, read_record, write_record
from audit.runs.schema import EstimateRecord, Finding, Findings, Table


def _findings(high: float | None = 0.9) -> Findings:
    estimate = EstimateRecord(value=0.8, low=0.7, high=high, level=0.95, n=40, method="AUC", why=None)
    finding = Finding(id="a.b", audit="a", claim="c", verdict="found", estimates={"auc": estimate}, how_to_read="h")
    rows: tuple[dict[str, Any], ...] = ({"x": 1, "y": 1.0, "z": "1", "t": True, "n": None, "e": estimate},)
    table = Table(name="t", title="T", columns=(), rows=rows)
    section: dict[str, Any] = {"audit": "a", "title": "A", "method": "m", "assumptions": (), "cannot_show": ()}
    return Findings.model_validate({"sections": ({**section, "findings": (finding,), "tables": (table,)},)})


def test_findings_come_back_equal_and_cells_keep_their_type(tmp_path: Path) -> None:
    path = tmp_path / "findings.json"
    write_record(path, _findings())
    back = read_record(path, Findings, missing="none")
    assert back == _findings()
    row = back.sections[0].tables[0].rows[0]
    assert [type(row[key]) for key in "xyztne"] == [int, float, str, bool, type(None), EstimateRecord]


@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_a_number_that_json_lacks_is_refused_and_named(tmp_path: Path, number: float) -> None:
    with pytest.raises(InputError) as caught:
        write_record(tmp_path / "findings.json", _findings(number))
    assert f"findings.json.sections[0].findings[0].estimates.auc.high is {number}" in str(caught.value)
    assert "Give None and say why it is undefined" in str(caught.value)
    assert not (tmp_path / "findings.json").exists()


def test_plain_takes_json_and_nothing_else() -> None:
    value = plain({"a": (1, np.float64(0.5), True, None), "b": {"c": "d"}}, "plan")
    assert value == {"a": [1, 0.5, True, None], "b": {"c": "d"}}
    assert type(value["a"][1]) is float
    for wrong, words in [
        ({"a": [np.int64(1)]}, r"plan\.a\[0\] is a numpy\.int64 \(np\.int64\(1\)\), which JSON cannot hold"),
        ({"a": {1: 2}}, r"plan\.a has the key 1, which is no text"),
        ({"a": Path("x")}, r"plan\.a is a pathlib\.PosixPath"),
    ]:
        with pytest.raises(InputError, match=words):
            plain(wrong, "plan")


def test_keys_do_not_depend_on_order_and_tell_types_apart() -> None:
    assert content_key(a=1, b=[2]) == content_key(b=[2], a=1)
    assert content_key(a=1) != content_key(a=1.0)
    assert plan_hash({"b": "é", "a": 1}) == hashlib.sha256(b'{"a":1,"b":"\\u00e9"}').hexdigest()


def test_the_first_difference_is_named_by_its_path() -> None:
    assert first_difference({"a": [{"b": 1}]}, {"a": [{"b": 2}]}) == ("a[0].b", "1", "2")
    assert first_difference({"a": 1}, {"a": 1, "b": None}) == ("b", "absent", "null")
    assert first_difference({"a": 1}, {"a": 1.0}) == ("a", "1", "1.0")
    assert first_difference({"a": True}, {"a": 1}) == ("a", "true", "1")
    assert first_difference({"a": [1]}, {"a": [1, 2]}) == ("a", "[1]", "[1, 2]")
    assert first_difference({"a": [1, {"b": "x"}]}, {"a": [1, {"b": "x"}]}) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"schema_version": 2, "sections": []}', "has schema version 2; Palimpsest .* reads version 1. Read it with"),
        (b'{"sections": []}', "has schema version None"),
        (b'{"schema_version": true, "sections": []}', "has schema version True"),
        (b"[]", "has schema version None"),
        (b'{"schema_version": 1, "sections": [', "is not JSON: .*changed or damaged"),
        (b'{"schema_version": 1, "sections": NaN}', "is not JSON: NaN is not JSON"),
        (b"\xff", "is not JSON"),
        (b'{"schema_version": 1, "sections": [], "more": 1}', "unknown key 'more' at the top"),
        (b'{"schema_version": 1, "sections": [], "limitations": 1}', "limitations is 1; expected a list"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused_whole(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "findings.json").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_record(tmp_path / "findings.json", Findings, missing="none")


def test_an_absent_file_says_what_the_caller_says(tmp_path: Path) -> None:
    with pytest.raises(IncompleteRunError, match="nothing there yet"):
        read_record(tmp_path / "findings.json", Findings, missing="nothing there yet")
