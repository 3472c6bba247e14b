"""The strongest matches looked at closely: what embedding, string, numbers and longest common span say of one pair."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..matching.numbers import numbers_differ
from ..matching.overlap import bleu, ngram_overlap
from ..matching.spans import longest_common_span
from ..matching.strings import similarity
from ..matching.words import words as words_of
from .sides import Nearest, Side


def match_table(
    generated: Side,
    rows: Side,
    nearest: Nearest,
    hit: NDArray[np.bool_],
    *,
    ids: Sequence[str],
    row_ids: Sequence[str],
    clusters: Sequence[Hashable],
) -> pd.DataFrame:
    """One row for each generation that was compared: its nearest training row by embedding, and how near it is.

    ``cosine``, ``levenshtein``, ``indel``; ``span_words``, the longest run of words that both hold; ``length_ratio``,
    shorter over longer in characters; ``overlap_1`` to ``overlap_3``, the share of the row's word n-grams that the
    generation holds, and ``bleu`` (the row as reference); ``numbers_differ``, because encoders hardly see a changed
    number; ``cluster``; ``hit``.
    """
    table: list[dict[str, Any]] = []
    for place in np.flatnonzero(nearest.rows >= 0):
        row = int(nearest.rows[place])
        ours, theirs = generated.texts[place], rows.texts[row]
        if ours is None or theirs is None:
            continue
        words, row_words = words_of(ours), words_of(theirs)
        names = {word: number for number, word in enumerate(dict.fromkeys([*words, *row_words]))}
        span = longest_common_span([names[word] for word in words], [names[word] for word in row_words])
        table.append(
            {
                "generation": ids[place],
                "row": row_ids[row],
                "cosine": float(nearest.similarity[place]),
                "levenshtein": similarity(ours, theirs, "levenshtein"),
                "indel": similarity(ours, theirs, "indel"),
                "span_words": span.length,
                "length_ratio": min(len(ours), len(theirs)) / max(len(ours), len(theirs)),
                **{f"overlap_{n}": ngram_overlap(row_words, words, n) for n in (1, 2, 3)},
                "bleu": bleu(row_words, words),
                "numbers_differ": numbers_differ(ours, theirs),
                "cluster": str(clusters[row]),
                "hit": bool(hit[place]),
            }
        )
    return pd.DataFrame(table)
