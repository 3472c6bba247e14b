"""The guard: flags what is about the forget set at its bound, corrupts that alone, and leaves the rest to the bit.

The promise P(flag | retain) <= alpha is on average over calibration sets: with 199 scores and alpha = 0.05 the rate is
Beta(10, 190), of standard deviation 0.015. Over 60 sets with 100 fresh scores each, the mean rate has a standard error
of 0.0035; five of them are allowed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from audit.answers.formats import PromptFormat
from audit.answers.systems import Bare
from audit.selftest.answers import Instrument, Known, near, same, within
from audit.selftest.models import random_model, word_list
from unlearn.eco import calibration, corruptions, judge
from unlearn.eco.classifier import PromptScores
from unlearn.eco.corruptions import Corruption
from unlearn.eco.guard import EcoGuard, GuardSettings

_WORDS = word_list(60)
_SECRET = set(_WORDS[:6])
_KEY = b"sixteen bytes ok"


class _Scorer:
    """Share of a text's words that are of the forget set, with noise that depends on the text alone."""

    def scores(self, texts: Sequence[str]) -> PromptScores:
        share = np.array([sum(f" {word}" in _SECRET for word in text.split()) / len(text.split()) for text in texts])
        noise = np.array([np.random.default_rng(list(text.encode())).random() for text in texts])
        n = len(texts)
        return PromptScores(0.1 * noise + 0.9 * share, np.ones(n, dtype=np.int64), np.zeros(n, dtype=np.bool_))


def ask(work: Path) -> Iterator[Known]:
    """Threshold, flags, corruption, and what is left alone."""
    rng = np.random.default_rng(13)
    found = calibration.one_sided(np.arange(1.0, 200.0), alpha=0.05)
    yield near("threshold of 1..199 at 5%", found.value, 190.0, "the ceil(200 x 0.95)-th smallest")
    yield same("a score at the threshold, and one above", found.flags([190.0, 190.5]).tolist(), [False, True], "above")
    rates = []
    for _ in range(60):
        threshold = calibration.one_sided(rng.normal(size=199), alpha=0.05)
        rates.append(threshold.flags(rng.normal(size=100)).mean())
    yield within(
        "held-out prompts flagged, mean of 60 thresholds",
        float(np.mean(rates)),
        0.05 - 0.0175,
        0.05 + 0.0175,
        "see the head of the module",
        luck=1e-6,
    )

    def prompts(words: Sequence[str], n: int) -> list[str]:
        return ["".join(rng.choice(words, int(rng.integers(4, 9)))) for _ in range(n)]

    retain, forget = prompts(_WORDS[6:], 99 + 12), prompts(_WORDS[:6], 12)
    scorer = _Scorer()
    threshold = calibration.one_sided(scorer.scores(retain[:99]).p_forget, alpha=0.01)
    lm = random_model(work / "model", _WORDS, seed=14)
    settings = GuardSettings("six words", Corruption(strength=3.0, dims=16), format=PromptFormat("text"))
    guard = EcoGuard(lm, judge.Judge(scorer, threshold.value, key=_KEY), settings)
    asked = [*forget, *retain[99:]]
    flagged = guard.flagged(asked).tolist()
    yield same(
        "planted prompts that are flagged",
        sum(flagged[:12]),
        12,
        "their scores are at least 0.9, the others' at most 0.1",
    )
    yield within(
        "held-out prompts that are flagged",
        sum(flagged[12:]),
        0,
        4,
        "the highest of 99 is exceeded by 1% on average; five of 12 have a chance below 1e-6",
        luck=1e-6,
    )
    with torch.no_grad():
        bare = Bare(lm, settings.format)
        before = bare.forward(bare.prepare(asked)).logits
        after = guard.forward(guard.prepare(asked)).logits
        weak = guard.with_corruption(Corruption(strength=0.0, dims=16))
        still = weak.forward(weak.prepare(asked)).logits
        again = bare.forward(bare.prepare(asked)).logits
    changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    yield same("prompts whose logits change", changed, flagged, "those that are flagged, and the others to the bit")
    yield same(
        "strength 0: prompts whose logits change",
        sum(not torch.equal(a, b) for a, b in zip(before, still, strict=True)),
        0,
        "no noise",
    )
    yield same(
        "the bare model afterwards", torch.equal(before, again), True, "the hook is gone, the weights are untouched"
    )
    yield from _noise()


def _noise() -> Iterator[Known]:
    """What a corruption does to embeddings."""
    embeddings = torch.zeros(2, 40, 64)
    mask = torch.zeros(2, 40, dtype=torch.bool)
    mask[0, 4:] = True
    made = corruptions.corrupt(embeddings, mask, Corruption(strength=2.0, dims=16), seeds=[5, None])
    noise = made[0, 4:, :16]
    yield within(
        "noise of strength 2: its spread",
        float(noise.std()),
        1.6,
        2.4,
        "576 draws: a standard error of 3%, six to each side",
        luck=1e-6,
    )
    left = made.clone()
    left[0, 4:, :16] = 0
    yield same("numbers outside of the chosen dims and tokens", int((left != 0).sum()), 0, "they are left as they are")
    twice = corruptions.corrupt(embeddings, mask, Corruption(strength=2.0, dims=16), seeds=[5, None])
    yield same(
        "the same seed gives the same noise", torch.equal(made, twice), True, "noise depends on the prompt alone"
    )


INSTRUMENT = Instrument("guard", ask)
