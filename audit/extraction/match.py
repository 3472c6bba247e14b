"""Nearest training row of every text, by embedding and by string, in the three views.

    m_i = max_j s(i, j), j over the training rows, and the j that attains it (the lowest of equal ones)

with s the cosine of two embeddings, or Levenshtein's or Indel's similarity. Everything that is later said of
generations rests on these maxima, and so does the null: the maxima of held-out rows and of the base model's
generations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..matching.dense import pairs_above, top_k
from ..matching.strings import TextCorpus
from .config import ARMS, Arm, MatchPlan

Encode = Callable[[Sequence[str]], NDArray[np.float32]]  # texts -> unit vectors, shape (n, d)
Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


class Nearest(NamedTuple):
    """The best match of each text.

    Attributes:
        similarity: Shape (n,); NaN where a text was not compared, 0 where no row reaches the string floor.
        rows: Training row, shape (n,); -1 where there is none.
    """

    similarity: Floats
    rows: Rows


@dataclass(frozen=True, slots=True)
class Side:
    """Texts of one set in one view.

    Attributes:
        texts: One for each generation or row; None where there is none (a reject).
        compared: Whether each is long enough to be compared, shape (n,).
        lengths: In words, shape (n,); 0 where there is no text.
    """

    texts: tuple[str | None, ...]
    compared: NDArray[np.bool_]
    lengths: Rows

    @classmethod
    def of(cls, texts: Sequence[str | None], *, least_words: int) -> Side:
        lengths = np.array([0 if text is None else len(text.split()) for text in texts], dtype=np.int64)
        return cls(tuple(texts), lengths >= least_words, lengths)

    @property
    def chosen(self) -> list[str]:
        """The texts that are compared."""
        return [text for text, use in zip(self.texts, self.compared, strict=True) if use and text is not None]

    def spread(self, similarity: Floats, rows: Rows) -> Nearest:
        """Results of the texts that are compared, at the places of all."""
        every = np.full(len(self.texts), np.nan), np.full(len(self.texts), -1, dtype=np.int64)
        every[0][self.compared], every[1][self.compared] = similarity, rows
        return Nearest(*every)


class Index:
    """Training rows of one view, made ready to be searched by each arm.

    Args:
        rows: The rows; those too short are left out, and row numbers stay those of the whole set.
        encode: Embeds texts.
        plan: The string floor.

    Raises:
        InputError: No row is long enough.
    """

    def __init__(self, rows: Side, *, encode: Encode, plan: MatchPlan) -> None:
        if not rows.compared.any():
            raise InputError(
                f"no training row has {plan.least_words} words, so nothing can be compared; lower least_words."
            )
        self._numbers = np.flatnonzero(rows.compared)
        self._vectors = encode(rows.chosen)
        self._encode = encode
        self._strings = {arm: TextCorpus(rows.chosen, arm) for arm in ("levenshtein", "indel")}
        self._floor = plan.string_floor

    def nearest(self, side: Side, arm: Arm) -> Nearest:
        """The best row of each text."""
        if not side.compared.any():
            return side.spread(np.empty(0), np.empty(0, dtype=np.int64))
        if arm == "embedding":
            top = top_k(self._encode(side.chosen), self._vectors)
            return side.spread(np.minimum(top.scores[:, 0].astype(np.float64), 1.0), self._numbers[top.rows[:, 0]])
        best = self._strings[arm].best(side.chosen, self._floor)
        rows = np.where(best.rows < 0, -1, self._numbers[best.rows])
        return side.spread(np.nan_to_num(best.similarity), rows)

    def pairs(self, side: Side, arm: Arm, thresholds: Floats) -> tuple[Rows, Rows]:
        """All (text, training row) whose similarity is *above* the text's threshold; thresholds of shape (n,)."""
        places = np.flatnonzero(side.compared)
        if not len(places):
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        lowest = float(thresholds[places].min())
        if arm == "embedding":
            found = pairs_above(self._encode(side.chosen), self._vectors, min(max(lowest, -0.999), 1.0))
            queries, rows, values = found.queries, found.rows, found.scores.astype(np.float64)
        else:
            strings = self._strings[arm].pairs_above(side.chosen, max(lowest, self._floor))
            queries, rows, values = strings.queries, strings.rows, strings.similarity
        above = np.minimum(values, 1.0) > thresholds[places][queries]
        return places[queries[above]], self._numbers[rows[above]]


def all_nearest(index: Index, side: Side) -> dict[Arm, Nearest]:
    """The best row by every arm."""
    return {arm: index.nearest(side, arm) for arm in ARMS}
