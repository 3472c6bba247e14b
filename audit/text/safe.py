"""Show untrusted text without letting it steer the terminal, and name what the user may have meant."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable

# ECMA-48 control sequences: CSI ... final byte; OSC, DCS, SOS, PM, APC ... up to BEL or ST; two-byte escapes.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
)
_JOINERS = "\u200c\u200d"  # needed by Persian, Indic scripts and emoji; they move no cursor


def for_terminal(text: str) -> str:
    """``text`` without escape sequences, control characters and invisible direction marks.

    Kept: newline, tab, and the two zero-width joiners that scripts need. Lone surrogates, which no terminal can
    print, become U+FFFD. The result may still hold ``[`` and ``]``: pass it through ``rich.markup.escape``
    before it is printed with markup.
    """
    return "".join(_shown_character(character) for character in _ESCAPES.sub("", text))


def _shown_character(character: str) -> str:
    if character in "\n\t" or character in _JOINERS:
        return character
    category = unicodedata.category(character)
    if category == "Cs":
        return "\ufffd"
    if category in ("Zl", "Zp"):
        return " "
    return "" if category in ("Cc", "Cf") else character


def quoted(value: object, *, limit: int = 60) -> str:
    """``repr`` of a value for an error message: escapes nothing can hide in, cut to ``limit`` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 4] + "..." + text[-1]


def printable(text: object) -> str:
    """``text`` with bytes of a path that are not UTF-8 written as escapes, so that JSON can hold it."""
    return str(text).encode("utf-8", "backslashreplace").decode()


def counted(number: int, noun: str) -> str:
    """``"1 text"``, ``"2,000 texts"``; the noun's plural takes an s."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def nearest_first(name: str, known: Iterable[str]) -> list[str]:
    """All of ``known``, those most like ``name`` first; equally like ones in alphabetical order."""

    def unlikeness(candidate: str) -> tuple[float, str]:
        return -difflib.SequenceMatcher(None, name.lower(), candidate.lower()).ratio(), candidate

    return sorted(known, key=unlikeness)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``" Did you mean 'x'?"`` with a leading space when another known name is like ``name``, else nothing."""
    lowered = {candidate.lower(): candidate for candidate in sorted(known) if candidate != name}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return f" Did you mean {lowered[close[0]]!r}?" if close else ""
