"""Batched sampling with every field explicit and one random stream for each sample.

Sample i draws its uniform numbers from a Philox stream keyed by (seed, i), and turns each into a token by
inverting the cumulative distribution. So sample i does not depend on batch size, on the order of the work or
on where it was interrupted, beyond float rounding, and the library's own generation defaults (which differ
between checkpoints) never take part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ..errors import InputError, ModelError
from .load import LanguageModel
from .sharing import has_plain_rows, out_of_memory, release_memory, rope_switch
from .tokens import check_ids


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. Nothing is taken from the checkpoint's own generation settings.

    Attributes:
        max_new_tokens: Tokens at most, the stop token included.
        temperature: Divides the logits, >= 0; 0 takes the most probable token (greedy).
        top_k: Keep the k most probable tokens; 0 keeps all.
        top_p: Keep the smallest set of tokens with at least this probability, in (0, 1]; 1 keeps all.
        min_p: Keep tokens with at least this share of the top token's probability, in [0, 1); 0 keeps all.
        stop_ids: Token ids that end a sample.
        forbidden_ids: Token ids that are never drawn.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    stop_ids: tuple[int, ...] = ()
    forbidden_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        ranges = {
            "max_new_tokens": (self.max_new_tokens >= 1, "1 or more"),
            "temperature": (0.0 <= self.temperature < float("inf"), "0 (greedy) or a positive number"),
            "top_k": (self.top_k >= 0, "0 (all tokens) or more"),
            "top_p": (0.0 < self.top_p <= 1.0, "above 0 and at most 1"),
            "min_p": (0.0 <= self.min_p < 1.0, "from 0 to below 1"),
        }
        for name, (fits, expected) in ranges.items():
            if not fits:
                raise InputError(f"{name} is {getattr(self, name)}; expected {expected}")

    def to_record(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Generation:
    """One sample: ``token_ids`` are the new tokens, the stop token left out; ``stopped`` says what ended it."""

    index: int
    token_ids: tuple[int, ...]
    stopped: bool


def generate(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    sampling: Sampling,
    seed: int,
    indices: Sequence[int] | None = None,
    batch_size: int | None = None,
    halve: bool = True,
    on_done: Callable[[int], None] | None = None,
) -> list[Generation]:
    """One sample for each prompt.

    Args:
        lm: The model.
        prompts: Token ids of each prompt, at least one id each (the beginning-of-sequence token, say).
        sampling: How tokens are drawn.
        seed: Seed of the whole job, >= 0.
        indices: Which random stream each prompt uses; default 0, 1, 2, ... Give the position in the whole job
            when only a part of it is made.
        batch_size: Prompts at a time; default 64 on a CPU and 256 elsewhere. Halved when memory runs out.
        halve: Off, torch's own error is raised then: for a caller whose hooks know the batch as a whole.
        on_done: Called after each batch with the number of samples finished in it.

    Returns:
        One `Generation` for each prompt, in the order given.

    Raises:
        InputError: A prompt is empty or leaves no room for the new tokens, or the settings leave no token to draw.
        ModelError: Memory runs out even for a single sample, a token of a prompt has no embedding, the model keeps
            no cache, or its logits are not finite.
    """
    indices = range(len(prompts)) if indices is None else indices
    for index, prompt in zip(indices, prompts, strict=True):
        if not prompt:
            raise InputError(f"prompt {index} has no tokens; give at least the beginning-of-sequence token.")
        if len(prompt) + sampling.max_new_tokens > lm.n_context:
            raise InputError(
                f"prompt {index} has {len(prompt):,} tokens and {sampling.max_new_tokens:,} new ones were asked "
                f"for; the model holds {lm.n_context:,} in all. Shorten the prompt or lower max_new_tokens."
            )
    check_ids(lm, [f"prompt {index}" for index in indices], prompts)
    batch_size = batch_size or (64 if lm.device.type == "cpu" else 256)
    # Prompts of like length share a batch, so that little is padded.
    order = sorted(range(len(prompts)), key=lambda position: len(prompts[position]))
    switch = rope_switch(lm.model)
    groups = [_rope_group(len(prompt), sampling.max_new_tokens, switch) for prompt in prompts]
    results: dict[int, Generation] = {}
    start = 0
    while start < len(order):
        batch = [i for i in order[start : start + batch_size] if groups[i] == groups[order[start]]]
        try:
            samples = _sample_batch(
                lm,
                [prompts[i] for i in batch],
                [indices[i] for i in batch],
                sampling=sampling,
                seed=seed,
                switch=switch,
            )
        except RuntimeError as error:
            if not out_of_memory(error) or not halve:
                raise
            if len(batch) == 1:
                raise ModelError("memory runs out on a single sample; use a smaller dtype or fewer tokens.") from error
            batch_size = max(1, len(batch) // 2)
            release_memory(lm.device)
            continue
        results.update(zip(batch, samples, strict=True))
        if on_done is not None:
            on_done(len(batch))
        start += len(batch)
    return [results[position] for position in range(len(prompts))]


def _rope_group(n_prompt: int, n_new: int, switch: int | None) -> int:
    """Prompts of one group may share a batch: they pass a longrope model's switch at the same step, or never."""
    if switch is None or n_prompt + n_new <= switch:
        return 0
    return n_prompt if n_prompt <= switch else switch + 1


