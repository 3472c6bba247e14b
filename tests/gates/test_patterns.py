"""Wild cards of addresses: what they name, and that no pattern takes long."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from audit.gates.estimates import shape


def plainly(pattern: str, text: str) -> bool:
    """By trying everything: a star stands for any number of characters, a question mark for one, neither for ``/``."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return plainly(pattern[1:], text) or (text[:1] not in ("", "/") and plainly(pattern, text[1:]))
    fits = text[:1] not in ("", "/") if pattern[0] == "?" else text[:1] == pattern[0]
    return fits and plainly(pattern[1:], text[1:])


@given(st.text("ab/*?.", max_size=7), st.text("ab/.", max_size=9))
def test_a_pattern_names_what_its_wild_cards_say(pattern: str, text: str) -> None:
    assert bool(shape(pattern).fullmatch(text)) == plainly(pattern, text)


def test_a_pattern_of_many_stars_is_matched_without_going_back() -> None:
    """Whoever may hand in a policy could else stop the program for hours; the expression shows that it cannot."""
    pattern = "traps." + "*a" * 40 + "b/verdict"
    assert shape(pattern).fullmatch("traps." + "a" * 5_000) is None
    assert len(re.findall(r"\(\?>", shape(pattern).pattern)) == 39
