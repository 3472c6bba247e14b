r"""Best matches and all close pairs of unit vectors, exactly, without the whole matrix of their products.

For generations i and training rows j, s(i, j) = a_i . b_j, the cosine; asked for are

    m_i = max_j s(i, j) and its j (or the k best),   c_j = max_i s(i, j) and its i,   all (i, j) with s(i, j) >= tau.

Tiles of the product are computed and looked through while they are in the cache: the maximum of each row first, which
is cheap, then only the rows in which something may be kept. What may be kept is scored exactly (`tiles`), so results
are those of a dense comparison in fp64 rounded to fp32, equal scores by the lowest row, whatever the tile, precision
or device. A threshold is rounded to fp32 as well.

Beside the vectors and the result this takes ``max_bytes``, the queries once more where device or precision are others
than theirs, and a tile of the corpus. Cost: 2 G N d operations.

Source: spec of the extraction, sections 2 and 6.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from ..stats.checks import count
from .best import Best, Top
from .tiles import OnDone, Precision, Setting, Vectors, blocks, error_bound, exact_scores, places, setting, unit_rows

MOST_PAIRS: Final = 50_000_000  # 1 GB of them


class Pairs(NamedTuple):
    """Close pairs, in order of query and row.

    Attributes:
        queries: Shape (p,), int64.
        rows: Of the corpus, shape (p,), int64.
        scores: Cosines, shape (p,), float32.
    """

    queries: NDArray[np.int64]
    rows: NDArray[np.int64]
    scores: NDArray[np.float32]


def top_k(
    queries: Vectors,
    corpus: Vectors,
    k: int = 1,
    *,
    device: torch.device | str = "cpu",
    precision: Precision = "float32",
    max_bytes: int | None = None,
    on_done: OnDone | None = None,
) -> Top:
    """The k best corpus rows of each query: m_i and its j.

    Args:
        queries: Unit vectors, shape (G, d).
        corpus: Unit vectors, shape (N, d).
        k: 1 to N.
        device: Where the products are computed.
        precision: Of the products; of the result it is fp32 with each.
        max_bytes: Memory to work in, 4 MiB or more; None is 1 GiB on the CPU and 8 GiB elsewhere.
        on_done: Called with the number of corpus rows done.

    Returns:
        Scores and rows of shape (G, k).

    Raises:
        InputError: As `unit_rows`; or an option is out of range.
    """
    how = setting(device, precision, max_bytes)
    ours = unit_rows(queries, "queries")
    theirs = unit_rows(corpus, "corpus", width=ours.shape[1])
    if count(k, "k", least=1) > len(theirs):
        raise InputError(f"k is {k} and the corpus has {len(theirs)} rows; expected at most as many. Lower k.")
    best = Best(len(ours), k, slack=error_bound(ours.shape[1], precision), device=how.device)
    for query, row, scores in blocks(ours, theirs, how, on_done):
        for own, columns in best.candidates(scores, query):
            best.add(own, columns + row, exact_scores(ours, theirs, own, columns + row, how))
    return best.top()


def best_of_both(
    queries: Vectors,
    corpus: Vectors,
    *,
    device: torch.device | str = "cpu",
    precision: Precision = "float32",
    max_bytes: int | None = None,
    on_done: OnDone | None = None,
) -> tuple[Top, Top]:
    """m_i with its j, shape (G, 1), and c_j with its i, shape (N, 1), from one product.

    Arguments and errors as `top_k`. Equal scores of c_j go to the lowest query.
    """
    how = setting(device, precision, max_bytes)
    ours = unit_rows(queries, "queries")
    theirs = unit_rows(corpus, "corpus", width=ours.shape[1])
    slack = error_bound(ours.shape[1], precision)
    of_queries = Best(len(ours), 1, slack=slack, device=how.device)
    of_rows = Best(len(theirs), 1, slack=slack, device=how.device)
    for query, row, scores in blocks(ours, theirs, how, on_done):
        for own, columns in of_queries.candidates(scores, query):
            of_queries.add(own, columns + row, exact_scores(ours, theirs, own, columns + row, how))
        for rows, lines in of_rows.candidates(scores.T, row):
            of_rows.add(rows, lines + query, exact_scores(ours, theirs, lines + query, rows, how))
    return of_queries.top(), of_rows.top()


def pairs_above(
    queries: Vectors,
    corpus: Vectors,
    tau: float,
    *,
    device: torch.device | str = "cpu",
    precision: Precision = "float32",
    max_bytes: int | None = None,
    most_pairs: int = MOST_PAIRS,
    on_done: OnDone | None = None,
) -> Pairs:
    """All pairs with s(i, j) >= tau.

    Arguments as `top_k`, and:
        tau: Threshold, in (-1, 1].
        most_pairs: More are refused; 20 bytes each, three times over while they are put in order.

    Raises:
        InputError: As `top_k`; or there are more pairs than ``most_pairs``.
    """
    how = setting(device, precision, max_bytes)
    ours = unit_rows(queries, "queries")
    theirs = unit_rows(corpus, "corpus", width=ours.shape[1])
    found = Found(tau, most_pairs)
    cut = found.tau - error_bound(ours.shape[1], precision)
    for query, row, scores in blocks(ours, theirs, how, on_done):
        active = torch.nonzero(scores.amax(dim=1) >= cut).squeeze(1)
        for own, columns in places(scores[active] >= cut):
            found.add(ours, theirs, active[own] + query, columns + row, how)
    return found.pairs()


class Found:
    """Pairs that reach a threshold, as they are found.

    Raises:
        InputError: ``tau`` is not in (-1, 1].
    """

    def __init__(self, tau: float, most_pairs: int) -> None:
        if not -1 < tau <= 1:
            raise InputError(f"tau is {tau}; expected a cosine above -1 and at most 1, for example 0.95.")
        self.tau = float(np.float32(tau))
        self._most = count(most_pairs, "most_pairs", least=1)
        self._n = 0
        self._parts: list[Pairs] = []

    def add(self, queries: Tensor, corpus: Tensor, own: Tensor, rows: Tensor, how: Setting) -> None:
        """Score pairs exactly and keep those that reach the threshold.

        Raises:
            InputError: There are too many.
        """
        scores = exact_scores(queries, corpus, own, rows, how)
        kept = scores >= self.tau
        self._n += int(kept.sum())
        if self._n > self._most:
            raise InputError(
                f"more than {self._most:,} pairs have a cosine of {self.tau:.4g} or more; they would not fit. Raise "
                "tau, give fewer queries at once, or raise most_pairs."
            )
        self._parts.append(Pairs(*(part[kept].cpu().numpy() for part in (own, rows, scores))))

    def pairs(self) -> Pairs:
        empty = Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
        queries, rows, scores = (np.concatenate(parts) for parts in zip(empty, *self._parts, strict=True))
        order = np.lexsort((rows, queries))
        return Pairs(queries[order], rows[order], scores[order])
