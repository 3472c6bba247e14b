"""Corrupts prompts on their way into a model: a hook on the output of its input embeddings, for one call.

Source: the authors' code of arXiv:2406.07933. Departures: the hook goes away by itself and takes no other with it; it
knows the prompts that it was made for and refuses a call with others, so that no flagged prompt passes uncorrupted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from audit.errors import InputError, ModelError
from audit.lm.hooks import hooked

from .corruptions import Corruption, corrupt


@dataclass(slots=True)
class Corrupted:
    """What the hook did, filled in as the model runs."""

    calls: int = 0
    """Forward passes whose embeddings held the prompts: 1 with a cache, one for each new token without."""
    selected_rms: list[float | None] = field(default_factory=list)
    """For each prompt the root mean square of its selected embeddings before the corruption, None where it is not
    flagged or has no token selected. Strength by itself means little: embeddings of one model are 50 times
    another's, and some models scale them first."""


@contextmanager
def corrupted(
    model: nn.Module, input_ids: Tensor, mask: Tensor, corruption: Corruption, *, seeds: Sequence[int | None]
) -> Iterator[Corrupted]:
    """Corrupts flagged prompts inside the block, in which the model is called once: ``forward`` or ``generate``.

    Tokens that the model generates are never changed. Without a cache the prompt passes again for each new token, and
    gets the same noise. Where a search by beams or several samples repeat a prompt, each copy gets it.

    Args:
        model: A causal language model of transformers.
        input_ids: Exactly what the model is called with, shape (B, T).
        mask: Selected tokens, shape (B, T), boolean; how far it reaches is its scope, see `selection.all_but_last`.
        corruption: What is done to them.
        seeds: For each prompt the seed of its noise, None where it is not flagged; such rows stay as they are, to
            the bit. Several flagged spans with noise of their own are several blocks, one inside the other.

    Yields:
        What was done so far.

    Raises:
        InputError: Something does not fit; the model is called with other prompts, with embeddings of the caller's,
            in chunks, with speculative decoding or with a part of the prompt in a cache; or it is not called at all.
        ModelError: The model reads token ids at a second place (Gemma 3n), where they would not be corrupted.
    """
    embedding = _input_embedding(model)
    prompts = _Prompts(input_ids, mask, corruption, seeds)
    with hooked(embedding, prompts.hook):
        yield prompts.done
    if not prompts.done.calls:
        raise InputError(
            "the model was not called with the prompts, so nothing was corrupted; call it inside the block, once, with "
            "input_ids and not with inputs_embeds."
        )


class _Prompts:
    def __init__(self, input_ids: Tensor, mask: Tensor, corruption: Corruption, seeds: Sequence[int | None]) -> None:
        if input_ids.dim() != 2 or not input_ids.numel() or mask.shape != input_ids.shape:
            raise InputError(
                f"input_ids have shape {tuple(input_ids.shape)}, the mask {tuple(mask.shape)}; expected (B, T) twice."
            )
        if len(seeds) != len(input_ids):
            raise InputError(f"there are {len(seeds)} seeds for {len(input_ids)} prompts; expected one for each.")
        self._ids, self._mask, self._corruption, self._seeds = input_ids, mask, corruption, list(seeds)
        self.done = Corrupted()

    def hook(self, _module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
        """Embeddings (B copies, L, D) of one forward pass."""
        ids: Tensor = inputs[0]
        if self.done.calls and ids.shape[1] == 1:
            return None  # a new token after a cached prompt
        n_rows, length = self._ids.shape
        copies = len(ids) // n_rows
        expected = self._ids.repeat_interleave(copies, dim=0).to(ids.device)
        if not torch.equal(ids[:, :length], expected):
            raise InputError(
                f"the model was called with tokens of shape {tuple(ids.shape)} that do not begin with the prompts of "
                f"shape {(n_rows, length)}. Call it once inside the block with those very input_ids, without chunked "
                "prefill, speculative decoding or a cache that holds a part of them."
            )
        if not self.done.calls:
            self.done.selected_rms = [self._rms(output[row * copies], row) for row in range(n_rows)]
        self.done.calls += 1
        new = torch.zeros(n_rows, ids.shape[1] - length, dtype=torch.bool, device=self._mask.device)
        mask = torch.cat([self._mask, new], dim=1).repeat_interleave(copies, dim=0)
        seeds = [seed for seed in self._seeds for _ in range(copies)]
        return corrupt(output, mask, self._corruption, seeds=seeds)

    def _rms(self, embeddings: Tensor, row: int) -> float | None:
        selected = embeddings[: self._mask.shape[1]][self._mask[row].to(embeddings.device)]
        if self._seeds[row] is None or not len(selected):
            return None
        return float(selected.detach().float().square().mean().sqrt())


def _input_embedding(model: nn.Module) -> nn.Module:
    second = [name for name, _ in model.named_modules() if name.rpartition(".")[2] == "embed_tokens_per_layer"]
    if second:
        raise ModelError(
            f"{type(model).__name__} reads token ids a second time in {second[0]!r}, where they would reach the model "
            "uncorrupted; use a model with one table of input embeddings."
        )
    embedding: nn.Module = model.get_input_embeddings()  # type: ignore[operator]
    return embedding
