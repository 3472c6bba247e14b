"""Token sequences with what each place should be, and the three losses on them.

Labels stand in line with the input: ``labels[i]`` is what the model should say at place i, from what stands before. The
one shift of the project's training is here: the logits at place i - 1 are held against ``labels[i]``. Rows are padded
on the right, where a causal model cannot look, so that no attention mask is needed; a padded place has no label.

Letters: B rows of a batch, T places, V vocabulary, N labelled places, K kept tokens of a soft label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from audit.errors import DataError
from audit.lm.load import LanguageModel
from audit.lm.sharing import rope_switch
from audit.lm.tokens import check_ids

NO_LABEL = -100


@dataclass(frozen=True, slots=True)
class Labelled:
    """One block to train on.

    Attributes:
        ids: Token ids, int64 of shape (T,).
        labels: What each place should be, int64 of shape (T,); `NO_LABEL` where nothing is asked, and always at the
            first place, which nothing stands before.
        soft_ids: Tokens of each labelled place's soft label, int64 of shape (N, K); None for hard labels.
        soft_probs: Their probabilities, float32 of shape (N, K), each row summing to 1.
    """

    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    soft_ids: NDArray[np.int64] | None = None
    soft_probs: NDArray[np.float32] | None = None

    @property
    def n_tokens(self) -> int:
        return len(self.ids)

    @property
    def n_labels(self) -> int:
        return int((self.labels != NO_LABEL).sum())


def own_labels(ids: Sequence[int]) -> Labelled:
    """A block whose labels are its own tokens, as in ordinary language modelling."""
    tokens = np.asarray(ids, dtype=np.int64)
    labels = tokens.copy()
    labels[:1] = NO_LABEL
    return Labelled(tokens, labels)


def checked(lm: LanguageModel, blocks: Sequence[Sequence[int]], *, what: str) -> list[list[int]]:
    """Blocks that the model can read.

    Raises:
        DataError: There are none, all have fewer than two tokens, or one is empty or exceeds the context.
        ModelError: A token has no embedding.
    """
    kept = [list(ids) for ids in blocks]
    if not any(len(ids) >= 2 for ids in kept):
        raise DataError(
            f"the {what} has no block of two tokens or more, so there is nothing to predict. Give more text."
        )
    for number, ids in enumerate(kept):
        if not ids:
            raise DataError(f"block {number} of the {what} has no token; leave it out.")
        if len(ids) > lm.n_context:
            raise DataError(
                f"block {number} of the {what} has {len(ids):,} tokens; the model reads at most {lm.n_context:,}. Cut "
                "shorter blocks."
            )
    check_ids(lm, [f"block {number} of the {what}" for number in range(len(kept))], kept)
    switch = rope_switch(lm.model)
    if switch is not None and len({len(ids) > switch for ids in kept}) > 1:
        raise DataError(
            f"blocks of the {what} lie on both sides of {switch:,} tokens, where this model changes how it reads a "
            "whole batch. Cut blocks that are all shorter, or all longer."
        )
    return kept


def label_loss(model: Any, rows: Sequence[Labelled]) -> Tensor:
    """Sum over the labelled places of -log p(label), or of the cross-entropy with a soft label; nats."""
    ids, labels = batch(rows, next(model.parameters()).device)
    logits = model(input_ids=ids, use_cache=False).logits  # (B, T, V)
    before, wanted = logits[:, :-1], labels[:, 1:].to(logits.device)
    if all(row.soft_ids is None for row in rows):
        total: Tensor = functional.cross_entropy(
            before.flatten(0, 1).float(), wanted.flatten(), ignore_index=NO_LABEL, reduction="sum"
        )
        return total
    chosen = before[wanted != NO_LABEL].float()  # (N, V), row after row
    soft_ids = torch.from_numpy(np.concatenate([row.soft_ids for row in rows])).to(logits.device)  # (N, K)
    probs = torch.from_numpy(np.concatenate([row.soft_probs for row in rows])).to(logits.device)
    total = (chosen.logsumexp(dim=1) - (probs * chosen.gather(1, soft_ids)).sum(dim=1)).sum()
    return total


def divergence(
    reference: Any, off: Callable[[], AbstractContextManager[None]]
) -> Callable[[Any, Sequence[Labelled]], Tensor]:
    """Loss that keeps a model where a reference is: sum over the labelled places of KL(reference || model), nats.

    Args:
        reference: Another model, or the trained one itself where ``off`` makes it the reference.
        off: A context in which ``reference`` gives the reference's logits, such as one with the adapter off.
    """

    def loss(model: Any, rows: Sequence[Labelled]) -> Tensor:
        ids, labels = batch(rows, next(model.parameters()).device)
        asked = labels[:, 1:] != NO_LABEL
        with torch.no_grad(), off():
            training = reference.training
            reference.eval()  # no dropout in what is to be kept
            try:
                before = reference(input_ids=ids, use_cache=False).logits[:, :-1]
                kept = before[asked.to(before.device)].float().log_softmax(dim=1)  # (N, V)
                del before
            finally:
                reference.train(training)
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        found = logits[asked.to(logits.device)].float().log_softmax(dim=1)
        total: Tensor = functional.kl_div(found, kept.to(found.device), reduction="sum", log_target=True)
        return total

    return loss


def batch(rows: Sequence[Labelled], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and labels, (B, T) each, padded on the right."""
    width = max(row.n_tokens for row in rows)
    ids = np.zeros((len(rows), width), dtype=np.int64)
    labels = np.full((len(rows), width), NO_LABEL, dtype=np.int64)
    for line, row in enumerate(rows):
        ids[line, : row.n_tokens] = row.ids
        labels[line, : row.n_tokens] = row.labels
    return torch.from_numpy(ids).to(device), torch.from_numpy(labels).to(device)
