"""Choose pieces of token sequences that natural text seldom holds, so that few places have to be looked at closely."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Tokens = NDArray[np.int32]

_LONGEST_PIECE: Final = 8  # tokens; natural text shares longer ones so seldom that nothing is won
_ROOMY: Final = 4  # tokens
_CELLS: Final = 2**22  # of an array that is worked on at once


def rare_pieces(traps: Tokens, lengths: Ids, n_pieces: int) -> tuple[Ids, Ids, Ids]:
    """Pieces of each sequence that share no token and are together as rare as can be.

    How often a piece occurs is taken to be the product of its tokens' shares in all sequences. The least sum is
    found by dynamic programming: best[k, j], for k pieces among the first j tokens, is the smaller of best[k, j-1] and
    of best[k-1, j-q] + share of the q tokens before j, q = 1 ... 8. Where pieces of four tokens fit, which are rare
    whatever they are, all get the same size.

    Args:
        traps: Token ids, shape (n, L), right-padded.
        lengths: Tokens of each, at least ``n_pieces``, shape (n,).
        n_pieces: Pieces of each sequence, 1 or more.

    Returns:
        Sequence, first token and tokens of each piece, three arrays of shape (n * n_pieces,).
    """
    _, ids, counts = np.unique(traps, return_inverse=True, return_counts=True)
    shares = (counts / lengths.sum())[ids].astype(np.float32)
    sizes = np.repeat(np.minimum(_LONGEST_PIECE, lengths // n_pieces)[:, None], n_pieces, axis=1)
    offsets = np.cumsum(sizes, axis=1) - sizes
    short = np.flatnonzero(lengths < _ROOMY * n_pieces)
    most_tokens = int(lengths[short].max(initial=0))
    step = max(1, _CELLS // ((n_pieces + 1) * (most_tokens + 1)))
    for first in range(0, len(short), step):
        part = short[first : first + step]
        chosen = _rarest(shares[part, :most_tokens], n_pieces)
        place = lengths[part].copy()
        rows = np.arange(len(part))
        for piece in range(n_pieces - 1, -1, -1):
            last, size = (choice[rows, place] for choice in chosen[piece + 1])
            offsets[part, piece], sizes[part, piece] = last - size, size
            place = last - size
    numbers = np.repeat(np.arange(len(traps), dtype=np.int64), n_pieces)
    return numbers, offsets.ravel(), sizes.ravel()


def _rarest(shares: NDArray[np.float32], n_pieces: int) -> list[tuple[Ids, Ids]]:
    """For k = 0 ... pieces and each j: where the last piece of best[k, j] ends, and its tokens; see `rare_pieces`."""
    n, length = shares.shape
    best = np.zeros((n, length + 1), dtype=np.float32)
    choices: list[tuple[Ids, Ids]] = [
        (np.zeros((n, length + 1), dtype=np.int64), np.zeros((n, length + 1), dtype=np.int64))
    ]
    for _ in range(n_pieces):
        now = np.full((n, length + 1), np.inf, dtype=np.float32)
        ends, sizes = (np.zeros((n, length + 1), dtype=np.int64) for _ in range(2))
        share = np.ones((n, length + 1), dtype=np.float32)  # of the q tokens before j
        for q in range(1, min(_LONGEST_PIECE, length) + 1):
            share[:, q:] = share[:, q:] * shares[:, : length + 1 - q]
            total = best[:, : length + 1 - q] + share[:, q:]
            better = total < now[:, q:]
            now[:, q:][better] = total[better]
            sizes[:, q:][better] = q
        ends[:] = np.arange(length + 1)
        for j in range(1, length + 1):
            worse = now[:, j - 1] < now[:, j]
            now[worse, j] = now[worse, j - 1]
            ends[worse, j], sizes[worse, j] = ends[worse, j - 1], sizes[worse, j - 1]
        best = now
        choices.append((ends, sizes))
    return choices
