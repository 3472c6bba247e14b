r"""ReCaLL: how much less likely a text becomes after texts that the model was not trained on.

    recall_score = LL(x | P) / LL(x)        LL = sum_t l_t over the tokens of x alone, P = the shots

Xie et al., arXiv:2406.15968: non-member text P in front costs a member more than a non-member. Both likelihoods are
negative, so the larger loss is the larger ratio: higher speaks for membership, as published, and no sign is turned.

Departures. SoK (arXiv:2406.17975) divides mean losses of which the first runs over P too; here both run over the same
tokens of x. The shots are joined by line breaks, with one after the last, where SoK puts spaces: a space would
melt into the first token of x. P is the same for all texts and computed once; shots are never dropped silently to make
room. The user says that the model never saw the shots: nothing here can check it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, InputError
from ..lm.load import LanguageModel
from ..lm.logprobs import token_log_probs
from ..lm.tokens import check_ids, encode, prefix_ids
from ..text.safe import counted, quoted
from .ratio import loss_ratio


def shot_tokens(lm: LanguageModel, shots: Sequence[str], texts: Sequence[str], *, ids: Sequence[str]) -> list[int]:
    """What stands before every text: the beginning-of-sequence token and the shots.

    Args:
        lm: The model.
        shots: Non-member texts.
        texts: The texts that are scored.
        ids: A name for each text, used in messages.

    Raises:
        InputError: A shot is empty, or is one of the texts (white space aside).
    """
    known = {" ".join(text.split()): name for text, name in zip(texts, ids, strict=True)}
    for number, shot in enumerate(shots, start=1):
        plain = " ".join(shot.split())
        if not plain:
            raise InputError(f"shot {number} is empty; give texts that the model was not trained on.")
        if plain in known:
            raise InputError(
                f"shot {number} is the text {quoted(known[plain])}, which is scored: after itself a text is likely "
                "whatever the model saw. Take the shots from texts that are not scored."
            )
    (sequence,) = encode(lm, ["".join(f"{shot}\n" for shot in shots)])
    check_ids(lm, ["the shots"], [sequence])
    return [*prefix_ids(lm), *sequence]


def leave_room(
    lm: LanguageModel, ids: Sequence[str], sequences: Sequence[Sequence[int]], *, n_shots: int, truncate: bool
) -> tuple[list[list[int]], list[str]]:
    """Sequences that fit the context after the shots, and the names of those that were cut for it.

    Args:
        lm: The model.
        ids: A name for each text, used in messages.
        sequences: Token ids of each text, without prefix.
        n_shots: Tokens that stand before each text, the beginning-of-sequence token among them.
        truncate: Keep the first tokens of a text that is too long, instead of refusing it.

    Raises:
        InputError: The shots leave no room at all.
        DataError: A text does not fit after the shots and ``truncate`` is off.
    """
    room = lm.n_context - n_shots
    if room < 2:  # a cut text must still hold what a tokenizer without a first token can score
        raise InputError(
            f"the shots take {counted(n_shots, 'token')} of the {lm.n_context:,} that the model accepts, so no text "
            "fits after them. Give fewer or shorter shots."
        )
    too_long = [(name, len(sequence)) for name, sequence in zip(ids, sequences, strict=True) if len(sequence) > room]
    if too_long and not truncate:
        name, length = too_long[0]
        others = f" ({len(too_long):,} such texts in all)" if len(too_long) > 1 else ""
        raise DataError(
            f"text {quoted(name)} has {length:,} tokens and the shots {n_shots:,}; the model "
            f"{quoted(lm.subject.model, limit=200)} accepts at most {lm.n_context:,} together{others}. Give fewer or "
            "shorter shots, or pass --truncate (truncate = true in a plan) to score the first tokens."
        )
    return [list(sequence[:room]) for sequence in sequences], [name for name, _ in too_long]


def recall_scores(
    lm: LanguageModel,
    sequences: Sequence[Sequence[int]],
    loss: NDArray[np.float64],
    *,
    shots: Sequence[int],
    token_budget: int | None = None,
    on_done: Callable[[int], None] | None = None,
) -> NDArray[np.float64]:
    """ReCaLL of N texts, shape (N,), > 0.

    Args:
        lm: The model.
        sequences: Token ids of each text, which fit after the shots.
        loss: NLL of the texts on their own, shape (N,), in nats a token.
        shots: What `shot_tokens` gave.
        token_budget: As in `token_log_probs`.
        on_done: Called with the number of texts finished, batch by batch.
    """
    # Without a beginning-of-sequence token the first token of x is left out of LL(x), and so of LL(x | P).
    skip = 0 if prefix_ids(lm) else 1
    scores = token_log_probs(
        lm,
        sequences,
        prefix=shots,
        n_unscored=[skip] * len(sequences),
        token_budget=token_budget,
        on_done=on_done,
    )
    conditional = np.array([-score.log_probs.mean(dtype=np.float64) for score in scores])
    return -loss_ratio(conditional, loss)
