from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.errors import AuditError, DataError, InputError, MissingDependencyError
from audit.text.readers import TextTable, read_texts
from audit.text.rows import jsonl_rows
from audit.text.tables import read_parquet, write_table

BOM = b"\xef\xbb\xbf"


def _file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _message(kind: type[AuditError], source: str | Path, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        read_texts(source, **options)
    assert type(caught.value) is kind
    return str(caught.value)


def _reasons(table: TextTable) -> list[tuple[int, str]]:
    return [(bad.line, bad.reason) for bad in table.bad]


# Round trips and the formats


texts_strategy = st.lists(
    st.text(alphabet=st.characters(exclude_categories=["Cs"])).filter(lambda text: bool(text.strip())), min_size=1
)


@given(texts=texts_strategy)
@settings(deadline=None, max_examples=40)
@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.csv"])
def test_texts_written_and_read_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, name: str, texts: list[str]
) -> None:
    path = tmp_path_factory.mktemp("trip") / name
    ids = [f"i{number}" for number in range(len(texts))]
    if name == "a.csv":  # marks formulas, and has no escape for a NUL
        texts = ["x" + text.replace("\0", "") for text in texts]
    kept = texts
    write_table(path, pa.table({"id": ids, "text": kept}))
    table = read_texts(path)
    assert list(table.texts) == kept
    assert list(table.ids) == ids
    assert table.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"text": "one", "n": 1}\n\n{"text": "two"}'),
        ("a.jsonl", BOM + b'{"text": "one"}\r\n{"text": "two"}\r\n'),
        ("a.jsonl.gz", gzip.compress(BOM + b'{"text": "one"}\n{"text": "two"}\n', mtime=0)),
        ("A.JSONL", b'{"text": "one"}\n{"text": "two"}\n'),
        ("a.json", BOM + b'[{"text": "one"},\n {"text": "two"}]'),
        ("a.csv", BOM + b'text,n\r\none,1\r\n"two",2'),
        ("a.csv.gz", gzip.compress(b"text\none\n\ntwo\n", mtime=0)),
        ("a.tsv", b"n\ttext\n1\tone\n\n2\ttwo\n"),
    ],
)
def test_each_format_gives_the_same_texts(tmp_path: Path, name: str, content: bytes) -> None:
    path = _file(tmp_path, name, content)
    table = read_texts(path)
    assert table.texts == ("one", "two")
    assert len(table) == 2
    assert table.bad == ()
    assert table.source == str(path)
    assert table.sha256 == hashlib.sha256(content).hexdigest()


def test_default_ids_say_where_the_record_stands(tmp_path: Path) -> None:
    assert read_texts(_file(tmp_path, "a.jsonl", '{"text": "a"}\n\n{"text": "b"}\n')).ids == ("1", "3")
    assert read_texts(_file(tmp_path, "a.csv", 'text\n"a\nb"\nc\n')).ids == ("2", "4")
    assert read_texts(_file(tmp_path, "a.json", '[{"text": "a"}, {"text": "b"}]')).ids == ("1", "2")


