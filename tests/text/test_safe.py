from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.text.safe import did_you_mean, for_terminal, nearest_first, quoted


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("\x1b]0;new title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("fine\rFAKE", "fineFAKE"),
        ("a\x08\x00\x7fb", "ab"),
        ("safe\u202egpj.exe", "safegpj.exe"),
        ("one\u2028two", "one two"),
        ("lone \ud800 half", "lone \ufffd half"),
        ("unfinished \x1b]0;title", "unfinished 0;title"),
        ("line\n\ttab é 你 \u200d", "line\n\ttab é 你 \u200d"),
    ],
)
def test_terminal_text_keeps_the_letters_and_drops_what_steers(hostile: str, shown: str) -> None:
    assert for_terminal(hostile) == shown


@given(st.text(alphabet=st.characters()))
def test_terminal_text_never_holds_a_control_character(text: str) -> None:
    shown = for_terminal(text)
    assert not any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 for c in shown)
    assert for_terminal(shown) == shown
    shown.encode()


def test_quoted_values_are_cut_and_escaped() -> None:
    assert quoted("a\x1b[31m") == r"'a\x1b[31m'"
    assert quoted("x" * 100) == "'" + "x" * 55 + "...'"
    assert len(quoted("x" * 100)) == 60


def test_nearest_name_comes_first() -> None:
    assert nearest_first("txt", ["id", "label", "text"])[0] == "text"
    assert did_you_mean("Tetx", ["text", "id"]) == " Did you mean 'text'?"
    assert did_you_mean("zzz", ["text", "id"]) == ""
    assert did_you_mean("text", ["text", "id"]) == ""  # never what was given
    assert did_you_mean("text", ["text", "texts"]) == " Did you mean 'texts'?"
