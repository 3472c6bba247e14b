r"""The numbers of a text: encoders hardly see that one has changed, though it makes another problem of it.

A number is a run of digits, with commas between groups of three (1,000), a fraction behind a point (0.5, .5) and an
exponent (2e3), if any. It is negative after a minus sign that touches it and follows no letter, digit or closing
bracket: -3 and (-3), but 5-3 holds 5 and 3. Numbers are compared by value: 1,000 = 1000 = 1e3, 1.50 = 1.5. A fraction
a/b counts as its two numbers, and a point or comma at the end of a sentence belongs to no number. "1,234" in a list
without spaces is read as one number.

Source: spec of the extraction, section 7: flag hits whose multisets of numbers differ.
"""

from __future__ import annotations

import re
from collections import Counter
from decimal import Decimal

_NUMBER = re.compile(
    r"(?:(?<![\w)\]}])[-−])?"
    r"(?:(?<!\d)\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|(?<![\w.])\.\d+)"
    r"(?:[eE][+-]?\d{1,3}(?!\w))?"
)


def numbers(text: str) -> Counter[Decimal]:
    """How often each number stands in a text."""
    return Counter(Decimal(found.replace(",", "").replace("−", "-")) for found in _NUMBER.findall(text))


def numbers_differ(a: str, b: str) -> bool:
    """Whether two texts hold different numbers, or one of them more often."""
    return numbers(a) != numbers(b)
