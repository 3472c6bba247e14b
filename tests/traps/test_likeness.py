"""Bounds of likeness between traps."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Indel

from audit.traps.config import TrapDesign
from audit.traps.likeness import Likeness

ANY = TrapDesign(max_jaccard=1.0, max_similarity=1.0)


def test_the_same_letters_are_refused_however_they_are_cut_or_written() -> None:
    alike = Likeness(ANY)
    assert alike.accept("The cat sat.", (1, 2, 3))
    assert not alike.accept("the  CAT sat.", (4, 5, 6, 7))


def test_the_jaccard_bound_itself_is_allowed_and_more_is_not() -> None:
    """Sets {1, 2} and {2, 3} share 1 of 3; {1, 2, 3} and {1, 2, 9} share 2 of 4."""
    assert Likeness(replace(ANY, max_jaccard=1 / 3)).accept("a", (1, 2))
    alike = Likeness(replace(ANY, max_jaccard=1 / 3))
    alike.accept("a", (1, 2))
    assert alike.accept("b", (2, 3))
    assert not alike.accept("c", (1, 2, 9))


def test_what_is_refused_is_not_remembered() -> None:
    alike = Likeness(replace(ANY, max_jaccard=0.4))
    alike.accept("a", (1, 2))
    assert not alike.accept("b", (1, 2, 3))
    assert alike.accept("c", (3, 4))


@given(st.lists(st.text("abc ", min_size=1, max_size=8), max_size=12))
def test_accepted_letters_are_pairwise_below_the_bound(texts: list[str]) -> None:
    alike = Likeness(replace(ANY, max_similarity=0.6))
    accepted = [text for place, text in enumerate(texts) if alike.accept(text, (place,))]
    plain = [" ".join(text.lower().split()) for text in accepted]
    for place, own in enumerate(plain):
        assert all(own != other and Indel.normalized_similarity(own, other) <= 0.6 for other in plain[:place])
