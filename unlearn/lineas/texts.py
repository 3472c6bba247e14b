"""Sentences as token batches, padded on the right, with the tokens that count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.errors import DataError
from audit.lm.load import LanguageModel
from audit.lm.tokens import check_ids, encode, prefix_ids
from audit.text.safe import quoted


@dataclass(frozen=True, slots=True)
class Batch:
    """Some texts.

    Attributes:
        input_ids: Shape (B, T).
        attention_mask: 1 at tokens, 0 at padding; shape (B, T).
        counted: Tokens that are pooled; shape (B, T), boolean.
    """

    input_ids: Tensor
    attention_mask: Tensor
    counted: Tensor

    def __len__(self) -> int:
        return len(self.input_ids)


def encode_texts(lm: LanguageModel, texts: Sequence[str], what: str, *, max_tokens: int) -> list[list[int]]:
    """Token ids of each text behind the beginning-of-sequence token, cut at ``max_tokens`` and the context.

    Args:
        lm: The model.
        texts: Any number.
        what: What they are, for messages: "source", say.
        max_tokens: Longest, the beginning-of-sequence token included.

    Raises:
        DataError: A text has no token of its own; its place is named.
        ModelError: A token has no embedding.
    """
    prefix = prefix_ids(lm)
    encoded = encode(lm, texts)
    empty = next((place for place, ids in enumerate(encoded) if not ids), None)
    if empty is not None:
        raise DataError(f"{what} sentence {empty + 1} is {quoted(texts[empty])}, which has no token; leave it out.")
    most = min(max_tokens, lm.n_context)
    cut = [[*prefix, *ids][:most] for ids in encoded]
    check_ids(lm, [f"{what} sentence {place + 1}" for place in range(len(cut))], cut)
    return cut


def make_batch(lm: LanguageModel, rows: Sequence[Sequence[int]], *, skip_bos: bool) -> Batch:
    """Rows of ids as one batch on the model's device; padding repeats a row's first token and is masked."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *[row[0]] * (width - len(row))] for row in rows], device=lm.device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=lm.device)
    counted = mask.bool()
    if skip_bos and lm.bos_id is not None:
        counted = counted.clone()
        counted[:, 0] = False
        alone = counted.sum(dim=1) == 0  # nothing but the beginning was kept: it counts after all
        counted[alone, 0] = True
    return Batch(ids, mask, counted)


def make_batches(lm: LanguageModel, rows: Sequence[Sequence[int]], size: int, *, skip_bos: bool) -> Iterator[Batch]:
    """All rows in their order, ``size`` at a time."""
    for start in range(0, len(rows), size):
        yield make_batch(lm, rows[start : start + size], skip_bos=skip_bos)
