"""Text from runs where Streamlit reads Markdown: shown letter for letter, never as markup.

Streamlit reads Markdown in nearly every text that it is given, labels of widgets included: emphasis, links, images,
LaTeX between dollars, colours (``:red[...]``), emoji and icons by name, bare addresses, arrows made of hyphens. A
backslash takes the meaning from punctuation. What Streamlit still looks for in the finished text (names between
colons, addresses, arrows) is broken by a word joiner, which has no width.
"""

from __future__ import annotations

import re

from audit.report.safe_text import clean, one_line

JOINER = "\u2060"
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_BROKEN = (
    (re.compile(r":(?=[\w/+\-])"), f":{JOINER}"),  # emoji, icons, directives, http://
    (re.compile(r"(?<=[<>\-=~])(?=[<>\-=])"), JOINER),  # arrows, dashes, comparisons
    (re.compile(r"(?i)(?<=www)(?=\.)"), JOINER),
    (re.compile(r"@(?=\w)"), f"@{JOINER}"),
)


def plain(text: object, limit: int = 300, *, lines: bool = False) -> str:
    """Text that Markdown shows letter for letter, for labels, captions, titles and ``st.markdown``.

    Args:
        text: Anything; what is no string is written as one.
        limit: Longest text shown whole, in characters; the rest is counted.
        lines: Whether line ends stay, as paragraphs; else everything stands on one line.
    """
    if lines:
        return "\n\n".join(_inert(line) for line in clean(str(text), limit=limit).splitlines() if line.strip())
    return _inert(one_line(str(text), limit=limit))


def _inert(text: str) -> str:
    text = text.strip()
    for pattern, broken in _BROKEN:
        text = pattern.sub(broken, text)
    return _PUNCTUATION.sub(r"\\\1", text)


def cell(text: object, limit: int = 300) -> str:
    """Text for a cell of a dataframe, an option of a selectbox, ``st.text``: cleaned and cut, on one line."""
    return one_line(str(text), limit=limit)


def block(text: object, limit: int = 5_000) -> str:
    """Text of several lines for ``st.code(..., language=None)`` or ``st.text``: cleaned and cut."""
    return clean(str(text), limit=limit)
