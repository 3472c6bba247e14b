"""Trained against held-out rows: exact under the null, and in the right direction."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from audit.errors import InputError
from audit.extraction import split_half as module
from audit.extraction.split_half import split_half


def rows(rng: np.random.Generator, n_clusters: int = 60, size: int = 3) -> tuple[np.ndarray, list[int]]:
    clusters = np.repeat(np.arange(n_clusters), size)
    trained = (rng.permutation(n_clusters) < n_clusters // 2)[clusters]
    return trained, clusters.tolist()


def test_p_values_are_uniform_where_hits_know_nothing_of_the_division(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hits fall on few clusters and pile up there, as they do when a model has favourites."""
    monkeypatch.setattr(module, "N_DRAWS", 199)
    rng = np.random.default_rng(0)
    values, held = [], 0
    for seed in range(200):
        trained, clusters = rows(rng)
        hits = (rng.pareto(1.0, len(trained)) * (rng.random(len(trained)) < 0.3)).astype(np.int64)
        found = split_half(hits, trained, clusters, seed=seed)
        values.append(found.p_value.value)
        held += (found.share.low or 0) <= 0.5 <= (found.share.high or 1)
    assert kstest(values, "uniform").pvalue > 0.001
    assert sum(value <= 0.05 for value in values) <= 20
    assert held >= 150  # heavy tails: the interval is descriptive, the test decides


def test_hits_on_trained_rows_lie_above_a_half_and_on_held_out_ones_below() -> None:
    rng = np.random.default_rng(1)
    trained, clusters = rows(rng, 200)
    hits = rng.poisson(np.where(trained, 2.0, 0.1))
    full = split_half(hits, trained, clusters, seed=0)
    assert full.share.low is not None
    assert full.share.low > 0.8
    assert full.p_value.value == full.p_value.attainable == pytest.approx(1e-4)
    swapped = split_half(hits, ~trained, clusters, seed=0)
    assert swapped.share.high is not None
    assert swapped.share.high < 0.2
    assert swapped.p_value.value > 0.99


def test_no_hit_is_told_and_is_no_evidence() -> None:
    trained, clusters = rows(np.random.default_rng(2))
    found = split_half(np.zeros(len(trained), np.int64), trained, clusters, seed=0)
    assert found.share.value is None
    assert found.p_value.value == 1.0


def test_a_cluster_in_both_halves_is_refused() -> None:
    with pytest.raises(InputError, match="lies in both halves"):
        split_half(np.ones(4, np.int64), np.array([True, False, True, False]), ["a", "a", "b", "c"], seed=0)
    with pytest.raises(InputError, match="all rows are of one half"):
        split_half(np.ones(2, np.int64), np.array([True, True]), ["a", "b"], seed=0)
