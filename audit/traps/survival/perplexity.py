"""Perplexity of whole documents under a model, for a filter that drops the least likely of a corpus.

Filters of this kind are in use (CCNet sorts web pages by the perplexity of a small n-gram model into three parts); what
limit a company takes and under which model has no source, and neither has what it does to traps. So the user gives
both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ...lm.load import LanguageModel
from ...lm.logprobs import iter_token_log_probs
from ...lm.tokens import encode, prefix_ids


def document_perplexities(
    lm: LanguageModel, texts: Sequence[str], *, on_done: Callable[[int], None] | None = None
) -> NDArray[np.float64]:
    """exp(mean negative log-likelihood of all tokens) of each text, (texts,); NaN where nothing can be scored.

    A text that is longer than the model's context is scored in parts that follow one another, each on its own.

    Args:
        lm: The model.
        texts: The texts.
        on_done: Called with the number of parts finished.
    """
    prefix = prefix_ids(lm)
    room = lm.n_context - len(prefix)
    least = 1 if prefix else 2
    parts: list[list[int]] = []
    owners: list[int] = []
    for owner, ids in enumerate(encode(lm, texts)):
        for start in range(0, len(ids), room):
            part = ids[start : start + room]
            if len(part) >= least:
                parts.append(part)
                owners.append(owner)
    total = np.zeros(len(texts))
    n_tokens = np.zeros(len(texts))
    for place, scores in iter_token_log_probs(lm, parts, prefix=prefix, on_done=on_done):
        total[owners[place]] -= scores.log_probs.sum(dtype=np.float64)
        n_tokens[owners[place]] += len(scores.log_probs)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        found: NDArray[np.float64] = np.exp(total / n_tokens)
    return found


def above_percentile(perplexities: NDArray[np.float64], percentile: float) -> NDArray[np.bool_]:
    """Which lie above the percentile of those that are numbers; shape as given."""
    known = perplexities[~np.isnan(perplexities)]
    if not len(known):
        return np.zeros(perplexities.shape, dtype=np.bool_)
    above: NDArray[np.bool_] = perplexities > np.percentile(known, percentile)
    return above
