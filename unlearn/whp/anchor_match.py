"""Finds anchor terms in text by characters: whole words, leftmost first, of those the longest.

Two strings that look alike match: both are composed (NFC) piece by piece, a run of white space with at most one line
break is a space, a curly apostrophe is a straight one, and case is folded where asked. Offsets are always those of
the text as it was given.

Work grows with the length of the text and the number of occurrences, whatever the keys: an Aho-Corasick automaton
reads the text once, and no key is ever a pattern.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import ahocorasick

# Scripts that put no space between words: there, a word's end cannot be seen from its neighbours.
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x0FFF),  # Tibetan
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


class Found(NamedTuple):
    """``number`` of the key, and where it stands: characters ``start`` to ``end`` (exclusive) of the text."""

    start: int
    end: int
    number: int


def comparable(text: str, *, fold_case: bool = False) -> str:
    """What of a text takes part in comparisons; white space at its ends does not."""
    return _view(text, fold_case)[0].strip()


def is_letter(character: str) -> bool:
    """Whether a character is a letter or a mark that belongs to one."""
    return unicodedata.category(character)[0] in "LM"


def joins(left: str, right: str) -> bool:
    """Whether two neighbouring characters stand inside one word; "" is the end of the text.

    Letters, digits, marks and the underscore join, those of scripts without spaces never do. An apostrophe or hyphen
    is the end of a word, so that "Harry" is found in "Harry's".
    """
    return bool(left and right) and all(_is_word(one) for one in (left, right))


def _is_word(character: str) -> bool:
    if character.isascii():
        return character.isalnum() or character == "_"
    code = ord(character)
    if any(first <= code <= last for first, last in _UNSPACED):
        return False
    return unicodedata.category(character)[0] in "LMN"


class AnchorMatcher:
    """Finds keys in texts.

    Args:
        keys: Texts to find; of keys that compare equal only the first is found. Keys that are empty once compared
            are never found.
        fold_case: Whether case is ignored.
    """

    def __init__(self, keys: Sequence[str], *, fold_case: bool = False) -> None:
        self._fold_case = fold_case
        self._automaton = ahocorasick.Automaton()
        for number, key in enumerate(keys):
            shown = comparable(key, fold_case=fold_case)
            if shown and shown not in self._automaton:
                self._automaton.add_word(shown, (len(shown), number))
        self._empty = not len(self._automaton)
        if not self._empty:
            self._automaton.make_automaton()

    def all_in(self, text: str, *, before: str = "", after: str = "") -> list[Found]:
        """Every whole-word occurrence, overlapping ones too, by start and then the longest first.

        Args:
            text: Any text.
            before: What stands before it, for the word boundary there; the last character is enough.
            after: What stands behind it; the first character is enough.
        """
        if self._empty or not text:
            return []
        shown, starts, ends = _view(text, self._fold_case)
        found = []
        for last, (length, number) in self._automaton.iter(shown):
            first = last + 1 - length
            if first and starts[first] == starts[first - 1]:
                continue  # begins or ends inside what is one character in the text, such as the "s" of a folded "ß"
            if last + 1 < len(shown) and ends[last] == ends[last + 1]:
                continue
            start, end = starts[first], ends[last]
            left = text[start - 1] if start else before[-1:]
            right = text[end] if end < len(text) else after[:1]
            if not joins(left, text[start]) and not joins(text[end - 1], right):
                found.append(Found(start, end, number))
        return sorted(found, key=lambda one: (one.start, -one.end))

    def find(self, text: str, *, before: str = "", after: str = "") -> list[Found]:
        """Occurrences that do not overlap, left to right; where several begin, the longest. Arguments: `all_in`."""
        kept = []
        reached = 0
        for one in self.all_in(text, before=before, after=after):
            if one.start >= reached:
                kept.append(one)
                reached = one.end
        return kept


def _view(text: str, fold_case: bool) -> tuple[str, list[int], list[int]]:
    """The text as it is compared, and for each of its characters where the original's begins and ends."""
    shown: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    place = 0
    while place < len(text):
        character = text[place]
        end = place + 1
        if character.isspace():
            while end < len(text) and text[end].isspace():
                end += 1
            piece = "\n" if text.count("\n", place, end) > 1 else " "
        else:
            while end < len(text) and not text[end].isascii() and unicodedata.combining(text[end]):
                end += 1
            piece = character if character.isascii() and end == place + 1 else _composed(text[place:end])
            if fold_case:
                piece = piece.casefold()
        shown.append(piece)
        starts.extend([place] * len(piece))
        ends.extend([end] * len(piece))
        place = end
    return "".join(shown), starts, ends


def _composed(piece: str) -> str:
    return unicodedata.normalize("NFC", piece).replace("\u2019", "'")
