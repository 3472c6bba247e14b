"""The distance and the proximal step against slower ways to the same numbers."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import wasserstein_distance

from audit.errors import InputError
from unlearn.lineas.config import FitSettings
from unlearn.lineas.loss import Distances, check_sizes, quantile_pairs, wasserstein_squared
from unlearn.lineas.maps import AffineMap, check_strength, composed, inverse, support_share
from unlearn.lineas.prox import penalty, proximal_step, shrink


def columns(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, d)))


@given(n=st.integers(1, 12), m=st.integers(1, 12), seed=st.integers(0, 5))
def test_unequal_sizes_are_what_replication_gives(n: int, m: int, seed: int) -> None:
    u, v = columns(n, 3, seed), columns(m, 3, seed + 10)
    replicated = (u.sort(0).values.repeat_interleave(m, 0) - v.sort(0).values.repeat_interleave(n, 0)).square().mean(0)
    assert torch.allclose(wasserstein_squared(u, v), replicated, atol=1e-14)
    assert torch.allclose(wasserstein_squared(u, v), wasserstein_squared(v, u), atol=1e-14)


def test_quantile_pairs_by_hand() -> None:
    """2 against 3: breakpoints 0, 2, 3, 4, 6 of 6."""
    i, j, weight = quantile_pairs(2, 3)
    assert i.tolist() == [0, 0, 1, 1]
    assert j.tolist() == [0, 1, 1, 2]
    assert weight.tolist() == pytest.approx([2 / 6, 1 / 6, 1 / 6, 2 / 6])


def test_a_pure_shift_has_the_distance_of_scipy_squared() -> None:
    """For a shift W2 = W1, which scipy knows."""
    u = columns(20, 1, 0)
    v = u[torch.randperm(20)] + 1.7
    assert float(wasserstein_squared(u, v)) == pytest.approx(wasserstein_distance(u[:, 0], v[:, 0]) ** 2)


def test_reductions() -> None:
    u = {"a": columns(8, 2, 0), "b": columns(8, 5, 1)}
    v = {"a": columns(8, 2, 2), "b": columns(8, 5, 3)}
    a, b = (wasserstein_squared(u[site], v[site]) for site in "ab")
    expected = {
        ("sum", "mean"): (a.sum() + b.sum()) / 2,
        ("sum", "sum"): a.sum() + b.sum(),
        ("mean", "mean"): (a.mean() + b.mean()) / 2,
        ("mean", "sum"): a.mean() + b.mean(),
    }
    for (neurons, sites), total in expected.items():
        found = Distances.to(v, neurons=neurons, over_sites=sites)  # type: ignore[arg-type]
        assert torch.allclose(found.total(found.joined(u)), total)
    assert (FitSettings().neurons, FitSettings().sites) == ("sum", "mean")


def test_half_precision_is_compared_in_float32() -> None:
    """Pooling gives float32; 2,048 and 2,049 are one number in half precision."""
    targets = {"a": torch.tensor([[2048.0], [2050.0]])}
    found = Distances.to(targets)
    assert float(found.total(torch.tensor([[2049.0], [2050.0]]))) == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(4))
def test_the_prox_minimises_what_it_should(seed: int) -> None:
    """argmin_u 1/2 |u - u0|^2 + a |u|_1 + c sqrt(d) |u|_2, by a numeric minimiser from several starts."""
    rng = np.random.default_rng(seed)
    u0, a, c = rng.normal(size=4), 0.3, 0.2

    def objective(u: np.ndarray) -> float:
        return float(0.5 * ((u - u0) ** 2).sum() + a * np.abs(u).sum() + c * 2 * np.sqrt((u**2).sum()))

    found = shrink(torch.from_numpy(u0), l1=a, group=c).numpy()
    best = min(
        (minimize(objective, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 20_000})
         for start in (u0, found + 0.01, np.full(4, 0.1))),
        key=lambda one: one.fun,
    )  # fmt: skip
    assert objective(found) <= best.fun + 1e-9
    assert found == pytest.approx(best.x, abs=1e-4)


def test_the_prox_of_nothing_and_of_little_is_nothing() -> None:
    assert shrink(torch.zeros(3), l1=0.0, group=0.5).tolist() == [0, 0, 0]
    assert shrink(torch.tensor([0.1, -0.2]), l1=0.05, group=1.0).tolist() == [0, 0]
    w, b = torch.tensor([1.3, 0.9, 1.0]), torch.tensor([0.05, -0.4, 0.0])
    before = penalty([w], [b], l1=1, group=1)
    proximal_step([w], [b], step=0.1, gamma=1.0, l1=1.0, group=0.0)
    assert w.tolist() == pytest.approx([1.2, 1.0, 1.0])
    assert b.tolist() == pytest.approx([0.0, -0.3, 0.0])
    assert penalty([w], [b], l1=1, group=1) < before
    proximal_step([w], [b], step=0.1, gamma=0.0, l1=1.0, group=1.0)
    assert w.tolist() == pytest.approx([1.2, 1.0, 1.0])


def test_penalty_by_hand() -> None:
    """|w-1|_1 = 0.7, |b|_1 = 0.4; norms 0.5 and 0.4, sqrt(d) = sqrt 2."""
    found = penalty([torch.tensor([1.3, 0.6])], [torch.tensor([0.4, 0.0])], l1=1, group=1)
    assert found == pytest.approx(1.1 + 2**0.5 * 0.9)


def test_maps_are_inverted_composed_and_weakened() -> None:
    z = columns(5, 3, 0)
    one = AffineMap(torch.tensor([0.5, 2.0, -1.0]).double(), torch.tensor([1.0, 0.0, 3.0]).double())
    two = AffineMap(torch.tensor([3.0, 1.0, 1.0]).double(), torch.tensor([0.0, -1.0, 0.5]).double())
    assert torch.allclose(one.inverse()(one(z)), z)
    assert torch.allclose(one.then(two)(z), two(one(z)))
    assert not torch.allclose(one.then(two)(z), two.then(one)(z))
    assert torch.allclose(one.at(0.3)(z), z + 0.3 * (one(z) - z))
    assert torch.allclose(one.each(z, torch.full((5,), 0.3)), one.at(0.3)(z))
    both = composed({"a": one}, {"a": two, "b": two})
    assert torch.allclose(both["a"](z), two(one(z)))
    assert both["b"] is two
    with pytest.raises(InputError, match=r"site a: 1 of 3 scales"):
        inverse({"a": AffineMap(torch.tensor([1.0, 1e-6, 2.0]), torch.zeros(3))})


def test_a_clipped_map_acts_inside_its_range_alone() -> None:
    one = AffineMap(torch.tensor([2.0]), torch.tensor([1.0]), torch.tensor([0.0]), torch.tensor([1.0]))
    z = torch.tensor([[-0.1], [0.0], [1.0], [1.1]])
    assert one(z)[:, 0].tolist() == pytest.approx([-0.1, 1.0, 3.0, 1.1])
    assert one.at(0.5)(z)[:, 0].tolist() == pytest.approx([-0.1, 0.5, 2.0, 1.1])
    assert one.each(z, torch.tensor([1.0, 0.5, 0.0, 1.0]))[:, 0].tolist() == pytest.approx([-0.1, 0.5, 1.0, 1.1])
    for refused in (one.inverse, lambda: one.then(one)):
        with pytest.raises(InputError, match="clipped"):
            refused()


def test_support_counts_neurons_that_differ() -> None:
    one = AffineMap(torch.tensor([1.0, 1 + 2e-5, 1.0, 1 - 1e-6]), torch.tensor([0.0, 0.0, -2e-5, 0.0]))
    assert one.support().tolist() == [False, True, True, False]
    assert support_share({"a": one, "b": AffineMap.identity(4)}) == 0.25
    assert support_share({}) == 0.0


@pytest.mark.parametrize(
    ("w", "b", "said"),
    [
        (torch.ones(2), torch.zeros(3), "shapes"),
        (torch.tensor([1.0, torch.nan]), torch.zeros(2), "w of a map .* not finite"),
        (torch.ones(2), torch.tensor([torch.inf, 0.0]), "b of a map .* not finite"),
    ],
)
def test_maps_that_are_none(w: torch.Tensor, b: torch.Tensor, said: str) -> None:
    with pytest.raises(InputError, match=said):
        AffineMap(w, b)


def test_settings_that_are_none() -> None:
    with pytest.raises(InputError, match="larger|batch is 9 of 8"):
        check_sizes(8, 9)
    with pytest.raises(InputError, match="fewer than 4"):
        check_sizes(8, 3)
    check_sizes(8, 3, forced=True)
    for strength in (float("nan"), float("inf"), True, "1"):
        with pytest.raises(InputError, match="finite number"):
            check_strength(strength)  # type: ignore[arg-type]
    wrong = {
        "lr": 0.0, "final_lr": 2.0, "steps": 0, "batch": 0, "gamma": -1.0, "l1": -1.0, "group": float("nan"),
        "floor": 1.5, "microbatch": 0, "check_every": 0, "patience": 0, "seed": -1, "optimizer": "rms",
        "neurons": "max", "sites": "max",
    }  # fmt: skip
    for name, value in wrong.items():
        with pytest.raises(InputError, match=f"{name} is"):
            FitSettings(**{name: value})  # type: ignore[arg-type]
    assert {one.name for one in fields(FitSettings)} - set(wrong) == {"forced", "checkpointing"}


def test_the_rate_falls_by_a_cosine_to_a_thousandth() -> None:
    settings = FitSettings(steps=100)
    assert settings.rate(0) == pytest.approx(0.1)
    assert settings.rate(50) == pytest.approx((0.1 + 0.0001) / 2)
    assert settings.rate(100) == pytest.approx(0.0001)
