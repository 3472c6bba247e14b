"""Every format: the way back is exact, nothing else of the file changes, and its usual reader finds every copy.

Each property test writes a small corpus of texts that hypothesis makes up, plants three hard traps twice each, and
reads the result with a parser that has nothing to do with ours: `json`, `csv`, `pyarrow`, `html.parser`.
"""

from __future__ import annotations

import csv
import hashlib
import html
import io
import json
import re
import tempfile
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.traps.planting.hosts import csv_table, jsonl
from audit.traps.planting.hosts.document import WholeFile, like_the_file
from audit.traps.planting.hosts.html_text import visible
from audit.traps.planting.inject import word_starts
from tests.traps.planting import DECOYS, HARD, Planted, planted, planting, restored

FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
ENOUGH = "one two three four five six seven"  # word positions for all six copies
# Spaces of all kinds, quotes, escapes, markup, combining, right-to-left and astral characters.
SIGNS = list(" \t  a\"',;\\/<>&{}[]:é\u0301\u200bש\u202e😀\u2028\x1f")
ENDS = ["\n", "\r\n", "\r"]
text_of_signs = st.lists(st.sampled_from([*SIGNS, *ENDS])).map("".join)
texts = st.lists(text_of_signs, max_size=4).map(lambda found: [*found, ENOUGH])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hosts")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def with_folder(root: Path, content: bytes, name: str) -> Planted:
    """A planted file in a folder of its own, which hypothesis needs anew for every example."""
    source = Path(tempfile.mkdtemp(dir=root)) / name
    source.write_bytes(content)
    return planted(source)


def assert_exact(done: Planted) -> None:
    assert restored(done).read_bytes() == done.source.read_bytes()
    everything = done.out.read_bytes() + done.placements_path.read_bytes()
    assert not any(decoy.encode() in everything for decoy in DECOYS)


def counts(found: list[str]) -> list[int]:
    return [sum(text.count(trap) for text in found) for trap in HARD]


def without(text: str, separator: str = "\n") -> str:
    for trap in HARD:
        text = text.replace(f"{separator}{trap}{separator}", "")
    return text


# --- JSON Lines


