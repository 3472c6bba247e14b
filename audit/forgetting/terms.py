"""Which of a list of expressions stand in a text, as whole words.

Text and terms are brought to NFC, runs of white space become one space, and the typographic apostrophe the plain one.
A term counts where its first and last letter or digit begin and end a word: "Ron" is not found in "Ronald" and is in
"Ron's". A mark that stands on a letter, such as a vowel of Hindi, belongs to its word. Scripts written without spaces
have no such borders: where a term begins or ends with a wide (Chinese, Japanese, Korean) character, none is asked for
there. Not so for Thai, Lao, Khmer and Burmese: a term inside a run of their letters is not found.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

from ..errors import InputError
from ..text.safe import quoted

#: "as written": a term with a capital letter is found in its own letters or all in capitals, another in any case
#: ("Ash" is no "ash"); "any": upper and lower case are one.
Case = Literal["as written", "any"]
_SPACE = re.compile(r"\s+")


def canonical(text: str) -> str:
    """``text`` as it is compared: NFC, one space for each run of white space, plain apostrophes."""
    return _SPACE.sub(" ", unicodedata.normalize("NFC", text).replace("\u2019", "'"))


def words(text: str) -> list[str]:
    """Words in one case: runs of letters and digits with the marks on them, and each wide character by itself."""
    found: list[str] = []
    before = ""  # what the next letter may be added to: "word", "wide" (a mark alone may) or nothing
    for character in canonical(text).casefold():
        if is_mark(character) and before:
            found[-1] += character
        elif not character.isalnum():
            before = ""
        elif _is_wide(character):
            found.append(character)
            before = "wide"
        elif before == "word":
            found[-1] += character
        else:
            found.append(character)
            before = "word"
    return found


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in ("W", "F")


def is_mark(character: str) -> bool:
    """Whether it stands on the letter before it: accents that NFC leaves apart, vowel signs. False for ""."""
    return bool(character) and unicodedata.category(character) in ("Mn", "Mc")


@dataclass(frozen=True, slots=True)
class Terms:
    """Expressions to look for.

    Attributes:
        listed: The expressions; one that stands twice counts once.
        case: Which upper and lower case is told apart.
    """

    listed: tuple[str, ...]
    case: Case = "as written"

    def __post_init__(self) -> None:
        if self.case not in get_args(Case):
            raise InputError(f"case is {quoted(self.case)}; expected one of {', '.join(map(repr, get_args(Case)))}.")
        for term in self.listed:
            if not isinstance(term, str) or not any(character.isalnum() for character in term):
                raise InputError(f"the term {quoted(term)} holds no letter or digit; remove it from the list.")

    def found_in(self, text: str, *, start: int = 0) -> tuple[str, ...]:
        """The terms that stand in ``text``, in the list's order.

        Args:
            text: Any text.
            start: A term counts only if it begins at this character of ``canonical(text)`` or later; what stands
                before still decides where a word begins.
        """
        whole = canonical(text)
        lowered = whole.lower()
        found = []
        for term in dict.fromkeys(self.listed):
            small, pattern = _prepared(term, self.case)
            if small in lowered and _stands(pattern, whole, start):
                found.append(term)
        return tuple(found)


def _stands(pattern: re.Pattern[str], text: str, start: int) -> bool:
    """Whether the pattern matches from ``start`` on where no word goes on by a mark, which Python's \\w leaves out."""
    while match := pattern.search(text, start):
        joined = is_mark(text[match.start() - 1 : match.start()]) and _is_word(text[match.start()])
        if not joined and not is_mark(text[match.end() : match.end() + 1]):
            return True
        start = match.start() + 1
    return False


@lru_cache(maxsize=65_536)
def _prepared(term: str, case: Case) -> tuple[str, re.Pattern[str]]:
    """The term in small letters, which a text must hold, and the pattern that decides."""
    wanted = canonical(term).strip()
    forms = re.escape(wanted)
    as_written = case == "as written" and wanted != wanted.lower()
    if as_written:
        forms = f"(?:{forms}|{re.escape(wanted.upper())})"
    before = "" if _is_wide(wanted[0]) or not _is_word(wanted[0]) else r"(?<!\w)"
    after = "" if _is_wide(wanted[-1]) or not _is_word(wanted[-1]) else r"(?!\w)"
    return wanted.lower(), re.compile(f"{before}{forms}{after}", 0 if as_written else re.IGNORECASE)


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"
