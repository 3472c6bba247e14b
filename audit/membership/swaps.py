"""Which single tokens of a text are exchanged for which others, given what a model proposes at each place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from .ratio import MIN_LOSS


def best_swaps(
    own: NDArray[np.float64], log_p: NDArray[np.float64], n: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places t and ranks j of the n highest p(v_tj) / (1 - p(x_t)); ties go to the first place and rank.

    Args:
        own: log p(x_t), shape (T,).
        log_p: log p of the candidates, shape (T, k); -inf for one that must not be taken.
        n: How many; fewer where there are fewer candidates.
    """
    rest = np.log(np.maximum(-np.expm1(own), MIN_LOSS))  # log(1 - p(x_t)), kept finite where p rounds to 1
    scores = (log_p - rest[:, None]).ravel()
    order = np.argsort(-scores, kind="stable")[:n]
    order = order[np.isfinite(scores[order])]
    places, ranks = np.unravel_index(order, log_p.shape)
    return places.astype(np.int64), ranks.astype(np.int64)


def never_proposed(tokenizer: PreTrainedTokenizerBase, n_rows: int) -> list[int]:
    """Control tokens, and rows of a vocabulary of ``n_rows`` that the tokenizer does not know."""
    return sorted({i for i in tokenizer.all_special_ids if i < n_rows} | set(range(len(tokenizer), n_rows)))
