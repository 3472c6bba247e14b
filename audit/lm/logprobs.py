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
from torch import Tensor

from ..errors import DataError, ModelError
from .load import LanguageModel

REUSE_PREFIX_FROM = 16  # tokens; a shorter shared prefix is cheaper to compute again than to copy
MIN_STD = 1e-6  # nats; below it a distribution is a point, and float32 holds no spread to divide by


@dataclass(frozen=True, slots=True)
class TokenScores:
    """What one text's tokens scored; all arrays are float32 of shape (N,), in nats, in reading order.

    Attributes:
        log_probs: l_t of each scored token.
        mean: mu_t, or None when moments were not asked for.
        std: sd_t, at least ``MIN_STD``, or None likewise.
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
            token. A long one is computed once and its keys and values are reused.
        n_unscored: For each sequence, how many of its leading tokens are context and not scored; default 0.
            Without a prefix the first token is never scored, because nothing stands before it.
        moments: Also give mu_t and sd_t, from the same pass.
        token_budget: Padded tokens of a batch; default 4,096 on a CPU and 32,768 elsewhere.
        on_done: Called after each batch with the number of sequences finished in it.

    Returns:
        One `TokenScores` for each sequence, in the order given.

    Raises:
        DataError: A sequence leaves nothing to score or does not fit the context.
        ModelError: Memory runs out even for a single sequence.
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
    reuse = len(prefix) >= REUSE_PREFIX_FROM
    rows = _rows(lm, sequences, prefix=prefix, n_unscored=n_unscored, reuse=reuse)
    if not rows:
        return
    rows.sort(key=lambda row: len(row.ids), reverse=True)
    budget = token_budget or (4_096 if lm.device.type == "cpu" else 32_768)
    head = _Head(lm)
    cache = _prefix_cache(lm, prefix[:-1]) if reuse else None
    start = 0
    while start < len(rows):
        # A batch's cost is its longest row times its rows; a reused prefix takes memory in every row too.
        width = len(rows[start].ids) + (len(prefix) if reuse else 0)
        stop = min(len(rows), start + max(1, budget // width))
        try:
            scored = _score_batch(lm, head, rows[start:stop], cache=cache, moments=moments)
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            if stop - start == 1 and head.chunk_rows == 1:
                raise ModelError(
                    f"memory runs out on a single text of {len(rows[start].ids):,} tokens; "
                    "use a smaller dtype, another device, or shorter texts."
                ) from error
            budget = max(1, (stop - start) * width // 2)
            head.chunk_rows = max(1, head.chunk_rows // 2)
            if lm.device.type == "cuda":
                torch.cuda.empty_cache()
            continue
        yield from scored
        if on_done is not None:
            on_done(stop - start)
        start = stop


def _rows(
    lm: LanguageModel,
    sequences: Sequence[Sequence[int]],
    *,
    prefix: Sequence[int],
    n_unscored: Sequence[int] | None,
    reuse: bool,
) -> list[_Row]:
    """Each sequence with what must stand before it in the forward pass, and where its scoring starts."""
    # With a reused prefix only its last token is run again, to predict the first token of the text.
    lead = list(prefix[-1:] if reuse else prefix)
    rows = []
    for index, sequence in enumerate(sequences):
        skip = n_unscored[index] if n_unscored is not None else 0
        first = max(1, len(lead) + skip)
        ids = lead + list(sequence)
        if first >= len(ids):
            raise DataError(f"sequence {index} has {len(sequence)} tokens and leaves none to score; leave it out.")
        if len(prefix) + len(sequence) > lm.n_context:
            raise DataError(
                f"sequence {index} has {len(sequence):,} tokens after a prefix of {len(prefix):,}; the model "
                f"accepts at most {lm.n_context:,} together. Shorten it."
            )
        rows.append(_Row(index, ids, first))
    return rows


def _prefix_cache(lm: LanguageModel, prefix: Sequence[int]) -> object:
    """Keys and values of a shared prefix, for one row."""
    with torch.inference_mode():
        ids = torch.tensor([list(prefix)], device=lm.device)
        return lm.model.get_decoder()(input_ids=ids, use_cache=True).past_key_values


def _score_batch(
    lm: LanguageModel, head: _Head, rows: Sequence[_Row], *, cache: object | None, moments: bool
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
        hidden = lm.model.get_decoder()(
            input_ids=ids, past_key_values=past, use_cache=past is not None
        ).last_hidden_state  # (B, T, D)
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


class _Head:
    """The language-model head, applied to positions in chunks: (N, D) -> l, mu, sd of shape (N,)."""

    def __init__(self, lm: LanguageModel) -> None:
        self._lm = lm
        self._linear = lm.model.get_output_embeddings()
        config = lm.model.config.get_text_config()
        self._soft_cap = getattr(config, "final_logit_softcapping", None)  # Gemma 2 and 3
        self._scale = getattr(config, "logit_scale", None) or 1 / (getattr(config, "logits_scaling", None) or 1)
        n_vocabulary = int(self._linear.weight.shape[0])
        elements = 2**22 if lm.device.type == "cpu" else 2**27  # float32 numbers in a chunk: 16 or 512 MiB
        self.chunk_rows = max(1, elements // n_vocabulary)
        self._check_against_model()

    def logits(self, hidden: Tensor) -> Tensor:
        """(N, D) -> (N, V) in float32, after the architecture's own scaling and capping."""
        logits: Tensor = self._linear(hidden)
        if self._scale != 1:
            logits = logits * self._scale
        if self._soft_cap is not None:
            logits = torch.tanh(logits / self._soft_cap) * self._soft_cap
        return logits.float()

    def __call__(self, hidden: Tensor, targets: Tensor, *, moments: bool) -> Tensor:
        """Rows l, mu, sd (or l alone) of shape (3 or 1, N) for hidden states (N, D) and target ids (N,)."""
        out = torch.empty((3 if moments else 1, len(targets)), device=hidden.device)
        for start in range(0, len(targets), self.chunk_rows):
            part = slice(start, start + self.chunk_rows)
            logits = self.logits(hidden[part])  # (n, V)
            chosen = logits.gather(1, targets[part, None])[:, 0]
            if not moments:
                out[0, part] = chosen - logits.logsumexp(dim=1)
                continue
            top = logits.amax(dim=1, keepdim=True)
            shifted = logits.sub_(top)  # in place: one chunk, not two
            weights = shifted.exp()  # p_v times the normaliser z
            z = weights.sum(dim=1)
            log_z = z.log()
            mean = torch.linalg.vecdot(weights, shifted) / z  # mean of log p_v + log z under p
            shifted -= mean[:, None]
            variance = torch.linalg.vecdot(weights, shifted.square_()) / z
            out[0, part] = chosen - top[:, 0] - log_z
            out[1, part] = mean - log_z
            out[2, part] = variance.sqrt().clamp_min(MIN_STD)
        return out

    def _check_against_model(self) -> None:
        """Compare with the model's own logits once, so that an unknown head is refused and not misread.

        Raises:
            ModelError: The architecture changes its logits in a way that is not known here.
        """
        n_tokens = min(4, self._lm.n_context)
        with torch.inference_mode():
            ids = torch.arange(n_tokens, device=self._lm.device)[None]
            expected = self._lm.model(input_ids=ids, use_cache=False).logits[0].float()
            hidden = self._lm.model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[0]
            found = self.logits(hidden).to(expected.device)
        finite = torch.isfinite(expected)
        if not bool(finite.all()):
            raise ModelError(
                f"{self._lm.subject.model} gives logits that are not finite; its weights are broken, or "
                f"{self._lm.model.dtype} is too small for it. Try --dtype float32 or bfloat16."
            )
        tolerance = 1e-4 if expected.dtype == self._lm.model.dtype else 0.05
        gap = float((expected - found).abs().max())
        if gap > tolerance * max(1.0, float(expected.abs().max())):
            raise ModelError(
                f"{type(self._lm.model).__name__} changes its logits after the head in a way that Palimpsest does not "
                f"know (they differ by {gap:.3g}); scores would be wrong. Please report the architecture."
            )


def _out_of_memory(error: RuntimeError) -> bool:
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text
