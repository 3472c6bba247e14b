r"""The lower-case score: a text that was seen loses more when its capitals go. One further pass.

    lowercase_score = -NLL(x) / NLL(lower x)        NLL = -mean_t l_t, each over its own tokens

Carlini et al., arXiv:2012.07805, divide perplexities; this form is that of the released code of SoK,
arXiv:2406.17975. Higher (nearer 0) speaks for membership: NLL(x) is small beside NLL(lower x).

A text that is in lower case already is not run again and gets exactly -1, so such texts are tied: on a corpus of
them the score says nothing, and its AUC is 0.5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..lm.load import LanguageModel
from ..lm.logprobs import token_log_probs
from ..lm.tokens import check_lengths, encode, prefix_ids
from .ratio import loss_ratio


def lowered_tokens(
    lm: LanguageModel, texts: Sequence[str], *, ids: Sequence[str], truncate: bool
) -> list[list[int] | None]:
    """Token ids of each text in lower case (`str.lower`), or None for a text that is so already.

    Args:
        lm: The model.
        texts: What is scored of each text.
        ids: A name for each text, used in messages.
        truncate: Keep the first tokens of one that no longer fits the context: lower case can take more tokens.

    Raises:
        DataError: A text in lower case is too long and ``truncate`` is off.
    """
    places = [place for place, text in enumerate(texts) if text.lower() != text]
    names = [f"{ids[place]} in lower case" for place in places]
    sequences, _ = check_lengths(lm, names, encode(lm, [texts[place].lower() for place in places]), truncate=truncate)
    lowered: list[list[int] | None] = [None] * len(texts)
    for place, sequence in zip(places, sequences, strict=True):
        lowered[place] = sequence
    return lowered


def lowercase_scores(
    lm: LanguageModel,
    lowered: Sequence[Sequence[int] | None],
    loss: NDArray[np.float64],
    *,
    token_budget: int | None = None,
    on_done: Callable[[int], None] | None = None,
) -> NDArray[np.float64]:
    """The lower-case score of N texts, shape (N,), < 0; exactly -1 for a text that is in lower case already.

    Args:
        lm: The model.
        lowered: What `lowered_tokens` gave.
        loss: NLL of the texts as they are, shape (N,), in nats a token.
        token_budget: As in `token_log_probs`.
        on_done: Called with the number of texts finished, batch by batch.
    """
    places = [place for place, sequence in enumerate(lowered) if sequence is not None]
    if on_done is not None and len(places) < len(lowered):
        on_done(len(lowered) - len(places))
    scores = token_log_probs(
        lm,
        [sequence for sequence in lowered if sequence is not None],
        prefix=prefix_ids(lm),
        token_budget=token_budget,
        on_done=on_done,
    )
    lowered_loss = loss.copy()
    lowered_loss[places] = [-score.log_probs.mean(dtype=np.float64) for score in scores]
    return loss_ratio(loss, lowered_loss)
