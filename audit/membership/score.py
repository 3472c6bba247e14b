r"""Membership scores of a text, all from one forward pass. Every ``*_score`` is higher for a likelier member.

With l_t, mu_t, sd_t of `audit.lm.logprobs` over the T scored tokens and m = max(1, floor(k T)):

    loss_score              mean_t l_t
    min_k_score             mean of the m lowest l_t                          Min-K%,   arXiv:2310.16789
    min_k_plus_plus_score   mean of the m lowest (l_t - mu_t) / sd_t          Min-K%++, arXiv:2404.02936
    zlib_score              mean_t l_t / (bytes of the zlib-compressed text)  Carlini et al., arXiv:2012.07805
    ratio_score             mean_t l_t - mean_t l_t of a reference model on the same text: `audit.membership.ratio`

and two forms of them that the released code of later papers computes (arXiv:2405.15523, arXiv:2406.17975):

    min_20_score            mean of the min(20, T) lowest l_t
    zlib_rate_score         mean_t l_t / (bytes of the zlib-compressed text / characters of the text)

Of a text that was cut, only the scored part is compressed and counted: its tokens decoded, in which a character
cut in two is U+FFFD.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..lm.load import LanguageModel
from ..lm.logprobs import TokenScores, token_log_probs
from ..lm.tokens import check_lengths, encode, prefix_ids
from ..text.safe import counted, quoted

LOWEST_TOKENS = 20  # of min_20_score, after the released code of arXiv:2405.15523


@dataclass(frozen=True, slots=True)
class TextScores:
    """Scores of N texts; every array has shape (N,). Loss and perplexity are not oriented, the others are.

    Attributes:
        n_tokens: Scored tokens of each text.
        loss: Mean negative log-likelihood a token, in nats, >= 0.
        min_k: Mean of the lowest log-probabilities, in nats, <= 0.
        min_k_plus_plus: Mean of the lowest standardised log-probabilities, unitless.
        zlib: Mean log-probability over compressed bytes, in nats a byte, <= 0.
        truncated: Whether only the first tokens of the text were scored.
        min_20: Mean of the 20 lowest log-probabilities (all, where there are fewer), in nats, <= 0.
        zlib_rate: Mean log-probability over compressed bytes a character, in nats, <= 0.
    """

    n_tokens: NDArray[np.int64]
    loss: NDArray[np.float64]
    min_k: NDArray[np.float64]
    min_k_plus_plus: NDArray[np.float64]
    zlib: NDArray[np.float64]
    truncated: NDArray[np.bool_]
    min_20: NDArray[np.float64]
    zlib_rate: NDArray[np.float64]

    @property
    def perplexity(self) -> NDArray[np.float64]:
        """exp(loss)."""
        return np.exp(self.loss)


def score_texts(
    lm: LanguageModel,
    texts: Sequence[str],
    *,
    ids: Sequence[str],
    k: float = 0.2,
    truncate: bool = False,
    token_budget: int | None = None,
    on_done: Callable[[int], None] | None = None,
) -> TextScores:
    """Score each text on its own, after the beginning-of-sequence token where the tokenizer has one.

    Args:
        lm: The model; its tokenizer cuts the texts.
        texts: The texts.
        ids: A name for each text, used in messages.
        k: Share of the tokens that Min-K% and Min-K%++ average over, in (0, 1].
        truncate: Score the first tokens of a text that is longer than the context, instead of refusing it.
        token_budget: As in `token_log_probs`.
        on_done: Called with the number of texts finished, batch by batch.

    Raises:
        DataError: A text is too long or has nothing to score.
        ModelError: As in `token_log_probs`, or a score is not a finite number.
    """
    sequences, cut = check_lengths(lm, ids, encode(lm, texts), truncate=truncate)
    truncated = np.isin(np.array(ids, dtype=object), cut)
    return score_tokens(
        lm, sequences, texts, ids=ids, truncated=truncated, k=k, token_budget=token_budget, on_done=on_done
    )


def score_tokens(
    lm: LanguageModel,
    sequences: Sequence[Sequence[int]],
    texts: Sequence[str],
    *,
    ids: Sequence[str],
    truncated: NDArray[np.bool_],
    k: float = 0.2,
    token_budget: int | None = None,
    on_done: Callable[[int], None] | None = None,
) -> TextScores:
    """As `score_texts`, for texts that were encoded and checked already; ``truncated`` is kept as given."""
    scores = token_log_probs(
        lm, sequences, prefix=prefix_ids(lm), moments=True, token_budget=token_budget, on_done=on_done
    )
    parts = [
        scored_part(lm, sequence, text, cut=bool(cut))
        for sequence, text, cut in zip(sequences, texts, truncated, strict=True)
    ]
    return summarise(lm, scores, parts, ids=ids, truncated=truncated, k=k)


def scored_part(lm: LanguageModel, sequence: Sequence[int], text: str, *, cut: bool) -> str:
    """What was scored of a text: all of it, or the decoded tokens of one that was cut."""
    return str(lm.tokenizer.decode(sequence, clean_up_tokenization_spaces=False)) if cut else text


def summarise(
    lm: LanguageModel,
    scores: Sequence[TokenScores],
    texts: Sequence[str],
    *,
    ids: Sequence[str],
    truncated: NDArray[np.bool_],
    k: float,
) -> TextScores:
    """Scores of N texts from those of their tokens.

    Args:
        lm: The model, for messages.
        scores: Of each text, with moments.
        texts: What was scored of each text.
        ids: A name for each text, used in messages.
        truncated: Whether only a part of the text was scored, shape (N,); kept as given.
        k: As in `score_texts`.

    Raises:
        ModelError: A score is not a finite number.
    """
    loss = np.array([-score.log_probs.mean(dtype=np.float64) for score in scores])
    n_bytes = np.array([len(zlib.compress(text.encode())) for text in texts], dtype=np.int64)
    n_characters = np.array([len(text) for text in texts], dtype=np.int64)
    result = TextScores(
        n_tokens=np.array([len(score.log_probs) for score in scores], dtype=np.int64),
        loss=loss,
        min_k=np.array([lowest_mean(score.log_probs, k) for score in scores]),
        min_k_plus_plus=np.array([lowest_mean(standardised(score), k) for score in scores]),
        zlib=-loss / n_bytes,
        truncated=truncated,
        min_20=np.array([mean_of_lowest(score.log_probs, LOWEST_TOKENS) for score in scores]),
        zlib_rate=-loss / (n_bytes / np.maximum(n_characters, 1)),
    )
    refuse_not_finite(lm, [result.loss, result.min_k, result.min_k_plus_plus], ids)
    return result


def refuse_not_finite(lm: LanguageModel, columns: Sequence[NDArray[np.float64]], ids: Sequence[str]) -> None:
    """Raises a `ModelError` that names the first text with a score, in any of the columns, that is not finite."""
    finite = np.isfinite(np.stack(columns)).all(axis=0)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise ModelError(
            f"the model {quoted(lm.subject.model, limit=200)} gives {counted(len(bad), 'text')} a score that is not a "
            f"finite number; first: {quoted(ids[bad[0]])}. Its weights are broken, or {lm.model.dtype} is too small "
            "for it: try --dtype float32."
        )


def lowest_mean(values: NDArray[np.float32], k: float) -> float:
    """Mean of the max(1, floor(k T)) lowest of T values."""
    # The small number undoes rounding, as in 0.29 * 100 = 28.999...
    return mean_of_lowest(values, max(1, int(k * len(values) + 1e-9)))


def mean_of_lowest(values: NDArray[np.float32], n: int) -> float:
    """Mean of the min(n, T) lowest of T values."""
    n = min(n, len(values))
    return float(np.partition(values, n - 1)[:n].mean(dtype=np.float64))


def standardised(score: TokenScores) -> NDArray[np.float32]:
    """(l_t - mu_t) / sd_t, shape (T,)."""
    if score.mean is None or score.std is None:
        raise ValueError("Min-K%++ needs moments; call token_log_probs with moments=True")
    return (score.log_probs - score.mean) / score.std
