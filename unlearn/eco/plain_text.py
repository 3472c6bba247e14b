"""A text as it looks: what a reader, or a language model, takes for the same letters becomes the same letters.

    invisible characters, accents and marks over letters       left out
    full-width, bold, circled and other forms of a letter      the letter (Unicode's NFKC)
    Cyrillic and Greek letters that look like Latin ones       those, in words with Latin letters beside them

A classifier's tokenizer knows few of these forms and drops what it does not know, so that a name written in them is
hidden from it and not from the model. The list of look-alikes is ours and short: ordinary letters of two alphabets and
small capitals. Digits for letters are a reading of their own (`digits_read`), since a digit mostly means itself.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, NamedTuple

_MARKS: Final = (
    (0x0300, 0x036F), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x20D0, 0x20FF), (0xFE00, 0xFE0F), (0xFE20, 0xFE2F),
    (0xE0100, 0xE01EF),
)  # fmt: skip
_FILLERS: Final = "\u115f\u1160\u3164\uffa0"  # letters to Unicode, nothing to the eye
_ALIKE: Final = {
    ord(here): there
    for shown, meant in (
        ("АВЕКМНОРСТУХІЈЅаеорсухіјѕһԁԛԝ", "ABEKMHOPCTYXIJSaeopcyxijshdqw"),
        ("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧαικνορτυ", "ABEZHIKMNOPTYXaiknoptu"),
    )
    for here, there in zip(shown, meant, strict=True)
}  # fmt: skip
_SMALL_CAPITALS: Final = str.maketrans("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢıɑɡ", "abcdefghijklmnoprstuvwyziag")
_SIGNS: Final = (0x1F150, 0x1F170, 0x1F1E6)  # A to Z in black circles, in black squares, as parts of flags
_WORD: Final = re.compile(r"[^\W\d_]+")
_LATIN: Final = re.compile("[A-Za-z]")
_DIGITS: Final = str.maketrans("013457@$", "oieastas")
_MIXED: Final = re.compile(r"[\w@$]*(?:[A-Za-z][01345 7@$]|[01345 7@$][A-Za-z])[\w@$]*".replace(" ", ""))


class Plain(NamedTuple):
    """A text as it looks.

    Attributes:
        text: The letters.
        origins: For each character its place in the text as it was written, and at last that text's length.
    """

    text: str
    origins: list[int]


def plain(text: str) -> Plain:
    """The text as it looks; ASCII without control characters is as it was."""
    shown: list[str] = []
    origins: list[int] = []
    for place, character in enumerate(text):
        letters = character if " " <= character <= "~" else _letters(character)
        shown.append(letters)
        origins += [place] * len(letters)
    return Plain(_WORD.sub(_one_alphabet, "".join(shown)), [*origins, len(text)])


def digits_read(text: str) -> str:
    """The text with digits and signs read as letters in words that mix them: "P0tter" as "Potter", "1990" as it is."""
    return _MIXED.sub(lambda match: match[0].translate(_DIGITS), text)


def _letters(character: str) -> str:
    sign = next((ord(character) - first for first in _SIGNS if 0 <= ord(character) - first < 26), None)
    if sign is not None:
        return chr(ord("A") + sign)
    kept = "".join(one for one in unicodedata.normalize("NFKD", character) if not _is_hidden(one))
    return unicodedata.normalize("NFC", kept).translate(_SMALL_CAPITALS)


def _is_hidden(character: str) -> bool:
    kind = unicodedata.category(character)
    if kind[0] == "C":  # format, control, private and unassigned ones
        return not character.isspace()
    code = ord(character)
    return character in _FILLERS or (kind[0] == "M" and any(low <= code <= high for low, high in _MARKS))


def _one_alphabet(match: re.Match[str]) -> str:
    """Each letter for one letter, so that places stay."""
    word = match[0]
    return word.translate(_ALIKE) if _LATIN.search(word) else word
