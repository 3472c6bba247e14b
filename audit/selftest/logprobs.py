"""Token log-probabilities: against the closed form, and against one plain forward pass for each text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from ..lm import logprobs
from ..lm.tokens import prefix_ids
from .answers import Instrument, Known, near, same, within
from .models import BOS, FIRST, fitted_table, random_model, table_log_probs, table_model, word_list

_N = 60  # words


def ask(work: Path) -> Iterator[Known]:
    """Ragged texts, so that padding and sorting by length take part."""
    rng = np.random.default_rng(1)
    words = word_list(_N)
    n = FIRST + _N
    sequences = [rng.integers(FIRST, n, length).tolist() for length in (1, 2, 3, 5, 8, 13, 21, 34, 55, 7, 7, 30)]

    uniform = table_model(work / "uniform", words, None)
    found = logprobs.token_log_probs(uniform, sequences, prefix=prefix_ids(uniform), moments=True)
    values = np.concatenate([one.log_probs for one in found])
    why = "a head of zeros gives every token 1/V"
    yield near("uniform model: every token", _farthest(values, -math.log(n)), -math.log(n), why, tolerance=1e-5)
    yield near("uniform model: mean of the distribution", float(found[5].mean[3]), -math.log(n), why, tolerance=1e-5)  # type: ignore[index]
    yield same(
        "one number for each token",
        [len(one.log_probs) for one in found],
        [len(s) for s in sequences],
        "after a beginning token every token is predicted",
    )

    table = fitted_table([rng.integers(FIRST, n, 20).tolist() for _ in range(8)], n, spread=0.3)
    bigram = table_model(work / "table", words, table)
    found = logprobs.token_log_probs(bigram, sequences, prefix=prefix_ids(bigram), moments=True)
    yield within(
        "table of next words: largest error, nats",
        _worst([one.log_probs for one in found], [table_log_probs(table, s) for s in sequences]),
        0,
        1e-4,
        "log P(next | last) is what was written into the weights; float32 rounds it by about 1e-6",
    )
    after = [table[[BOS, *s[:-1]]] for s in sequences]
    means = [(p * np.log(p)).sum(axis=1) for p in after]
    spreads = [np.sqrt((p * (np.log(p) - m[:, None]) ** 2).sum(axis=1)) for p, m in zip(after, means, strict=True)]
    why = "mean and spread of log p under the table's own rows (Min-K%++ divides by them)"
    yield within("table: largest error of the means", _worst([one.mean for one in found], means), 0, 1e-4, why)
    yield within("table: largest error of the spreads", _worst([one.std for one in found], spreads), 0, 1e-3, why)

    lm = random_model(work / "random", words)
    found = logprobs.token_log_probs(lm, sequences, prefix=prefix_ids(lm))
    why = "one text at a time without padding, log-softmax in float64; batches differ by float32 rounding"
    yield within(
        "random Llama: largest distance from a plain loop",
        _worst([one.log_probs for one in found], [_plain(lm.model, [BOS, *s]) for s in sequences]),
        0,
        1e-3,
        why,
    )
    shared = [[*range(FIRST, FIRST + 20)], [*range(FIRST, FIRST + 24)]]
    unscored = logprobs.token_log_probs(lm, shared, prefix=prefix_ids(lm), n_unscored=[15, 15])
    truth = [_plain(lm.model, [BOS, *s])[15:] for s in shared]
    yield within(
        "random Llama: after a context that is not scored",
        _worst([one.log_probs for one in unscored], truth),
        0,
        1e-3,
        why,
    )


@torch.inference_mode()
def _plain(model: torch.nn.Module, ids: list[int]) -> np.ndarray:
    logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    table = logits.double().log_softmax(dim=1)
    return np.array([float(table[place, ids[place + 1]]) for place in range(len(ids) - 1)])


def _farthest(values: np.ndarray, truth: float) -> float:
    """The value that lies farthest from the truth."""
    return float(values[np.abs(values - truth).argmax()])


def _worst(found: list, truth: list) -> float | None:  # type: ignore[type-arg]
    """The largest distance; None where the shapes differ."""
    if any(np.shape(one) != np.shape(other) for one, other in zip(found, truth, strict=True)):
        return None
    return max(float(np.abs(one - other).max()) for one, other in zip(found, truth, strict=True))


INSTRUMENT = Instrument("log-probabilities", ask)
