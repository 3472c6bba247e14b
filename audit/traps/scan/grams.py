"""Which of many short patterns begin at which of many places: a table of hashed grams, looked up by whole arrays."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)  # Knuth's multiplicative hashing: 2^64 over the golden ratio
_SLOTS_A_KEY: Final = 32  # so that a strange key passes the first look in about 3% of the cases
_MOST_BITS: Final = 26


class GramTable:
    """Hashed grams and what each stands for; a gram can stand for several values.

    Args:
        keys: Hash of each gram, uint64, shape (n,).
        values: What it stands for, int64, shape (n,).
    """

    def __init__(self, keys: NDArray[np.uint64], values: NDArray[np.int64]) -> None:
        order = np.argsort(keys, kind="stable")
        self._keys, first = np.unique(keys[order], return_index=True)
        self._starts = np.append(first, len(keys)).astype(np.int64)
        self._values = values[order]
        bits = min(_MOST_BITS, max(10, (_SLOTS_A_KEY * len(keys)).bit_length()))
        self._shift = np.uint64(64 - bits)
        self._seen = np.zeros(1 << bits, dtype=np.bool_)
        self._seen[self._slots(self._keys)] = True

    def lookup(self, keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Every pair of a place in ``keys`` and a value that its gram stands for, in order of place.

        Two grams with the same 64-bit hash are taken for one another: whoever asks compares what was found.
        """
        places = np.flatnonzero(self._seen[self._slots(keys)])
        if not len(places) or not len(self._keys):
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        rows = np.minimum(np.searchsorted(self._keys, keys[places]), len(self._keys) - 1)
        known = self._keys[rows] == keys[places]
        places, rows = places[known], rows[known]
        counts = self._starts[rows + 1] - self._starts[rows]
        before = np.cumsum(counts) - counts
        inside = np.arange(counts.sum()) - np.repeat(before, counts)
        return np.repeat(places, counts), self._values[np.repeat(self._starts[rows], counts) + inside]

    def _slots(self, keys: NDArray[np.uint64]) -> NDArray[np.intp]:
        return ((keys * _GOLDEN) >> self._shift).astype(np.intp)
