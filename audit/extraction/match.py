"""Nearest training row of every text, by embedding and by string, in the three views.

    m_i = max_j s(i, j), j over the training rows, and the j that attains it (the lowest of equal ones)

with s the cosine of two embeddings, or Levenshtein's or Indel's similarity. Everything that is later said of
generations rests on these maxima, and so does the null: the maxima of held-out rows and of the base model's
generations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import InputError
from ..matching.dense import pairs_above, top_k
from ..matching.strings import TextCorpus
from ..runs.shards import ShardedTable
from .config import Arm, MatchPlan
from .coverage import hits_by_row
from .sides import Floats, Nearest, Rows, Side

PART_TEXTS = 4_096  # whose search is lost at most when the work is killed
PART_PAIRS = 4_000_000  # likewise, of strings: minutes
LEAST_TEXTS = 128  # of a part, so that a large corpus is gone through for as many at once
KEPT_FROM = 1_000_000  # pairs; fewer are compared again sooner than they are kept
Encode = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts -> unit vectors, shape (n, d); zeros for a text of which the encoder sees nothing."""
OpenParts = Callable[[str, int], ShardedTable]  # (name, number of parts) -> where finished parts are kept


class Index:
    """Training rows of one view, made ready to be searched by each arm.

    Args:
        rows: The rows; those too short are left out, and row numbers stay those of the whole set.
        name: Of this index among those of an audit, in letters, digits and hyphens.
        encode: Embeds texts.
        plan: The string floor.
        open_parts: Where finished parts of a search are kept, so that an interrupted one goes on; the name says which
            index, texts and arm.
        on_done: Called with the number of texts more that were searched for.

    Raises:
        InputError: No row is long enough, or the encoder sees nothing of any.
    """

    def __init__(
        self,
        rows: Side,
        name: str,
        *,
        encode: Encode,
        plan: MatchPlan,
        open_parts: OpenParts,
        on_done: Callable[[int], None],
    ) -> None:
        if not rows.compared.any():
            raise InputError(
                f"no training row has {plan.least_words} words, so nothing can be compared; lower least_words."
            )
        self._name = name
        self._n_rows = len(rows.texts)
        self._numbers = np.flatnonzero(rows.compared)
        vectors = encode(rows.chosen)
        seen = vectors.any(axis=1)
        if not seen.any():
            raise InputError("the encoder sees nothing of any training row; give one for the language of the rows.")
        self._vectors, self._seen = vectors[seen], self._numbers[seen]
        self._encode = encode
        self._strings = {arm: TextCorpus(rows.chosen, arm) for arm in ("levenshtein", "indel")}
        self._floor = plan.string_floor
        self._open = open_parts
        self._on_done = on_done

    def nearest(self, side: Side, arm: Arm, *, floor: float | None = None) -> Nearest:
        """The best row of each text, in parts that an interrupted search does not do again.

        Args:
            side: The texts.
            arm: The arm.
            floor: Of strings, in place of the plan's.
        """
        name = f"{self._name}-{side.name}-{arm}{'' if floor is None else f'-{floor:.2f}'.replace('.', '_')}"
        floor = self._floor if floor is None else floor
        chosen = side.chosen
        if not chosen:
            return side.spread(np.empty(0), np.empty(0, dtype=np.int64))
        size = PART_TEXTS
        if arm != "embedding":
            size = min(size, max(LEAST_TEXTS, PART_PAIRS // len(self._numbers)))
        pieces = [chosen[start : start + size] for start in range(0, len(chosen), size)]
        if len(chosen) * len(self._numbers) < KEPT_FROM:
            found = [self._search(piece, arm, floor) for piece in pieces]
            self._on_done(len(chosen))
            return side.spread(*(np.concatenate(column) for column in zip(*found, strict=True)))
        with self._open(name, len(pieces)) as parts:
            self._on_done(sum(len(pieces[number]) for number in parts.done()))
            for number in parts.missing():
                one = self._search(pieces[number], arm, floor)
                parts.write(number, pa.table({"similarity": one.similarity, "row": one.rows}))
                self._on_done(len(pieces[number]))
            whole = parts.assemble()
        return side.spread(whole["similarity"].to_numpy(), whole["row"].to_numpy())

    def _search(self, texts: Sequence[str], arm: Arm, floor: float) -> Nearest:
        if arm == "embedding":
            vectors = self._encode(texts)
            seen = vectors.any(axis=1)
            similarity, rows = np.zeros(len(texts)), np.full(len(texts), -1, dtype=np.int64)
            if seen.any():
                top = top_k(vectors[seen], self._vectors)
                similarity[seen] = np.minimum(top.scores[:, 0].astype(np.float64), 1.0)
                rows[seen] = self._seen[top.rows[:, 0]]
            return Nearest(similarity, rows)
        best = self._strings[arm].best(texts, floor)
        return Nearest(np.nan_to_num(best.similarity), np.where(best.rows < 0, -1, self._numbers[best.rows]))

    def pairs(self, side: Side, arm: Arm, thresholds: Floats) -> tuple[Rows, Rows]:
        """All (text, training row) whose similarity is *above* the text's threshold; thresholds of shape (n,)."""
        places = np.flatnonzero(side.compared)
        if not len(places):
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        lowest = float(thresholds[places].min())
        if arm == "embedding":
            vectors = self._encode(side.chosen)
            seen = np.flatnonzero(vectors.any(axis=1))
            if not len(seen):
                return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
            found = pairs_above(vectors[seen], self._vectors, min(max(lowest, -0.999), 1.0))
            queries, values = seen[found.queries], found.scores.astype(np.float64)
            numbers, rows = self._seen, found.rows
        else:
            strings = self._strings[arm].pairs_above(side.chosen, max(lowest, self._floor))
            queries, rows, values = strings.queries, strings.rows, strings.similarity
            numbers = self._numbers
        above = np.minimum(values, 1.0) > thresholds[places][queries]
        return places[queries[above]], numbers[rows[above]]

    def hits_any(self, side: Side, arm: Arm, thresholds: Floats) -> Rows:
        """Texts above their threshold for each training row, each counted once for a row, shape (N,)."""
        queries, rows = self.pairs(side, arm, thresholds)
        once = np.unique(np.stack([queries, rows]), axis=1)[1] if len(queries) else rows
        return hits_by_row(once, self._n_rows)
