"""Of the hits on training and held-out rows together, how many fall on the trained ones.

D1 and D2 are of one source and were divided at random, by units that were dealt as one (`dealing`). A model that saw
neither, or both, hits them alike: its share is that of the units in D1, one half where they are as many. Whatever
generalisation, template or encoder do, they do to both halves, so this is the audit's own control; it is also exact,
because the division can be dealt again, the halves being of one size or not.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..stats.bootstrap import bootstrap
from ..stats.checks import generator, label_codes
from ..stats.estimate import Estimate, PValue
from ..stats.proportion import clopper_pearson

N_DRAWS = 9_999
CELLS = 2_000_000  # numbers drawn at once


@dataclass(frozen=True, slots=True)
class SplitHalf:
    """Share of the hits that fall on the trained half.

    Attributes:
        share: With an interval from drawing clusters anew.
        expected: The share that is expected where nothing tells the halves apart: of the clusters, those in D1.
        p_value: Re-dealing of whole clusters to the halves, one-sided; valid where the division was random.
        p_below: The same of the other side: that so few hits fall on D1, which no memory of it explains.
        n_hits: Hits on either half.
        n_clusters: Clusters with a hit.
    """

    share: Estimate
    expected: float
    p_value: PValue
    p_below: float
    n_hits: int
    n_clusters: int


def split_half(
    hits: NDArray[np.int64],
    trained: NDArray[np.bool_],
    clusters: Sequence[Hashable],
    *,
    seed: int,
    level: float = 0.95,
) -> SplitHalf:
    """The share of hits on trained rows, and its exact test.

    Args:
        hits: Hits on each row of D1 and D2, the best row of each generation alone, shape (N,).
        trained: Whether each row is of D1, shape (N,).
        clusters: A label for each row; a cluster lies in one half.
        seed: Seed of draws and dealings.
        level: Level of the interval.

    Raises:
        InputError: A half is empty, or a cluster lies in both.
    """
    n_rows = len(hits)
    codes, names = label_codes(clusters, "clusters", n=n_rows)
    n_clusters = len(names)
    of_cluster = np.bincount(codes, weights=hits, minlength=n_clusters).astype(np.float64)
    n_trained = np.bincount(codes, weights=trained, minlength=n_clusters)
    sizes = np.bincount(codes, minlength=n_clusters)
    if not trained.any() or trained.all():
        raise InputError("all rows are of one half; expected trained and held-out rows.")
    if ((n_trained > 0) & (n_trained < sizes)).any():
        raise InputError("a cluster of near-duplicates lies in both halves; divide the rows by cluster.")
    inside = n_trained > 0
    total, expected = float(of_cluster.sum()), float(inside.mean())
    name = f"re-dealing of {n_clusters:,} clusters to the halves, one-sided, {N_DRAWS:,} draws"
    if not total:
        why = "no generation is near enough to any row of either half"
        share = Estimate.undefined(method="share of hits on trained rows", why=why, level=level)
        return SplitHalf(share, expected, PValue(1.0, 1.0, n_clusters, name), 1.0, 0, 0)
    rng = generator(seed)
    some = np.flatnonzero(of_cluster)
    dealt = _dealt(of_cluster[some], n_clusters, int(inside.sum()), rng)
    observed = of_cluster[inside].sum()
    as_high, as_low = int((dealt >= observed - 1e-9).sum()), int((dealt <= observed + 1e-9).sum())
    p_value = PValue((1 + as_high) / (1 + N_DRAWS), 1 / (1 + N_DRAWS), n_clusters, name)
    if inside[some].all() or not inside[some].any():  # no spread to draw; exact over clusters instead
        share = clopper_pearson(len(some) if inside[some].all() else 0, len(some), level=level)
    else:
        share = bootstrap(_share, of_cluster[some] * inside[some], of_cluster[some], paired=True, rng=seed, level=level)
    return SplitHalf(share, expected, p_value, (1 + as_low) / (1 + N_DRAWS), int(total), len(some))


def _dealt(hits: NDArray[np.float64], n_clusters: int, n_inside: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Hits in D1 under each dealing, shape (N_DRAWS,): ``n_inside`` of all clusters lie there, of which some have hits.

    How many of those with hits lie in D1 is hypergeometric, and which of them is a random subset.
    """
    n = len(hits)
    found = []
    for size in np.diff([*range(0, N_DRAWS, max(1, CELLS // n)), N_DRAWS]):
        many = rng.hypergeometric(n, n_clusters - n, n_inside, size=size)
        orders = rng.permuted(np.broadcast_to(hits, (size, n)), axis=1)
        found.append(np.concatenate([np.zeros((size, 1)), orders.cumsum(axis=1)], axis=1)[np.arange(size), many])
    return np.concatenate(found)


def _share(trained: NDArray[np.float64], all_hits: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    return np.asarray(trained.sum(axis=axis) / all_hits.sum(axis=axis))
