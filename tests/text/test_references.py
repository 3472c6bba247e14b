"""Character references of HTML."""

from __future__ import annotations

import html

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.text.references import resolved

SIGNS = ["&", "#", ";", "x", "a", "amp", "lt", "eacute", "0", "00", "65", "9999999", "<", " ", "é", "😀"]


@given(st.lists(st.sampled_from(SIGNS)).map("".join))
def test_references_come_out_as_the_standard_library_resolves_them(source: str) -> None:
    assert resolved(source) == html.unescape(source)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_what_was_escaped_comes_back(text: str) -> None:
    assert resolved(html.escape(text)) == text


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (f"a&#{'0' * 9_000}65;b", "aAb"),
        (f"a&#{'7' * 9_000};b", "a\ufffdb"),
        (f"a&#{'7' * 9_000}", "a\ufffd"),
        (f"a&#x{'7' * 9_000};b", "a\ufffdb"),
    ],
)
def test_a_number_of_thousands_of_digits_stops_nothing(source: str, expected: str) -> None:
    assert resolved(source) == expected
