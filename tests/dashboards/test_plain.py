"""Text from runs stays text where Streamlit reads Markdown; what a browser makes of it is in tests/browser."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from dashboards.plain import JOINER, block, cell, plain
from tests.dashboards.hostile import PAYLOADS

MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
# What Streamlit looks for in the finished text, after Markdown: names between colons, arrows, addresses.
LATER = re.compile(r":[\w+-][\w+/-]*:|https?://|www\.|(^|\s)(<->|->|<-|--|>=|<=|~=)(\s|$)|\w@\w")


def read(text: str) -> str:
    """What Markdown shows of it; fails where it makes anything but one paragraph of text."""
    tokens = MARKDOWN.parse(text)
    assert [token.type for token in tokens] in ([], ["paragraph_open", "inline", "paragraph_close"]), tokens
    children = [child for token in tokens for child in token.children or ()]
    assert {child.type for child in children} <= {"text", "text_special", "softbreak"}, children
    return "".join("\n" if child.type == "softbreak" else child.content for child in children)


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_hostile_text_is_read_as_it_stands(payload: str) -> None:
    shown = read(plain(payload))
    assert not LATER.search(shown), shown
    assert shown.replace(JOINER, "") == cell(payload).strip()


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_any_text_is_read_as_it_stands(text: str) -> None:
    shown = read(plain(text))
    assert not LATER.search(shown)
    assert shown.replace(JOINER, "") == cell(text).replace(JOINER, "").strip()


@pytest.mark.parametrize(
    "start", ["# ", "- ", "1. ", "> ", "    ", "\t", "```\n", "---\n", "[a]: b\n", "| a |\n|-|\n", "~~~"]
)
def test_no_line_begins_a_block(start: str) -> None:
    assert read(plain(f"{start}text"))


def test_lines_become_paragraphs_and_nothing_else() -> None:
    tokens = MARKDOWN.parse(plain("one\n# two\n\n- three", lines=True))
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"] * 3


def test_colours_and_formulas_lose_their_signs() -> None:
    assert plain(":red[x] $y$") == rf"\:{JOINER}red\[x\] \$y\$"


def test_long_text_is_cut_and_what_is_left_out_is_counted() -> None:
    assert plain("x" * 100_000, 10) == r"xxxxxxxxxx\.\.\. \[99\,990 more characters are in the run\'s files\]"
    assert cell("x" * 100_000, 10).startswith("xxxxxxxxxx... [99,990 more")


def test_a_block_keeps_its_lines_and_shows_what_is_invisible() -> None:
    assert block("one\n\u202etwo\x00") == "one\n[U+202E]two[U+0000]"
