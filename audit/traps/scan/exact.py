r"""Find thousands of known texts in other texts, letter for letter: a sampled look first, then a comparison.

Let m be the bytes (UTF-8) of the shortest text looked for, w <= m and s = m - w + 1. Of the texts that are searched
only the w bytes at every s-th place are looked at. An occurrence at byte p covers the w bytes at each of the places
p ... p + m - w, which are s places in a row, so exactly one of them is looked at, o = 0 ... m - w bytes after p.
The table holds the w bytes at each of these o of each text looked for, so the occurrence is proposed, and a
comparison of all bytes confirms it. Nothing is missed and nothing is found twice, whatever is hashed to what.

Why not Aho-Corasick, which the specification (section 6) names: it takes a step for each letter, from memory to memory
once thousands of texts make the automaton large. Measured in tests/benchmarks/scan_speed.py.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from .grams import GramTable

_PASS: Final = "surrogatepass"  # JSON can spell half of a surrogate pair; it must not stop a scan
_LONGEST_GRAM: Final = 16  # bytes, the most that two words of a processor hold
_MIX: Final = np.uint64(0xD6E8FEB86659FD93)  # odd; which one does not matter
_WORD: Final = re.compile(r"\S+")


class Occurrence(NamedTuple):
    """A text that was found.

    Attributes:
        text: Place of the searched text in the list.
        trap: Place of what was found in the list of what is looked for.
        start: First character in the searched text.
        end: One past the last.
        exact: Letter for letter; else only white space or the Unicode normal form differ.
    """

    text: int
    trap: int
    start: int
    end: int
    exact: bool


class ExactFinder:
    """Finds texts letter for letter.

    Args:
        patterns: What is looked for; none is empty, several may be equal.

    Raises:
        InputError: A pattern is empty, or there is none.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = [pattern.encode("utf-8", _PASS) for pattern in patterns]
        shortest = min(map(len, self._patterns), default=0)
        if not shortest:
            raise InputError("a text to look for is empty; give texts of at least one character.")
        self._n_characters = [len(pattern) for pattern in patterns]
        self._width = min(_LONGEST_GRAM, max(8, shortest // 2)) if shortest >= 8 else shortest
        self._stride = shortest - self._width + 1
        heads = [_grams(head, self._width, 1) for head in (pattern[:shortest] for pattern in self._patterns)]
        numbers = np.arange(len(self._patterns), dtype=np.int64)
        offsets = np.arange(self._stride, dtype=np.int64)
        self._table = GramTable(np.concatenate(heads), (numbers[:, None] * self._stride + offsets).ravel())

    @property
    def longest(self) -> int:
        """Characters of the longest pattern."""
        return max(self._n_characters)

    def find(self, texts: Sequence[str]) -> list[Occurrence]:
        """Every occurrence, overlapping ones too, in order of text and place."""
        joined = "".join(texts)
        raw = joined.encode("utf-8", _PASS)
        proposed = self._find_bytes(raw)
        ends = list(accumulate(map(len, texts)))
        found: list[Occurrence] = []
        characters = n_bytes = 0
        for start, pattern in proposed:
            if len(raw) == len(joined):
                characters = start
            else:
                characters += len(raw[n_bytes:start].decode("utf-8", _PASS))
                n_bytes = start
            text = bisect_right(ends, characters)
            end = characters + self._n_characters[pattern]
            if end <= ends[text]:  # else it lies across the seam of two texts
                before = ends[text - 1] if text else 0
                found.append(Occurrence(text, pattern, characters - before, end - before, True))
        return found

    def _find_bytes(self, raw: bytes) -> list[tuple[int, int]]:
        """(first byte, pattern) of every occurrence, ascending."""
        places, values = self._table.lookup(_grams(raw, self._width, self._stride))
        starts = places * self._stride - values % self._stride
        pairs = zip(starts.tolist(), (values // self._stride).tolist(), strict=True)
        # A start below 0 must not count from the end.
        return sorted(pair for pair in pairs if pair[0] >= 0 and raw.startswith(self._patterns[pair[1]], pair[0]))


def _grams(raw: bytes, width: int, stride: int) -> NDArray[np.uint64]:
    """Hash of the ``width`` bytes (1 to 16) at each ``stride``-th place of ``raw``, shape (n,)."""
    n = max(0, (len(raw) - width) // stride + 1)

    def words(offset: int, kind: str) -> NDArray[np.uint64]:
        view: NDArray[np.uint64] = np.ndarray((n,), dtype=kind, buffer=raw, offset=offset, strides=(stride,))
        return view.astype(np.uint64)

    if not n:
        return np.empty(0, dtype=np.uint64)
    if width < 8:
        keys = words(0, "u1")
        for offset in range(1, width):
            keys = (keys << np.uint64(8)) | words(offset, "u1")
        return keys
    # Two words that overlap when the gram is shorter than 16 bytes.
    first = words(0, "<u8") * _MIX
    return (first ^ (first >> np.uint64(32))) + words(width - 8, "<u8")


class LooseFinder:
    """Finds texts whatever became of their white space, and in any of the forms NFC, NFD and as they are.

    Every run of white space counts as one space, in what is looked for and in what is searched, and white space at the
    ends of what is looked for does not count. Of the Unicode normal forms, those of what is looked for are tried; what
    is searched is taken as it is.

    Args:
        patterns: As for `ExactFinder`.

    Raises:
        InputError: A pattern is white space alone, or there is none.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = list(patterns)
        forms: dict[str, list[int]] = {}
        for place, pattern in enumerate(patterns):
            spelt = [pattern, unicodedata.normalize("NFC", pattern), unicodedata.normalize("NFD", pattern)]
            for form in dict.fromkeys(map(flowed, spelt)):
                forms.setdefault(form, []).append(place)
        self._owners = list(forms.values())
        self._finder = ExactFinder(list(forms))

    @property
    def longest(self) -> int:
        """Characters of the longest pattern in its longest form, with room for four times as much when re-flowed."""
        return 4 * max(self._finder.longest, *map(len, self._patterns))

    def find(self, texts: Sequence[str]) -> list[Occurrence]:
        """Every occurrence, with its place in the text as it is."""
        found: list[Occurrence] = []
        places: dict[int, tuple[list[int], list[int]]] = {}
        for text, form, start, end, _ in self._finder.find([flowed(text) for text in texts]):
            if text not in places:
                places[text] = _word_places(texts[text])
            first, last = _unflowed(places[text], start), _unflowed(places[text], end - 1) + 1
            for trap in self._owners[form]:
                pattern = self._patterns[trap]
                begin = first - (len(pattern) - len(pattern.lstrip()))
                if begin >= 0 and texts[text].startswith(pattern, begin):
                    found.append(Occurrence(text, trap, begin, begin + len(pattern), True))
                else:
                    found.append(Occurrence(text, trap, first, last, False))
        return found


def flowed(text: str) -> str:
    """``text`` with each run of white space as one space, and none at its ends."""
    return " ".join(text.split())


def _word_places(text: str) -> tuple[list[int], list[int]]:
    """Where each word begins in the flowed text, and in ``text``."""
    before: list[int] = []
    after: list[int] = []
    at = 0
    for word in _WORD.finditer(text):
        after.append(at)
        before.append(word.start())
        at += word.end() - word.start() + 1
    return after, before


def _unflowed(places: tuple[list[int], list[int]], at: int) -> int:
    """Place in the text of a character of the flowed text that is no space."""
    after, before = places
    word = bisect_right(after, at) - 1
    return before[word] + at - after[word]
