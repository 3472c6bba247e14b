r"""Near-duplicate texts of a set: every pair above a similarity, joined.

A text, normalised to NFC with single spaces, becomes the set S of its runs of w words (itself, if it has fewer). Texts
are joined if they are equal, or if

    J = |S1 & S2| / |S1 | S2| >= t, the threshold.

Clusters are the connected components, each named by its lowest row. All such pairs are joined, none by chance: runs
are kept as 64-bit hashes, which two different ones share with probability 5e-20, and J is computed in full for each
pair of different clusters that these lossless filters leave (PPJoin, Xiao et al. 2008). With the runs of all sets put
in one order, the rare ones first, the first run that two sets share is at place i of one of n and at place j of one of
m <= n. J >= t asks for

    i <= n - t n,   j <= m - 2t/(1+t) m,   1 + min(n - 1 - i, m - 1 - j) >= t/(1+t) (n + m).

So rows of one template, which share much but too little, rarely meet, and pairs that are already of one cluster are
not compared. Time grows with the square of the rows of one template all the same, but slowly: 20,000 of 60 words take
3 to 20 s of one core, 60,000 that are all alike 80 s; 20,000 excerpts of program code, 160 words on average, 8 s.
Memory: some 25 bytes for each word, 40 where nearly all occur in other texts too.

Source: spec of the extraction, sections 6 and 7. Departure: filters without misses in place of MinHash, whose
candidates are all pairs of a template.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import count as numbers
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..stats.checks import count
from .words import words as words_of

_TOLD_EVERY: Final = 256
_SORTED_AT_ONCE: Final = 2**24  # hashes
_COMPARED_AT_ONCE: Final = 2**21  # likewise
_SLACK: Final = 1e-9  # of a comparison with the threshold, so that no rounding loses a pair
Rows = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Numbers = NDArray[np.signedinteger[Any]]


def near_duplicates(
    texts: Sequence[str],
    *,
    threshold: float = 0.7,
    words: int = 3,
    seed: int,
    on_done: Callable[[int], None] | None = None,
) -> Rows:
    """The cluster of each text, named by its lowest row; shape (N,).

    Args:
        texts: Any number; those without a word are alike.
        threshold: t, J of near duplicates, in [0.5, 1].
        words: w, 1 or more; what a word is, see `matching.words`.
        seed: Of the hashes, 0 or more.
        on_done: Called with the number of texts done; one counts half when it is read.

    Raises:
        InputError: An option is out of range.
    """
    if not 0.5 <= threshold <= 1:
        raise InputError(f"threshold is {threshold}; expected a Jaccard similarity from 0.5 to 1.")
    count(words, "words", least=1)
    count(seed, "seed", least=0)
    n_steps = 0

    def step() -> None:
        nonlocal n_steps
        n_steps += 1
        if on_done is not None and (n_steps % _TOLD_EVERY == 0 or n_steps == 2 * len(texts)):
            on_done(n_steps // 2)

    shingles = Shingles(words, seed)
    clusters = _Clusters(len(texts))
    known: dict[str, int] = {}
    rows, sets = [], []
    for row, text in enumerate(texts):
        plain = normalised(text)
        own = shingles.of(plain)
        first = known.setdefault(plain if len(own) else "", row)
        if first != row:
            clusters.join(row, first)
            step()
        elif len(own):
            rows.append(row)
            sets.append(own)
        else:
            step()
        step()
    _join_pairs(clusters, np.array(rows, dtype=np.int64), sets, threshold, step)
    return clusters.roots(np.arange(len(texts)))


def normalised(text: str) -> str:
    """NFC, white space single, none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


