"""Texts of one set in one view, and the nearest training row of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..matching.words import n_words
from .config import Arm

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


class Nearest(NamedTuple):
    """The best match of each text.

    Attributes:
        similarity: Shape (n,); NaN where a text was not compared, 0 where no row reaches the string floor or the
            encoder sees nothing of the text.
        rows: Training row, shape (n,); -1 where there is none.
    """

    similarity: Floats
    rows: Rows


@dataclass(frozen=True, slots=True)
class Side:
    """Texts of one set in one view.

    Attributes:
        name: Of the set: "generated", "trained", "held_out" or "base".
        texts: One for each generation or row; None where there is none (a reject).
        compared: Whether each is long enough to be compared, shape (n,).
        lengths: In words, shape (n,); 0 where there is no text.
    """

    name: str
    texts: tuple[str | None, ...]
    compared: NDArray[np.bool_]
    lengths: Rows

    @classmethod
    def of(cls, name: str, texts: Sequence[str | None], *, least_words: int) -> Side:
        lengths = np.array([0 if text is None else n_words(text) for text in texts], dtype=np.int64)
        return cls(name, tuple(texts), lengths >= least_words, lengths)

    @property
    def chosen(self) -> list[str]:
        """The texts that are compared."""
        return [text for text, use in zip(self.texts, self.compared, strict=True) if use and text is not None]

    def only(self, places: Rows) -> Side:
        """The same texts with nothing but these places compared."""
        compared = np.zeros(len(self.texts), dtype=bool)
        compared[places] = True
        return Side(self.name, self.texts, compared, self.lengths)

    def spread(self, similarity: Floats, rows: Rows) -> Nearest:
        """Results of the texts that are compared, at the places of all."""
        every = np.full(len(self.texts), np.nan), np.full(len(self.texts), -1, dtype=np.int64)
        every[0][self.compared], every[1][self.compared] = similarity, rows
        return Nearest(*every)


class Searched(Protocol):
    """Training rows of one view that texts are looked for in: an index of them, or what was kept of its answers."""

    def nearest(self, side: Side, arm: Arm, *, floor: float | None = None) -> Nearest:
        """The best row of each text; ``floor`` of strings, in place of the plan's."""
        ...

    def hits_any(self, side: Side, arm: Arm, thresholds: Floats) -> Rows:
        """Texts above their threshold for each training row, each counted once for a row, shape (N,)."""
        ...
