r"""Token log-probabilities: the one shift-and-mask of the project.

For token ids x_0 .. x_{T-1} a causal model's output at position t-1 is a distribution over x_t, so

    l_t   = log p(x_t | x_<t)                              the token's log-probability, in nats
    mu_t  = sum_v p_v log p_v                              mean of the vocabulary's log-probabilities under p
    sd_t  = sqrt(sum_v p_v (log p_v)^2 - mu_t^2)           their standard deviation (Min-K%++, arXiv:2404.02936)

How it is fast and small: texts are sorted by length and packed to a token budget; rows are padded on the
right, where a causal model cannot look, so no attention mask is needed; the language-model head sees real
positions only, a chunk at a time, so that nothing of size B x T x V exists; l, mu and sd come from the same
chunk. When memory runs out the budget is halved and the work goes on.

Batch size, order and padding change a value only by float rounding: at most 1e-4 nats in float32.

Letters: B rows of a batch, T tokens, D width, V vocabulary, N scored positions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import DataError, ModelError
from .head import Head
from .load import LanguageModel
from .sharing import has_plain_rows, out_of_memory, release_memory, rope_switch
from .tokens import check_ids

REUSE_PREFIX_FROM = 16  # tokens; a shorter shared prefix is cheaper to compute again than to copy


@dataclass(frozen=True, slots=True)
class TokenScores:
    """What one text's tokens scored; all arrays are float32 of shape (N,), in nats, in reading order.

    Attributes:
        log_probs: l_t of each scored token.
        mean: mu_t, or None when moments were not asked for.
        std: sd_t, at least `audit.lm.head.MIN_STD`, or None likewise.
    """

    log_probs: NDArray[np.float32]
    mean: NDArray[np.float32] | None
    std: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True)
class _Row:
    index: int
    ids: list[int]
    first: int  # the first position that is scored, >= 1


def token_log_probs(
    lm: LanguageModel,
    sequences: Sequence[Sequence[int]],
    *,
    prefix: Sequence[int] = (),
    n_unscored: Sequence[int] | None = None,
    moments: bool = False,
    token_budget: int | None = None,
    on_done: Callable[[int], None] | None = None,
) -> list[TokenScores]:
    """Log-probability of every token of any number of ragged sequences.

    Args:
        lm: The model.
        sequences: Token ids of each text.
        prefix: Ids that stand before every sequence and are not scored, such as the beginning-of-sequence
            token. A long one is computed once and its keys and values are reused, where the model allows it.
        n_unscored: For each sequence, how many of its leading tokens are context and not scored; default 0.
            Without a prefix the first token is never scored, because nothing stands before it.
        moments: Also give mu_t and sd_t, from the same pass.
        token_budget: Padded tokens of a batch; default 2,048 on a CPU, whose caches hold so much, and 32,768 elsewhere.
        on_done: Called after each batch with the number of sequences finished in it.

    Returns:
        One `TokenScores` for each sequence, in the order given.

    Raises:
        DataError: A sequence leaves nothing to score or does not fit the context.
        ModelError: Memory runs out even for a single sequence, a token has no embedding, or the model is one that
            `audit.lm.head.Head` refuses.
    """
    results: list[TokenScores | None] = [None] * len(sequences)
    for index, scores in iter_token_log_probs(
        lm,
        sequences,
        prefix=prefix,
        n_unscored=n_unscored,
        moments=moments,
        token_budget=token_budget,
        on_done=on_done,
    ):
        results[index] = scores
    return [scores for scores in results if scores is not None]


def iter_token_log_probs(
    lm: LanguageModel,
    sequences: Sequence[Sequence[int]],
    *,
    prefix: Sequence[int] = (),
    n_unscored: Sequence[int] | None = None,
    moments: bool = False,
    token_budget: int | None = None,
    on_done: Callable[[int], None] | None = None,
) -> Iterator[tuple[int, TokenScores]]:
    """As `token_log_probs`, but yields ``(index, scores)`` batch by batch, longest texts first."""
    if not sequences:
        return
    _refuse_unscorable(lm, sequences, prefix=prefix, n_unscored=n_unscored)
    head = Head(lm)
    switch = rope_switch(lm.model)
    cache = _prefix_cache(lm, head, prefix) if switch is None and len(prefix) >= REUSE_PREFIX_FROM else None
    # With a reused prefix only its last token is run again, to predict the first token of the text.
    rows = _rows(sequences, lead=prefix if cache is None else prefix[-1:], n_unscored=n_unscored)
    rows.sort(key=lambda row: len(row.ids), reverse=True)
    n_long = 0 if switch is None else sum(len(row.ids) > switch for row in rows)
    budget = token_budget or (2_048 if lm.device.type == "cpu" else 32_768)
    start = 0
    while start < len(rows):
        # A batch's cost is its longest row times its rows; a reused prefix takes memory in every row too.
        width = len(rows[start].ids) + (0 if cache is None else len(prefix))
        stop = min(n_long if start < n_long else len(rows), start + max(1, budget // width))
        try:
            scored = _score_batch(lm, head, rows[start:stop], cache=cache, moments=moments)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if stop - start == 1 and head.chunk_rows == 1:
                raise ModelError(
                    f"memory runs out on a single text of {len(rows[start].ids):,} tokens; "
                    "use a smaller dtype, another device, or shorter texts."
                ) from error
            budget = max(1, (stop - start) * width // 2)
            head.chunk_rows = max(1, head.chunk_rows // 2)
            release_memory(lm.device)
            continue
        yield from scored
        if on_done is not None:
            on_done(stop - start)
        start = stop


def _refuse_unscorable(
    lm: LanguageModel,
    sequences: Sequence[Sequence[int]],
    *,
    prefix: Sequence[int],
    n_unscored: Sequence[int] | None,
) -> None:
    """Errors of `token_log_probs` that need no forward pass."""
    for index, sequence in enumerate(sequences):
        skip = n_unscored[index] if n_unscored is not None else 0
        if len(sequence) <= max(skip, 0 if prefix else 1):
            raise DataError(f"sequence {index} has {len(sequence)} tokens and leaves none to score; leave it out.")
        if len(prefix) + len(sequence) > lm.n_context:
            raise DataError(
                f"sequence {index} has {len(sequence):,} tokens after a prefix of {len(prefix):,}; the model "
                f"accepts at most {lm.n_context:,} together. Shorten it."
            )
    check_ids(lm, ["the prefix", *(f"sequence {index}" for index in range(len(sequences)))], [prefix, *sequences])


def _rows(sequences: Sequence[Sequence[int]], *, lead: Sequence[int], n_unscored: Sequence[int] | None) -> list[_Row]:
    """Each sequence with what must stand before it in the forward pass, and where its scoring starts."""
    skips = n_unscored if n_unscored is not None else [0] * len(sequences)
    return [
        _Row(index, [*lead, *sequence], max(1, len(lead) + skip))
        for index, (sequence, skip) in enumerate(zip(sequences, skips, strict=True))
    ]


def _prefix_cache(lm: LanguageModel, head: Head, prefix: Sequence[int]) -> object | None:
    """Keys and values of all but the last token of a shared prefix, for one row; None where rows cannot be copied."""
    with torch.inference_mode():
        cache = head.prefix_cache(torch.tensor([list(prefix[:-1])], device=lm.device))
    return cache if has_plain_rows(cache) else None


def _score_batch(
    lm: LanguageModel, head: Head, rows: Sequence[_Row], *, cache: object | None, moments: bool
) -> list[tuple[int, TokenScores]]:
    n_tokens = max(len(row.ids) for row in rows)
    # The padding repeats a row's last token: it lies to the right, so no real position ever looks at it.
    padded = [row.ids + row.ids[-1:] * (n_tokens - len(row.ids)) for row in rows]
    with torch.inference_mode():
        ids = torch.tensor(padded, device=lm.device)  # (B, T)
        past = None
        if cache is not None:
            past = copy.deepcopy(cache)  # a forward pass writes into the cache
            past.batch_repeat_interleave(len(rows))  # type: ignore[attr-defined]
        hidden = head.hidden_states(ids, cache=past)  # (B, T, D)
        scored = torch.zeros(ids.shape, dtype=torch.bool)
        for line, row in enumerate(rows):
            scored[line, row.first : len(row.ids)] = True
        scored = scored.to(lm.device)
        targets = ids[scored].to(hidden.device)  # (N,)
        before = scored.roll(-1, dims=1).to(hidden.device)  # the position that predicts each target
        values = head(hidden[before], targets, moments=moments).cpu().numpy()  # (1 or 3, N)
    results = []
    start = 0
    for row in rows:
        stop = start + len(row.ids) - row.first
        part = values[:, start:stop]
        results.append(
            (
                row.index,
                TokenScores(part[0].copy(), *((part[1].copy(), part[2].copy()) if moments else (None, None))),
            )
        )
        start = stop
    return results
