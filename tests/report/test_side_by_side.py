from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import InputError
from audit.report import side_by_side as module
from audit.report.figures import Comparison
from audit.report.side_by_side import side_by_side


def compared(left: str, right: str, *, most_words: int = 400) -> Comparison:
    return side_by_side("t", "n", ("left", left), ("right", right), most_words=most_words)


def marked(one: Comparison) -> list[str]:
    """Each side with brackets around what is marked."""
    return ["".join(f"[{text}]" if differs else text for text, differs in pieces) for _, pieces in one.sides]


def test_words_without_a_counterpart_are_marked_and_gaps_are_not() -> None:
    assert marked(compared("the ninth lamp of March 14", "the ninth old lamp of May 19")) == [
        "the ninth lamp of [March 14]",
        "the ninth [old] lamp of [May 19]",
    ]


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("one two", "one two", ["one two", "one two"]),
        ("One two.", "one two", ["[One two.]", "[one two]"]),
        ("", "one two", ["", "[one two]"]),
        ("", " \n", ["", ""]),
        ("a b", "b a", ["a [b]", "[b] a"]),
        ("b\u200b", "b", ["[b\u200b]", "[b]"]),
    ],
    ids=["identical", "as written", "empty", "both empty", "in order", "invisible"],
)
def test_what_differs(left: str, right: str, expected: list[str]) -> None:
    assert marked(compared(left, right)) == expected


def test_white_space_is_neither_compared_nor_endless() -> None:
    one = compared("a\tb   c\r\n\n\n\nd", " a b c d\n")
    assert marked(one) == ["a b c\nd", "a b c d"]


def test_a_long_text_is_cut_and_its_name_says_so() -> None:
    one = compared("w " * 900 + "end", "w w end", most_words=300)
    assert [name for name, _ in one.sides] == ["left, the first 300 of 901 words", "right"]
    assert marked(one) == ["w w [" + " ".join(["w"] * 298) + "]", "w w [end]"]
    assert marked(compared("a b c", "a b c", most_words=3)) == ["a b c", "a b c"]


def test_a_text_without_spaces_is_cut_too() -> None:
    one = compared("x" * 100_000, "x" * 8_000)
    assert [name for name, _ in one.sides] == ["left, the first 8,000 of 100,000 characters", "right"]
    assert [len(pieces[0][0]) for _, pieces in one.sides] == [8_000, 8_000]


def test_much_white_space_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a million spaces; read again from each of them, they would take an hour."""
    monkeypatch.setattr(module, "_MOST_CHARACTERS", 1_000_000)
    one = compared("a" + " " * 2_000_000 + "b", "a b")
    assert marked(one) == ["a", "a [b]"]
    assert one.sides[0][0] == "left, the first 1 of 2 words"


def test_nothing_to_show_is_refused() -> None:
    with pytest.raises(InputError, match="most_words is 0; expected 1 or more"):
        compared("a", "b", most_words=0)


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_what_is_not_marked_is_the_same_on_both_sides_and_no_word_is_lost(left: list[str], right: list[str]) -> None:
    one = compared(" ".join(left), " ".join(right))
    shared = []
    for (_, pieces), words in zip(one.sides, (left, right), strict=True):
        assert "".join(text for text, _ in pieces).split() == words
        assert all(a[1] != b[1] for a, b in pairwise(pieces))
        shared.append([word for text, differs in pieces if not differs for word in text.split()])
    assert shared[0] == shared[1]
