r"""The neighbourhood score: how much likelier a text is than texts that differ from it in one token.

    neighbourhood_score = mean_t l_t(x) - mean over neighbours x' of mean_t l_t(x')

Mattern et al., arXiv:2305.18462. A neighbour puts another token v in place of x_t. Of all places t and the ``top_k``
likeliest v there, those with the highest

    p(v | rest of x) / (1 - p(x_t | rest of x))

are taken, as in the released code of SoK (arXiv:2406.17975): 50 neighbours, top 10, p by RoBERTa, which reads what
stands on both sides, from an embedding of x_t with dropout 0.7. That is `audit.membership.masked`, for which the user
gives a masked language model.

Departure, the default: p(v | x_<t) by the audited model itself, which sees what stands before t and not what comes
after. No second model is needed and nothing is drawn. What the model expects at t is likelier than what stands there,
so scores lie lower than with RoBERTa; compare them only with scores made in the same way.

Neighbours by the model itself share what is known: before t a neighbour's l_t are those of x, and log p(v | x_<t) came
with the choice, so only tokens after t are scored again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import DataError
from ..lm.head import Head
from ..lm.load import LanguageModel
from ..lm.logprobs import token_log_probs
from ..lm.tokens import encode, prefix_ids
from ..text.safe import quoted
from .masked import MaskedModel
from .swaps import best_swaps, never_proposed

NEIGHBOURS, TOP_K = 50, 10  # as in the released code of SoK


@dataclass(frozen=True, slots=True)
class _Neighbours:
    """Neighbours of one text by the model itself; arrays are in nats.

    Attributes:
        ids: Token ids of each neighbour.
        places: Place in ``ids`` of the token that differs.
        known: Sum of the log-probabilities up to that token, shape (n,).
        own: Mean log-probability a token of the text itself.
        n_scored: Scored tokens of the text and of each neighbour.
    """

    ids: list[list[int]]
    places: list[int]
    known: NDArray[np.float64]
    own: float
    n_scored: int


def neighbourhood_scores(
    lm: LanguageModel,
    sequences: Sequence[Sequence[int]],
    texts: Sequence[str],
    *,
    ids: Sequence[str],
    n: int = NEIGHBOURS,
    top_k: int = TOP_K,
    masked: MaskedModel | None = None,
    seed: int = 0,
    token_budget: int | None = None,
    on_done: Callable[[int], None] | None = None,
) -> NDArray[np.float64]:
    """The neighbourhood score of N texts, shape (N,), in nats a token.

    Args:
        lm: The model under audit.
        sequences: Token ids of each text, without prefix; at least one token can be scored in each.
        texts: What ``sequences`` are the tokens of.
        ids: A name for each text, used in messages.
        n: Neighbours of a text; a short text has fewer, at most its tokens times ``top_k``.
        top_k: Likeliest tokens of a place that are tried, >= 2; the text's own among them is left out.
        masked: The masked language model that proposes tokens, or None for the audited model itself.
        seed: Seed of the dropout of ``masked``; each text has a stream of its own, whatever stands beside it.
        token_budget: As in `token_log_probs`.
        on_done: Called with the number of neighbours scored, batch by batch; for each text they add up to ``n``.

    Raises:
        DataError: A text has no neighbour.
        InputError: As in `MaskedModel.neighbours`.
    """
    if masked is None:
        return _by_itself(lm, sequences, ids=ids, n=n, top_k=top_k, token_budget=token_budget, on_done=on_done)
    groups = [
        masked.neighbours(text, name=name, n=n, top_k=top_k, seed=seed) for text, name in zip(texts, ids, strict=True)
    ]
    _refuse_lonely([len(group) for group in groups], ids)
    room, lead = lm.n_context - len(prefix_ids(lm)), prefix_ids(lm)
    # A neighbour can take more tokens than the text; what no longer fits the context is left out.
    rows = [row[:room] for row in encode(lm, [*texts, *(one for group in groups for one in group)])]
    means = [
        float(score.log_probs.mean(dtype=np.float64))
        for score in token_log_probs(lm, rows, prefix=lead, token_budget=token_budget)
    ]
    if on_done is not None:
        on_done(n * len(texts))
    stops = len(texts) + np.cumsum([len(group) for group in groups])
    starts = [len(texts), *stops[:-1]]
    return np.array(
        [
            means[place] - np.mean(means[start:stop])
            for place, (start, stop) in enumerate(zip(starts, stops, strict=True))
        ]
    )


def _by_itself(
    lm: LanguageModel,
    sequences: Sequence[Sequence[int]],
    *,
    ids: Sequence[str],
    n: int,
    top_k: int,
    token_budget: int | None,
    on_done: Callable[[int], None] | None,
) -> NDArray[np.float64]:
    head = Head(lm)
    forbidden = never_proposed(lm.tokenizer, int(lm.model.get_output_embeddings().weight.shape[0]))
    near = [_neighbours(lm, head, sequence, n=n, top_k=top_k, forbidden=forbidden) for sequence in sequences]
    _refuse_lonely([len(one.ids) for one in near], ids)
    # After the last token nothing is left to score.
    rows = [
        (text, number)
        for text, one in enumerate(near)
        for number, place in enumerate(one.places)
        if place + 1 < len(one.ids[number])
    ]
    scores = token_log_probs(
        lm,
        [near[text].ids[number] for text, number in rows],
        prefix=prefix_ids(lm),
        n_unscored=[near[text].places[number] + 1 for text, number in rows],
        token_budget=token_budget,
        on_done=on_done,
    )
    if on_done is not None:
        on_done(n * len(sequences) - len(rows))
    sums = [one.known.copy() for one in near]
    for (text, number), score in zip(rows, scores, strict=True):
        sums[text][number] += score.log_probs.sum(dtype=np.float64)
    return np.array([one.own - sum_.mean() / one.n_scored for one, sum_ in zip(near, sums, strict=True)])


def _neighbours(
    lm: LanguageModel, head: Head, sequence: Sequence[int], *, n: int, top_k: int, forbidden: list[int]
) -> _Neighbours:
    """The n best substitutions in one text, by what stands before each place."""
    lead = prefix_ids(lm)
    first = 0 if lead else 1  # without a first token nothing stands before the text's own
    with torch.inference_mode():
        ids = torch.tensor([[*lead, *sequence]], device=lm.device)
        hidden = head.hidden_states(ids)[0, :-1]  # (T, D)
        targets = ids[0, 1:].to(hidden.device)  # (T,)
        own, tokens, log_probs = [], [], []
        for start in range(0, len(targets), head.chunk_rows):
            logits = head.logits(hidden[start : start + head.chunk_rows])
            some = targets[start : start + head.chunk_rows, None].to(logits.device)
            log_z = logits.logsumexp(dim=1, keepdim=True)
            own.append((logits.gather(1, some) - log_z)[:, 0].cpu())
            logits[:, forbidden] = -torch.inf
            top = logits.topk(min(top_k, logits.shape[1]), dim=1)
            tokens.append(top.indices.cpu())
            log_probs.append((top.values - log_z).masked_fill_(top.indices == some, -torch.inf).cpu())
    l_t = torch.cat(own).double().numpy()  # (T,)
    candidate, log_p = torch.cat(tokens).numpy(), torch.cat(log_probs).double().numpy()  # (T, top_k)
    places, ranks = best_swaps(l_t, log_p, n)
    before = np.concatenate([[0.0], np.cumsum(l_t)])
    return _Neighbours(
        ids=[_swapped(sequence, first + t, int(candidate[t, j])) for t, j in zip(places, ranks, strict=True)],
        places=[first + int(t) for t in places],
        known=before[places] + log_p[places, ranks],
        own=float(l_t.mean()),
        n_scored=len(l_t),
    )


def _swapped(sequence: Sequence[int], place: int, token: int) -> list[int]:
    return [*sequence[:place], token, *sequence[place + 1 :]]


def _refuse_lonely(counts: Sequence[int], ids: Sequence[str]) -> None:
    for count, name in zip(counts, ids, strict=True):
        if count == 0:
            raise DataError(
                f"text {quoted(name)} has no neighbour: no other token was proposed at any place. Leave it out, or "
                "raise top_k."
            )
