r"""ROUGE-L recall with stems, as TOFU measures answers.

    LCS(stems of the answer, stems of what was written) / stems of the answer        (Lin 2004)

Source: TOFU's code (arXiv:2401.06121), which calls rouge-score with its stemmer: Porter's, on words of more than three
letters. Departure: words of any script, where that package drops every letter outside a-z.
"""

from __future__ import annotations

from typing import Final

from nltk.stem.porter import PorterStemmer
from rapidfuzz.distance import LCSseq

from ..forgetting.terms import words

_STEMMER: Final = PorterStemmer()
_SHORT: Final = 3  # letters; words up to here are not stemmed


def stems(text: str) -> list[str]:
    """The words of a text in small letters, longer ones by their stem."""
    return [word if len(word) <= _SHORT else str(_STEMMER.stem(word)) for word in words(text)]


def rouge_l_recall(answer: str, written: str) -> float | None:
    """Recall in [0, 1]; None where the answer has no words.

    Worked: answer "the cats sat on the mat", written "cat sits on a mat": the stems cat, on and mat are common in this
    order, 3/6.
    """
    theirs = stems(answer)
    return LCSseq.similarity(theirs, stems(written)) / len(theirs) if theirs else None
