r"""Score texts after what stands before them, as a trap stands in its document.

    l_t = log p(x_t | context, x_<t)

Context and text are cut into tokens together, and the text's tokens are told by characters (`join`): cut apart, the
token at the boundary would be another one. Only the text's tokens are scored. Then every score of
`audit.membership.score` is taken from them.

Meeus et al., arXiv:2402.09363, take the tokens before one occurrence of the trap and give a decoy of the same stratum
the same context. Here the caller chooses the contexts. ``max_context`` keeps the last so many tokens of each, so that
the same context is cut at the same place for a trap and its decoys whatever their lengths.

Texts that share a context share its forward pass: it is computed once, up to where their tokens part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, InputError
from ..lm.load import LanguageModel
from ..lm.logprobs import REUSE_PREFIX_FROM, TokenScores, token_log_probs
from ..lm.tokens import check_ids, encode, prefix_ids
from ..text.safe import quoted
from .joined import Joined, join
from .score import TextScores, summarise

SLACK = 8  # last tokens of a shared context that may differ, because they grow together with the text


@dataclass(frozen=True, slots=True)
class ContextScores:
    """Scores of N texts in their contexts; every array has shape (N,).

    Attributes:
        scores: Of the text's tokens alone; none is truncated.
        n_context: Tokens of context that stood before the text, the beginning-of-sequence token not counted.
        n_cut: Tokens of context that were left out on the left.
        straddles: Whether the first scored token also holds characters of the context.
    """

    scores: TextScores
    n_context: NDArray[np.int64]
    n_cut: NDArray[np.int64]
    straddles: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Placed:
    """One text after its context was cut to size."""

    context: str
    ids: list[int]  # context and text, without what was cut
    n_before: int  # tokens of context among them
    n_cut: int


def score_in_context(
    lm: LanguageModel,
    contexts: Sequence[str],
    texts: Sequence[str],
    *,
    ids: Sequence[str],
    k: float = 0.2,
    max_context: int | None = None,
    token_budget: int | None = None,
    on_done: Callable[[int], None] | None = None,
) -> ContextScores:
    """Score each text after its own context, which follows the beginning-of-sequence token where there is one.

    With empty contexts the scores are those of `audit.membership.score.score_texts`. Where the tokenizer has no
    beginning-of-sequence token and no context is left, the text's first token has nothing before it and is not scored.

    Args:
        lm: The model.
        contexts: What stands before each text, separator included; can be empty.
        texts: The texts.
        ids: A name for each text, used in messages.
        k: As in `score_texts`.
        max_context: Tokens of context that are kept at most, counted from the text; None keeps what the model holds.
            A context that is too long is cut on the left, between tokens.
        token_budget: As in `token_log_probs`.
        on_done: Called with the number of texts finished, batch by batch.

    Raises:
        InputError: Not one context for each text, or ``max_context`` is negative.
        DataError: A text alone is too long for the model, or has nothing to score.
        ModelError: As in `score_texts`, or the tokenizer cannot tell which characters a token holds.
    """
    if not len(contexts) == len(texts) == len(ids):
        raise InputError(
            f"{len(contexts):,} contexts, {len(texts):,} texts and {len(ids):,} ids; expected one of each a text."
        )
    if max_context is not None and max_context < 0:
        raise InputError(f"max_context is {max_context}; expected 0 or more tokens, or none for as many as fit.")
    joined = join(lm, contexts, texts)
    placed = [
        _place(lm, context, one, name=name, max_context=max_context)
        for context, one, name in zip(contexts, joined, ids, strict=True)
    ]
    check_ids(lm, [f"text {quoted(name)} in its context" for name in ids], [one.ids for one in placed])
    scores = _token_scores(lm, placed, token_budget=token_budget, on_done=on_done)
    return ContextScores(
        scores=summarise(lm, scores, texts, ids=ids, truncated=np.zeros(len(texts), dtype=np.bool_), k=k),
        n_context=np.array([one.n_before for one in placed], dtype=np.int64),
        n_cut=np.array([one.n_cut for one in placed], dtype=np.int64),
        straddles=np.array([one.straddles for one in joined], dtype=np.bool_),
    )


def _place(lm: LanguageModel, context: str, joined: Joined, *, name: str, max_context: int | None) -> _Placed:
    """Cut the context on the left until it and the text fit."""
    n_text = len(joined.ids) - joined.n_before
    room = lm.n_context - len(prefix_ids(lm)) - n_text
    if room < 0:
        raise DataError(
            f"text {quoted(name)} has {n_text:,} tokens; the model {quoted(lm.subject.model, limit=200)} accepts at "
            f"most {lm.n_context - len(prefix_ids(lm)):,}, so no context fits before it. Shorten it."
        )
    kept = min(joined.n_before, room if max_context is None else min(room, max_context))
    n_cut = joined.n_before - kept
    placed = _Placed(context, joined.ids[n_cut:], kept, n_cut)
    if n_text == 0 or len(placed.ids) < (1 if prefix_ids(lm) else 2):
        raise DataError(
            f"text {quoted(name)} has no token that stands after another, so nothing there can be scored. Leave such "
            "texts out."
        )
    return placed


def _token_scores(
    lm: LanguageModel,
    placed: Sequence[_Placed],
    *,
    token_budget: int | None,
    on_done: Callable[[int], None] | None,
) -> list[TokenScores]:
    """Scores of each text's own tokens, the contexts that texts share computed once."""
    lead = prefix_ids(lm)
    results: dict[int, TokenScores] = {}
    for shared, places in _sharing(lm, placed):
        scores = token_log_probs(
            lm,
            [placed[place].ids[len(shared) :] for place in places],
            prefix=[*lead, *shared],
            n_unscored=[placed[place].n_before - len(shared) for place in places],
            moments=True,
            token_budget=token_budget,
            on_done=on_done,
        )
        results.update(zip(places, scores, strict=True))
    return [results[place] for place in range(len(placed))]


def _sharing(lm: LanguageModel, placed: Sequence[_Placed]) -> list[tuple[list[int], list[int]]]:
    """Groups of places with the tokens that all of the group begin with, and that are context in all of them.

    The last group has no such tokens: texts whose context is their own, or too short to be worth it, or whose tokens
    part from the context's own long before its end.
    """
    groups: dict[tuple[str, int], list[int]] = {}
    for place, one in enumerate(placed):
        groups.setdefault((one.context, one.n_cut), []).append(place)
    sharing, alone = [], []
    for (context, n_cut), places in groups.items():
        if len(places) == 1 or placed[places[0]].n_before < REUSE_PREFIX_FROM:
            alone += places
            continue
        (whole,) = encode(lm, [context])
        tokens = whole[n_cut:]
        kept = {place: min(_n_common(tokens, placed[place].ids), placed[place].n_before) for place in places}
        near = [place for place in places if kept[place] >= max(1, len(tokens) - SLACK)]
        if len(near) < 2:
            alone += places
            continue
        sharing.append((tokens[: min(kept[place] for place in near)], near))
        alone += sorted(set(places) - set(near))
    return [*sharing, *([([], alone)] if alone else [])]


def _n_common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common start."""
    n = min(len(one), len(other))
    return next((place for place in range(n) if one[place] != other[place]), n)
