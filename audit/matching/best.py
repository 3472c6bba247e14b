"""The k best matches of each row while tiles of scores pass by, equal ones by the lowest place."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .tiles import places


class Top(NamedTuple):
    """The best matches of each vector, best first; equal scores by the lowest row.

    Attributes:
        scores: Cosines, shape (n, k), float32; -inf where nothing reached what was asked for.
        rows: Their rows on the other side, shape (n, k), int64; -1 there.
    """

    scores: NDArray[np.float32]
    rows: NDArray[np.int64]


class Best:
    """k places for each of n rows.

    Args:
        n: Rows.
        k: Places.
        slack: What a tile's scores may be wrong by.
        device: Of the tiles.
        least: A score that a match must reach.
    """

    def __init__(self, n: int, k: int, *, slack: float, device: torch.device, least: float = -math.inf) -> None:
        self._k = k
        self._slack = slack
        self._scores = torch.full((n, k), -math.inf, device=device)
        self._rows = torch.full((n, k), torch.iinfo(torch.int64).max, device=device)
        self.cut = torch.full((n,), least, dtype=torch.float32, device=device)
        """What a row's match must reach, shape (n,): ``least``, later the score of its last place."""

    def candidates(self, scores: Tensor, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Row and column of all that may belong to the best k, in parts.

        Such a cell reaches the row's cut less the slack; and, as k cells of the tile reach its k-th best v less the
        slack in truth, v less the slack twice.

        Args:
            scores: A tile, shape (r, c); its rows are those from ``first`` on.
            first: As above.
        """
        highest = scores.amax(dim=1).float()
        cut = self.cut[first : first + len(scores)] - self._slack
        active = torch.nonzero(highest >= cut).squeeze(1)
        part = scores if len(active) == len(scores) else scores[active]
        cut = cut[active]
        if self._k == 1:
            cut = torch.maximum(cut, highest[active] - 2 * self._slack)
        elif scores.shape[1] >= self._k and len(active):
            last = part.topk(self._k, dim=1).values[:, -1].float()
            cut = torch.maximum(cut, last - 2 * self._slack)
        for own, columns in places(part >= cut[:, None]):
            yield active[own] + first, columns

    def add(self, own: Tensor, rows: Tensor, scores: Tensor) -> None:
        """Let matches compete for the places.

        Args:
            own: Whose they are, shape (m,).
            rows: The other side, shape (m,).
            scores: Exact ones, shape (m,).
        """
        kept = scores >= self.cut[own]
        own, rows, scores = own[kept], rows[kept], scores[kept]
        involved = torch.unique(own)
        if not len(involved):
            return
        own = torch.cat([own, involved.repeat_interleave(self._k)])
        rows = torch.cat([rows, self._rows[involved].flatten()])
        scores = torch.cat([scores, self._scores[involved].flatten()])
        order = torch.argsort(rows, stable=True)
        order = order[torch.argsort(scores[order], descending=True, stable=True)]
        order = order[torch.argsort(own[order], stable=True)]
        sizes = torch.unique_consecutive(own[order], return_counts=True)[1]
        starts = torch.cumsum(sizes, 0) - sizes
        chosen = order[starts[:, None] + torch.arange(self._k, device=starts.device)]  # each row has k or more
        self._rows[involved] = rows[chosen]
        self._scores[involved] = scores[chosen]
        self.cut[involved] = torch.maximum(self.cut[involved], scores[chosen[:, -1]])

    def top(self) -> Top:
        rows = torch.where(self._scores == -math.inf, -1, self._rows)
        return Top(self._scores.cpu().numpy(), rows.cpu().numpy())
