"""Markdown: the way back is exact, the blocks stay what they were, and copies stand among words alone."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from audit.errors import DataError
from audit.traps.planting.hosts.markdown import MarkdownDocument
from audit.traps.planting.inject import word_starts
from tests.traps.planting import DECOYS, HARD, ledger_of, planted, planting, restored

BLOCKS = [
    "# Head one two three", "Head four five six\n---", "```\ncode in a fence\n```", "~~~\nmore code here\n~~~",
    "    code by its indent", "| a b | c d |\n|-----|-----|\n| e f | g h |", "<div>\nhtml block here\n</div>",
    "[ref]: http://x.y 'a title here'", "***", "Words and *more of them* here\nand on another line.",
    "> quoted words stand here\n> and here", "- first item of it\n- second item\n\n      code in a list",
    "1. one two\n   three four", "Words `code here` [link text](/to 'a title') ![an image](x y) <b>tag</b> end.",
    "$$ a b c $$ and $x + y$ so on", "Line one  \nline two\\\nline three", "😀 e\u0301 שלום words", "<!-- a b c -->",
    "* a\n+ b c d\n- - e f g", "Unclosed `code and [brackets go on here", "\t- tab first then words",
]  # fmt: skip
ENOUGH = "one two three four five six seven eight"
documents = st.lists(st.sampled_from(BLOCKS), max_size=6).map(lambda found: "\n\n".join([ENOUGH, *found]))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("markdown")


def shape(text: str) -> list[tuple[str, str, int]]:
    """The blocks of a text without what stands in paragraphs; of all others, with it."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    found = []
    for before, token in zip([None, *tokens], tokens, strict=False):
        in_paragraph = before is not None and before.type == "paragraph_open"
        found.append((token.type, "" if in_paragraph else token.content, token.level))
    return found


def places(text: str) -> list[str]:
    """What begins at each place where a copy may stand."""
    starts = MarkdownDocument("a", "a", text, 0, " ").starts()
    return [text[start:].split()[0] for start in starts]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents, st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from(["\n", " ", "\n\n * \n"]))
def test_markdown_comes_back_and_its_blocks_are_what_they_were(root: Path, text: str, end: str, separator: str) -> None:
    source = Path(tempfile.mkdtemp(dir=root)) / "a.md"
    source.write_bytes(text.replace("\n", end).encode())
    done = planted(source, planting(separator=separator))
    assert restored(done).read_bytes() == source.read_bytes()
    after = done.out.read_bytes().decode()
    assert [after.count(trap) for trap in HARD] == [2, 2, 2]
    assert not any(decoy in after for decoy in DECOYS)
    assert shape(after) == shape(text.replace("\n", end))
    assert len(re.findall(r"\r\n|\r|\n", after)) == text.count("\n")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([*BLOCKS, "- ", "> ", "`", "[", "](", "|", "   ", "\n", "a b", "---", "#"])),
    st.integers(0),
)
def test_a_copy_before_any_allowed_word_changes_no_block(parts: list[str], which: int) -> None:
    text = "\n".join(parts)
    document = MarkdownDocument("a", "a", text, 0, " ")
    starts = document.starts()
    assert set(starts) <= set(word_starts(text))
    for trap in ("plain words", "# - > 1. ```", "--- | === | ---", "<div> [x]: y"):
        if starts:
            document.insertions([(starts[which % len(starts)], f" {trap} ")])  # refuses what changes a block


def test_copies_stand_in_paragraphs_lists_and_quotations_but_never_first_on_a_line() -> None:
    text = "out in in\nout in\n\n- out in\n  out in\n\n> out in\nout in\n\n1. > out in\n"
    assert places(text) == ["in"] * 8


def test_no_copy_stands_in_code_links_tables_headings_html_or_front_matter() -> None:
    text = (
        "---\ntitle: out out out\n---\n\n# out out out\n\nout out\n=======\n\n```\nout out\n```\n\n    out out\n\n"
        "| out out | out |\n|---|---|\n| out out | out |\n\n<div>\nout out\n</div>\n\n[out out]: /out 'out out'\n\n"
        "out in `out out` in [out out](/out 'out out') in [out out][out out] in ![out out](out) in <a out out> in\n"
        "out <http://out> in $out out$ in $$out out$$ in ``out ` out`` in <!-- out out --> in [out `out` out] in\n"
    )
    assert set(places(text)) == {"in", "![out"}  # before an image is not in it
    toml = "+++\ntitle = 'out out'\n+++\nout in\n"
    assert places(toml) == ["in"]


def test_a_code_span_over_two_lines_is_left_whole() -> None:
    assert places("out in `out out\nout out` in\n") == ["in", "in"]


def test_the_separator_adds_no_line(tmp_path: Path) -> None:
    source = tmp_path / "a.md"
    source.write_text(ENOUGH, encoding="utf-8")
    done = planted(source, planting(ledger_of(["zq trap"], n_rep=1)))
    assert "  zq trap " in done.out.read_text(encoding="utf-8")
    assert done.placements.documents[0].copies[0].n_characters == len(" zq trap ")


def test_a_copy_that_would_make_another_block_is_refused() -> None:
    """Before the first word of a line, which is never a place, a trap could begin a list."""
    document = MarkdownDocument("a", "a.md", "one two\nthree four", 0, " ")
    with pytest.raises(DataError, match="a.md: with the copies in it, the file would have other paragraphs or other"):
        document.insertions([(8, "- trap ")])
