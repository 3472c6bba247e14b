"""Corpora as pieces: formats, cuts, escapes and what is wrong with a file."""

from __future__ import annotations

import gzip
import html
import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import audit.traps.scan.pieces
import audit.traps.scan.shards
from audit.errors import DataError, InputError
from audit.traps.scan.pieces import Piece, Reading, pieces
from audit.traps.scan.shards import Part, plan_corpus
from audit.traps.scan.units import Scanner, ScanPlan

PATIENT = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
Corpus = Callable[..., Path]


def parts_of(*corpus: Path) -> list[Part]:
    return [part for unit in plan_corpus(corpus).units for part in unit]


def read(part: Part, *, overlap: int = 3, **options: str) -> tuple[list[Piece], Reading]:
    reading = Reading()
    settings_ = {"field": "text", "id_field": None} | options
    return list(pieces(part, reading, overlap=overlap, **settings_)), reading


def joined(found: list[Piece]) -> str:
    """The text that pieces came from; parts that overlap must agree."""
    text = ""
    for piece in found:
        assert piece.start <= len(text)
        assert text[piece.start :] == piece.text[: len(text) - piece.start]
        text += piece.text[len(text) - piece.start :]
    return text


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cuts that are met by texts of a few characters."""
    monkeypatch.setattr(audit.traps.scan.pieces, "PIECE", 5)
    monkeypatch.setattr(audit.traps.scan.pieces, "_BLOCK", 4)


@pytest.mark.usefixtures("small_pieces")
@PATIENT
@given(text=st.text(alphabet="ab\r\né🦊", max_size=60), overlap=st.integers(0, 9))
def test_pieces_of_a_plain_text_are_the_text_with_crlf_as_lf(tmp_path: Path, text: str, overlap: int) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode())
    found, reading = read(parts_of(path)[0], overlap=overlap)
    assert joined(found) == text.replace("\r\n", "\n")
    assert max(len(piece.text) for piece in found) <= 5 + overlap
    assert (reading.n_texts, len({piece.line for piece in found})) == (1, 1)
    assert found[0].whole == (len(found) == 1)


@pytest.mark.usefixtures("small_pieces")
@PATIENT
@given(text=st.text(alphabet="ab\r\né🦊", min_size=1, max_size=60).filter(str.strip), overlap=st.integers(0, 9))
def test_a_run_as_long_as_the_overlap_and_one_lies_whole_in_a_piece(tmp_path: Path, text: str, overlap: int) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": text}), encoding="utf-8")
    found, _ = read(parts_of(path)[0], overlap=overlap)
    assert joined(found) == text
    for at in range(len(text) - overlap):
        run = text[at : at + overlap + 1]
        assert any(piece.text[at - piece.start :].startswith(run) for piece in found if piece.start <= at)


@PATIENT
@given(
    rows=st.lists(st.one_of(st.just(""), st.just("{bad"), st.text(alphabet="ab é\n", min_size=1)), max_size=30),
    step=st.integers(1, 40),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_ranges_of_a_file_hold_every_line_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[str], step: int, end: str
) -> None:
    path = tmp_path / "a.jsonl"
    lines = [row if row in ("", "{bad") else json.dumps({"text": row}, ensure_ascii=False) for row in rows]
    path.write_bytes(("\ufeff" if step % 2 else "").encode() + end.join(lines).encode())
    monkeypatch.setattr(audit.traps.scan.shards, "_RANGE", 10**9)
    whole, of_whole = read(parts_of(path)[0])
    monkeypatch.setattr(audit.traps.scan.shards, "_RANGE", step)
    found: list[tuple[int, str]] = []
    before = n_bad = 0
    for part in parts_of(path):
        own, reading = read(part)
        found += [(before + piece.line, piece.text) for piece in own]
        before += reading.n_lines
        n_bad += reading.n_bad
    assert found == [(piece.line, piece.text) for piece in whole]
    assert n_bad == of_whole.n_bad


def escaped(text: str, ways: list[int]) -> str:
    """``text`` as a JSON string in which each character is spelt in one of the ways that JSON has for it."""
    short = {"\n": "\\n", '"': '\\"', "\\": "\\\\", "/": "\\/", "\t": "\\t", "\r": "\\r", "\b": "\\b", "\f": "\\f"}
    spelt = []
    for character, way in zip(text, ways, strict=False):
        units = character.encode("utf-16-be")
        unicode = "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
        must = character in '"\\' or character < " "
        choices = [*([] if must else [character]), *([short[character]] if character in short else []), unicode]
        spelt.append(choices[way % len(choices)])
    return '"' + "".join(spelt) + '"'


@PATIENT
@given(st.data())
def test_a_trap_is_found_however_json_spells_it(tmp_path: Path, data: st.DataObject) -> None:
    """Against json.loads and `in`: the trap's letters stand in the file as such, as \\n, as \\/ or as \\u00e9."""
    letters = st.text(alphabet='ab/"\\\n\té🦊 ', min_size=1, max_size=12)
    trap = data.draw(letters)
    texts = data.draw(st.lists(st.one_of(letters, letters.map(lambda text: text + trap + text)), min_size=1))
    ways = data.draw(st.lists(st.integers(0, 2), min_size=60, max_size=60))
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"text": {escaped(text, ways)}}}\n' for text in texts), encoding="utf-8")
    lines = path.read_text(encoding="utf-8").splitlines()
    expected = {number for number, line in enumerate(lines, start=1) if trap in json.loads(line)["text"]}
    # A text of white space alone is passed over as blank, so a trap of white space alone is not looked for here.
    record = Scanner(ScanPlan(("t",), (trap,))).scan(plan_corpus([path]).units[0])
    assert {hit.line for hit in record.hits} == (expected if trap.strip() else {hit.line for hit in record.hits})


