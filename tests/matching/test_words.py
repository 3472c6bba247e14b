"""Words in every writing: spaces divide, scripts without spaces are divided at each character, nothing is no word."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.matching.words import n_words, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cat's  mat,\n2 + 2.", ["The", "cat's", "mat,", "2", "+", "2."]),
        ("我爱你 hello世界ok。", ["我", "爱", "你", "hello", "世", "界", "ok", "。"]),
        ("カタカナとひらがな", list("カタカナとひらがな")),
        ("ガ", ["ガ"]),
        ("วันนี้", ["วั", "น", "นี้"]),
        ("ມື້ນີ້", ["ມື້", "ນີ້"]),
        ("བོད", ["བོ", "ད"]),
        ("មាន", ["មា", "ន"]),
        ("မြန်မာ", ["မြ", "န်", "မာ"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("Größe हिन्दी العربية", ["Größe", "हिन्दी", "العربية"]),
        ("\U00020000\U00030000", ["\U00020000", "\U00030000"]),
        ("👩\u200d🔬 ❤\ufe0f", ["👩\u200d🔬", "❤\ufe0f"]),
    ],
)
def test_words_of_a_writing(text: str, expected: list[str]) -> None:
    assert words(text) == expected
    assert n_words(text) == len(expected)


@pytest.mark.parametrize("nothing", ["\u200b", "\ufffd", "\x00", "\x7f", "\xad", "\u2060", "\ufe0f", "\U000e0100"])
def test_what_shows_nothing_is_no_word(nothing: str) -> None:
    assert words(nothing * 25) == []
    assert words(f"{nothing} {nothing}\n") == []
    assert words(f"{nothing}a{nothing}b {nothing}") == [f"a{nothing}b"]
    assert words(f"中{nothing}{nothing}文") == [f"中{nothing}{nothing}", "文"]


@given(st.text(st.characters(max_codepoint=0x2DE, exclude_categories=["Cc", "Cf"]) | st.sampled_from(" \n\t\x85\x1f")))
def test_where_there_are_spaces_they_divide(text: str) -> None:
    assert words(text) == text.split()


@given(st.text())
def test_no_visible_character_is_lost(text: str) -> None:
    found = words(text)
    assert all(found)
    rest = text
    for word in found:
        before, _, rest = rest.partition(word)
        assert words(before) == []
    assert words(rest) == []


def test_a_long_text_is_read_whatever_is_in_it() -> None:
    """Each would take hours if a part of it were read again for each character."""
    n = 1_000_000
    texts = ("\u200b" * n, " " * n, "中" * n, "\u200ba" * n, "ั" * n, "中" + "\ufe0f" * n)
    assert [n_words(text) for text in texts] == [0, 0, n, 1, 1, 1]
    assert n_words("".join(map(chr, range(sys.maxunicode + 1)))) > 100_000