class Shingles:
    """Hashes of the runs of so many words, equal for equal runs in all texts of one object.

    Args:
        words: w.
        seed: Of the hashes.
    """

    def __init__(self, words: int, seed: int) -> None:
        self._width = words
        self._seed = seed
        self._numbers: defaultdict[str, int] = defaultdict(numbers().__next__)

    def of(self, plain: str) -> Hashes:
        """Ascending, each once; one of the whole text where it has fewer words, none where it has no word."""
        found = words_of(plain)
        ids = np.fromiter(map(self._numbers.__getitem__, found), dtype=np.uint64, count=len(found))
        width = min(self._width, len(ids))
        if not width:
            return ids
        n = len(ids) - width + 1
        ids = _mixed(ids)
        hashes = _mixed(np.full(n, (self._seed + (width << 32)) % 2**64, dtype=np.uint64))
        for start in range(width):
            hashes = _mixed(hashes ^ ids[start : start + n])
        return np.unique(hashes)


def _mixed(values: Hashes) -> Hashes:
    """Each value's place in a fixed disorder of all 64-bit numbers (SplitMix64: Steele, Lea & Flood 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class _Clusters:
    """Which rows are joined; the lowest row of a cluster is its root."""

    def __init__(self, n: int) -> None:
        self._parents = np.arange(n, dtype=np.int64)

    def roots(self, rows: Rows) -> Rows:
        found = self._parents[rows]
        while not np.array_equal(above := self._parents[found], found):
            found = above
        self._parents[rows] = found
        return found

    def join(self, a: int, b: int) -> None:
        low, high = sorted(self.roots(np.array([a, b])).tolist())
        self._parents[high] = low


class _Sets(NamedTuple):
    """Sets in order of size, without the runs that occur in one of them only: those come first and meet nothing.

    Attributes:
        sizes: Runs of each set, shape (n,), ascending.
        starts: Where the runs of each begin among ``runs``, shape (n + 1,).
        runs: Numbers from 0 on, the rarer the lower, ascending within a set; int32 where that is enough.
    """

    sizes: Rows
    starts: Rows
    runs: Numbers

    def of(self, place: int) -> Numbers:
        return self.runs[self.starts[place] : self.starts[place + 1]]


def _join_pairs(
    clusters: _Clusters, rows: Rows, sets: list[Hashes], threshold: float, step: Callable[[], None]
) -> None:
    """Join the rows whose sets reach the threshold; ``sets`` is emptied."""
    order = np.argsort(np.array([len(own) for own in sets], dtype=np.int64), kind="stable")
    rows = rows[order]
    sets[:] = [sets[place] for place in order]
    ordered = _numbered(sets)
    index = _Index(ordered, threshold)
    shared_by = _Shared(ordered)
    for place, row in enumerate(rows.tolist()):
        candidates = index.candidates(place)
        n_next = 1
        while len(candidates):
            some, candidates = candidates[:n_next], candidates[n_next:]
            shared = shared_by(place, some)
            near = shared >= threshold * (ordered.sizes[place] + ordered.sizes[some] - shared)
            for other in rows[some[near]].tolist():
                clusters.join(row, other)
            if near.any() and len(candidates):
                candidates = candidates[clusters.roots(rows[candidates]) != clusters.roots(rows[[place]])]
            n_next = min(2 * n_next, 1 + _COMPARED_AT_ONCE // int(ordered.sizes[place]))
        step()


def _numbered(sets: list[Hashes]) -> _Sets:
    """Hashes replaced by numbers in order of how many sets have them; ``sets`` is emptied on the way."""
    sizes = np.array([len(own) for own in sets], dtype=np.int64)
    repeated, n_sets = _repeated(sets)
    rank = np.empty(len(repeated), dtype=np.int32 if len(repeated) < 2**31 else np.int64)
    rank[np.argsort(n_sets, kind="stable")] = np.arange(len(repeated))
    kept = [rank[:0]]
    sets.reverse()
    while sets:
        own = sets.pop()
        at = np.searchsorted(repeated, own)
        found = at < len(repeated)
        found[found] = repeated[at[found]] == own[found]
        kept.append(np.sort(rank[at[found]]))
    starts = np.cumsum([len(own) for own in kept], dtype=np.int64)
    return _Sets(sizes, starts, np.concatenate(kept))


def _repeated(sets: list[Hashes]) -> tuple[Hashes, Rows]:
    """Hashes that two or more sets have, ascending, and how many do."""
    n_parts = 1 + sum(map(len, sets)) // _SORTED_AT_ONCE
    bounds = np.array([(part << 64) // n_parts for part in range(1, n_parts)], dtype=np.uint64)
    parts = [np.split(own, np.searchsorted(own, bounds)) for own in sets] if n_parts > 1 else [[own] for own in sets]
    hashes, n_sets = [np.empty(0, dtype=np.uint64)], [np.empty(0, dtype=np.int64)]
    for part in zip(*parts, strict=True):
        values, counts = np.unique(np.concatenate(part), return_counts=True)
        hashes.append(values[counts > 1])
        n_sets.append(counts[counts > 1])
    return np.concatenate(hashes), np.concatenate(n_sets)


class _Index:
    """For each run, the sets that have it among their first ones, in order of size."""

    def __init__(self, sets: _Sets, threshold: float) -> None:
        self._sets = sets
        self._pairwise = threshold / (1 + threshold)
        n_runs = np.diff(sets.starts)
        alone = sets.sizes - n_runs
        n_asked = sets.sizes - np.ceil(threshold * sets.sizes - _SLACK).astype(np.int64) + 1 - alone
        n_kept = sets.sizes - np.ceil(2 * self._pairwise * sets.sizes - _SLACK).astype(np.int64) + 1 - alone
        self._asked = np.clip(n_asked, 0, n_runs)
        kept = np.clip(n_kept, 0, n_runs)
        owners = np.repeat(np.arange(len(kept)), kept)
        offsets = np.arange(len(owners)) - np.repeat(np.cumsum(kept) - kept, kept)
        runs = sets.runs[sets.starts[owners] + offsets]
        order = np.argsort(runs, kind="stable")
        n_postings = np.bincount(runs, minlength=int(sets.runs.max(initial=-1)) + 1)
        self._owners = owners[order]
        self._places = (alone[owners] + offsets)[order]
        self._starts = np.cumsum(n_postings) - n_postings
        self._filled = self._starts.copy()
        self._kept = kept
        self._seen = np.full(len(kept), -1, dtype=np.int64)

    def candidates(self, place: int) -> Rows:
        """Sets before this one that the filters leave, those with the rarest common run first; then it is added."""
        sets = self._sets
        own = sets.of(place)
        size = int(sets.sizes[place])
        alone = size - len(own)
        asked = own[: self._asked[place]]
        found = []
        for at in np.flatnonzero(self._filled[asked] > self._starts[asked]).tolist():
            low, high = self._starts[asked[at]], self._filled[asked[at]]
            others = self._owners[low:high]
            fresh = self._seen[others] != place
            others, places = others[fresh], self._places[low:high][fresh]
            self._seen[others] = place
            sizes = sets.sizes[others]
            most = 1 + np.minimum(size - 1 - alone - at, sizes - 1 - places)
            found.append(others[most >= self._pairwise * (size + sizes) - _SLACK * size])
        self._filled[own[: self._kept[place]]] += 1
        return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


class _Shared:
    """How many runs a set shares with others."""

    def __init__(self, sets: _Sets) -> None:
        self._sets = sets
        self._is_own = np.zeros(int(sets.runs.max(initial=-1)) + 1, dtype=np.bool_)

    def __call__(self, place: int, others: Rows) -> Rows:
        """For each of the others, of which none is without a run that it shares; shape (len(others),)."""
        own = self._sets.of(place)
        self._is_own[own] = True
        starts = self._sets.starts[others]
        n_runs = self._sets.starts[others + 1] - starts
        first = np.cumsum(n_runs) - n_runs
        runs = self._sets.runs[np.arange(int(n_runs.sum())) + np.repeat(starts - first, n_runs)]
        shared = np.add.reduceat(self._is_own[runs], first, dtype=np.int64)
        self._is_own[own] = False
        return shared
