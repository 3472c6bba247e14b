"""Where given strings or words occur in a body of text: one pass, whatever the number of strings."""

from __future__ import annotations

import re
from collections.abc import Iterable

_KEY_WORDS = 4
_WORD = re.compile(r"[^\W\d_]+")


def occurring(needles: Iterable[str], texts: Iterable[str]) -> set[str]:
    """The needles that stand character for character in at least one text.

    A needle may begin and end inside a word, so its first and last words are left out of the index; up to
    `_KEY_WORDS` words between them find the places where the characters are then compared.

    Args:
        needles: Strings to look for; those without a character that shows are never found.
        texts: Where to look.
    """
    index: dict[tuple[str, ...], list[str]] = {}
    short: list[str] = []
    for needle in dict.fromkeys(needles):
        inside = tuple(needle.split()[1:-1][:_KEY_WORDS])
        if inside:
            index.setdefault(inside, []).append(needle)
        elif needle.strip():
            short.append(needle)
    lengths = sorted({len(key) for key in index})
    found: set[str] = set()
    for text in texts:
        words = text.split()
        for length in lengths:
            for place in range(len(words) - length + 1):
                for needle in index.get(tuple(words[place : place + length]), ()):
                    if needle in text:
                        found.add(needle)
        found.update(needle for needle in short if needle in text)
    return found


def occurring_words(words: Iterable[str], texts: Iterable[str]) -> set[str]:
    """The words that stand, as whole words and in this spelling, in at least one text."""
    wanted = set(words)
    found: set[str] = set()
    for text in texts:
        found.update(wanted.intersection(_WORD.findall(text)))
    return found
