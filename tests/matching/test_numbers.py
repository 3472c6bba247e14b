"""The numbers of a text."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.matching.numbers import numbers, numbers_differ


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1,000 and 1000", ["1000", "1000"]),
        ("1,234,567.89", ["1234567.89"]),
        ("1.50 = 1.5", ["1.5", "1.5"]),
        (".5, 0.5", ["0.5", "0.5"]),
        ("-3 (-4) −5", ["-3", "-4", "-5"]),
        ("5-3 x-2 (1)-7", ["5", "3", "2", "1", "7"]),
        ("1/2", ["1", "2"]),
        ("2e3 1E-2 3em", ["2000", "0.01", "3"]),
        ("The answer is 7. Then 8, 9", ["7", "8", "9"]),
        ("version 1.2.3", ["1.2", "3"]),
        ("1,00 12,345,6", ["1", "0", "12345", "6"]),
        ("H2O costs $3", ["2", "3"]),
        ("none", []),
    ],
)
def test_by_hand(text: str, found: list[str]) -> None:
    assert numbers(text) == Counter(map(Decimal, found))


@given(st.decimals(-(10**9), 10**9, places=3))
def test_a_number_is_read_however_it_is_written(value: Decimal) -> None:
    assert numbers(f"x = {value}.") == numbers(f"x = {value:,}") == Counter([value])


@given(st.text(max_size=30))
def test_any_text_can_be_read(text: str) -> None:
    assert not numbers_differ(text, text)


def test_a_changed_and_a_repeated_number_are_seen() -> None:
    assert numbers_differ("What is 3 + 4? The answer is 7.", "What is 5 + 9? The answer is 14.")
    assert numbers_differ("3 apples", "3 apples for 3")
    assert not numbers_differ("1,000 apples, 2 pears", "2 pears and 1000.0 apples")
