r"""Levenshtein and Indel similarity of two texts, and of many texts against a corpus, exactly.

With d the fewest edits of characters (Indel: insertions and deletions only), r = shorter / longer length:

    Levenshtein  1 - d / max(|A|, |B|) <= r,        Indel  1 - d / (|A| + |B|) <= 2 r / (1 + r).

The caps hold because |A| - |B| characters must be inserted or deleted in any case, so a corpus that is sorted by length
is compared in the band that the cutoff allows. Inside it two more conditions take out what cannot reach the cutoff
before anything dear is computed, and lose nothing:

* an Indel similarity of s needs a Levenshtein similarity of 2 s - 1, since a replacement is worth two indels, and long
  texts are told apart by it several times as fast;
* at cutoffs of `trigrams.LEAST_CUTOFF` or more, long texts must share trigrams (`trigrams`).

Empty texts are refused: two of them have the similarity 1. Drop them before.

Memory: the texts once more as a list of references, about 100 MB for the trigrams of 4,096 queries and a tile, and
24 bytes for each pair found, three times over while pairs are put in order.

Source: spec of the extraction, sections 2 and 6. The distances are rapidfuzz's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import process
from rapidfuzz.distance import Indel, Levenshtein

from ..errors import InputError
from ..stats.checks import choice, count
from . import trigrams

Measure: TypeAlias = Literal["levenshtein", "indel"]
Floats: TypeAlias = NDArray[np.float64]
Rows: TypeAlias = NDArray[np.int64]
_SCORERS: Final[dict[str, Callable[..., float]]] = {
    "levenshtein": Levenshtein.normalized_similarity,
    "indel": Indel.normalized_similarity,
}
_LOOSE_FROM: Final = 0.75  # of Indel: below, Levenshtein at 2 s - 1 < 0.5 is no quicker
_ROUNDING: Final = 1e-5  # rapidfuzz drops half of the scores at its very cutoff, so it is given a little less
_ROWS: Final = 512  # of a tile
_QUERIES: Final = 128
_GROUP: Final = 32 * _QUERIES  # whose trigrams are held: 64 MB


class BestTexts(NamedTuple):
    """The best match of each query at or above the cutoff; equal ones by the lowest row.

    Attributes:
        similarity: Shape (G,), in [0, 1]; NaN where no text reaches the cutoff.
        rows: Shape (G,); -1 there.
    """

    similarity: Floats
    rows: Rows


class TextPairs(NamedTuple):
    """Pairs at or above a cutoff, in order of query and row; each part has shape (p,)."""

    queries: Rows
    rows: Rows
    similarity: Floats


def similarity(a: str, b: str, measure: Measure) -> float:
    """Similarity of two texts, in [0, 1].

    Raises:
        InputError: A text is empty, or there is no such measure.
    """
    choice(measure, "measure", tuple(_SCORERS))
    _not_empty([a, b], "text")
    return _SCORERS[measure](a, b)


def cap(shorter: int | Rows, longer: int | Rows, measure: Measure) -> Any:
    """The highest similarity that texts of these lengths can have."""
    return 1 - (longer - shorter) / (longer if measure == "levenshtein" else longer + shorter)


class TextCorpus:
    """A corpus, sorted by length once, that sets of queries are compared with.

    Args:
        texts: None empty.
        measure: "levenshtein" or "indel".
        workers: Threads; -1 is all cores.

    Raises:
        InputError: There are no texts, one is empty, or there is no such measure.
    """

    def __init__(self, texts: Sequence[str], measure: Measure, *, workers: int = -1) -> None:
        choice(measure, "measure", tuple(_SCORERS))
        self._measure: Measure = measure
        self._workers = workers
        self._order, self._lengths, self._texts = _by_length(texts, "corpus text")

    def best(self, queries: Sequence[str], cutoff: float, *, on_done: Callable[[int], None] | None = None) -> BestTexts:
        """The best match of each query.

        Args:
            queries: None empty.
            cutoff: Similarity that a match must have, in (0, 1].
            on_done: Called with the number of pairs done, of G x N; those outside the band count too.

        Raises:
            InputError: There are no queries, one is empty, or the cutoff is out of range.
        """
        scores, rows = np.full(len(queries), -1.0), np.full(len(queries), -1, dtype=np.int64)
        for own, places, found in self._hits(queries, cutoff, on_done):
            order = np.lexsort((places, -found, own))
            first = order[np.unique(own[order], return_index=True)[1]]
            own, places, found = own[first], places[first], found[first]
            better = (found > scores[own]) | ((found == scores[own]) & (places < rows[own]))
            scores[own[better]], rows[own[better]] = found[better], places[better]
        return BestTexts(np.where(rows < 0, np.nan, scores), rows)

    def pairs_above(
        self,
        queries: Sequence[str],
        cutoff: float,
        *,
        most_pairs: int = 50_000_000,
        on_done: Callable[[int], None] | None = None,
    ) -> TextPairs:
        """All pairs with a similarity of ``cutoff`` or more; arguments and errors as `best`.

        Raises:
            InputError: Also when there are more than ``most_pairs``.
        """
        count(most_pairs, "most_pairs", least=1)
        empty = np.empty(0, dtype=np.int64)
        parts = [TextPairs(empty, empty, np.empty(0))]
        n = 0
        for hits in self._hits(queries, cutoff, on_done):
            n += len(hits.rows)
            if n > most_pairs:
                raise InputError(
                    f"more than {most_pairs:,} pairs have a similarity of {cutoff} or more; they would not fit. Raise "
                    "the cutoff, give fewer queries at once, or raise most_pairs."
                )
            parts.append(hits)
        own, rows, found = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.lexsort((rows, own))
        return TextPairs(own[order], rows[order], found[order])

    def _hits(
        self, queries: Sequence[str], cutoff: float, on_done: Callable[[int], None] | None
    ) -> Iterator[TextPairs]:
        """Hits of each tile, in no order."""
        if not 0 < cutoff <= 1:
            raise InputError(f"cutoff is {cutoff}; expected a similarity above 0 and at most 1, for example 0.9.")
        order, lengths, texts = _by_length(queries, "query")
        done = 0
        for group in range(0, len(texts), _GROUP):
            end = min(group + _GROUP, len(texts))
            starts = range(group, end, _QUERIES)
            ours = [trigrams.Side(texts[at : min(at + _QUERIES, end)], self._measure, cutoff) for at in starts]
            for row in range(0, len(self._texts), _ROWS):
                size = len(self._texts[row : row + _ROWS])
                shortest, longest = int(self._lengths[row]), int(self._lengths[row + size - 1])
                first, last = _band(lengths[group:end], shortest, longest, cutoff, self._measure)
                theirs = trigrams.Side(self._texts[row : row + size] if first < last else [], self._measure, cutoff)
                for number in range(first // _QUERIES, -(-last // _QUERIES)):
                    own, rows, found = self._tile(ours[number], theirs, cutoff)
                    if len(own):
                        yield TextPairs(order[own + starts[number]], self._order[rows + row], found)
                done += (end - group) * size
                if on_done is not None:
                    on_done(done)

    def _tile(self, ours: trigrams.Side, theirs: trigrams.Side, cutoff: float) -> tuple[Rows, Rows, Floats]:
        """Place of the query, place of the text, similarity: of those of a tile at or above the cutoff."""
        steps: list[tuple[Measure, float]] = [(self._measure, cutoff - _ROUNDING)]
        if self._measure == "indel" and cutoff >= _LOOSE_FROM:
            steps.insert(0, ("levenshtein", 2 * cutoff - 1 - _ROUNDING))
        if ours.useful and theirs.useful:
            own, rows = trigrams.may_reach(ours, theirs)
            found = np.empty(0)
        else:
            measure, least = steps.pop(0)
            whole = process.cdist(
                ours.texts,
                theirs.texts,
                scorer=_SCORERS[measure],
                score_cutoff=least,
                dtype=np.float64,
                workers=self._workers,
            )
            own, rows = np.nonzero(whole)
            found = whole[own, rows]
        for measure, least in steps:
            left, right = [ours.texts[at] for at in own.tolist()], [theirs.texts[at] for at in rows.tolist()]
            scores = process.cpdist(
                left, right, scorer=_SCORERS[measure], score_cutoff=least, dtype=np.float64, workers=self._workers
            )
            kept = scores > 0
            own, rows, found = own[kept], rows[kept], scores[kept]
        kept = found >= cutoff
        return own[kept], rows[kept], found[kept]


def _by_length(texts: Sequence[str], name: str) -> tuple[Rows, Rows, list[str]]:
    """Places in order of length, the lengths, and the texts, in that order."""
    if not len(texts):
        raise InputError(f"there is no {name}; expected one or more.")
    _not_empty(texts, name)
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    order = np.argsort(lengths, kind="stable")
    return order, lengths[order], [texts[at] for at in order.tolist()]


def _not_empty(texts: Sequence[str], name: str) -> None:
    if "" in texts:
        raise InputError(
            f"{name} {list(texts).index('')} is empty; expected a character or more, since two empty texts would count "
            "as alike. Drop empty texts first."
        )


def _band(lengths: Rows, shortest: int, longest: int, cutoff: float, measure: Measure) -> tuple[int, int]:
    """Places first to end of the sorted ``lengths`` that may reach the cutoff with a text of such a length."""
    shorter, longer = lengths < shortest, lengths > longest
    fits = ~shorter & ~longer
    fits[shorter] = cap(lengths[shorter], shortest, measure) >= cutoff
    fits[longer] = cap(longest, lengths[longer], measure) >= cutoff
    places = np.flatnonzero(fits)  # one run
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)
