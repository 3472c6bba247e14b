"""Rows that pass through the model together, one new token each a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from audit.answers.systems import Bare, Prepared
from audit.errors import ModelError
from audit.lm.sharing import has_plain_rows, rope_switch

from . import caches
from .jobs import Job


class Batch:
    """Jobs with their keys and values; the first step reads the prompts, corrupted where they are flagged.

    Args:
        guard: The guard with its model.
        prepared: The jobs' prompts, padded on the left.
        jobs: As many.

    Attributes:
        jobs: One for each row, None where the job is over and its row cannot leave.
    """

    def __init__(self, guard: Bare, prepared: Prepared, jobs: Sequence[Job]) -> None:
        self._guard, self._prepared = guard, prepared
        self.jobs: list[Job | None] = list(jobs)
        self._cache: Any = None
        self._ids: Tensor = prepared.input_ids  # (B, T), or (B, 1) once the prompts are in the cache
        self._mask: Tensor = prepared.attention_mask  # (B, T), a column for each token, cached or about to be
        self._lengths: list[int] = self._mask.sum(1).tolist()  # without padding
        self._switch = rope_switch(guard.lm.model)

    def __len__(self) -> int:
        return len(self.jobs)

    @property
    def active(self) -> list[Job]:
        return [job for job in self.jobs if job is not None]

    def next_logits(self) -> Tensor:
        """Logits (B, V) of each row's next token, in float32."""
        lm = self._guard.lm
        ragged = min(self._lengths) < self._mask.shape[1]
        reads_prompt = self._cache is None or max(self._lengths) - 1 == self._switch
        fresh = self._ids if reads_prompt else self._ids[:, -1:]
        positions = (self._mask.cumsum(1) - 1)[:, -fresh.shape[1] :].clamp(0, lm.n_context - 1)
        inputs = {
            "input_ids": fresh,
            "attention_mask": self._mask if ragged else None,
            "position_ids": positions,
            "use_cache": True,
            "logits_to_keep": 1,
        }
        if reads_prompt:  # again where a longrope model's factors change: the keys so far are turned by the old ones
            with self._guard.corrupting(self._prepared):
                output = lm.model(**inputs)
        else:
            output = lm.model(**inputs, past_key_values=self._cache)
        cache = getattr(output, "past_key_values", None)
        if cache is None:
            raise ModelError(f"{type(lm.model).__name__} keeps no cache of keys and values, so it cannot be served.")
        self._cache = cache
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def accept(self, tokens: Tensor) -> None:
        """Each row's next token, (B,)."""
        column = tokens[:, None].to(self._ids.device)
        # A longrope model may have to read all of it again.
        self._ids = column if self._switch is None else torch.cat([self._ids, column], dim=1)
        self._mask = torch.cat([self._mask, self._mask.new_ones((len(self._mask), 1))], dim=1)
        self._lengths = [length + 1 for length in self._lengths]

    def drop(self, rows: Sequence[int]) -> None:
        """Rows whose jobs are over leave, where the cache lets them; else they are run along."""
        if not rows:
            return
        for row in rows:
            self.jobs[row] = None
        if self._switch is not None or not has_plain_rows(self._cache) or not self.active:
            return
        kept = torch.tensor([row for row, job in enumerate(self.jobs) if job is not None], device=self._ids.device)
        self._cache.batch_select_indices(kept)
        self._ids, self._mask = self._ids[kept], self._mask[kept]
        self._lengths = [self._lengths[row] for row in kept.tolist()]
        self.jobs = list(self.active)
        self._narrow()

    def join(self, other: Batch) -> None:
        """Take over another batch's rows; `caches.batching_of` says where that is possible."""
        width, other_width = self._mask.shape[1], other._mask.shape[1]
        caches.join(self._cache, width - 1, other._cache, other_width - 1)
        most = max(width, other_width)
        self._mask = torch.cat([_widened(self._mask, most), _widened(other._mask, most)])
        self._ids = torch.cat([self._ids, other._ids])
        self._lengths += other._lengths
        self.jobs += other.jobs

    def halves(self) -> list[Batch] | None:
        """Two smaller batches in place of this one after a step that failed, or None where that cannot be."""
        if self._cache is None or len(self) < 2 or not caches.undo(self._cache, self._mask.shape[1] - 1):
            return None
        n_first = len(self) // 2
        parts = []
        for cache, rows in zip(
            caches.split(self._cache, n_first), (slice(None, n_first), slice(n_first, None)), strict=True
        ):
            part = Batch.__new__(Batch)
            part._guard, part._switch, part._cache = self._guard, self._switch, cache
            part._prepared = self._prepared if self._switch is None else self._prepared.part(rows)
            part.jobs, part._lengths = self.jobs[rows], self._lengths[rows]
            part._ids, part._mask = self._ids[rows], self._mask[rows]
            parts.append(part)
        self._cache = None
        return parts

    def _narrow(self) -> None:
        """Padding that every row has is cut."""
        spare = self._mask.shape[1] - max(self._lengths)
        if spare:
            caches.narrow(self._cache, spare)
            self._mask = self._mask[:, spare:]


def _widened(mask: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(mask, (width - mask.shape[1], 0))
