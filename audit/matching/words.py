"""Words of a text in any writing: what white space divides, and each character where a script has no spaces.

Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan and their like put no space between words, so that a text of them
would be one word however long it is. There a character, with the marks that stand on it, counts as a word of its own.
Hangul has spaces and is divided at them. What shows nothing (zero-width and control characters, variation selectors,
U+FFFD) is no word, however much of it there is.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_WITHOUT_MARKS: Final = (
    (0x2E80, 0x2FFF),  # radicals of Han
    (0x3100, 0x312F),  # Bopomofo
    (0x31A0, 0x31FF),  # Bopomofo, strokes of Han, Katakana
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),  # Han
    (0xA000, 0xA4CF),  # Yi
    (0xF900, 0xFAFF),  # Han
    (0xFF66, 0xFF9D),  # Katakana of half width
    (0x16FE0, 0x18DFF),  # Tangut, Khitan, Nushu
    (0x1AFF0, 0x1B2FF),  # Kana, Nushu
    (0x20000, 0x3FFFD),  # Han
)
_WITH_MARKS: Final = (
    (0x0E00, 0x0FFF),  # Thai, Lao, Tibetan
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17B3),  # Khmer, without its two invisible vowels
    (0x17B6, 0x17FF),  # Khmer
    (0x1950, 0x19FF),  # Tai Le, New Tai Lue, Khmer symbols
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x1B00, 0x1B7F),  # Balinese
    (0x3001, 0x30FF),  # punctuation of Han, Hiragana, Katakana
    (0xA980, 0xA9FF),  # Javanese, Myanmar
    (0xAA60, 0xAADF),  # Myanmar, Tai Viet
)
_INVISIBLE: Final = (
    (0x00, 0x08),
    (0x0E, 0x1B),
    (0x7F, 0x84),
    (0x86, 0x9F),
    (0xAD, 0xAD),  # soft hyphen
    (0x034F, 0x034F),  # grapheme joiner
    (0x061C, 0x061C),
    (0x115F, 0x1160),  # fillers of Hangul
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),  # Mongolian selectors
    (0x200B, 0x200F),  # zero width, direction
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0x2800, 0x2800),  # blank of Braille
    (0x3164, 0x3164),
    (0xD800, 0xDFFF),  # half of a character
    (0xFE00, 0xFE0F),  # variation selectors
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFFB),
    (0xFFFD, 0xFFFF),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),  # tags, variation selectors
)


def words(text: str) -> list[str]:
    """The words in order, as they are written, without what is invisible before them.

    For a text of visible characters of scripts with spaces this is ``text.split()``. Time grows with the length of the
    text, whatever is in it.
    """
    return _WORD.findall(text)


def n_words(text: str) -> int:
    """How many words a text has, >= 0."""
    return len(words(text))


def _class(ranges: tuple[tuple[int, int], ...]) -> str:
    """The inside of a character class."""
    return "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in ranges)


def _marks() -> tuple[tuple[int, int], ...]:
    """What stands on the character before it: vowels, tones, subjoined letters."""
    every = (code for low, high in _WITH_MARKS for code in range(low, high + 1))
    return tuple((code, code) for code in every if unicodedata.category(chr(code)).startswith("M"))


def _pattern() -> re.Pattern[str]:
    own, invisible = _class(_WITHOUT_MARKS + _WITH_MARKS), _class(_INVISIBLE)
    return re.compile(rf"[^\s{own}{invisible}][^\s{own}]*|[{own}][{_class(_marks())}{invisible}]*")


_WORD: Final = _pattern()
