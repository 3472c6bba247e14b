"""Batched sampling with every field explicit and one random stream for each sample.

Sample i draws its uniform numbers from a Philox stream keyed by (seed, i), and turns each into a token by
inverting the cumulative distribution. So sample i does not depend on batch size, on the order of the work or
on where it was interrupted, beyond float rounding, and the library's own generation defaults (which differ
between checkpoints) never take part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
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


class Parts(Protocol):
    """Where finished parts of a long job go; `audit.runs.shards.ShardedTable` is one."""

    def done(self) -> set[int]: ...

    def write(self, part: int, table: pa.Table) -> None: ...


def write_samples(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    sampling: Sampling,
    seed: int,
    parts: Parts,
    part_size: int = 512,
    batch_size: int | None = None,
    on_done: Callable[[int], None] | None = None,
) -> None:
    """Sample once for each prompt and write part after part; parts that exist already are not made again.

    Each row holds ``sample`` (index of the prompt), ``seed``, ``prompt_ids``, ``token_ids``, ``text`` (special
    tokens kept) and ``stopped``. Killed at any moment and called again, it ends with the same rows.
    """
    finished = parts.done()
    for part, start in enumerate(range(0, len(prompts), part_size)):
        indices = range(start, min(start + part_size, len(prompts)))
        if part in finished:
            if on_done is not None:
                on_done(len(indices))
            continue
        samples = generate(
            lm,
            [prompts[index] for index in indices],
            sampling=sampling,
            seed=seed,
            indices=indices,
            batch_size=batch_size,
            on_done=on_done,
        )
        token_ids = [list(sample.token_ids) for sample in samples]
        parts.write(
            part,
            pa.table(
                {
                    "sample": pa.array(indices, pa.int64()),
                    "seed": pa.array([seed] * len(indices), pa.int64()),
                    "prompt_ids": pa.array([list(prompts[index]) for index in indices], pa.list_(pa.int64())),
                    "token_ids": pa.array(token_ids, pa.list_(pa.int64())),
                    "text": pa.array([lm.tokenizer.decode(ids) for ids in token_ids], pa.string()),
                    "stopped": pa.array([sample.stopped for sample in samples], pa.bool_()),
                }
            ),
        )


def generate(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    sampling: Sampling,
    seed: int,
    indices: Sequence[int] | None = None,
    batch_size: int | None = None,
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
        on_done: Called after each batch with the number of samples finished in it.

    Returns:
        One `Generation` for each prompt, in the order given.

    Raises:
        InputError: A prompt is empty or leaves no room for the new tokens.
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
    batch_size = batch_size or (64 if lm.device.type == "cpu" else 256)
    # Prompts of like length share a batch, so that little is padded.
    order = sorted(range(len(prompts)), key=lambda position: len(prompts[position]))
    results: dict[int, Generation] = {}
    start = 0
    while start < len(order):
        batch = order[start : start + batch_size]
        try:
            samples = _sample_batch(
                lm, [prompts[i] for i in batch], [indices[i] for i in batch], sampling=sampling, seed=seed
            )
        except torch.OutOfMemoryError as error:
            if batch_size == 1:
                raise ModelError("memory runs out on a single sample; use a smaller dtype or fewer tokens.") from error
            batch_size = max(1, batch_size // 2)
            if lm.device.type == "cuda":
                torch.cuda.empty_cache()
            continue
        results.update(zip(batch, samples, strict=True))
        if on_done is not None:
            on_done(len(batch))
        start += len(batch)
    return [results[position] for position in range(len(prompts))]


def _sample_batch(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    indices: Sequence[int],
    *,
    sampling: Sampling,
    seed: int,
) -> list[Generation]:
    """Prefill once, then one token a step; rows that have stopped leave the batch."""
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
            positions = (mask.cumsum(1) - 1).clamp_min(0)[:, -ids.shape[1] :]
            output = lm.model(
                input_ids=ids,
                attention_mask=mask if ragged else None,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = output.past_key_values
            logits = output.logits[:, -1].float()  # (B, V)
            if sampling.forbidden_ids:
                logits[:, list(sampling.forbidden_ids)] = -torch.inf
            chosen = _draw(logits, warpers, torch.from_numpy(uniforms[active, step]).to(logits.device), sampling)
            staying = []
            for row, (sample, token) in enumerate(zip(active, chosen.tolist(), strict=True)):
                if token in sampling.stop_ids:
                    stopped[sample] = True
                else:
                    tokens[sample].append(token)
                    staying.append(row)
            if not staying:
                break
            if len(staying) < len(active):
                kept = torch.tensor(staying, device=device)
                cache.batch_select_indices(kept)
                chosen, mask = chosen[kept.to(chosen.device)], mask[kept]
                active = [active[row] for row in staying]
            ids = chosen[:, None].to(device)
            mask = torch.cat([mask, mask.new_ones((len(mask), 1))], dim=1)
    return [Generation(index, tuple(row), stop) for index, row, stop in zip(indices, tokens, stopped, strict=True)]


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
    """Token ids (B,) for logits (B, V) and one uniform number in [0, 1) a row."""
    if sampling.temperature == 0.0:
        return logits.argmax(dim=1)
    warped = warpers(None, logits)
    cumulative = warped.double().softmax(dim=1).cumsum(dim=1)
    # The first token whose cumulative probability exceeds u; scaled by the total, which rounding keeps off 1.
    goal = uniforms[:, None].to(cumulative.dtype) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, goal, right=True)[:, 0].clamp_max(logits.shape[1] - 1)
