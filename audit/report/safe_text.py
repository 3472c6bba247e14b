"""Make text from models, plans and files fit to be shown: nothing invisible, nothing endless.

Escaping for HTML is jinja2's part, escaping for Markdown is that of `audit.report.tables`. This module takes
care of what escaping leaves alone: control characters, direction overrides, lone surrogates, great length.
"""

from __future__ import annotations

import unicodedata

_JOINERS = frozenset("\u200c\u200d")  # needed to write Persian, Indic scripts and many emoji
_UNSAFE = frozenset({"Cc", "Cf", "Cn", "Cs", "Zl", "Zp"})


def _shown(character: str, *, keep: str) -> str:
    if character in keep or character in _JOINERS or unicodedata.category(character) not in _UNSAFE:
        return character
    return f"[U+{ord(character):04X}]"


def clean(text: str, *, limit: int = 2_000, keep: str = "\n\t") -> str:
    """Text that can be shown: invisible and control characters become visible as ``[U+202E]``.

    Replacing instead of deleting keeps the trace of an attempt to mislead, and two different names never
    look the same because of it. A carriage return before a line feed is dropped.

    Args:
        text: Any string, also with lone surrogates.
        limit: Longest text that is shown whole, in characters of ``text``, >= 1; the rest is counted.
        keep: Characters that stay although their category is unsafe.

    Returns:
        Text that encodes as UTF-8 and holds no control, format (but joiners), surrogate or unassigned
        character.
    """
    rest = len(text) - limit
    shown = text[:limit].replace("\r\n", "\n")
    if not shown.isprintable():  # which no character of an unsafe category is
        shown = "".join(_shown(c, keep=keep) for c in shown)
    return shown if rest <= 0 else f"{shown}... [{rest:,} more characters are in the run's files]"


def one_line(text: str, *, limit: int = 300) -> str:
    """`clean` text on one line: every run of white space becomes one space."""
    return clean(" ".join(text.split()), limit=limit, keep="")


def width(text: str) -> int:
    """Columns that ``text`` takes in a terminal: wide characters count 2, combining ones 0."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def padded(text: str, columns: int, *, right: bool = False) -> str:
    """``text`` filled with spaces to ``columns`` terminal columns; on the left when ``right``-aligned."""
    fill = " " * max(0, columns - width(text))
    return fill + text if right else text + fill
