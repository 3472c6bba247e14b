"""Names that one book has and a contrast text lacks, found by capital letters.

Source: ours; the papers mark such words by hand. It needs a script with capitals: for others, give the names. A name of
several words is found word by word. Words that the contrast text holds, in any case, are never names: "Harry" is no
sign of one book once another text says it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from ..stats.checks import count

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_POSSESSIVE = re.compile(r"['\u2019]s$")
_INSIDE = ",;)'\u2019-"  # after these a sentence goes on, as after a letter or digit


def find_names(texts: Sequence[str], contrast: Sequence[str], *, min_count: int = 2) -> tuple[str, ...]:
    """Words that the book always writes with a capital, also inside sentences, and that the contrast text never has.

    Args:
        texts: The book, in any pieces.
        contrast: What the names must not stand in: general text, and books of the same kind.
        min_count: Occurrences in the book at least, 1 or more.

    Returns:
        The names, most frequent first; possessives count as their name.

    Raises:
        InputError: ``min_count`` is below 1.
    """
    count(min_count, "min_count", least=1)
    known = {word.casefold() for text in contrast for word, _ in _words(text)}
    capital: Counter[str] = Counter()
    inside: Counter[str] = Counter()
    small: set[str] = set()
    for text in texts:
        for word, goes_on in _words(text):
            if word[0].isupper():
                capital[word] += 1
                inside[word] += goes_on
            else:
                small.add(word.casefold())
    kept = [
        word
        for word, n in capital.items()
        if n >= min_count and inside[word] and len(word) > 1 and word.casefold() not in known | small
    ]
    return tuple(sorted(kept, key=lambda word: (-capital[word], word)))


def _words(text: str) -> list[tuple[str, bool]]:
    """Each word without a possessive ending, and whether a sentence goes on before it."""
    normal = unicodedata.normalize("NFC", text)
    found = []
    for match in _WORD.finditer(normal):
        place = match.start() - 1
        while place >= 0 and normal[place].isspace():
            place -= 1
        goes_on = place >= 0 and place < match.start() - 1 and (normal[place].isalnum() or normal[place] in _INSIDE)
        found.append((_POSSESSIVE.sub("", match[0]), goes_on))
    return found
