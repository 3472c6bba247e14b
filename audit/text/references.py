"""Character references of HTML: ``&amp;``, ``&#233;``, ``&eacute;``."""

from __future__ import annotations

import html
import re
from typing import Final

_ZEROS: Final = re.compile(r"&#0+(?=[0-9])")
_NO_CHARACTER: Final = re.compile(r"&#[0-9]{8,};?")  # the last character, U+10FFFF, has seven digits


def resolved(source: str) -> str:
    """The source of a page with its references resolved; tags, attributes and comments stay as they are.

    As `html.unescape`, which fails on a number of thousands of digits.
    """
    return html.unescape(_NO_CHARACTER.sub("\ufffd", _ZEROS.sub("&#", source)))
