"""Exact and loose copies against loops of ``in`` and ``find``."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.errors import InputError
from audit.traps.scan.exact import ExactFinder, LooseFinder, flowed

# Few letters, so that patterns occur, overlap and repeat; one to four bytes each, and half of a surrogate pair.
LETTERS = st.text(alphabet="ab é€🦊\ud83e\n\0", max_size=60)
PATIENT = settings(deadline=None, max_examples=300)


def occurrences(pattern: str, text: str) -> list[tuple[int, int]]:
    """Every (start, end), one look at each place."""
    return [(at, at + len(pattern)) for at in range(len(text)) if text.startswith(pattern, at)]


@PATIENT
@given(st.lists(LETTERS.filter(bool), min_size=1, max_size=4), st.lists(LETTERS, max_size=5))
def test_every_occurrence_is_found_and_nothing_else(patterns: list[str], texts: list[str]) -> None:
    found = ExactFinder(patterns).find(texts)
    expected = [
        (number, trap, start, end, True)
        for number, text in enumerate(texts)
        for trap, pattern in enumerate(patterns)
        for start, end in occurrences(pattern, text)
    ]
    assert sorted(found) == sorted(expected)


@PATIENT
@given(st.data())
def test_long_patterns_cut_out_of_the_text_are_found_wherever_they_stand(data: st.DataObject) -> None:
    """Patterns of 8 bytes and more are looked for with a stride, so their place decides what is looked at."""
    text = data.draw(st.text(alphabet="ab é€", min_size=60, max_size=200))
    cuts = data.draw(st.lists(st.tuples(st.integers(0, 50), st.integers(8, 60)), min_size=1, max_size=4))
    patterns = [text[at : at + length] for at, length in cuts]
    found = {(trap, start) for _, trap, start, _, _ in ExactFinder(patterns).find([text])}
    assert found == {(trap, start) for trap, pattern in enumerate(patterns) for start, _ in occurrences(pattern, text)}


def test_a_pattern_that_two_texts_make_together_is_in_neither() -> None:
    assert ExactFinder(["over the hill"]).find(["it ran over", " the hill"]) == []


def test_an_empty_pattern_is_refused() -> None:
    with pytest.raises(InputError, match="a text to look for is empty; give texts of at least one character"):
        ExactFinder(["a", ""])


SPACED = st.text(alphabet="ab \n\t\u00a0e\u0301\u00e9", max_size=40)


@PATIENT
@given(st.lists(SPACED.filter(lambda text: bool(text.strip())), min_size=1, max_size=4), st.lists(SPACED, max_size=4))
def test_loose_copies_are_those_of_the_flowed_texts(patterns: list[str], texts: list[str]) -> None:
    expected = set()
    for number, text in enumerate(texts):
        for trap, pattern in enumerate(patterns):
            for form in (pattern, unicodedata.normalize("NFC", pattern), unicodedata.normalize("NFD", pattern)):
                places = occurrences(flowed(form), flowed(text))
                expected |= {(number, trap, letters_before(flowed(text), start)) for start, _ in places}
    found = LooseFinder(patterns).find(texts)
    assert {(one.text, one.trap, letters_before(texts[one.text], one.start)) for one in found} == expected


def letters_before(text: str, place: int) -> int:
    """How many characters before a place are no white space, which flowing does not change."""
    return len("".join(text[:place].split()))


@PATIENT
@given(st.lists(SPACED.filter(lambda text: bool(text.strip())), min_size=1, max_size=4), st.lists(SPACED, max_size=4))
def test_what_a_loose_copy_names_is_the_text_there(patterns: list[str], texts: list[str]) -> None:
    for one in LooseFinder(patterns).find(texts):
        there, pattern = texts[one.text][one.start : one.end], patterns[one.trap]
        if one.exact:
            assert there == pattern
        else:
            forms = {pattern, unicodedata.normalize("NFC", pattern), unicodedata.normalize("NFD", pattern)}
            assert flowed(there) in {flowed(form) for form in forms}
            assert there == there.strip()


@PATIENT
@given(st.lists(SPACED.filter(lambda text: bool(text.strip())), min_size=1, max_size=3), st.lists(SPACED, max_size=4))
def test_every_exact_copy_is_also_found_loosely(patterns: list[str], texts: list[str]) -> None:
    exact = {(one.text, one.trap) for one in ExactFinder(patterns).find(texts)}
    assert exact <= {(one.text, one.trap) for one in LooseFinder(patterns).find(texts)}


def test_a_copy_that_was_broken_over_lines_or_decomposed_is_loose_and_not_exact() -> None:
    texts = ["so: caf\u00e9 by  the\r\n sea.", "so: cafe\u0301 by the sea.", "so: caf\u00e9 by the sea."]
    found = LooseFinder(["caf\u00e9 by the sea"]).find(texts)
    assert [(one.text, one.exact) for one in found] == [(0, False), (1, False), (2, True)]
    assert [texts[one.text][one.start : one.end] for one in found] == [text[4:-1] for text in texts]


def test_white_space_alone_is_refused_where_it_does_not_count() -> None:
    with pytest.raises(InputError, match="a text to look for is empty"):
        LooseFinder([" \n"])
