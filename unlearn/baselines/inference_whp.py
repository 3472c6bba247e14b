r"""Who's Harry Potter? without its training, as MUSE compares it (arXiv:2407.06460).

    v = v_baseline - alpha * ReLU(v_reinforced - v_baseline)    at every token that is generated

There are no anchors and no tuning; two models stay resident, or one with an adapter (`unlearn.whp.pair`). MUSE's text
mixes probabilities, its code logits; this is the code's form. It chose alpha = 4 for news and 256 for books, on a model
reinforced for 10 passes. No checkpoint comes of it, so that whoever holds the weights holds the text.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LogitsProcessor
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutputWithPast

from audit.errors import InputError
from audit.lm.head import Head
from audit.lm.load import LanguageModel
from audit.runs.records import content_key

from ..whp.generic_labels import generic_logits
from ..whp.pair import Pair


class GenericLogits(LogitsProcessor):  # type: ignore[misc]
    """For ``generate`` of the pair's **reinforced** model; the baseline is read beside it.

    Args:
        pair: Two models, or a twin.
        alpha: Strength, >= 0; 0 gives the baseline.
        attention_mask: Of the prompts, shape (B, T), where they are padded on the left.

    Raises:
        InputError: alpha is negative or not finite.
    """

    def __init__(self, pair: Pair, *, alpha: float, attention_mask: Tensor | None = None) -> None:
        self._pair, self._alpha, self._mask = pair, _checked(alpha), attention_mask
        self._seen: Tensor | None = None
        self._cache: Any = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Logits (B, V) of the token after ``input_ids`` (B, T), from the reinforced model's ``scores``."""
        seen, cache = self._seen, self._cache
        if seen is None or seen.shape[1] + 1 != input_ids.shape[1] or not torch.equal(seen, input_ids[:, :-1]):
            cache = None  # a new text, or rows that a beam search has moved
        fresh = input_ids if cache is None else input_ids[:, -1:]
        options: dict[str, Any] = {}
        if self._mask is not None:
            added = self._mask.new_ones((len(input_ids), input_ids.shape[1] - self._mask.shape[1]))
            mask = torch.cat([self._mask, added], dim=1).to(fresh.device)
            places = (mask.cumsum(1) - 1).clamp_min(0)[:, -fresh.shape[1] :]
            options = {"attention_mask": mask, "position_ids": places}
        with torch.no_grad(), self._pair.off():
            output = self._pair.baseline.model(
                input_ids=fresh, past_key_values=cache, use_cache=True, logits_to_keep=1, **options
            )
        self._seen, self._cache = input_ids, getattr(output, "past_key_values", None)
        baseline = output.logits[:, -1].to(scores.device)
        return generic_logits(baseline, scores, alpha=self._alpha)


def generic_model(pair: Pair, *, alpha: float) -> LanguageModel:
    """The two models as one, which `audit.lm.generate` samples from and `audit.lm.logprobs` scores texts with.

    Its subject is the baseline's. Its fingerprint names both models and ``alpha``, so that no score of the baseline
    that is kept on disk is taken for one of its own.

    Raises:
        InputError: alpha is negative or not finite.
    """
    model: Any = GenericModel(pair, _checked(alpha)).eval()
    own = pair.baseline.fingerprint
    files = own.files | {f"reinforced/{name}": one for name, one in pair.reinforced.fingerprint.files.items()}
    weights = content_key(method="inference_whp", alpha=alpha, models=pair.to_record())
    return dataclasses.replace(
        pair.baseline, model=model, fingerprint=dataclasses.replace(own, weights=weights, files=files)
    )


class GenericModel(nn.Module):
    """The logits of both models, combined, and the halves that `audit.lm.head.Head` asks for.

    The head of the two is scaled and capped inside, each model's logits by themselves; `Head` would do so again to
    their combination, finds that this is not what the model says, and refuses such an architecture.
    """

    def __init__(self, pair: Pair, alpha: float) -> None:
        super().__init__()
        self.baseline, self.reinforced = pair.baseline.model, pair.reinforced.model
        self.config, self.dtype = pair.baseline.model.config, pair.baseline.model.dtype
        self._pair, self._off, self._alpha = pair, pair.off, alpha

    def get_input_embeddings(self) -> Any:
        return self.baseline.get_input_embeddings()

    @functools.cached_property
    def _heads(self) -> tuple[Head, Head]:
        with self._off():
            first = Head(self._pair.baseline)
        return first, Head(self._pair.reinforced)

    def get_decoder(self) -> nn.Module:
        return _SideBySide(self._heads, self._off)

    def get_output_embeddings(self) -> nn.Module:
        return _CombinedHead(self._heads, self._off, self._alpha, self.baseline.get_output_embeddings().weight)

    def forward(self, *, past_key_values: Any = None, use_cache: bool = False, **inputs: Any) -> Any:
        """Logits (B, T, V) in float32; the cache is a pair of the two models' own."""
        caches = past_key_values or (None, None)
        with self._off():
            before = self.baseline(past_key_values=caches[0], use_cache=use_cache, **inputs)
        after = self.reinforced(past_key_values=caches[1], use_cache=use_cache, **inputs)
        logits = generic_logits(before.logits, after.logits.to(before.logits.device), alpha=self._alpha)
        kept = tuple(getattr(output, "past_key_values", None) for output in (before, after))
        return CausalLMOutputWithPast(logits=logits, past_key_values=None if None in kept else kept)


class _SideBySide(nn.Module):
    """Hidden states of both models, (B, T, 2 D); no cache is kept."""

    def __init__(self, heads: tuple[Head, Head], off: Callable[[], AbstractContextManager[None]]) -> None:
        super().__init__()
        self._heads, self._off = heads, off

    def forward(self, *, input_ids: Tensor, past_key_values: Any = None, use_cache: bool = False) -> Any:
        with self._off():
            before = self._heads[0].hidden_states(input_ids)
        after = self._heads[1].hidden_states(input_ids)
        return BaseModelOutput(last_hidden_state=torch.cat([before, after.to(before.device)], dim=-1))


class _CombinedHead(nn.Module):
    """(..., 2 D) -> (..., V); ``weight`` is there for its number of rows."""

    def __init__(
        self, heads: tuple[Head, Head], off: Callable[[], AbstractContextManager[None]], alpha: float, weight: Tensor
    ) -> None:
        super().__init__()
        self._heads, self._off, self._alpha, self.weight = heads, off, alpha, weight

    def forward(self, hidden: Tensor) -> Tensor:
        before, after = hidden.chunk(2, dim=-1)
        with self._off():
            baseline = self._heads[0].logits(before)
        reinforced = self._heads[1].logits(after).to(baseline.device)
        return generic_logits(baseline, reinforced, alpha=self._alpha)


def _checked(alpha: float) -> float:
    if not 0 <= alpha < math.inf:
        raise InputError(f"alpha is {alpha!r}; expected 0 or a positive number.")
    return alpha
