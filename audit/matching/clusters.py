r"""Near-duplicate texts of a set: candidates by MinHash, verified by what they share, joined.

A text, normalised to NFC with single spaces, becomes the set S of its runs of w words (itself, if it has fewer). Texts
are joined if they are equal, or if

    J = |S1 & S2| / |S1 | S2| >= threshold,

computed in full for all pairs that agree in one of b bands of r MinHashes, which a pair does with probability
1 - (1 - J^r)^b: 0.9998 at J = 0.7 for the 32 bands of 4 used here, 0.988 at 0.6. Clusters are the connected
components, each named by its lowest row. So no cluster rests on a hash alone, and equal texts always share one.

Source: spec of the extraction, sections 6 and 7. Departures: 32 x 4 bands instead of 16 x 8: more candidates and fewer
misses, since candidates are verified here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash, RMinHashLSH

from ..errors import InputError
from ..stats.checks import count

_BANDS: Final = 32
_ROWS: Final = 4


def near_duplicates(
    texts: Sequence[str],
    *,
    threshold: float = 0.7,
    words: int = 3,
    seed: int,
    on_done: Callable[[int], None] | None = None,
) -> NDArray[np.int64]:
    """The cluster of each text, named by its lowest row; shape (N,).

    Args:
        texts: Any number; the empty ones are alike.
        threshold: J of near duplicates, in [0.5, 1]; below, candidates would be missed.
        words: w, 1 or more.
        seed: Of the hashes, 0 or more.
        on_done: Called with the number of texts done.

    Raises:
        InputError: An option is out of range.
    """
    if not 0.5 <= threshold <= 1:
        raise InputError(f"threshold is {threshold}; expected a Jaccard similarity from 0.5 to 1.")
    count(words, "words", least=1)
    count(seed, "seed", least=0)
    parents = list(range(len(texts)))
    known: dict[str, int] = {}
    index = RMinHashLSH(threshold=threshold, num_perm=_BANDS * _ROWS, num_bands=_BANDS)
    for row, text in enumerate(texts):
        plain = normalised(text)
        first = known.setdefault(plain, row)
        if first != row:
            _join(parents, first, row)
        elif plain:
            own = shingles(plain, words)
            signature = RMinHash(num_perm=_BANDS * _ROWS, seed=seed)
            signature.update(sorted(own))
            for other in index.query(signature):
                if _root(parents, other) != _root(parents, row):
                    theirs = shingles(normalised(texts[other]), words)
                    shared = len(own & theirs)
                    if shared >= threshold * (len(own) + len(theirs) - shared):
                        _join(parents, other, row)
            index.insert(row, signature)
        if on_done is not None:
            on_done(row + 1)
    return np.array([_root(parents, row) for row in range(len(texts))], dtype=np.int64)


def normalised(text: str) -> str:
    """NFC, white space single, none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def shingles(plain: str, words: int) -> set[str]:
    """The runs of that many words of a normalised text; the text itself, where it has fewer."""
    parts = plain.split(" ")
    return {" ".join(parts[start : start + words]) for start in range(max(1, len(parts) - words + 1))}


def _root(parents: list[int], row: int) -> int:
    while parents[row] != row:
        parents[row] = parents[parents[row]]
        row = parents[row]
    return row


def _join(parents: list[int], a: int, b: int) -> None:
    """The lower of the two roots becomes the root of both."""
    low, high = sorted((_root(parents, a), _root(parents, b)))
    parents[high] = low
