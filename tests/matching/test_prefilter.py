"""The first look at a few dimensions: no hit is lost, and the hits are those of the whole vectors."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audit.errors import InputError
from audit.matching import dense, prefilter, tiles

Matrix = NDArray[np.float32]


def nested(n: int, d: int, seed: int, fall: float = 0.3) -> Matrix:
    """Vectors with most of their energy in the first dimensions, in families."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(5, d))
    rows = (centres[rng.integers(5, size=n)] + 0.3 * rng.normal(size=(n, d))) * np.exp(-fall * np.arange(d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@settings(deadline=None)
@given(
    st.integers(1, 15),
    st.integers(1, 40),
    st.integers(2, 12),
    st.floats(0, 1),
    st.sampled_from([0.3, 0.9, 0.95, 0.99, 1.0]),
    st.integers(1, 30),
    st.data(),
)
def test_no_hit_is_lost(n: int, m: int, d: int, fall: float, tau: float, tile: int, data: st.DataObject) -> None:
    queries, corpus = nested(n, d, 1, fall), nested(m, d, 2, fall)
    corpus[0] = queries[0]
    head = data.draw(st.integers(1, d - 1))
    sparse = data.draw(st.sampled_from([0, 1]))
    with patch.dict(tiles._TILE, cpu=(tile, tile)), patch.object(prefilter, "_SPARSE", sparse):
        filtered = prefilter.Prefilter(corpus, head)
        pairs, share = filtered.pairs_above(queries, tau)
        top, top_share = filtered.top_1(queries, tau)
    wanted = dense.pairs_above(queries, corpus, tau)
    for one, other in zip(pairs, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
    best = dense.top_k(queries, corpus)
    reached = best.scores >= np.float32(tau)
    np.testing.assert_array_equal(top.rows, np.where(reached, best.rows, -1))
    np.testing.assert_array_equal(top.scores, np.where(reached, best.scores, -np.inf))
    assert len(wanted.rows) / (n * m) <= share <= 1
    assert 0 <= top_share <= share


@given(st.integers(2, 20), st.data())
def test_the_bound_is_above_the_cosine(d: int, data: st.DataObject) -> None:
    """a_k . b_k + sqrt((1 - alpha^2)(1 - beta^2)) >= a . b, and it is the product of the longer vectors."""
    a, b = nested(1, d, data.draw(st.integers(0, 99)))[0], nested(1, d, data.draw(st.integers(0, 99)))[0]
    k = data.draw(st.integers(1, d - 1))
    alpha, beta = np.linalg.norm(a[:k].astype(float)), np.linalg.norm(b[:k].astype(float))
    bound = a[:k].astype(float) @ b[:k] + np.sqrt(max(0, 1 - alpha**2) * max(0, 1 - beta**2))
    short = prefilter.with_rest(torch.from_numpy(np.stack([a, b])), k).double().numpy()
    rest = np.linalg.norm(a[k:].astype(float)) * np.linalg.norm(b[k:].astype(float))
    assert short[0] @ short[1] == pytest.approx(a[:k].astype(float) @ b[:k] + rest, abs=1e-6)
    # 1 - alpha^2 of a vector in fp32 is off by 1e-7, and its root by up to 3e-4.
    assert short[0] @ short[1] == pytest.approx(bound, abs=1e-3)
    assert short[0] @ short[1] >= a.astype(float) @ b - 1e-6


def test_energy_in_front_lets_few_pass_and_energy_all_over_many() -> None:
    shares = {}
    for fall in (0.3, 0.0):
        queries, corpus = nested(100, 64, 1, fall), nested(400, 64, 2, fall)
        shares[fall] = prefilter.Prefilter(corpus, 16).pairs_above(queries, 0.99).share_passed
    assert shares[0.3] < 0.1
    assert shares[0.0] > 3 * shares[0.3]


def test_a_head_as_wide_as_the_vectors_is_refused() -> None:
    with pytest.raises(InputError, match="head is 8 and the vectors have 8 dimensions"):
        prefilter.Prefilter(nested(3, 8, 0), 8)


def test_queries_of_another_width_are_refused() -> None:
    with pytest.raises(InputError, match="queries have 6 dimensions, the corpus 8"):
        prefilter.Prefilter(nested(3, 8, 0), 2).top_1(nested(3, 6, 0), 0.9)