def test_every_format_gives_the_same_texts(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": ["a", "b"], "text": ['one, "two"\nthree é', "four"], "n": [1, 2]})
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True, force_ascii=False)
    frame.to_json(tmp_path / "a.json", orient="records")
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    frame.to_parquet(tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.json", "a.csv", "a.tsv"):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    (tmp_path / ".hidden.jsonl").write_text("not json")
    (tmp_path / "notes.rst").write_text("not a corpus")
    parts = parts_of(tmp_path)
    assert len(parts) == 9
    for part in parts:
        found, _ = read(part)
        assert [(piece.identifier, piece.text) for piece in found] == list(
            zip(frame["id"], frame["text"], strict=True)
        ), part.shard


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.markdown", "a.html", "a.HTM"])
def test_a_file_that_is_one_text_is_read_packed_or_not(tmp_path: Path, name: str) -> None:
    """Markdown as it stands, HTML with its references resolved."""
    source = "\ufeff<p title='a &amp; b'>one\r\n*two* &#233;<!-- &lt;"
    (tmp_path / name).write_bytes(source.encode())
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(source.encode()))
    expected = "<p title='a &amp; b'>one\n*two* &#233;<!-- &lt;"
    if "htm" in name.lower():
        expected = "<p title='a & b'>one\n*two* é<!-- <"
    for part in parts_of(tmp_path):
        found, reading = read(part)
        assert found == [Piece(1, None, expected, 0, True)]
        assert reading.n_texts == 1


@pytest.mark.usefixtures("small_pieces")
@PATIENT
@given(text=st.text(alphabet="ab&;é🦊", max_size=40), overlap=st.integers(0, 9))
def test_pieces_of_a_page_are_its_resolved_source(tmp_path: Path, text: str, overlap: int) -> None:
    """Whatever cut falls into a reference."""
    path = tmp_path / "a.html"
    path.write_text(html.escape(text).encode("ascii", "xmlcharrefreplace").decode())
    assert joined(read(parts_of(path)[0], overlap=overlap)[0]) == text


def test_what_is_left_out_of_a_folder_is_listed(tmp_path: Path) -> None:
    for name in ("a.txt", "b.pdf", "c", "d.parquet.gz", ".e.txt", ".f/g.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "h").symlink_to(tmp_path / ".f")
    corpus = plan_corpus([tmp_path, tmp_path / ".f"])
    assert [part.path for unit in corpus.units for part in unit] == [f"{tmp_path}/a.txt", f"{tmp_path}/.f/g.txt"]
    assert [Path(name).name for name in corpus.left_out.others] == ["b.pdf", "c", "d.parquet.gz"]
    assert corpus.left_out.hidden == (f"{tmp_path}/.e.txt", f"{tmp_path}/.f")
    assert corpus.left_out.links == (f"{tmp_path}/h",)


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"could not read .*a.txt: No such file.* Mend it, or move it out"):
        plan_corpus([tmp_path])
    (tmp_path / "a.txt").unlink()
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(InputError, match=r"a.txt is a device or a pipe. Move it out of the corpus"):
        plan_corpus([tmp_path])


def test_records_without_a_text_are_counted_and_bad_ones_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = ['{"text": "a"}', '{"text": null}', '{"other": 1}', '{"text": " "}', '{"text": 3}', '{"text": "b"', "[]"]
    path.write_text("\n".join(rows), encoding="utf-8")
    found, reading = read(parts_of(path)[0])
    assert [piece.text for piece in found] == ["a"]
    assert (reading.n_texts, reading.n_without, reading.n_bad) == (1, 3, 3)
    assert [row.line for row in reading.bad] == [5, 6, 7]
    assert reading.bad[0].reason == "'text' is 3 (int), not a text"


def test_a_missing_field_is_told_with_those_that_exist(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"content": "a"}\n', encoding="utf-8")
    with pytest.raises(InputError, match="has no field 'text'; it has 'content'"):
        read(parts_of(path)[0])


def test_a_gzip_that_breaks_in_the_middle_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps({"text": "a" * 1000}).encode() * 50)[:-20])
    with pytest.raises(DataError, match="is cut off: its gzip data end too early. Copy or download it again"):
        read(parts_of(path)[0])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"abc\xff", "byte 0xff at offset 3 of the file's text is not UTF-8"),
        (b"ab\xc3", "byte 0xc3 at offset 2 of the file's text is not UTF-8"),
        (b"abcdefg\0", "byte 0x00 at offset 7 of the file's text is a NUL"),
    ],
)
@pytest.mark.usefixtures("small_pieces")
def test_a_plain_text_that_is_none_is_told_with_the_byte(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=problem):
        read(parts_of(path)[0])


def test_a_file_that_changed_since_the_plan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n', encoding="utf-8")
    (part,) = parts_of(path)
    path.write_text('{"text": "a"}\n{"text": "b"}\n', encoding="utf-8")
    with pytest.raises(DataError, match="changed while the corpus was scanned"):
        read(part)


def test_what_is_no_corpus_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"a")
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"a.bin: the extension '.bin' is not known; expected .jsonl"):
        plan_corpus([tmp_path / "a.bin"])
    with pytest.raises(InputError, match="empty holds no file of a known format"):
        plan_corpus([tmp_path / "empty"])
    with pytest.raises(InputError, match="there is no 'b.txt' in .*Did you mean 'a.txt'"):
        plan_corpus([tmp_path / "b.txt"])
    with pytest.raises(InputError, match="a.txt is given twice"):
        plan_corpus([tmp_path / "a.txt", tmp_path])
