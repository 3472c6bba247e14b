from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binom, kstest, ttest_ind

from audit.errors import InputError
from audit.membership import inference
from audit.membership.inference import (
    DECISION,
    Floats,
    fit_linear,
    infer,
    null_p_values,
    p_values,
    split_p_values,
    tail_bounds,
    twice_the_median,
)


def alike(n: int, rng: np.random.Generator, *, shift: float = 0.0) -> Floats:
    """Four correlated scores of n texts."""
    return rng.normal(size=(n, 1)) + rng.normal(size=(n, 4)) + shift


@pytest.mark.parametrize(("n", "m"), [(2, 1), (39, 1), (40, 1), (79, 1), (80, 2), (400, 10)])
def test_the_m_th_value_from_each_end_bounds_what_is_kept(n: int, m: int) -> None:
    """m = floor(0.025 n): of 80 texts 2 on each side, as published; below 40, where theirs fails, the extremes."""
    values = np.random.default_rng(0).permutation(n).astype(float)[None, :, None]
    low, high = tail_bounds(values)
    assert low.item() == m - 1
    assert high.item() == n - m


def test_fits_side_by_side_agree_with_the_published_loop_one_by_one() -> None:
    """torch's own linear layer, BCE loss and Adam on each data set alone, from the same first weights."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 30, 2))
    x[:, :12] += 0.7
    labels = torch.cat([torch.ones(12), torch.zeros(18)]).double()
    weights, bias = fit_linear(x, 12, np.random.default_rng(1))
    first = np.random.default_rng(1).uniform(-1, 1, (3, 3)) / np.sqrt(2)
    for number in range(3):
        layer = torch.nn.Linear(2, 1, dtype=torch.float64)
        with torch.no_grad():
            layer.weight[:] = torch.from_numpy(first[number, :2])
            layer.bias[:] = first[number, 2]
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
        for _ in range(1_000):
            optimizer.zero_grad()
            torch.nn.BCEWithLogitsLoss()(layer(torch.from_numpy(x[number])).squeeze(), labels).backward()
            optimizer.step()
        np.testing.assert_allclose(weights[number], layer.weight.detach().numpy()[0], atol=1e-8)
        np.testing.assert_allclose(bias[number], layer.bias.item(), atol=1e-8)


def test_one_split_agrees_with_every_step_done_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """One feature and fixed weights 1 and 0: the held-out score is the clipped, scaled feature itself."""
    rng = np.random.default_rng(2)
    suspect, validation = rng.normal(0.4, 2.0, (90, 1)), rng.normal(0.0, 2.0, (70, 1))
    monkeypatch.setattr(inference, "fit_linear", lambda x, *_: (np.ones((len(x), 1)), np.zeros(len(x))))
    (found,) = split_p_values(suspect, validation, n_splits=1, rng=np.random.default_rng(3))
    draws = np.random.default_rng(3)
    one, other = draws.permutation(90), draws.permutation(70)
    train = sorted([*suspect[one[:45], 0], *validation[other[:35], 0]])
    low, high = train[1], train[-2]  # floor(0.025 * 80) = 2
    mean, deviation = (f(np.clip(suspect[one[:45], 0], low, high)) for f in (np.mean, np.std))
    held_out = (
        (np.clip(part, low, high) - mean) / deviation for part in (suspect[one[45:], 0], validation[other[35:], 0])
    )
    assert found == pytest.approx(ttest_ind(*held_out, alternative="greater").pvalue, rel=1e-9)


def test_what_lies_beyond_the_training_half_is_clipped_to_it() -> None:
    """So no held-out text, however wild, moves the scale of another."""
    rng = np.random.default_rng(4)
    train, held_out = (alike(40, rng), alike(40, rng)), (alike(40, rng), alike(40, rng))

    def p(value: float) -> float:
        wild = held_out[0].copy()
        wild[0] = value
        halves = [tuple(side[None] for side in half) for half in (train, (wild, held_out[1]))]
        return float(inference._test(*halves, np.random.default_rng(0))[0])  # type: ignore[arg-type]

    assert p(100.0) == p(1e9)


def test_the_unit_of_a_feature_does_not_matter() -> None:
    rng = np.random.default_rng(5)
    suspect, validation = alike(40, rng, shift=0.3), alike(40, rng)
    scale, origin = np.array([1e-6, 1.0, 1e3, 5.0]), np.array([0.0, -7.0, 1e4, 2.0])
    one = split_p_values(suspect, validation, n_splits=5, rng=np.random.default_rng(0))
    other = split_p_values(
        suspect * scale + origin, validation * scale + origin, n_splits=5, rng=np.random.default_rng(0)
    )
    np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize(
    "sizes", [(20, 30), pytest.param((60, 60), marks=pytest.mark.slow), pytest.param((30, 120), marks=pytest.mark.slow)]
)
def test_a_single_split_gives_uniform_p_values_where_there_is_nothing(sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(6)
    p = p_values(lambda: (alike(sizes[0], rng), alike(sizes[1], rng)), 2_000, rng=rng)
    assert kstest(p, "uniform").pvalue > 0.01
    low, high = binom.interval(0.99, 2_000, DECISION)
    assert low <= (p < DECISION).sum() <= high


def aggregated(n_sets: int, n_splits: int, n: int, *, shift: float, seed: int) -> list[float]:
    """Twice the median for each of so many pairs of sets, all splits fitted side by side."""
    rng = np.random.default_rng(seed)
    pairs = ((alike(n, rng, shift=shift), alike(n, rng)) for _ in range(n_sets))
    repeated = (pair for pair in pairs for _ in range(n_splits))
    p = p_values(lambda: next(repeated), n_sets * n_splits, rng=rng).reshape(n_sets, n_splits)
    return [twice_the_median(row, n=2 * n).value for row in p]


def test_twice_the_median_finds_nothing_too_often_where_there_is_nothing() -> None:
    found = aggregated(120, 9, 24, shift=0.0, seed=7)
    assert sum(p < DECISION for p in found) <= binom.ppf(0.99, 120, DECISION)


def test_a_planted_shift_is_found() -> None:
    found = aggregated(20, 9, 100, shift=0.8, seed=8)
    assert sum(p < DECISION for p in found) >= 18


def test_texts_that_differ_downwards_are_told_apart_as_well() -> None:
    """The classifier learns the direction, so a small p-value alone does not say that suspects score higher."""
    rng = np.random.default_rng(9)
    p = split_p_values(alike(100, rng, shift=-1.0), alike(100, rng), n_splits=9, rng=rng)
    assert np.median(p) < 0.01


@pytest.mark.parametrize(
    ("p", "value"),
    [([0.01, 0.04, 0.5], 0.08), ([0.9, 0.6, 0.7], 1.0), ([1e-9, 1e-12, 0.3], 0.001), ([0.02, 0.04], 0.06)],
)
def test_twice_the_median_by_hand(p: list[float], value: float) -> None:
    """2 x 0.04; capped at 1; not below 0.001; of two the mean of both."""
    found = twice_the_median(np.array(p), n=10)
    assert found.value == pytest.approx(value)
    assert found.attainable == 0.001
    assert "valid only if the two sets are IID" in found.method


@pytest.mark.parametrize("k", [1, 2, 5, 25])
def test_twice_the_median_holds_its_level_when_the_splits_conspire(k: int) -> None:
    """The worst case: h = ceil(K/2) of the K p-values fall below a/2 together, as often as uniform ones can.

    They do so with chance (a/2)(K/h), on a random h of the splits, so each p-value is below a/2 with chance a/2.
    """
    rng, a, h = np.random.default_rng(10), 0.1, -(-k // 2)
    found = []
    for _ in range(4_000):
        low_together = rng.random() < a / 2 * k / h
        low = rng.permutation(k) < (h if low_together else 0)
        p = np.where(low, rng.uniform(0, a / 2, k), rng.uniform(a / 2, 1, k))
        found.append((p[0], twice_the_median(p, n=1).value <= a))
    first, rejected = (np.array(part) for part in zip(*found, strict=True))
    assert kstest(first, "uniform").pvalue > 0.001
    assert rejected.mean() <= binom.ppf(0.999, 4_000, a) / 4_000


def test_the_check_of_validation_texts_against_themselves_gives_a_tenth() -> None:
    rng = np.random.default_rng(11)
    p = null_p_values(alike(60, rng), n_checks=400, rng=rng)
    low, high = binom.interval(0.999, 400, DECISION)
    assert low <= (p < DECISION).sum() <= high


def test_the_check_does_not_depend_on_the_suspect_texts() -> None:
    rng = np.random.default_rng(12)
    validation = alike(30, rng)
    one, other = (
        infer(alike(30, rng, shift=shift), validation, n_splits=3, n_checks=100, seed=0) for shift in (0.0, 9.0)
    )
    assert one.false_positives == other.false_positives
    assert one.p_value != other.p_value


def test_the_same_seed_gives_the_same_answer() -> None:
    rng = np.random.default_rng(13)
    suspect, validation = alike(30, rng), alike(30, rng)
    results = [infer(suspect, validation, n_splits=5, n_checks=100, seed=seed) for seed in (1, 1, 2)]
    assert (results[0].split_p == results[1].split_p).all()
    assert (results[0].split_p != results[2].split_p).any()


def test_few_texts_are_refused_with_the_reason() -> None:
    rng = np.random.default_rng(14)
    found = infer(alike(19, rng), alike(500, rng), n_splits=3, n_checks=100, seed=0)
    assert found.p_value is None
    assert found.below is None
    assert found.why == "19 suspect and 500 validation texts; dataset inference needs 20 on each side"


def test_data_whose_p_values_are_not_what_they_claim_are_refused() -> None:
    """All validation texts but one score the same: no split of them can reach p < 0.1, however often it is tried."""
    validation = np.zeros((40, 2))
    validation[0] = 1.0
    found = infer(alike(40, np.random.default_rng(15))[:, :2], validation, n_splits=3, n_checks=200, seed=0)
    assert found.p_value is None
    assert found.why is not None
    assert "of 200 splits of the validation set against itself, 0.0% gave p < 0.1 instead of about 10%" in found.why


def test_pieces_of_few_works_deceive_the_test_and_its_check_alike() -> None:
    """Why every report says so: ten works of ten pieces a side, all of one kind, nothing to find."""
    rng = np.random.default_rng(17)

    def pieces() -> Floats:
        return np.repeat(rng.normal(size=(10, 4)), 10, axis=0) + 0.3 * rng.normal(size=(100, 4))

    assert (p_values(lambda: (pieces(), pieces()), 100, rng=rng) < DECISION).mean() > 0.5
    assert (null_p_values(pieces(), n_checks=200, rng=rng) < DECISION).mean() < 0.2


def test_features_that_do_not_vary_say_nothing() -> None:
    constant = np.full((30, 3), 7.0)
    assert (split_p_values(constant, constant, n_splits=4, rng=np.random.default_rng(0)) == 1).all()


def test_a_score_that_is_not_finite_is_refused() -> None:
    bad = np.full((30, 2), np.nan)
    with pytest.raises(InputError, match=r"suspect\[0, 0\] is nan; expected finite numbers"):
        infer(bad, np.zeros((30, 2)), n_splits=1, n_checks=100, seed=0)


def test_work_in_batches_is_told_to_its_end() -> None:
    rng, told = np.random.default_rng(16), []
    infer(alike(20, rng), alike(20, rng), n_splits=7, n_checks=100, seed=0, on_done=told.append)
    assert sum(told) == 107