def test_ids_are_taken_from_the_file_when_it_has_them(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.jsonl", '{"id": 7, "key": "k", "text": "a"}\n{"id": "x", "key": 2, "text": "b"}\n')
    assert read_texts(path).ids == ("7", "x")
    assert read_texts(str(path), id_field="key").ids == ("k", "2")


def test_line_separators_of_unicode_do_not_cut_lines(tmp_path: Path) -> None:
    text = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"
    jsonl = _file(tmp_path, "a.jsonl", json.dumps({"text": text}, ensure_ascii=False) + "\n")
    assert read_texts(jsonl).texts == (text,)
    assert read_texts(_file(tmp_path, "a.csv", f"text\n{text}\n")).texts == (text,)
    assert read_texts(_file(tmp_path, "a.txt", f"{text}\nnext\n"), unit="line").texts == (text, "next")


def test_long_csv_cells_are_read_and_the_process_wide_limit_is_put_back(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    text = "x" * 300_000
    assert read_texts(_file(tmp_path, "a.csv", f"text\n{text}\n"), limit=1).texts == (text,)
    assert csv.field_size_limit() == before


def test_quoted_line_ends_in_csv_stay_as_they_are(tmp_path: Path) -> None:
    assert read_texts(_file(tmp_path, "a.csv", 'text\r\n"a\r\nb\nc"\r\n')).texts == ("a\r\nb\nc",)


def test_limit_stops_and_does_not_look_further(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.jsonl", '{"text": "a"}\n{"text": "b"}\nnot json\n')
    table = read_texts(path, limit=2)
    assert table.texts == ("a", "b")
    assert table.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "limit is 0; expected 1 or more" in _message(InputError, path, limit=0)


# Plain text


def test_a_text_file_is_one_text_or_its_lines_or_its_paragraphs(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.txt", BOM + b"one\r\n two\r\n\r\n \r\nthree\nfour")
    assert read_texts(path).texts == ("one\n two\n\n \nthree\nfour",)
    assert read_texts(path).ids == ("a.txt",)
    lines = read_texts(path, unit="line")
    assert (lines.ids, lines.texts) == (("1", "2", "5", "6"), ("one", " two", "three", "four"))
    paragraphs = read_texts(path, unit="paragraph")
    assert (paragraphs.ids, paragraphs.texts) == (("1", "5"), ("one\n two", "three\nfour"))


def test_a_folder_is_read_in_order_of_path_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.txt", "sub/a.TXT", "a.txt", ".hidden.txt", ".git/c.txt", "notes.md"):
        _file(tmp_path, name, f"text of {name}\nmore\n")
    _file(tmp_path, "z.txt.gz", gzip.compress(b"packed\n"))
    table = read_texts(tmp_path)
    assert table.ids == ("a.txt", "b.txt", "sub/a.TXT", "z.txt.gz")
    assert table.texts[2:] == ("text of sub/a.TXT\nmore\n", "packed\n")
    files = ["a.txt", "b.txt", "sub/a.TXT", "z.txt.gz"]
    lines = "".join(f"{hashlib.sha256((tmp_path / f).read_bytes()).hexdigest()}  {f}\n" for f in files)
    assert table.sha256 == hashlib.sha256(lines.encode()).hexdigest()
    assert read_texts(tmp_path, unit="line").ids[:3] == ("a.txt:1", "a.txt:2", "b.txt:1")


def test_a_bad_file_in_a_folder_is_named(tmp_path: Path) -> None:
    _file(tmp_path, "a.txt", "fine")
    _file(tmp_path, "b.txt", b"one\ntw\xffo\n")
    _file(tmp_path, "c.txt", "")
    message = _message(DataError, tmp_path)
    assert "2 of 3 records cannot be used" in message
    assert "b.txt, line 2: byte 0xff at offset 6 of the file's text is not UTF-8" in message
    assert "c.txt: 'text' is empty" in message
    table = read_texts(tmp_path, unit="line", skip_bad_lines=True)
    assert table.ids == ("a.txt:1", "b.txt:1")
    assert _reasons(table) == [(2, "byte 0xff at offset 6 of the file's text is not UTF-8")]


def test_folders_without_texts_are_refused(tmp_path: Path) -> None:
    assert "is a folder without .txt files: it holds no files" in _message(InputError, tmp_path)
    _file(tmp_path, "a.md", "x")
    assert "it holds files named *.md. Give a folder of .txt files" in _message(InputError, tmp_path)
    _file(tmp_path, "a.txt", "x")
    assert ".txt has no fields, so there is no 'key'" in _message(InputError, tmp_path, id_field="key")
    assert "unit is 'word'; expected 'file', 'line' or 'paragraph'" in _message(InputError, tmp_path, unit="word")


def test_a_nul_is_bad_input_with_its_line(tmp_path: Path) -> None:
    reason = "byte 0x00 at offset {} of the file's text is a NUL; is it UTF-16? Save it as UTF-8"
    whole = _message(DataError, _file(tmp_path, "whole.txt", "one\ntwo".encode("utf-16-le")))
    assert "whole.txt, line 1: " + reason.format(1) in whole
    lines = read_texts(_file(tmp_path, "a.txt", b"one\nt\0wo\nthree\n"), unit="line", skip_bad_lines=True)
    assert (lines.texts, _reasons(lines)) == (("one", "three"), [(2, reason.format(5))])
    cells = read_texts(_file(tmp_path, "a.csv", b"text\none\nt\0wo\n"), skip_bad_lines=True)
    assert (cells.texts, _reasons(cells)) == (("one",), [(3, "line 3: " + reason.format(10))])
    assert "is it UTF-16?" in _message(DataError, _file(tmp_path, "h.csv", "text\none\n".encode("utf-16-be")))
    assert "is it UTF-16?" in _message(DataError, _file(tmp_path, "a.jsonl", '{"text": "a"}\n'.encode("utf-16-le")))
    assert read_texts(_file(tmp_path, "e.jsonl", '{"text": "a\\u0000b"}\n')).texts == ("a\0b",)


def test_a_file_that_cannot_be_read_is_one_bad_record_of_its_folder(tmp_path: Path) -> None:
    _file(tmp_path, "a.txt", "fine")
    (tmp_path / "b.txt").symlink_to("nowhere")
    _file(tmp_path, "c.txt", "wide".encode("utf-16"))
    _file(tmp_path, "d.txt.gz", gzip.compress(os.urandom(100_000).hex().encode())[:-20])
    message = _message(DataError, tmp_path, unit="line")
    assert "3 of 4 records cannot be used:\n- b.txt: could not read" in message
    table = read_texts(tmp_path, unit="line", skip_bad_lines=True)
    assert table.ids == ("a.txt:1",)
    assert [bad.place for bad in table.bad] == ["b.txt", "c.txt", "d.txt.gz"]
    assert "is UTF-16 or UTF-32" in table.bad[1].reason
    assert "is cut off" in table.bad[2].reason
    lines = [
        f"{hashlib.sha256((tmp_path / f).read_bytes()).hexdigest()}  {f}\n" for f in ("a.txt", "c.txt", "d.txt.gz")
    ]
    assert table.sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_a_path_that_is_not_utf8_is_read_whatever_its_format(tmp_path: Path) -> None:
    folder = tmp_path / "d\udcff"
    folder.mkdir()
    write_table(tmp_path / "a.parquet", pa.table({"id": ["k"], "text": ["a"]}))
    (tmp_path / "a.parquet").rename(folder / "a.parquet")
    assert read_parquet(folder / "a.parquet").num_rows == 1
    _file(folder, "a.jsonl", '{"id": "k", "text": "a"}\n')
    for name in ("a.parquet", "a.jsonl"):
        assert read_texts(folder / name).texts == ("a",)


def test_a_file_name_that_is_not_utf8_is_a_bad_record(tmp_path: Path) -> None:
    _file(tmp_path, "a.txt", "fine")
    Path(os.fsdecode(bytes(tmp_path) + b"/b\xff.txt")).write_text("x")
    assert "the name of the file is not UTF-8. Rename it" in _message(DataError, tmp_path)
    assert read_texts(tmp_path, skip_bad_lines=True).ids == ("a.txt",)


def test_an_address_is_not_fetched(tmp_path: Path) -> None:
    message = _message(InputError, "https://example.org/a.jsonl")
    assert "https://example.org/a.jsonl is an address, and nothing is fetched" in message
    assert "Download the file" in message


def test_a_text_without_identifier_is_named_by_its_place(tmp_path: Path) -> None:
    table = read_texts(_file(tmp_path, "a.jsonl", '{"text": "a"}\n'))
    assert (table.ids, table.names) == (("1",), ("line 1",))
    assert read_texts(_file(tmp_path, "b.jsonl", '{"id": "k", "text": "a"}\n')).names == ("k",)
    assert read_texts(_file(tmp_path, "c.txt", "a\n"), unit="line").names == ("line 1",)


# Bad records


JSONL_BAD = [
    ('{"text": "a"', "malformed JSON: Expecting ',' delimiter at column 13"),
    ('{"text": NaN}', "malformed JSON: NaN is not JSON"),
    ('{"text": "a", "text": "b"}', "malformed JSON: field 'text' stands more than once"),
    ('["a"]', "a list, not an object with fields"),
    ('"a"', "a text, not an object with fields"),
    ("3", "a number, not an object with fields"),
    ("null", "null, not an object with fields"),
    ('{"txt": "a"}', "no field 'text'; it has 'txt'"),
    ("{}", "no field 'text'; it has none"),
    ('{"text": 5}', "'text' is 5 (int), not a text"),
    ('{"text": ["a"]}', "'text' is ['a'] (list), not a text"),
    ('{"text": null}', "'text' is null"),
    ('{"text": ""}', "'text' is empty"),
    ('{"text": " \\n\\u2003"}', "'text' is blank"),
    ('{"text": "a\\ud800"}', r"character 2 of 'text' is half of a surrogate pair ('\ud800')"),
    ("[" * 100_000, "JSON nested too deeply"),
    ('{"n": ' + "9" * 5000 + "}", "malformed JSON: Exceeds the limit (4300 digits)"),
]


@pytest.mark.parametrize(("line", "reason"), JSONL_BAD, ids=[reason for _, reason in JSONL_BAD])
def test_a_bad_line_stops_the_reading_or_is_recorded(tmp_path: Path, line: str, reason: str) -> None:
    path = _file(tmp_path, "a.jsonl", f'{{"text": "first"}}\n{line}\n{{"text": "last"}}\n')
    message = _message(DataError, path)
    assert "1 of 3 records cannot be used:\n- line 2: " + reason in message
    assert message.endswith("leave them out with --skip-bad-lines: they are then counted and listed in the run.")
    table = read_texts(path, skip_bad_lines=True)
    assert table.texts == ("first", "last")
    assert table.ids == ("1", "3")
    assert [bad.line for bad in table.bad] == [2]
    assert table.bad[0].reason.startswith(reason)


def test_invalid_utf8_is_located_by_line_and_byte(tmp_path: Path) -> None:
    content = BOM + b'{"text": "\xc3\xa9"}\n{"text": "a\xff"}\n'
    path = _file(tmp_path, "a.jsonl", content)
    assert f"line 2: byte 0xff at offset {content.index(0xFF)} of the file's text" in _message(DataError, path)
    table_file = _file(tmp_path, "a.csv", b'text\nfine\n"two\nli\xffnes"\nlast\n')
    table = read_texts(table_file, skip_bad_lines=True)
    assert table.texts == ("fine", "last")
    assert _reasons(table) == [(3, "line 4: byte 0xff at offset 17 of the file's text is not UTF-8")]
    assert table.bad[0].place == "lines 3 to 4"


def test_five_bad_lines_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.jsonl", '{"text": "a"}\n' + "nonsense\n" * 12)
    message = _message(DataError, path)
    assert "12 of 13 records" in message
    assert "- line 6: malformed" in message
    assert "line 7" not in message
    assert "- and 7 more" in message


def test_no_good_line_left_is_an_error_even_when_skipping(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.jsonl", '{"text": ""}\n')
    assert "No text is left; mend the file." in _message(DataError, path, skip_bad_lines=True)


def test_repeated_and_wrong_identifiers_are_bad(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"id": 1},
        {"id": "1"},
        {"id": None},
        {"id": 1.5},
        {"id": True},
        {"id": " "},
        {},
        {"id": "\udc00"},
    ]
    path = _file(tmp_path, "a.jsonl", "".join(json.dumps({**line, "text": "a"}) + "\n" for line in lines))
    table = read_texts(path, skip_bad_lines=True)
    assert table.ids == ("1",)
    assert sorted(_reasons(table)) == [
        (2, "'id' '1' was used at line 1 already"),
        (3, "'id' is None; expected a text or a whole number"),
        (4, "'id' is 1.5; expected a text or a whole number"),
        (5, "'id' is True; expected a text or a whole number"),
        (6, "'id' is empty"),
        (7, "no field 'id', which other records have"),
        (8, r"character 1 of 'id' is half of a surrogate pair ('\udc00')"),
    ]


def test_skipping_never_leaves_out_the_greater_part_for_want_of_an_identifier(tmp_path: Path) -> None:
    stray = '{"id": "x", "text": "a"}\n'
    path = _file(tmp_path, "a.jsonl", stray + '{"text": "b"}\n' * 3)
    message = _message(DataError, path, skip_bad_lines=True)
    assert "3 records have no field 'id' and 1 have one" in message
    assert "Give every record one, or none" in message
    path = _file(tmp_path, "a.jsonl", stray + stray.replace('"x"', '"y"') + '{"text": "b"}\n')
    assert read_texts(path, skip_bad_lines=True).ids == ("x", "y")


def test_a_json_list_in_a_jsonl_file_is_told_its_name(tmp_path: Path) -> None:
    for content in ('[{"text": "a"}]', '[\n{"text": "a"}\n]\n'):
        message = _message(DataError, _file(tmp_path, "a.jsonl", content))
        assert "(where the whole file is one JSON list, name it *.json)" in message
    assert "*.json)" not in _message(DataError, _file(tmp_path, "a.jsonl", '{"text": "a"}\n[1]\n'))


def test_a_table_with_another_delimiter_is_told_so(tmp_path: Path) -> None:
    message = _message(InputError, _file(tmp_path, "a.csv", "id;text\n1;a\n"))
    assert "the header 'id;text' is a single column; its delimiter seems to be ';', not ','" in message
    assert "Did you mean" not in message
    assert "its delimiter seems to be ',', not '\\t'" in _message(
        InputError, _file(tmp_path, "a.tsv", "id,text\n1,a\n")
    )
    assert read_texts(_file(tmp_path, "b.csv", "id;text\na\n"), field="id;text").texts == ("a",)


def test_a_missing_field_lists_those_that_exist_nearest_first(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.jsonl", '{"content": "a", "label": 1}\n{"contents": "b"}\n')
    message = _message(InputError, path, field="contnet")
    assert "has no field 'contnet'; it has 'content', 'contents', 'label'. Did you mean 'content'?" in message
    for name, content in {"a.csv": "id,body\n1,x\n", "a.json": '[{"id": 1, "body": "x"}]'}.items():
        message = _message(InputError, _file(tmp_path, name, content), field="bod")
        assert "has no field 'bod'; it has 'body', 'id'. Did you mean 'body'?" in message
        assert "no field 'key'" in _message(InputError, tmp_path / name, field="body", id_field="key")


# CSV


def test_ragged_and_malformed_csv_rows_are_bad(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.csv", 'text,n\na,1\nb\nc,2,3\n"d"x,4\n"e\nf",5\ng\rh,6\ni,7\n')
    table = read_texts(path, skip_bad_lines=True)
    assert table.texts == ("a", "e\nf", "i")
    assert table.ids == ("2", "6", "9")
    assert _reasons(table)[:3] == [
        (3, "1 cells; the header has 2"),
        (4, "3 cells; the header has 2"),
        (5, "malformed CSV: ',' expected after '\"'"),
    ]
    assert table.bad[3].line == 8
    assert "malformed CSV: new-line character seen in unquoted field" in table.bad[3].reason


def test_a_quote_that_never_closes_cannot_be_skipped(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.csv", 'text\nfine\n"open\nlost\nlost too\n')
    message = _message(DataError, path, skip_bad_lines=True)
    assert "a.csv, line 3: a quote is opened and never closed" in message


def test_a_csv_header_must_be_sound(tmp_path: Path) -> None:
    assert "the header names 'text' twice" in _message(DataError, _file(tmp_path, "a.csv", "text,text\na,b\n"))
    assert "the header cannot be read: line 1: byte 0xff" in _message(DataError, _file(tmp_path, "a.csv", b"te\xff\na"))
    assert "holds no records" in _message(DataError, _file(tmp_path, "a.csv", "text\n"))


# Parquet


def test_parquet_rows_are_checked_like_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = pa.array(["a", None, "", "b"]).dictionary_encode()
    pq.write_table(pa.table({"text": texts, "id": [1, 2, 3, 1], "other": [b"x"] * 4}), path)
    table = read_texts(path, skip_bad_lines=True)
    assert (table.ids, table.texts) == (("1",), ("a",))
    assert _reasons(table) == [
        (2, "'text' is null"),
        (3, "'text' is empty"),
        (4, "'id' '1' was used at row 1 already"),
    ]
    assert "column 'other' holds binary; expected texts" in _message(InputError, path, field="other")
    assert "has no field 'texts'; it has 'text'" in _message(InputError, path, field="texts")
    assert "has no field 'key'" in _message(InputError, path, id_field="key")


def test_parquet_with_bytes_that_are_not_utf8_names_the_row(tmp_path: Path) -> None:
    raw = pa.array([b"fine", b"a\xff"], pa.binary())
    pq.write_table(pa.table({"text": pa.Array.from_buffers(pa.string(), 2, raw.buffers())}), tmp_path / "a.parquet")
    assert "row 2: byte 0xff at offset 1 of the text is not UTF-8" in _message(DataError, tmp_path / "a.parquet")
    table = read_texts(tmp_path / "a.parquet", skip_bad_lines=True)
    assert (table.ids, table.texts) == (("1",), ("fine",))


def test_damaged_parquet_is_told(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", pa.table({"text": [f"text {n}" for n in range(100)]}))
    whole = (tmp_path / "a.parquet").read_bytes()
    flipped = bytearray(whole)
    flipped[100] ^= 1
    for content in (whole[:-10], whole[10:], b"PAR1", b"text\n", bytes(flipped)):
        message = _message(DataError, _file(tmp_path, "b.parquet", content))
        assert "Copy or download it again." in message


# Whole files


def test_a_wrong_path_names_the_nearest(tmp_path: Path) -> None:
    _file(tmp_path, "data/members.jsonl", '{"text": "a"}')
    message = _message(InputError, tmp_path / "data" / "member.jsonl")
    assert f"there is no 'member.jsonl' in {tmp_path / 'data'}. Did you mean 'members.jsonl'?" in message
    assert "there is no 'dat' in" in _message(InputError, tmp_path / "dat" / "members.jsonl")
    assert "Did you mean 'data'?" in _message(InputError, tmp_path / "dat" / "members.jsonl")
    assert "there is no 'x'" in _message(InputError, tmp_path / "data" / "members.jsonl" / "x")


def test_a_relative_path_that_is_absent_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _file(tmp_path, "notes.txt", "a")
    assert "there is no 'note.txt' in the working folder. Did you mean 'notes.txt'?" in _message(InputError, "note.txt")
    assert read_texts("notes.txt").source == "notes.txt"


def test_empty_files_are_refused(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.txt", "a.parquet", "a.csv"):
        assert "is empty. Give a file with at least one text" in _message(DataError, _file(tmp_path, name, ""))
    for name in ("a.jsonl", "a.csv"):
        assert "holds no records" in _message(DataError, _file(tmp_path, name, "\n\n"))
    assert "holds no records" in _message(DataError, _file(tmp_path, "a.json", "[]"))
    assert "'text' is blank" in _message(DataError, _file(tmp_path, "a.txt", "\n"))


def test_files_of_another_kind_are_told_apart(tmp_path: Path) -> None:
    message = _message(InputError, _file(tmp_path, "a.docx", "x"))
    assert "the extension '.docx' is not known; expected one of .jsonl, .json, .csv" in message
    utf16 = _file(tmp_path, "a.jsonl", '{"text": "a"}'.encode("utf-16"))
    assert "is UTF-16 or UTF-32. Save it as UTF-8." in _message(DataError, utf16)
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert "is a device or a pipe" in _message(InputError, tmp_path / "pipe.jsonl")


def test_json_documents_that_are_no_list_are_told(tmp_path: Path) -> None:
    cases = {
        '{"text": "a"}': "holds an object; expected a list of objects",
        '{"text": "a"}\n{"text": "b"}': "Extra data. Is it JSON Lines? Then name it *.jsonl.",
        '[{"text": "a"},\n{"text" 1}]': "a.json, line 2: malformed JSON",
        "[NaN]": "NaN is not JSON",
    }
    for content, words in cases.items():
        assert words in _message(DataError, _file(tmp_path, "a.json", content))
    message = _message(DataError, _file(tmp_path, "a.json", b'[\n"\xff"]'))
    assert "line 2: byte 0xff at offset 3 is not UTF-8" in message
    assert "item 2: a number, not an object" in _message(DataError, _file(tmp_path, "a.json", '[{"text": "a"}, 3]'))


def test_gzip_that_is_cut_off_or_none_is_told(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"text": f"text {number}"}) + "\n" for number in range(1000)).encode()
    packed = gzip.compress(lines)
    assert "is cut off" in _message(DataError, _file(tmp_path, "a.jsonl.gz", packed[:-20]))
    assert "is not sound gzip" in _message(DataError, _file(tmp_path, "a.jsonl.gz", lines))
    damaged = bytearray(packed)
    damaged[len(packed) // 2] ^= 0xFF
    message = _message(DataError, _file(tmp_path, "a.jsonl.gz", bytes(damaged)), skip_bad_lines=True)
    assert "Copy or download it again." in message


def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _file(tmp_path, "a.jsonl", '{"text": "a"}\n')
    original = jsonl_rows

    def rows_while_it_grows(source: Path) -> Iterator[Any]:
        yield from original(source)
        path.write_text('{"text": "a"}\n{"text": "b"}\n')

    monkeypatch.setattr("audit.text.readers.jsonl_rows", rows_while_it_grows)
    assert "changed while it was read" in _message(DataError, path)


def test_a_file_without_permission_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's refusal is imitated, because root may read everything."""
    path = _file(tmp_path, "a.jsonl", '{"text": "a"}\n')

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert f"could not read {path}: Permission denied. Check its permissions." in _message(InputError, path)


# Hugging Face


class _NotFoundError(Exception):
    pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """A stand-in for ``datasets`` with one dataset; returns the calls that were made."""
    calls: list[tuple[Any, ...]] = []
    fake = types.ModuleType("datasets")
    fake.exceptions = types.SimpleNamespace(DatasetNotFoundError=_NotFoundError, DatasetsError=_NotFoundError)  # type: ignore[attr-defined]

    def configs(name: str) -> list[str]:
        if name != "owner/name":
            raise _NotFoundError(f"Dataset '{name}' doesn't exist")
        return ["en", "de"]

    def load(name: str, config: str | None, *, split: str, streaming: bool) -> Iterator[dict[str, Any]]:
        calls.append((name, config, split, streaming))
        if split == "absent":
            raise ValueError("Bad split: absent. Available splits: ['train']")
        return iter([{"text": "a", "n": 1}, {"text": "b", "n": 2}])

    fake.get_dataset_config_names = configs  # type: ignore[attr-defined]
    fake.load_dataset = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", fake)
    return calls


def test_hub_names_are_taken_apart(hub: list[tuple[Any, ...]]) -> None:
    for suffix in ("", ":en", ":test", ":de:test", "::test"):
        table = read_texts(f"hf:owner/name{suffix}")
        assert (table.ids, table.texts, table.source) == (("1", "2"), ("a", "b"), f"hf:owner/name{suffix}")
        assert table.sha256 == hashlib.sha256(b'["1", "a"]\n["2", "b"]\n').hexdigest()
    assert hub == [
        ("owner/name", None, "train", True),
        ("owner/name", "en", "train", True),
        ("owner/name", None, "test", True),
        ("owner/name", "de", "test", True),
        ("owner/name", None, "test", True),
    ]


def test_hub_errors_are_told(hub: list[tuple[Any, ...]]) -> None:
    assert "expected hf:owner/name, hf:owner/name:split" in _message(InputError, "hf:name")
    assert "doesn't exist. Check the name" in _message(InputError, "hf:owner/other")
    assert "Bad split: absent" in _message(DataError, "hf:owner/name:absent")
    assert "has no field 'body'; it has 'n', 'text'" in _message(InputError, "hf:owner/name", field="body")


def test_a_missing_package_gives_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    message = _message(MissingDependencyError, "hf:owner/name")
    assert "pip install 'palimpsest-audit[utility]'" in message


def test_reading_texts_loads_no_torch() -> None:
    script = "import sys, audit.text.readers, audit.text.tables, audit.runs.listing; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
