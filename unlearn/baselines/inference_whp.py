r"""Who's Harry Potter? without its training, as MUSE compares it (arXiv:2407.06460).

    v = v_baseline - alpha * ReLU(v_reinforced - v_baseline)    at every token that is generated

There are no anchors and no tuning; two models stay resident, or one with an adapter (`unlearn.whp.pair`). MUSE's text
mixes probabilities, its code logits; this is the code's form. It chose alpha = 4 for news and 256 for books, on a model
reinforced for 10 passes. No checkpoint comes of it, so that whoever holds the weights holds the text.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LogitsProcessor
from transformers.modeling_outputs import CausalLMOutputWithPast

from audit.errors import InputError
from audit.lm.load import LanguageModel

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
    """The two models as one, which `audit.lm.generate.generate` samples from and whose logits can be read.

    It has no hidden states, so that what scores texts through a model's head refuses it. Its subject and fingerprint
    are the baseline's; a record must name ``pair.to_record()`` and ``alpha`` beside them.

    Raises:
        InputError: alpha is negative or not finite.
    """
    model: Any = _Generic(pair, _checked(alpha))
    return dataclasses.replace(pair.baseline, model=model.eval())


class _Generic(nn.Module):
    def __init__(self, pair: Pair, alpha: float) -> None:
        super().__init__()
        self.baseline, self.reinforced = pair.baseline.model, pair.reinforced.model
        self.config, self.dtype = pair.baseline.model.config, pair.baseline.model.dtype
        self._off, self._alpha = pair.off, alpha

    def get_input_embeddings(self) -> Any:
        return self.baseline.get_input_embeddings()

    def forward(self, *, past_key_values: Any = None, use_cache: bool = False, **inputs: Any) -> Any:
        """Logits (B, T, V) in float32; the cache is a pair of the two models' own."""
        caches = past_key_values or (None, None)
        with self._off():
            before = self.baseline(past_key_values=caches[0], use_cache=use_cache, **inputs)
        after = self.reinforced(past_key_values=caches[1], use_cache=use_cache, **inputs)
        logits = generic_logits(before.logits, after.logits.to(before.logits.device), alpha=self._alpha)
        kept = tuple(getattr(output, "past_key_values", None) for output in (before, after))
        return CausalLMOutputWithPast(logits=logits, past_key_values=None if None in kept else kept)


def _checked(alpha: float) -> float:
    if not 0 <= alpha < math.inf:
        raise InputError(f"alpha is {alpha!r}; expected 0 or a positive number.")
    return alpha
