"""Distances with intervals: they cover what is true, and are 0 where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unlearn.lineas import findings_distances
from unlearn.lineas.findings_distances import ALL, held_out_distances, plain_distances

REDUCTIONS = {"neurons": "sum", "over_sites": "mean"}


def drawn(rng: np.random.Generator, n: int, *, shift: float = 0.0, scale: float = 1.0) -> torch.Tensor:
    """n sentences of 8 neurons that hang together a little."""
    common, own = rng.normal(size=(n, 1)), rng.normal(size=(n, 8))
    return torch.from_numpy(shift + scale * (np.sqrt(0.3) * common + np.sqrt(0.7) * own)).float()


@pytest.mark.slow
def test_intervals_cover_the_distance_and_what_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Normal activations, so that the truth is known: the squares of both differences, of mean and of deviation."""
    monkeypatch.setattr(findings_distances, "_DRAWS", 100)
    n_sets, hits = 40, np.zeros(3)
    for number in range(n_sets):
        rng = np.random.default_rng(number)
        source, target = drawn(rng, 16), drawn(rng, 20, shift=0.8, scale=1.3)
        sampled = held_out_distances({"a": source}, {"a": 1.2 * source + 0.6}, {"a": target}, **REDUCTIONS, seed=number)  # type: ignore[arg-type]
        found = sampled.estimates()["a"]
        truth = (8 * (0.8**2 + 0.3**2), 8 * (0.2**2 + 0.1**2))
        for place, (one, true) in enumerate(
            zip((found.before, found.after, found.removed), (*truth, truth[0] - truth[1]), strict=True)
        ):
            assert one.low is not None
            assert one.high is not None
            hits[place] += one.low <= true <= one.high
    assert (hits >= 0.85 * n_sets).all(), hits


def test_where_nothing_is_removed_the_difference_is_0_and_sites_add_up() -> None:
    rng = np.random.default_rng(0)
    one, two = ({"a": drawn(rng, 12), "b": drawn(rng, 12)} for _ in range(2))
    found = held_out_distances(one, one, two, neurons="sum", over_sites="sum", seed=0).estimates()
    assert found[ALL].removed.value == 0
    assert found[ALL].before == found[ALL].after
    assert found["a"].before.low == 0
    plain = plain_distances(one, two, two, neurons="sum", over_sites="sum")
    assert plain[ALL].before == pytest.approx(plain["a"].before + plain["b"].before)
    assert plain[ALL].after == 0


def test_few_sentences_have_no_interval() -> None:
    rng = np.random.default_rng(0)
    pooled = {"a": drawn(rng, 7)}
    sampled = held_out_distances(pooled, pooled, {"a": drawn(rng, 30)}, **REDUCTIONS, seed=0)  # type: ignore[arg-type]
    found = sampled.estimates()["a"]
    assert found.before.low is None
    assert found.before.why is not None
    assert "fewer than 8" in found.before.why
