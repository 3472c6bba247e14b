from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.report.safe_text import clean, one_line, padded, width


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("a\x1b[31mb", "a[U+001B][31mb"),
        ("abc\u202egnp.exe", "abc[U+202E]gnp.exe"),
        ("\ud800", "[U+D800]"),
        ("zero\u200bwidth", "zero[U+200B]width"),
        ("a\u2028b", "a[U+2028]b"),
        ("tag\U000e0041", "tag[U+E0041]"),
        ("\x00\x07\x9b", "[U+0000][U+0007][U+009B]"),
    ],
)
def test_what_cannot_be_seen_is_shown_as_its_code_point(hostile: str, shown: str) -> None:
    assert clean(hostile) == shown


@pytest.mark.parametrize("text", ["नी\u200dक", "می\u200cخواهم", "שלום", "a\nb\tc", "👩\u200d🚒", "é"])
def test_text_of_the_worlds_scripts_stays_as_it_is(text: str) -> None:
    assert clean(text) == text


@given(st.text(st.characters(), max_size=60))
def test_cleaned_text_holds_nothing_invisible_and_encodes(text: str) -> None:
    shown = clean(text)
    shown.encode()
    assert all(
        unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Zl", "Zp", "Cn"} or c in "\n\t\u200c\u200d" for c in shown
    )


def test_long_text_is_cut_and_says_by_how_much() -> None:
    shown = clean("x" * 100_000)
    assert shown.startswith("x" * 2_000 + "... [98,000 more characters")
    assert len(shown) < 2_100


def test_one_line_has_no_line_break() -> None:
    assert one_line("a\r\n\n  b\tc\x0b\x1b") == "a b c [U+001B]"


def test_wide_characters_count_two_columns_and_combining_ones_none() -> None:
    assert width("日本") == 4
    assert width("e\u0301") == 1
    assert padded("日本", 6) == "日本  "
    assert padded("ab", 4, right=True) == "  ab"