def _sample_batch(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    indices: Sequence[int],
    *,
    sampling: Sampling,
    seed: int,
    switch: int | None,
) -> list[Generation]:
    """Prefill once, then one token a step; rows that have stopped leave the batch where the cache lets them.

    When the rows pass ``switch`` (see `rope_switch`), the keys so far were turned by the wrong factors: all tokens
    are run again.
    """
    uniforms = np.stack([_uniforms(seed, index, sampling.max_new_tokens) for index in indices])  # (B, steps)
    warpers = _warpers(sampling)
    width = max(len(prompt) for prompt in prompts)
    device = lm.device
    # On the left, where new tokens do not go; masked, and positions count from the first real token.
    ids = torch.tensor([[prompt[0]] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    ragged = bool((mask == 0).any())
    tokens: list[list[int]] = [[] for _ in prompts]
    stopped = [False] * len(prompts)
    active = list(range(len(prompts)))
    cache: Any = None
    with torch.inference_mode():
        for step in range(sampling.max_new_tokens):
            if cache is None or ids.shape[1] - 1 == switch:
                cache, fresh = None, ids
            else:
                fresh = ids[:, -1:]
            logits, cache = _next_logits(lm, fresh, mask, cache, ragged=ragged)
            chosen = _draw(logits, warpers, torch.from_numpy(uniforms[active, step]), sampling).to(device)
            staying = []
            for row, (sample, token) in enumerate(zip(active, chosen.tolist(), strict=True)):
                if stopped[sample]:
                    continue
                if token in sampling.stop_ids:
                    stopped[sample] = True
                else:
                    tokens[sample].append(token)
                    staying.append(row)
            if not staying:
                break
            if len(staying) < len(active) and has_plain_rows(cache):
                kept = torch.tensor(staying, device=device)
                cache.batch_select_indices(kept)
                chosen, ids, mask = chosen[kept], ids[kept], mask[kept]
                active = [active[row] for row in staying]
            ids = torch.cat([ids, chosen[:, None]], dim=1)
            mask = torch.cat([mask, mask.new_ones((len(mask), 1))], dim=1)
    return [Generation(index, tuple(row), stop) for index, row, stop in zip(indices, tokens, stopped, strict=True)]


def _next_logits(lm: LanguageModel, ids: Tensor, mask: Tensor, cache: Any, *, ragged: bool) -> tuple[Tensor, Any]:
    """Logits (B, V) of the token after ``ids`` (B, T), which follow those in ``cache``, and the cache with them."""
    output = lm.model(
        input_ids=ids,
        attention_mask=mask if ragged else None,
        position_ids=(mask.cumsum(1) - 1).clamp_min(0)[:, -ids.shape[1] :],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    cache = getattr(output, "past_key_values", None)
    if cache is None:
        raise ModelError(
            f"{type(lm.model).__name__} keeps no cache of keys and values that Palimpsest can use, so it cannot be "
            "sampled from; its texts can be scored."
        )
    return output.logits[:, -1].float(), cache


def _uniforms(seed: int, index: int, n: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.random.Generator(np.random.Philox(key=np.array([seed, index], dtype=np.uint64))).random(n)


def _warpers(sampling: Sampling) -> LogitsProcessorList:
    warpers = LogitsProcessorList()
    if sampling.temperature not in (0.0, 1.0):
        warpers.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1.0:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p > 0.0:
        warpers.append(MinPLogitsWarper(sampling.min_p))
    return warpers


def _draw(logits: Tensor, warpers: LogitsProcessorList, uniforms: Tensor, sampling: Sampling) -> Tensor:
    """Token ids (B,) for logits (B, V) and one uniform number in [0, 1) a row, in double precision.

    Raises:
        ModelError: The logits are not finite.
        InputError: The settings leave a row no token, or a temperature so small that its logits overflow.
    """
    logits[:, [i for i in sampling.forbidden_ids if i < logits.shape[1]]] = -torch.inf
    warped = logits if sampling.temperature == 0.0 else warpers(None, logits)
    if not bool(torch.isfinite(warped.amax(dim=1)).all()):
        if bool((logits.isnan() | logits.isposinf()).any()):
            raise ModelError("the model's logits are not finite; its weights are broken. Try --dtype float32.")
        if bool(logits.isneginf().all(dim=1).any()):
            raise InputError(f"all {logits.shape[1]:,} tokens are forbidden, so none can be drawn; forbid fewer.")
        raise InputError(
            f"temperature is {sampling.temperature:g}, so small that logits overflow; expected 0 (greedy) or more."
        )
    if sampling.temperature == 0.0:
        return warped.argmax(dim=1)
    place = _double_device(warped.device)
    cumulative = warped.to(place).double().softmax(dim=1).cumsum(dim=1)
    # The first token whose cumulative probability exceeds u; scaled by the total, which rounding keeps off 1.
    goal = uniforms[:, None].to(place, cumulative.dtype) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, goal, right=True)[:, 0].clamp_max(logits.shape[1] - 1)


def _double_device(device: torch.device) -> torch.device:
    """Where numbers of ``device`` can be held in double precision: Apple's GPUs know only single."""
    return torch.device("cpu") if device.type == "mps" else device
