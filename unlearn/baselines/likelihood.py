"""Log-probabilities of whole texts, and those of the baseline, which are computed once and kept.

The reference of a preference loss never changes and its texts are known beforehand, so no second model is resident.
This is one pass over the forget text, which the log of the training does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..sequences import NO_LABEL, Labelled, batch
from ..training import Term, mean_loss


@dataclass(frozen=True, slots=True)
class Scored:
    """A row and its log-probability under the baseline, nats."""

    row: Labelled
    reference: float

    @property
    def n_tokens(self) -> int:
        return self.row.n_tokens


def log_probs(model: Any, rows: Sequence[Labelled]) -> Tensor:
    """Sum over each row's labelled places of log p(label), nats, shape (B,), with a gradient."""
    ids, labels = batch(rows, next(model.parameters()).device)
    before = model(input_ids=ids, use_cache=False).logits[:, :-1]  # (B, T - 1, V)
    wanted = labels[:, 1:].to(before.device)
    losses = functional.cross_entropy(
        before.flatten(0, 1).float(), wanted.flatten(), ignore_index=NO_LABEL, reduction="none"
    )
    return -losses.view(wanted.shape).sum(dim=1)


def reference_log_probs(model: Any, rows: Sequence[Labelled], *, micro_tokens: int | None = None) -> list[float]:
    """`log_probs` of each row without a gradient, in the arithmetic of the training.

    Args:
        model: The baseline in evaluation mode.
        rows: Each with a label; they are read one at a time.
        micro_tokens: As in `unlearn.training.Recipe`.
    """

    def total(model: Any, items: Sequence[Labelled]) -> Tensor:
        return -log_probs(model, items).sum()

    term = Term("reference", lambda step: rows, total, attrgetter("n_tokens"), lambda row: 1)
    return [-mean_loss(model, term, [row], micro_tokens=micro_tokens) for row in rows]


def references(items: Sequence[Any], like: Tensor) -> Tensor:
    """The items' ``reference``, shape (B,), beside ``like``."""
    return torch.tensor([item.reference for item in items], dtype=like.dtype, device=like.device)
