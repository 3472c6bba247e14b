"""Best matches and close pairs of unit vectors: the same as a dense comparison, whatever the tile or precision."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audit.errors import InputError
from audit.matching import dense, tiles
from audit.matching.best import Top

Matrix = NDArray[Any]
PRECISIONS: tuple[tiles.Precision, ...] = ("float32", "float16", "bfloat16")


def unit(n: int, d: int, seed: int) -> Matrix:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def with_twins(n: int, d: int, seed: int) -> Matrix:
    """Vectors of which many are equal and many nearly so, closer than fp16 can tell."""
    rng = np.random.default_rng(seed)
    rows = unit(max(1, n // 3), d, seed)[rng.integers(max(1, n // 3), size=n)]
    moved = rows + rng.choice([0, 1e-4], size=(n, 1)) * rng.normal(size=(n, d))
    return (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)


def all_scores(queries: Matrix, corpus: Matrix) -> Matrix:
    """The whole matrix: fp64 sums as fp32."""
    left, right = torch.from_numpy(queries).double(), torch.from_numpy(corpus).double()
    scores: Matrix = torch.stack([(row * right).sum(dim=1) for row in left]).float().numpy()
    return scores


def oracle(scores: Matrix, k: int) -> Top:
    order = np.array([np.lexsort((np.arange(len(row)), -row))[:k] for row in scores])
    return Top(np.take_along_axis(scores, order, axis=1), order)


@settings(deadline=None)
@given(
    st.integers(1, 12),
    st.integers(1, 40),
    st.integers(2, 9),
    st.integers(1, 50),
    st.integers(1, 50),
    st.sampled_from(PRECISIONS),
    st.data(),
)
def test_tiled_is_dense(
    n: int, m: int, d: int, tile: int, other: int, precision: tiles.Precision, data: st.DataObject
) -> None:
    queries, corpus = with_twins(n, d, 1), with_twins(m, d, data.draw(st.integers(1, 3)))
    scores = all_scores(queries, corpus)
    k = data.draw(st.integers(1, m))
    tau = float(data.draw(st.sampled_from([0.95, 0.5, *scores[scores > -0.99].tolist()])))
    with patch.dict(tiles._TILE, cpu=(tile, other)):
        top = dense.top_k(queries, corpus, k, precision=precision)
        both = dense.best_of_both(queries, corpus, precision=precision)
        pairs = dense.pairs_above(queries, corpus, min(1.0, tau), precision=precision)
    for found, wanted in (
        (top, oracle(scores, k)),
        (both[0], oracle(scores, 1)),
        (both[1], oracle(np.ascontiguousarray(scores.T), 1)),
        (pairs, (*np.nonzero(scores >= np.float32(min(1.0, tau))), scores[scores >= np.float32(min(1.0, tau))])),
    ):
        for one, other_part in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(one, other_part)
    assert top.scores.dtype == np.float32
    assert top.rows.dtype == np.int64


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_product_is_off_by_less_than_its_bound(precision: tiles.Precision) -> None:
    queries, corpus = unit(64, 768, 0), unit(512, 768, 1)
    corpus[:64] = queries  # cosines near 1 as well
    how = tiles.setting("cpu", precision, None)
    bound = tiles.error_bound(768, precision)
    exact = all_scores(queries, corpus)
    for block in tiles.blocks(torch.from_numpy(queries), torch.from_numpy(corpus), how):
        off = np.abs(block.scores.float().numpy() - exact[block.query :, block.row :][: len(block.scores)])
        assert off.max() < bound
    assert bound < {"float32": 1e-4, "float16": 2e-3, "bfloat16": 1.3e-2}[precision]


def test_coarse_products_of_fp32_are_allowed_for() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        assert tiles.error_bound(8, "float32") == tiles.error_bound(8, "bfloat16")
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_corpus_against_itself_gives_each_row_or_its_first_twin() -> None:
    corpus = unit(300, 32, 0)
    corpus[200:] = corpus[:100]
    top = dense.top_k(corpus, corpus)
    assert top.rows[:, 0].tolist() == [*range(200), *range(100)]
    np.testing.assert_allclose(top.scores, 1, atol=1e-6)


def test_equal_rows_beyond_a_tile_are_found_in_little_memory() -> None:
    """60,000 equal rows: all are candidates in each tile, and the lowest ones win."""
    corpus = np.repeat(unit(1, 8, 0), 60_000, axis=0)
    top = dense.top_k(corpus[:3], corpus, 4, max_bytes=2**22)
    assert top.rows.tolist() == [[0, 1, 2, 3]] * 3


def test_a_tile_keeps_to_its_ceiling() -> None:
    how = tiles.setting("cpu", "float32", 2**22)
    n_queries, n_rows = tiles.tile_shape(10**6, 10**6, how)
    assert n_queries * n_rows * 32 <= 2**21
    assert tiles.tile_shape(10, 10, how) == (10, 10)


def test_vectors_kept_in_fp16_are_read_from_a_file(tmp_path: Any) -> None:
    corpus = unit(40, 16, 0)
    np.save(tmp_path / "c.npy", corpus.astype(np.float16))
    kept = np.load(tmp_path / "c.npy", mmap_mode="r")
    assert dense.top_k(corpus, kept).rows[:, 0].tolist() == list(range(40))


def test_progress_ends_at_the_corpus() -> None:
    told: list[int] = []
    with patch.dict(tiles._TILE, cpu=(2, 7)):
        dense.top_k(unit(3, 4, 0), unit(20, 4, 1), on_done=told.append)
    assert told == [7, 14, 20]


def test_no_pair_reaches_the_threshold() -> None:
    pairs = dense.pairs_above(unit(3, 64, 0), unit(20, 64, 1), 0.99)
    assert [len(part) for part in pairs] == [0, 0, 0]


GOOD = unit(3, 4, 0)
NAN = np.where(np.eye(3, 4, dtype=bool), np.nan, GOOD).astype(np.float32)


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda: dense.top_k(2 * GOOD, GOOD), r"queries row 0 has length 2.0000; expected 1, to within 0.001"),
        (lambda: dense.top_k(GOOD, NAN), "corpus row 0 holds NaN or infinity"),
        (lambda: dense.top_k(GOOD, unit(3, 5, 0)), "corpus has 5 dimensions and the queries have 4"),
        (lambda: dense.top_k(GOOD[:0], GOOD), r"queries has shape \(0, 4\)"),
        (lambda: dense.top_k(np.eye(3, dtype=np.int64), GOOD), "queries holds int64"),
        (lambda: dense.top_k(GOOD, GOOD, 4), "k is 4 and the corpus has 3 rows"),
        (lambda: dense.top_k(GOOD, GOOD, max_bytes=5), "max_bytes is 5"),
        (lambda: dense.top_k(GOOD, GOOD, precision="int8"), "precision is 'int8'"),  # type: ignore[arg-type]
        (lambda: dense.pairs_above(GOOD, GOOD, 1.5), "tau is 1.5"),
        (lambda: dense.pairs_above(GOOD, GOOD, 0.9, most_pairs=2), "more than 2 pairs have a cosine of 0.9 or more"),
    ],
)
def test_what_cannot_be_compared_is_refused(work: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        work()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_gpu_gives_what_the_cpu_gives(precision: tiles.Precision) -> None:
    queries, corpus = with_twins(500, 384, 0), with_twins(20_000, 384, 0)
    for one, other in zip(
        dense.top_k(queries, corpus, 5, device="cuda", precision=precision),
        dense.top_k(queries, corpus, 5),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(
        dense.pairs_above(queries, corpus, 0.95, device="cuda", precision=precision),
        dense.pairs_above(queries, corpus, 0.95),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
