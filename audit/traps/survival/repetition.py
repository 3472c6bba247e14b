"""Repetition inside a document: the rules of Gopher, Rae et al. 2021 (arXiv:2112.11446), table A1.

The limits are those of the table, the counting that of datatrove's ``gopher_repetition_filter.py``:

    duplicate lines, paragraphs             repeats (all but the first) over all, 0.30; their characters, 0.20
    top 2-, 3-, 4-gram                      characters of the most frequent n-gram, all its occurrences, 0.20, 0.18,
    0.16 duplicate 5-, 6-, 7-, 8-, 9-, 10-gram   characters of repeats, none counted twice, 0.15, 0.14, 0.13, 0.12,
    0.11, 0.10

Characters are shares of the whole document's. Departures from datatrove: words are what stands between white space (it
takes a tokenizer of the language, which parts punctuation from words), and an n-gram that occurs once is no repetition
(counted as one, it drops every document of few words).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

LINES: Final = 0.30
LINE_CHARACTERS: Final = 0.20
TOP: Final = {2: 0.20, 3: 0.18, 4: 0.16}
DUPLICATE: Final = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}


def repetition(text: str) -> str | None:
    """The first rule that a document breaks, or None.

    Args:
        text: Not blank.
    """
    for what, parts in (("paragraphs", re.split(r"\n{2,}", text.strip())), ("lines", re.split(r"\n+", text))):
        n, characters = _repeats(parts)
        if n / len(parts) > LINES:
            return f"duplicate {what}"
        if characters / len(text) > LINE_CHARACTERS:
            return f"characters in duplicate {what}"
    words = text.split()
    for n, most in TOP.items():
        if _top(words, n) / len(text) > most:
            return f"top {n}-gram"
    for n, most in DUPLICATE.items():
        if _duplicate(words, n) / len(text) > most:
            return f"duplicate {n}-grams"
    return None


def _repeats(parts: Sequence[str]) -> tuple[int, int]:
    """How many parts stood before, and their characters."""
    counts = Counter(parts)
    return len(parts) - len(counts), sum(len(part) * (count - 1) for part, count in counts.items())


def _top(words: Sequence[str], n: int) -> int:
    """Characters of the most frequent n-gram, single spaces included; 0 where none occurs twice."""
    counts = Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))
    if not counts:
        return 0
    ngram, count = counts.most_common(1)[0]
    return len(" ".join(ngram)) * count if count > 1 else 0


def _duplicate(words: Sequence[str], n: int) -> int:
    """Characters, white space left out, of n-grams that stood before; a repeat is passed over whole."""
    seen: set[tuple[str, ...]] = set()
    characters = start = 0
    while start <= len(words) - n:
        ngram = tuple(words[start : start + n])
        if ngram in seen:
            characters += sum(map(len, ngram))
            start += n
        else:
            seen.add(ngram)
            start += 1
    return characters
