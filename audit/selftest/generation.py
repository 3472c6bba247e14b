"""Sampling: greedy against a plain loop, and each setting against the distribution of a known table.

Counts of a sample of n independent draws are multinomial. A chi-squared statistic of k cells with n p >= 20 in each is
compared with its (1 - 1e-6) quantile; a temperature that is ignored moves it by hundreds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from scipy.stats import chi2

from ..lm import generate as generation
from ..lm.load import LanguageModel
from .answers import Instrument, Known, same, within
from .models import BOS, FIRST, random_model, table_model, word_list

_N, _DRAWS = 12, 1500
_LUCK = 1e-6


def ask(work: Path) -> Iterator[Known]:
    """Draws of one token from a known row, and greedy continuations of a random model."""
    rng = np.random.default_rng(2)
    words = word_list(_N)
    n = FIRST + _N
    lm = random_model(work / "random", words, seed=3)
    prompts = [[BOS, *rng.integers(FIRST, n, length).tolist()] for length in (1, 3, 4, 9)]
    greedy = generation.Sampling(max_new_tokens=12, temperature=0.0)
    found = generation.generate(lm, prompts, sampling=greedy, seed=0)
    truth = [_greedy(lm.model, prompt, 12) for prompt in prompts]
    yield same(
        "greedy: the tokens of a plain argmax loop",
        [list(one.token_ids) for one in found],
        truth,
        "temperature 0 takes the most probable token",
    )

    row = np.full(n, 1e-6)
    row[FIRST:] = rng.dirichlet(np.full(_N, 2.0)) + 0.05
    row /= row.sum()
    table = np.tile(row, (n, 1))
    known = table_model(work / "table", words, table)
    for temperature in (1.0, 0.5, 2.0):
        truth_row = row ** (1 / temperature) / (row ** (1 / temperature)).sum()
        ids = _drawn(known, generation.Sampling(max_new_tokens=1, temperature=temperature))
        statistic, cells = _chi_squared(ids, truth_row)
        yield within(
            f"temperature {temperature:g}: chi-squared of {_DRAWS:,} draws",
            statistic,
            0,
            float(chi2.isf(_LUCK, cells - 1)),
            "p^(1/T), normalised",
            luck=_LUCK,
        )
    best = np.argsort(row)[::-1]
    ids = _drawn(known, generation.Sampling(max_new_tokens=1, top_k=3))
    yield same(
        "top_k 3: which tokens are drawn",
        sorted(set(ids)),
        sorted(best[:3].tolist()),
        "the three most probable; each has a share above 5%, so that 1,500 draws miss none",
        luck=1e-30,
    )
    kept = best[: int(np.searchsorted(np.cumsum(row[best]), 0.5)) + 1]
    ids = _drawn(known, generation.Sampling(max_new_tokens=1, top_p=0.5))
    yield same(
        "top_p 0.5: which tokens are drawn",
        sorted(set(ids)),
        sorted(kept.tolist()),
        "the smallest set of the most probable that holds half",
        luck=1e-30,
    )

    several = generation.Sampling(max_new_tokens=6)
    many = [[BOS]] * 16
    whole = generation.generate(known, many, sampling=several, seed=4)
    parts = [
        *generation.generate(known, many[:5], sampling=several, seed=4, indices=range(5), batch_size=2),
        *generation.generate(known, many[5:], sampling=several, seed=4, indices=range(5, 16)),
    ]
    yield same(
        "a sample does not depend on its batch",
        [one.token_ids for one in parts],
        [one.token_ids for one in whole],
        "sample i draws from its own stream (seed, i)",
    )
    other = generation.generate(known, many, sampling=several, seed=5)
    n_same = sum(a.token_ids == b.token_ids for a, b in zip(whole, other, strict=True))
    yield within(
        "another seed: samples that are alike",
        n_same,
        0,
        3,
        "six tokens of a row whose most likely one has a share below 0.3 agree by chance in far less than 1% of 16",
        luck=1e-8,
    )
    stop = generation.generate(
        known, [[BOS]] * 40, sampling=generation.Sampling(max_new_tokens=30, stop_ids=(int(best[0]),)), seed=6
    )
    early = [one for one in stop if int(best[0]) in one.token_ids[:-1]]
    yield same("a stop token ends a sample", len(early), 0, "nothing is written after it")


def _drawn(lm: LanguageModel, sampling: generation.Sampling) -> list[int]:
    found = generation.generate(lm, [[BOS]] * _DRAWS, sampling=sampling, seed=7, batch_size=_DRAWS)
    return [one.token_ids[0] for one in found]


def _chi_squared(ids: list[int], row: np.ndarray) -> tuple[float, int]:
    """Statistic and number of cells; rows with an expectation below 20 are one cell."""
    counts = np.bincount(ids, minlength=len(row)).astype(float)
    expected = row * len(ids)
    large = expected >= 20
    observed = np.append(counts[large], counts[~large].sum())
    wanted = np.append(expected[large], expected[~large].sum())
    keep = wanted >= 5
    return float(((observed - wanted)[keep] ** 2 / wanted[keep]).sum()), int(keep.sum())


@torch.inference_mode()
def _greedy(model: torch.nn.Module, prompt: list[int], n: int) -> list[int]:
    ids = list(prompt)
    for _ in range(n):
        ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


INSTRUMENT = Instrument("generation", ask)
