"""The two halves of a causal language model: hidden states, and the head that turns them into log-probabilities."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError
from .load import LanguageModel

MIN_STD = 1e-6  # nats; below it a distribution is a point, and float32 holds no spread to divide by


class Head:
    """The decoder, and the language-model head applied to positions in chunks: (N, D) -> l, mu, sd of shape (N,).

    Raises:
        ModelError: The architecture has no such halves, changes its logits in a way that is not known here, lets a
            token see what comes after it, or gives logits that are not finite.
    """

    def __init__(self, lm: LanguageModel) -> None:
        self._lm = lm
        self._decoder = decoder_of(lm.model)
        self._linear = lm.model.get_output_embeddings()
        if self._linear is None:
            raise ModelError(_unknown(lm.model, "has no language-model head that can be found"))
        config = lm.model.config.get_text_config()
        self._soft_cap = getattr(config, "final_logit_softcapping", None)  # Gemma 2 and 3
        if self._soft_cap is None:
            self._soft_cap = getattr(config, "logits_soft_cap", None)  # RecurrentGemma
        self._scale = getattr(config, "logit_scale", None) or 1 / (getattr(config, "logits_scaling", None) or 1)
        self._scale *= getattr(config, "lm_head_multiplier", None) or 1  # Falcon H1
        n_vocabulary = int(self._linear.weight.shape[0])
        on_cpu = lm.device.type == "cpu"
        # A chunk is one matrix product: 128 MiB of logits, or 512 on a GPU. On a CPU its rows are then gone through a
        # few at a time, 4 MiB, which stay in the cache from one step to the next.
        self.chunk_rows = max(1, 2 ** (25 if on_cpu else 27) // n_vocabulary)
        self._slice_rows = max(1, 2 ** (20 if on_cpu else 27) // n_vocabulary)
        self._check_against_model()

    def hidden_states(self, ids: Tensor, *, cache: object | None = None) -> Tensor:
        """What the head reads, (B, T, D), for token ids (B, T) that follow those in ``cache``."""
        output = self._decoder(input_ids=ids, past_key_values=cache, use_cache=cache is not None)
        hidden: Tensor | None = getattr(output, "last_hidden_state", None)
        if hidden is None:
            raise ModelError(_unknown(self._lm.model, "has a decoder that gives no hidden states"))
        return hidden

    def prefix_cache(self, ids: Tensor) -> Any:
        """Keys and values of token ids (B, T), or None where the model keeps none."""
        return getattr(self._decoder(input_ids=ids, use_cache=True), "past_key_values", None)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V) in float32, after the architecture's own scaling and capping."""
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
            chunk = self.logits(hidden[start : start + self.chunk_rows])  # (n, V), perhaps on another device
            for first in range(0, len(chunk), self._slice_rows):
                logits = chunk[first : first + self._slice_rows]
                part = slice(start + first, start + first + len(logits))
                out[:, part] = _log_probs(logits, targets[part].to(logits.device), moments=moments).to(out.device)
        return out

    def _check_against_model(self) -> None:
        """Run a few tokens twice in one batch, the last one changed, beside the model's own logits."""
        model = self._lm.model
        n_tokens = min(4, self._lm.n_context)
        with torch.inference_mode():
            ids = torch.arange(n_tokens, device=self._lm.device).repeat(2, 1)  # (2, T)
            ids[1, -1] = 0
            expected = model(input_ids=ids, use_cache=False).logits.float()  # (2, T, V)
            found = self.logits(self.hidden_states(ids)).to(expected.device)
        if not bool(torch.isfinite(expected).all()):
            raise ModelError(
                f"{self._lm.subject.model} gives logits that are not finite; its weights are broken, or "
                f"{model.dtype} is too small for it. Try --dtype float32 or bfloat16."
            )
        size = max(1.0, float(expected.abs().max()))
        exact = model.dtype == torch.float32
        moved = float((expected[0, :-1] - expected[1, :-1]).abs().max())
        if moved > (1e-3 if exact else 0.02) * size:  # a mixture of experts may round differently beside other rows
            raise ModelError(
                f"{type(model).__name__} as configured lets a token see what comes after it (another last token moves "
                f"the logits before it by {moved:.3g}), so it gives no probability of a text. Audit a causal model; "
                'check "is_causal" and "use_bidirectional_attention" in config.json.'
            )
        gap = float((expected - found).abs().max())
        if gap > (1e-4 if exact else 0.005) * size:  # a head that is known differs by nothing, in half precision too
            raise ModelError(
                _unknown(model, f"changes its logits after the head in a way that is not known (by {gap:.3g})")
            )


def _log_probs(logits: Tensor, targets: Tensor, *, moments: bool) -> Tensor:
    """Rows l, mu, sd (or l alone), shape (3 or 1, n), of logits (n, V), which are overwritten, and targets (n,)."""
    chosen = logits.gather(1, targets[:, None])[:, 0]
    if not moments:
        return (chosen - logits.logsumexp(dim=1))[None]
    top = logits.amax(dim=1, keepdim=True)
    shifted = logits.sub_(top)  # in place: one chunk, not two
    weights = shifted.exp()  # p_v times the normaliser z
    z = weights.sum(dim=1)
    log_z = z.log()
    mean = torch.linalg.vecdot(weights, shifted) / z  # mean of log p_v + log z under p
    shifted -= mean[:, None]
    variance = torch.linalg.vecdot(weights, shifted.square_()) / z
    return torch.stack([chosen - top[:, 0] - log_z, mean - log_z, variance.sqrt().clamp_min(MIN_STD)])


def decoder_of(model: Any) -> nn.Module:
    """The part below the head; transformers gives Llama 4's whole language model, head included.

    Raises:
        ModelError: The architecture has none that can be run by itself.
    """
    decoder = model.get_decoder()
    if getattr(decoder, "get_output_embeddings", lambda: None)() is not None:
        decoder = getattr(decoder, "model", None)
    if not isinstance(decoder, nn.Module):
        raise ModelError(_unknown(model, "has no decoder that can be run without its head"))
    return decoder


def _unknown(model: object, what: str) -> str:
    return (
        f"{type(model).__name__} {what}, and scores would be wrong or cannot be computed. "
        "Palimpsest does not know this architecture; please report it."
    )
