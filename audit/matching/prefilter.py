r"""A first look at a few dimensions that loses nothing: for encoders whose first dimensions carry most (Matryoshka).

Unit vectors a, b; their first k dimensions a_k, b_k of lengths alpha, beta. By Cauchy and Schwarz on the rest,

    a . b <= a_k . b_k + sqrt((1 - alpha^2) (1 - beta^2)) = a' . b',      a' = (a_k, sqrt(1 - alpha^2)),

so a pair whose bound is below tau is no hit: no false negatives, with any encoder, at k + 1 instead of d dimensions.
The bound is the product of the longer vectors a', b', so the tiles of `dense` serve. (The length of the rest is taken
from the vectors themselves, not from alpha, so vectors a little off length 1 lose nothing either.) The hits are those
of `dense`, number for number.

With energy e = alpha^2 = beta^2 in the first k dimensions, the pair passes only if the cosine of a_k and b_k reaches
1 - (1 - tau)/e: 0.80 at tau = 0.95 and e = 0.25. What passes is compared in full, so a filter that passes more than a
few in a hundred saves nothing; the share is reported.

Source: spec of the extraction, section 6.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from ..stats.checks import count
from .best import Best, Top
from .dense import MOST_PAIRS, Found, Pairs
from .tiles import Block, OnDone, Vectors, blocks, error_bound, exact_scores, places, setting, unit_rows

_ROWS_AT_ONCE: Final = 2**14
_SPARSE: Final = 1 / 64  # of a tile: below, pairs one by one are quicker than a product


class FilteredPairs(NamedTuple):
    """What `dense.pairs_above` gives, and the share of all pairs that the filter passed on, in [0, 1]."""

    pairs: Pairs
    share_passed: float


class FilteredTop(NamedTuple):
    """The best match at or above tau of each query, shape (G, 1), and the share of all pairs that was passed on."""

    top: Top
    share_passed: float


class Prefilter:
    """A corpus with its first dimensions set apart: N (k + 1) numbers of 4 bytes beside it.

    Args:
        corpus: Unit vectors, shape (N, d).
        head: k, from 1 to d - 1; an eighth or a quarter of d is usual.
        device: Where products are computed.
        max_bytes: Memory to work in, as in `dense.top_k`.

    Raises:
        InputError: As `unit_rows`; or ``head`` is out of range.
    """

    def __init__(
        self, corpus: Vectors, head: int, *, device: torch.device | str = "cpu", max_bytes: int | None = None
    ) -> None:
        self._how = setting(device, "float32", max_bytes)
        self._corpus = unit_rows(corpus, "corpus")
        self._head = count(head, "head", least=1)
        width = self._corpus.shape[1]
        if head >= width:
            raise InputError(f"head is {head} and the vectors have {width} dimensions; expected fewer than all.")
        self._short = with_rest(self._corpus, head)
        self._slack, self._full_slack = (error_bound(n, "float32") for n in (head + 1, width))

    def pairs_above(
        self, queries: Vectors, tau: float, *, most_pairs: int = MOST_PAIRS, on_done: OnDone | None = None
    ) -> FilteredPairs:
        """All pairs with a cosine of ``tau`` or more; arguments and errors as `dense.pairs_above`."""
        ours = self._checked(queries)
        found = Found(tau, most_pairs)
        passed = 0
        for block in blocks(with_rest(ours, self._head), self._short, self._how, on_done):
            cut = torch.full((len(block.scores),), found.tau, device=self._how.device)
            n, active, mask = self._passed(ours, block, cut)
            passed += n
            for own, columns in places(mask):
                found.add(ours, self._corpus, active[own] + block.query, columns + block.row, self._how)
        return FilteredPairs(found.pairs(), passed / (len(ours) * len(self._corpus)))

    def top_1(self, queries: Vectors, tau: float, *, on_done: OnDone | None = None) -> FilteredTop:
        """The best match of each query, where that is at or above ``tau``; errors as `dense.pairs_above`.

        The bar rises with a query's best match, so that fewer pass than in `pairs_above`.
        """
        ours = self._checked(queries)
        least = Found(tau, 1).tau
        best = Best(len(ours), 1, slack=self._slack, device=self._how.device, least=least)
        passed = 0
        for block in blocks(with_rest(ours, self._head), self._short, self._how, on_done):
            cut = best.cut[block.query : block.query + len(block.scores)]
            n, active, mask = self._passed(ours, block, cut)
            passed += n
            for own, columns in places(mask):
                own, rows = active[own] + block.query, columns + block.row
                best.add(own, rows, exact_scores(ours, self._corpus, own, rows, self._how))
        return FilteredTop(best.top(), passed / (len(ours) * len(self._corpus)))

    def _checked(self, queries: Vectors) -> Tensor:
        ours = unit_rows(queries, "queries")
        if ours.shape[1] != self._corpus.shape[1]:
            raise InputError(
                f"queries have {ours.shape[1]} dimensions, the corpus {self._corpus.shape[1]}; expected the same."
            )
        return ours

    def _passed(self, ours: Tensor, block: Block, cut: Tensor) -> tuple[int, Tensor, Tensor]:
        """How many pairs of a tile the filter passes; rows of the tile, and which of their cells may reach the cut.

        Where many pass, a product of the whole vectors sorts them out first.
        """
        active = torch.nonzero(block.scores.amax(dim=1) >= cut - self._slack).squeeze(1)
        passes = block.scores[active] >= (cut[active] - self._slack)[:, None]
        n = int(passes.sum())
        if n > _SPARSE * block.scores.numel():
            theirs = self._corpus[block.row : block.row + block.scores.shape[1]].to(self._how.device, torch.float32)
            for first in range(0, len(active), step := max(1, len(block.scores) // 4)):
                part = active[first : first + step]
                whole = ours[(part + block.query).to(ours.device)].to(self._how.device, torch.float32) @ theirs.T
                passes[first : first + step] &= whole >= (cut[part] - self._full_slack)[:, None]
        return n, active, passes


def with_rest(vectors: Tensor, head: int) -> Tensor:
    """a' of each vector: its first ``head`` dimensions and the length of the rest; shape (n, head + 1), fp32."""
    short = torch.empty(len(vectors), head + 1, device=vectors.device)
    for first in range(0, len(vectors), _ROWS_AT_ONCE):
        part = vectors[first : first + _ROWS_AT_ONCE]
        short[first : first + _ROWS_AT_ONCE, :head] = part[:, :head]
        short[first : first + _ROWS_AT_ONCE, head] = part[:, head:].double().norm(dim=1)
    return short
