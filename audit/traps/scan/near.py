r"""Find near copies of known token sequences in long ones: a filter that misses nothing, then the edit distance.

The distance of a trap t of L tokens to a text is that of its best run of tokens that ends at a token e:

    dist(e) = min over s <= e of Lev(t, x[s:e])

Lev counts inserted, deleted and replaced tokens, one each. The run of e is the one that attains it; of several, the one
whose length is nearest to L, of two such the shorter. Copies of t are the runs with dist(e) <= d, taken in order of
(dist(e), e), each unless it shares a token with one that was taken before: they are disjoint, and each is the best of
its neighbourhood.

Source: the traps specification, section 6: slide a window of L tokens, verify by Levenshtein where at least L - d
tokens are shared, merge hits within L tokens keeping the smallest distance. Departures: runs may be shorter or longer
than L; what is merged is what overlaps; and the windows to verify are found by pieces instead of a slide, because
thousands of traps would mean thousands of slides.

Why the filter misses nothing. Choose d + 2 pieces of t, runs of tokens that share none. In a run with Lev <= d each
edit breaks at most one piece (an insertion between two breaks none), so at least two pieces stand in it unbroken. A
piece at place o in t that stands at p has the diagonal p - o. Between the run's start s and the piece, and between two
pieces, there are at most d insertions and deletions in all, so the two diagonals differ by at most d, and each differs
from s by at most d. Hence: look up every piece at every place; keep a trap's hits that have another one, of another
piece, in the trap's order, within d diagonals; and for a hit of diagonal g search x[g - d : g + L + d], where the whole
run lies. Where fewer than L - d of t's tokens occur there at all, no run is within d (the published test in a weaker
form); elsewhere dist(e) is computed for every e (Sellers 1980), so whatever is reported is right too. Which pieces are
chosen decides the speed alone: those that are together the rarest.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from ...errors import InputError
from ...text.safe import counted
from .grams import GramTable
from .rare import Ids, Tokens, rare_pieces

_BASE: Final = np.uint64(0x9E3779B97F4A7C15 | 1)
_NO_TOKEN: Final = -1  # beside the text; equal to no token
_CELLS: Final = 2**22  # of an array that is worked on at once


class Run(NamedTuple):
    """A near copy: tokens ``start`` to ``end`` (one past the last) of a text, ``distance`` edits from a trap."""

    text: int
    trap: int
    start: int
    end: int
    distance: int


class NearFinder:
    """Finds runs of tokens within an edit distance of known sequences.

    Args:
        traps: Token ids of what is looked for, all >= 0; more than 2 ``most`` and at least ``most`` + 2 each.
        most: Largest distance, in tokens, 0 or more.

    Raises:
        InputError: A sequence is too short for ``most``, or ``most`` is negative.
    """

    def __init__(self, traps: Sequence[Sequence[int]], most: int) -> None:
        if most < 0:
            raise InputError(f"the largest distance is {most}; expected 0 or more tokens.")
        shortest = min(map(len, traps), default=0)
        if shortest < least_tokens(most):
            raise InputError(
                f"the shortest text to look for has {counted(shortest, 'token')}; within a distance of {most} it needs "
                f"{least_tokens(most)} or more. Give a distance of {largest_distance(shortest)} or less."
                if largest_distance(shortest) is not None
                else f"a text to look for has {counted(shortest, 'token')}; expected 2 or more."
            )
        self._most = most
        self._lists = [list(map(int, trap)) for trap in traps]
        self._lengths = np.array([len(trap) for trap in traps], dtype=np.int64)
        self._longest = int(self._lengths.max())
        self._traps: Tokens = np.full((len(traps), self._longest), _NO_TOKEN, dtype=np.int32)
        for number, trap in enumerate(self._lists):
            self._traps[number, : len(trap)] = trap
        numbers, offsets, sizes = rare_pieces(self._traps, self._lengths, most + 2)
        self._tables: dict[int, GramTable] = {}
        for size in np.unique(sizes).tolist():
            own, at = numbers[sizes == size], offsets[sizes == size]
            keys = _combined([self._traps[own, at + step] for step in range(size)])
            self._tables[size] = GramTable(keys, own * self._longest + at)

    def find(self, texts: Sequence[Tokens]) -> list[Run]:
        """The copies, by text, trap and place.

        Args:
            texts: Token ids of each text, shape (n,); it can be empty.
        """
        starts = np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int64)
        stream: Tokens = np.concatenate([*texts, np.empty(0, dtype=np.int32)]).astype(np.int32)
        ends: dict[tuple[int, int], dict[int, int]] = {}  # (text, trap) -> end -> distance
        candidates = self._candidates(stream, starts)
        lengths = self._lengths[candidates[0]]
        for length in np.unique(lengths).tolist():
            chosen = np.flatnonzero(lengths == length)
            step = max(1, _CELLS // (length * (length + 3 * self._most)))
            for first in range(0, len(chosen), step):
                traps, owners, diagonals = (part[chosen[first : first + step]] for part in candidates)
                self._verify(stream, starts, length, traps, owners, diagonals, ends)
        found: list[Run] = []
        for (text, trap), distances in sorted(ends.items()):
            copies = _disjoint(texts[text].tolist(), self._lists[trap], distances)
            found += [Run(text, trap, *copy) for copy in copies]
        return found

    def _candidates(self, stream: Tokens, starts: Ids) -> tuple[Ids, Ids, Ids]:
        """Trap, text and lowest diagonal of each window to verify; diagonals count in the stream."""
        hits = [(*table.lookup(_hashes(stream, size)), size) for size, table in self._tables.items()]
        places = np.concatenate([places for places, _, _ in hits])
        traps, offsets = np.divmod(np.concatenate([values for _, values, _ in hits]), self._longest)
        sizes = np.repeat([size for _, _, size in hits], [len(places) for places, _, _ in hits])
        # In order of trap and diagonal; traps lie further apart than any two diagonals.
        line = traps * (2 * len(stream) + 4 * self._longest) + places - offsets
        order = np.argsort(line)
        live = order[_in_pairs(line[order], offsets[order], sizes[order], self._most)]
        traps, places = traps[live], places[live]
        diagonals = places - offsets[live]
        owners = np.searchsorted(starts, places, side="right") - 1
        # One window for the diagonals of d + 1 neighbours: what they ask for overlaps almost wholly.
        bins = (diagonals + self._longest) // (self._most + 1)
        n_bins = (len(stream) + self._longest) // (self._most + 1) + 1
        windows = np.unique((traps * n_bins + bins) * len(starts) + owners)
        rest, owners = np.divmod(windows, len(starts))
        traps, bins = np.divmod(rest, n_bins)
        return traps, owners, bins * (self._most + 1) - self._longest

    def _verify(
        self,
        stream: Tokens,
        starts: Ids,
        length: int,
        traps: Ids,
        owners: Ids,
        diagonals: Ids,
        ends: dict[tuple[int, int], dict[int, int]],
    ) -> None:
        """Adds dist(e) of every e of the windows with at most d edits."""
        most = self._most
        at = (diagonals - most)[:, None] + np.arange(length + 3 * most)  # windows of diagonals g ... g + d
        inside = (at >= starts[owners][:, None]) & (at < starts[owners + 1][:, None])
        windows = np.where(inside, stream[np.clip(at, 0, max(0, len(stream) - 1))], _NO_TOKEN)
        wanted, given = self._traps[traps, :length].T.copy(), windows.T.copy()
        shared = np.zeros(len(traps), dtype=np.int64)
        for token in wanted:
            shared += (given == token).any(axis=0)
        kept = shared >= length - most
        if not kept.any():
            return
        distances = _end_distances(wanted[:, kept], given[:, kept]).T
        rows, columns = np.nonzero((distances <= most) & inside[kept])
        kept_traps, kept_owners = traps[kept][rows].tolist(), owners[kept][rows].tolist()
        last = (at[kept][rows, columns] + 1 - starts[owners[kept][rows]]).tolist()
        for trap, owner, end, distance in zip(
            kept_traps, kept_owners, last, distances[rows, columns].tolist(), strict=True
        ):
            known = ends.setdefault((owner, trap), {})
            known[end] = min(distance, known.get(end, distance))


def least_tokens(most: int) -> int:
    """Tokens that a sequence needs so that a distance of ``most`` means something: more than twice as many."""
    return max(2 * most + 1, most + 2)


def largest_distance(n_tokens: int) -> int | None:
    """Largest distance at which a sequence of that many tokens can be looked for; None below two tokens."""
    return (n_tokens - 1) // 2 if n_tokens >= 2 else None


def _in_pairs(line: Ids, offsets: Ids, sizes: Ids, most: int) -> NDArray[np.intp]:
    """Which hits have another one with which they can stand in one run: places in ``line``.

    Such are two different pieces that are at most ``most`` diagonals apart and stand in the text in the order that they
    have in the trap, without overlap.

    Args:
        line: Trap and diagonal of each hit in one number, ascending, shape (n,).
        offsets: Where each hit's piece begins in its trap, shape (n,).
        sizes: Tokens of the piece, shape (n,).
        most: Largest distance.
    """
    live = np.zeros(len(line), dtype=np.bool_)
    first = np.arange(len(line))
    step = 0
    while len(first):
        step += 1
        first = first[first + step < len(line)]
        first = first[line[first + step] - line[first] <= most]
        second = first + step
        later = offsets[second] - offsets[first]
        further = line[second] - line[first] + later  # of places, each a diagonal and an offset
        fits = ((later > 0) & (further >= sizes[first])) | ((later < 0) & (-further >= sizes[second]))
        live[first[fits]] = True
        live[second[fits]] = True
    return np.flatnonzero(live)


def _hashes(ids: Tokens, size: int) -> NDArray[np.uint64]:
    """Hash of the ``size`` tokens from each place on, shape (n - size + 1,)."""
    n = max(0, len(ids) - size + 1)
    return _combined([ids[step : step + n] for step in range(size)])


def _combined(tokens: Sequence[Tokens]) -> NDArray[np.uint64]:
    """Polynomial hash, modulo 2^64, of tokens that stand behind each other."""
    keys = np.zeros(len(tokens[0]), dtype=np.uint64)
    for token in tokens:
        keys = keys * _BASE + (token.astype(np.uint64) + np.uint64(1))
    return keys ^ (keys >> np.uint64(31))


def _end_distances(traps: Tokens, windows: Tokens) -> NDArray[np.int16]:
    """dist(e) inside each window, after Sellers (1980), for all windows at once.

    D[0, j] = 0 and D[i, j] = min(D[i-1, j-1] + [t_i != x_j], D[i, j-1] + 1, D[i-1, j] + 1); dist of end j is D[L, j].
    The last term, a chain down the column, is a running minimum of D[i, j] - i.

    Args:
        traps: Shape (L, n).
        windows: Shape (R, n).

    Returns:
        Shape (R, n).
    """
    length, n = traps.shape
    steps = np.arange(length + 1, dtype=np.int16)[:, None]
    column = np.repeat(steps, n, axis=1)
    distances = np.empty((len(windows), n), dtype=np.int16)
    for j, token in enumerate(windows):
        new = np.zeros_like(column)
        np.minimum(column[:-1] + (traps != token), column[1:] + np.int16(1), out=new[1:])
        column = np.minimum.accumulate(new - steps, axis=0) + steps
        distances[j] = column[-1]
    return distances


def _disjoint(text: list[int], trap: list[int], distances: dict[int, int]) -> list[tuple[int, int, int]]:
    """(start, end, distance) of the copies among the ends, as the module defines them, by place."""
    ends = sorted(distances)
    furthest = len(trap) + max(distances.values())
    free = dict.fromkeys(ends, True)
    starts: dict[int, int] = {}

    def start_of(end: int) -> int:
        if end not in starts:
            starts[end] = _run_start(text, trap, end, distances[end])
        return starts[end]

    copies: list[tuple[int, int, int]] = []
    for end in sorted(ends, key=lambda end: (distances[end], end)):
        if not free[end]:
            continue
        start = start_of(end)
        copies.append((start, end, distances[end]))
        for other in ends[bisect_right(ends, start) :]:
            if other - furthest >= end:
                break  # this run and all later ones begin after the copy
            if free[other] and (other - len(trap) + distances[other] < end or start_of(other) < end):
                free[other] = False
    return sorted(copies)


def _run_start(text: list[int], trap: list[int], end: int, distance: int) -> int:
    """Start of the run of ``end``: of those that attain the distance, the one of length nearest to the trap's."""
    for change in sorted(range(-distance, distance + 1), key=lambda change: (abs(change), change)):
        start = end - len(trap) - change
        if 0 <= start <= end and Levenshtein.distance(trap, text[start:end], score_cutoff=distance) == distance:
            return start
    raise AssertionError("no run attains the distance")  # pragma: no cover
