"""Two texts made ready to stand beside one another: which words differ, and what was cut off."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from itertools import islice

from ..errors import InputError
from .figures import Comparison, Piece

_MOST_CHARACTERS = 8_000  # of one text: a writing without spaces is a single word
_WORD = re.compile(r"\S+")


def side_by_side(
    title: str, note: str, left: tuple[str, str], right: tuple[str, str], *, most_words: int = 400
) -> Comparison:
    """Mark the words of either text that have no counterpart in the other.

    Words are what white space divides; they are compared in order, as they are written (Ratcliff and Obershelp's
    matching of longest common runs, as in `difflib`). Only the beginnings of long texts are compared, so a word whose
    counterpart was cut off is marked; the side's name then says how much is shown. White space becomes one space, or
    one line break where it holds one.

    Args:
        title: What is compared.
        note: What is measured of the pair, or "".
        left: Name and text.
        right: Name and text.
        most_words: Words of either text that are compared and shown, >= 1. Of 8,000 characters no more is shown in any
            case.

    Raises:
        InputError: ``most_words`` is below 1.
    """
    if most_words < 1:
        raise InputError(f"most_words is {most_words}; expected 1 or more")
    names, words = [], []
    for name, text in (left, right):
        beginning, cut = _beginning(text, most_words)
        names.append(f"{name}, {cut}" if cut else name)
        words.append(beginning)
    ours, theirs = ([word for _, word in side] for side in words)
    differs = ([True] * len(ours), [True] * len(theirs))
    for block in SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks():
        for side, start in zip(differs, (block.a, block.b), strict=True):
            side[start : start + block.size] = [False] * block.size
    pieces = (_pieces(side, marks) for side, marks in zip(words, differs, strict=True))
    return Comparison(title, note, tuple(zip(names, pieces, strict=True)))


def _beginning(text: str, most_words: int) -> tuple[list[tuple[str, str]], str]:
    """(gap before it, word) for each word that is shown, and what to say of the cut, "" without one."""
    text = text.strip()
    words, end = [], 0
    for found in islice(_WORD.finditer(text[:_MOST_CHARACTERS]), most_words):
        gap, end = text[end : found.start()], found.end()
        words.append(("\n" if "\n" in gap else " " if gap else "", found[0]))
    total = len(text.split())
    if len(words) < total:
        return words, f"the first {len(words):,} of {total:,} words"
    if len(text) > _MOST_CHARACTERS:
        return words, f"the first {_MOST_CHARACTERS:,} of {len(text):,} characters"
    return words, ""


def _pieces(words: list[tuple[str, str]], differs: list[bool]) -> tuple[Piece, ...]:
    """Runs of words with the same mark; the gaps around a marked run are not marked."""
    pieces: list[Piece] = []
    for (gap, word), mark in zip(words, differs, strict=True):
        if pieces and pieces[-1][1] == mark:
            pieces[-1] = (pieces[-1][0] + gap + word, mark)
        elif mark and pieces:
            pieces[-1] = (pieces[-1][0] + gap, False)
            pieces.append((word, True))
        else:
            pieces.append((gap + word, mark))
    return tuple(pieces)
