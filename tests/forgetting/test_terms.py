"""Expressions are found as whole words, in any spelling that means the same letters."""

from __future__ import annotations

import pytest

from audit.errors import InputError
from audit.forgetting.terms import Terms, canonical, words


@pytest.mark.parametrize(
    ("term", "text", "stands"),
    [
        ("Ron", "Ron's owl", True),
        ("Ron", "Ronald slept", False),
        ("Ron", "heron", False),
        ("Ron", "(Ron)", True),
        ("Ron", "Ron_2", False),
        ("Ron", "RON!", True),
        ("Ash", "ash fell", False),
        ("ash", "Ash fell", True),
        ("Zoë", "Zoe\u0308 came", True),
        ("Zoe\u0308", "Zoë came", True),
        ("Tars Tarkas", "Tars\nTarkas", True),
        ("D'Artan", "D\u2019Artan rode", True),
        ("C++ (x)", "in C++ (x) we", True),
        (".net", "asp.net", True),
        ("哈利", "他是哈利波特", True),
        ("Oz", "the Ozone layer", False),
        ("राम", "रामायण", False),
        ("म", "काम", False),
        ("राम", "रामायण के राम ने", True),
    ],
)
def test_a_term_is_found_where_it_stands_as_a_whole_word(term: str, text: str, stands: bool) -> None:
    assert Terms((term,)).found_in(text) == ((term,) if stands else ())


def test_any_case_takes_upper_and_lower_as_one() -> None:
    assert Terms(("Ash",), "any").found_in("ash fell") == ("Ash",)


def test_a_longer_term_does_not_hide_the_shorter_one_in_it() -> None:
    assert Terms(("Harry", "Harry Potter", "Potter")).found_in("Harry Potter") == ("Harry", "Harry Potter", "Potter")


def test_a_start_leaves_out_what_begins_before_it_and_still_sees_where_a_word_begins() -> None:
    text = canonical("Iceland and Land")
    assert Terms(("Land", "land", "Ice")).found_in(text, start=3) == ("Land", "land")
    assert Terms(("land",)).found_in("Iceland", start=3) == ()


@pytest.mark.parametrize("term", ["", "  ", "?!"])
def test_a_term_without_letters_is_refused(term: str) -> None:
    with pytest.raises(InputError, match="holds no letter or digit; remove it from the list"):
        Terms((term,))


def test_an_unknown_case_is_refused() -> None:
    with pytest.raises(InputError, match="case is 'lower'; expected one of 'as written', 'any'"):
        Terms(("a",), "lower")  # type: ignore[arg-type]


def test_words_are_folded_and_wide_characters_stand_alone() -> None:
    assert words("The CAT, sat_on 3 mats 猫猫!") == ["the", "cat", "sat", "on", "3", "mats", "猫", "猫"]
    assert words("他说Harry去") == ["他", "说", "harry", "去"]


def test_marks_belong_to_their_words() -> None:
    """Two Hindi words that differ by a vowel alone."""
    assert words("कि की") == ["कि", "की"]
