"""Numbers read off a model's next-token distributions at many positions, in bounded memory.

`audit.lm.logprobs` gives the probability of the token that stands there; some measures need more of the distribution:
the most probable token, or the total of a set. Letters: N positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError, ModelError
from ..lm.head import Head
from ..lm.load import LanguageModel
from ..lm.sharing import out_of_memory, release_memory, rope_switch
from ..lm.tokens import check_ids, prefix_ids
from ..stats.checks import Floats

#: (logits (N, V) in float32, sequence of each (N,), position of each (N,)) -> one number for each (N,).
Reading = Callable[[Tensor, Tensor, Tensor], Tensor]


def read_positions(
    lm: LanguageModel, sequences: Sequence[Sequence[int]], firsts: Sequence[int], reading: Reading
) -> list[Floats]:
    """Apply ``reading`` to the distribution of the token after each position from ``firsts[i]`` to the end.

    The beginning-of-sequence token, where there is one, is put before each sequence and is position -1: a first of -1
    reads the distribution of the sequence's own first token. Memory: one batch of hidden states and one chunk of logits
    (`audit.lm.head.Head`).

    Args:
        lm: The model.
        sequences: Token ids without prefix.
        firsts: First position of each sequence that is read, >= -1 with a beginning-of-sequence token, else >= 0.
        reading: Called on chunks.

    Returns:
        For each sequence an array of shape (its length - first,).

    Raises:
        DataError: A sequence leaves nothing to read or does not fit the context.
        ModelError: Memory runs out on a single sequence, a token has no embedding, or `Head` refuses the model.
    """
    lead = prefix_ids(lm)
    for index, (ids, first) in enumerate(zip(sequences, firsts, strict=True)):
        if not -len(lead) <= first < len(ids) or not (ids or lead):
            raise DataError(f"sequence {index} has {len(ids)} tokens and leaves nothing to read from position {first}.")
        if len(lead) + len(ids) > lm.n_context:
            raise DataError(
                f"sequence {index} has {len(ids):,} tokens; the model accepts at most {lm.n_context - len(lead):,}. "
                "Shorten it."
            )
    check_ids(lm, [f"sequence {index}" for index in range(len(sequences))], sequences)
    results: dict[int, Floats] = {}
    if not sequences:
        return []
    head = Head(lm)
    switch = rope_switch(lm.model) or lm.n_context
    order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]), reverse=True)
    budget = 2_048 if lm.device.type == "cpu" else 32_768
    start = 0
    while start < len(order):
        width = len(lead) + len(sequences[order[start]])
        batch = order[start : start + max(1, budget // width)]
        batch = [i for i in batch if (len(lead) + len(sequences[i]) > switch) == (width > switch)]
        try:
            found = _read(lm, head, batch, [[*lead, *sequences[i]] for i in batch], firsts, len(lead), reading)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if len(batch) == 1 and head.chunk_rows == 1:
                raise ModelError(
                    f"memory runs out on a single text of {width:,} tokens; use a smaller dtype, another device, or "
                    "shorter texts."
                ) from error
            budget = max(1, len(batch) * width // 2)
            head.chunk_rows = max(1, head.chunk_rows // 2)
            release_memory(lm.device)
            continue
        results.update(zip(batch, found, strict=True))
        start += len(batch)
    return [results[index] for index in range(len(sequences))]


def _read(
    lm: LanguageModel,
    head: Head,
    batch: Sequence[int],
    rows: Sequence[list[int]],
    firsts: Sequence[int],
    n_lead: int,
    reading: Reading,
) -> list[Floats]:
    width = max(map(len, rows))
    # The padding lies to the right, where a causal model cannot look.
    ids = torch.tensor([row + row[-1:] * (width - len(row)) for row in rows], device=lm.device)
    lines = [
        (line, firsts[index] + n_lead, len(row)) for line, (index, row) in enumerate(zip(batch, rows, strict=True))
    ]
    line = torch.cat([torch.full((stop - first,), number) for number, first, stop in lines])
    place = torch.cat([torch.arange(first, stop) for _, first, stop in lines])
    parts = []
    with torch.inference_mode():
        hidden = head.hidden_states(ids)
        hidden = hidden[line.to(hidden.device), place.to(hidden.device)]  # (N, D)
        sequence = torch.tensor(list(batch))[line]
        for start in range(0, len(hidden), head.chunk_rows):
            part = slice(start, start + head.chunk_rows)
            logits = head.logits(hidden[part])
            read = reading(logits, sequence[part].to(logits.device), (place[part] - n_lead).to(logits.device))
            parts.append(read.double().cpu().numpy())
    values = np.concatenate(parts)
    return np.split(values, np.cumsum([stop - first for _, first, stop in lines])[:-1])
