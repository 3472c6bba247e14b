r"""Near-duplicate documents by MinHash and locality-sensitive hashing, as SlimPajama's released code finds them.

A document becomes the set of its 13-grams of characters (lower case, ASCII punctuation taken out, white space single);
its signature is b bands of r hashes. Two documents that agree in all r hashes of a band are duplicates, which happens
with

    P(J) = 1 - (1 - J^r)^b       at a Jaccard similarity J of their sets,

nothing is compared afterwards, and of each connected component one document stays: here the first.

Sources: threshold 0.8 and 13-grams, SlimPajama; characters, normalisation, no comparison, connected components: its
released code, whose documentation leaves b and r to datasketch's optimum for the threshold, 9 and 13 for 128 hashes, of
which 117 are used. So P(0.8) = 0.40: three of five pairs at the threshold itself are missed; P(0.9) = 0.93. (Its code's
own default are 6-grams, and it takes out documents below 200 characters beforehand, which is not done here.)
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash, RMinHashLSH
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

THRESHOLD = 0.8  # kept in the index; its bands alone decide
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def shingles(text: str, width: int) -> set[str]:
    """The ``width``-grams of characters of a normalised text; none where it is shorter."""
    plain = re.sub(r"\s+", " ", text.lower().translate(NO_PUNCTUATION).strip())
    return {plain[start : start + width] for start in range(len(plain) - width + 1)}


def probability_of_duplicate(jaccard: float, *, bands: int, rows: int) -> float:
    """P(J) of the equation above."""
    return float(1 - (1 - jaccard**rows) ** bands)


def clusters(
    shingle_sets: Iterable[set[str]],
    *,
    bands: int,
    rows: int,
    seed: int,
    on_done: Callable[[int], None] | None = None,
) -> NDArray[np.int64]:
    """The cluster of each document, named by the first document in it; shape (documents,).

    Args:
        shingle_sets: Of each document; one without any is alike to none.
        bands: b.
        rows: r.
        seed: Seed of the hashes.
        on_done: Called with the number of documents done.
    """
    index = RMinHashLSH(threshold=THRESHOLD, num_perm=bands * rows, num_bands=bands)
    edges: list[tuple[int, int]] = []
    n = 0
    for place, own in enumerate(shingle_sets):
        n = place + 1
        if own:
            signature = RMinHash(num_perm=bands * rows, seed=seed)
            signature.update(own)
            edges += [(place, other) for other in index.query(signature)]
            index.insert(place, signature)
        if on_done is not None:
            on_done(n)
    ends = np.array(edges, dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), dtype=np.int8), (ends[:, 0], ends[:, 1])), shape=(n, n))
    labels = connected_components(graph, directed=False)[1] if n else np.zeros(0, dtype=np.int64)
    _, first = np.unique(labels, return_index=True)
    found: NDArray[np.int64] = first[labels].astype(np.int64)
    return found


def duplicates(found: Sequence[int] | NDArray[np.int64]) -> list[int]:
    """Documents that are not the first of their cluster."""
    return [place for place, first in enumerate(found) if first != place]