@FEW
@given(
    texts,
    st.lists(st.booleans(), min_size=5, max_size=5),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_jsonl_changes_in_its_texts_alone_and_comes_back(
    root: Path, rows: list[str], escaped: list[bool], end: str, mark: bool, spaced: bool, last_end: bool
) -> None:
    written = []
    for number, text in enumerate(rows):
        record = {"a": [1.50, {"text": "not this"}], "text": text + "\0", "é": number}
        line = json.dumps(record, ensure_ascii=escaped[number % 5], separators=(" ,\t", " : ") if spaced else None)
        written.append(line.replace("1.5,", "1.50,").replace("/", "\\/"))
    content = (b"\xef\xbb\xbf" if mark else b"") + (end.join(written) + (end if last_end else "")).encode()
    done = with_folder(root, content, "rows.jsonl")
    assert_exact(done)
    raw = done.out.read_bytes().removeprefix(b"\xef\xbb\xbf" if mark else b"")
    after = [json.loads(line) for line in raw.decode().split(end) if line]
    assert counts([row["text"] for row in after]) == [2, 2, 2]
    assert [{**row, "text": without(row["text"])} for row in after] == [json.loads(line) for line in written]
    assert raw.count(end.encode()) == content.count(end.encode())
    assert done.out.read_bytes().startswith(b"\xef\xbb\xbf") == mark


@FEW
@given(st.text(st.characters(codec="utf-8") | st.sampled_from('"\\/\b😀')), st.booleans())
def test_a_place_in_a_string_is_found_in_its_literal(text: str, escaped: bool) -> None:
    """What stands before the place in the literal spells what stands before it in the string."""
    literal = json.dumps(text, ensure_ascii=escaped)[1:-1]
    places = jsonl.in_literal(literal, range(len(text) + 1))
    assert [json.loads(f'"{literal[:place]}"') for place in places] == [text[:at] for at in range(len(text) + 1)]


def test_a_pair_of_escaped_surrogates_is_one_character() -> None:
    r"""In "a\ud83d\ude00\"b" the string is a, 😀, ", b; they begin at 0, 1, 13 and 15, and it ends at 16."""
    literal = r"a\ud83d\ude00\"b"
    assert json.loads(f'"{literal}"') == 'a😀"b'
    assert jsonl.in_literal(literal, [0, 1, 2, 3, 4]) == [0, 1, 13, 15, 16]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@FEW
@given(st.dictionaries(st.text(), json_values, max_size=5), st.booleans(), st.sampled_from([None, 1]))
def test_members_of_an_object_are_those_that_json_finds_and_stand_where_they_are_said_to(
    record: dict[str, object], escaped: bool, indent: int | None
) -> None:
    line = f" {json.dumps(record, ensure_ascii=escaped, indent=indent)} \n"
    found = jsonl.members(line)
    assert {name: value for name, (value, _, _) in found.items()} == json.loads(line)
    assert {name: json.loads(line[start:end]) for name, (_, start, end) in found.items()} == record


@FEW
@given(st.text(st.sampled_from(list('{}[]",:\\au01e.-+ tnfNI\t')), max_size=12))
def test_what_json_refuses_is_refused_and_what_it_reads_is_read(line: str) -> None:
    """NaN and Infinity apart, which are not JSON, and names given twice, which are not certain."""
    try:
        expected = json.loads(line)
    except ValueError:
        expected = None
    if not isinstance(expected, dict) or "N" in line or "I" in line:
        with pytest.raises(ValueError):  # noqa: PT011  # every kind of it
            jsonl.members(line)
        return
    assert {name: value for name, (value, _, _) in jsonl.members(line).items()} == expected


# --- CSV and TSV


@FEW
@given(
    texts,
    st.sampled_from([(",", "rows.csv"), ("\t", "rows.tsv")]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    st.booleans(),
)
def test_csv_changes_in_its_texts_alone_and_comes_back(
    root: Path, rows: list[str], kind: tuple[str, str], end: str, mark: bool, quoting: int, last_end: bool
) -> None:
    delimiter, name = kind
    if quoting == csv.QUOTE_MINIMAL and any("\r" in text for text in rows):
        quoting = csv.QUOTE_ALL  # csv.writer leaves a lone CR without marks, and csv.reader then refuses it
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, lineterminator=end, quoting=quoting)  # type: ignore[arg-type]
    writer.writerow(["n", "text", "more"])
    for number, text in enumerate(rows):
        writer.writerow([number, text, 'x "y" z'])
    content = (b"\xef\xbb\xbf" if mark else b"") + stream.getvalue().encode()
    done = with_folder(root, content if last_end else content.removesuffix(end.encode()), name)
    assert_exact(done)
    with done.out.open(encoding="utf-8-sig", newline="") as file:
        after = list(csv.reader(file, delimiter=delimiter, strict=True))
    assert after[0] == ["n", "text", "more"]
    assert counts([row[1] for row in after]) == [2, 2, 2]
    assert [[row[0], without(row[1]), row[2]] for row in after[1:]] == [
        [str(number), text, 'x "y" z'] for number, text in enumerate(rows)
    ]


def test_an_unquoted_cell_with_quotation_marks_inside_becomes_a_quoted_one(folder: Path) -> None:
    """The cell a "b" c d e f g, unquoted, is one of RFC 4180's freedoms; quoted, its marks are doubled."""
    source = folder / "rows.csv"
    source.write_bytes(b'n,text\n1, a "b" c d e f g"\n')
    done = planted(source)
    with done.out.open(encoding="utf-8", newline="") as file:
        after = list(csv.reader(file, strict=True))
    assert without(after[1][1]) == ' a "b" c d e f g"'
    assert counts([after[1][1]]) == [2, 2, 2]
    assert_exact(done)
    quotes = done.placements.documents[0].quotes
    assert len(quotes) == 5  # one to open, one to close, one for each of three marks
    raw = done.out.read_bytes()
    assert all(raw[at : at + 1] == b'"' for at in quotes)


@FEW
@given(st.lists(st.text(st.sampled_from(list('ab ",;\n\r\té')), max_size=6), min_size=1, max_size=5))
def test_cells_are_cut_where_csv_cuts_them(cells: list[str]) -> None:
    stream = io.StringIO()
    csv.writer(stream, quoting=csv.QUOTE_ALL if "\r" in "".join(cells) else csv.QUOTE_MINIMAL).writerow(cells)
    record = stream.getvalue()
    for column, text in enumerate(cells):
        raw, start = csv_table.cell(record, ",", column)
        assert record[start : start + len(raw)] == raw
        assert next(csv.reader(io.StringIO(raw, newline="")), [""])[0] == text if raw else text == ""


# --- plain text


@FEW
@given(st.lists(text_of_signs | st.just(" w"), max_size=6), st.booleans())
def test_plain_text_comes_back_and_holds_every_copy(root: Path, parts: list[str], mark: bool) -> None:
    text = "".join(parts) + f" {ENOUGH}"
    done = with_folder(root, (b"\xef\xbb\xbf" if mark else b"") + text.encode(), "a.txt")
    assert_exact(done)
    after = done.out.read_bytes().decode("utf-8-sig")
    assert counts([after]) == [2, 2, 2]
    end = re.search(r"\r\n|\n|\r", text)
    assert without(after, end[0] if end else "\n") == text


def test_a_separator_takes_the_line_end_of_the_file() -> None:
    assert like_the_file("\n\n", "a\r\nb\nc") == "\r\n\r\n"
    assert like_the_file(" \r\n", "a\rb") == " \r"
    assert like_the_file("\n", "one line") == "\n"
    assert like_the_file(" * ", "a\r\nb") == " * "


@FEW
@given(text_of_signs)
def test_places_in_plain_text_are_the_starts_of_what_stands_between_single_spaces(text: str) -> None:
    starts, at = [], 0
    for word in text.split(" "):
        if word and not word[0].isspace():
            starts.append(at)
        at += len(word) + 1
    assert word_starts(text) == starts == WholeFile("a", "a", text, 0, "\n").starts()


# --- HTML


class Shown(HTMLParser):
    """The text of a page, with and without what is in hidden elements."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.all: list[str] = []
        self.seen: list[str] = []
        self.hidden = 0
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "span" and ("aria-hidden", "true") in attrs:
            self.hidden += 1

    def handle_endtag(self, tag: str) -> None:
        if tag == "span" and self.hidden:
            self.hidden -= 1

    def handle_data(self, data: str) -> None:
        self.all.append(data)
        if not self.hidden:
            self.seen.append(data)


PIECES = [
    "<p>", "</p>", "<b>", "</b>", "<br/>", "<!-- one two three -->", "<title>one two</title>", "&amp; ", "& ", "< ",
    "<script>var a = 1 < 2; b</script>", "<style>p > a { b: c }</style>", "<pre>one two\n three</pre>", "&#233; ",
    '<img alt="one two three" src="a b">', "<textarea>one two</textarea>", "<select><option>a b</option></select>",
    '<a href="/x?a=1&b=2" title="one > two">', "</a>", "<p hidden>one two</p>", "<svg><text>a b</text></svg>",
    "<?php echo 1 2 ?>", "<![CDATA[ one two ]]>", "<!DOCTYPE html>", "one two ", " three\r\nfour ", "😀 e\u0301 ",
]  # fmt: skip


@FEW
@given(st.lists(st.sampled_from(PIECES), max_size=12), st.sampled_from(["visible", "hidden"]), st.booleans())
def test_html_comes_back_and_only_its_visible_text_has_grown(
    root: Path, pieces: list[str], mode: str, mark: bool
) -> None:
    page = "<html><body><p>one two three four five six seven eight</p>" + "".join(pieces)
    source = Path(tempfile.mkdtemp(dir=root)) / "a.html"
    source.write_bytes((b"\xef\xbb\xbf" if mark else b"") + page.encode())
    done = planted(source, planting(html=mode))
    assert_exact(done)
    after = Shown(done.out.read_bytes().decode("utf-8-sig"))
    end = re.search(r"\r\n|\n", page)
    assert counts(["".join(after.all)]) == [2, 2, 2]
    assert without("".join(after.all), end[0] if end else "\n") == "".join(Shown(page).all)
    assert counts(["".join(after.seen)]) == ([0, 0, 0] if mode == "hidden" else [2, 2, 2])


def test_no_copy_stands_in_what_a_page_does_not_show() -> None:
    closed = "".join(
        f"<{tag}> out out out </{tag}>"
        for tag in (
            "title",
            "script",
            "style",
            "pre",
            "textarea",
            "svg",
            "noscript",
            "template",
            "nav",
            "button",
            "code",
        )
    )
    closed += '<p hidden> out <p> out </p> out </p><i style="display : NONE"> out </i><i aria-hidden="true"> out </i>'
    closed += '<img alt=" out out "><!-- out out --><a title=" out "> in </a><script/> out </script><br hidden> in '
    page = f"<html> in {closed} in &amp; in <b>x in</b>"
    words = [
        re.match(r"\w+", page[start + at :]) for start, end in visible(page) for at in word_starts(page[start:end])
    ]
    assert {word[0] for word in words if word} == {"in", "x"}
    assert sum(word is not None and word[0] == "in" for word in words) == 6


def test_after_an_unfinished_tag_or_comment_nothing_is_certain() -> None:
    for rest in ('<p class="a b c d', "<!-- a b c d", "<p title=' a b > c d <b> e f"):
        page = f"<p>one two</p>{rest}"
        assert "".join(page[start:end] for start, end in visible(page)) == "one two"


def test_a_page_of_ascii_stays_one(root: Path) -> None:
    done = with_folder(root, b"<meta charset=latin1><p>one two three four five six seven</p>", "a.htm")
    raw = done.out.read_bytes()
    assert raw.isascii()
    assert counts([html.unescape(raw.decode())]) == [2, 2, 2]


def test_a_hidden_copy_and_its_separators_leave_no_trace_in_the_text_that_is_seen(folder: Path) -> None:
    source = folder / "a.html"
    source.write_text("<p>one two three four five six seven</p>", encoding="utf-8")
    done = planted(source, planting(html="hidden", separator=" * "))
    assert "".join(Shown(done.out.read_text(encoding="utf-8")).seen) == "one two three four five six seven"


# --- what every format's records say


def documents_of(done: Planted) -> dict[str, str]:
    """The planted text of every document, by the format's usual reader."""
    name, content = done.out.name, done.out.read_bytes().decode("utf-8-sig")
    if name.endswith(".jsonl"):
        return {f"{done.source.name}:{n}": json.loads(line)["text"] for n, line in enumerate(content.splitlines(), 1)}
    if name.endswith(".csv"):
        rows = list(csv.reader(io.StringIO(content, newline="")))
        return {row[0]: row[1] for row in rows[1:]}
    return {done.source.name: content}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", "".join(json.dumps({"text": f'"é" {ENOUGH} 😀\n'}, ensure_ascii=i == 1) + "\n" for i in range(3))),
        ("a.csv", f'id,text\nx,é {ENOUGH}\ny,"a ""b"" {ENOUGH}"\n'),
        ("a.txt", f"\ufeffé {ENOUGH}\r\n{ENOUGH}"),
        ("a.md", f"é {ENOUGH} {ENOUGH}\n"),
        ("a.html", f"<p>é {ENOUGH} {ENOUGH}"),
    ],
)
def test_each_copy_stands_where_its_record_says(folder: Path, name: str, content: str) -> None:
    source = folder / name
    source.write_bytes(content.encode())
    done = planted(source, planting(id_field="id" if name == "a.csv" else None))
    raw, documents = done.out.read_bytes(), documents_of(done)
    n_copies = 0
    for document in done.placements.documents:
        text = documents[document.id]
        for copy in document.copies:
            n_copies += 1
            trap = done.placements.traps[copy.trap].text
            inserted = text[copy.offset : copy.offset + copy.n_characters]
            assert inserted.strip() == (html.escape(trap, quote=False) if name == "a.html" else trap)
            assert hashlib.sha256(text[: copy.offset].encode()).hexdigest() == copy.before_sha256
            assert copy.byte is not None
            assert copy.n_bytes is not None
            written = raw[copy.byte : copy.byte + copy.n_bytes].decode()
            if name == "a.jsonl":
                assert json.loads(f'"{written}"') == inserted
            elif name == "a.csv":
                assert written.replace('""', '"') == inserted
            else:
                assert written == inserted
    assert n_copies == 6
