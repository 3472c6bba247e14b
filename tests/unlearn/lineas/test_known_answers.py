"""Fits whose optimum is known by hand (float64, no language model)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from audit.errors import InputError
from unlearn.lineas.config import FitSettings
from unlearn.lineas.fit import Fitted, HeldOut, fit_maps, sum_of
from unlearn.lineas.maps import AffineMap

from .toys import Toy, draw, increasing, not_realisable, shuffled, tanh_layer

ADAM = FitSettings(optimizer="adam", lr=0.02, steps=1500, batch=None)
SGD = FitSettings(batch=None)


def fit(toy: Toy, y: Tensor, settings: FitSettings, *sites: str) -> tuple[Fitted, float]:
    distances = toy.targets(y, neurons=settings.neurons, over_sites=settings.sites)
    found = fit_maps(toy, distances, toy.widths(*sites), settings, dtype=torch.float64)
    return found, sum_of(found.after, distances)


def close(one: AffineMap, w: Tensor, b: Tensor, tolerance: float) -> bool:
    return float((one.w - w).abs().max()) < tolerance and float((one.b - b).abs().max()) < tolerance


@pytest.mark.parametrize("settings", [ADAM, SGD], ids=["adam", "sgd"])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_one_site_recovers_the_map_that_made_the_target(settings: FitSettings, seed: int) -> None:
    """y = a x + c in another order: the paper's gradient descent at 0.1 and Adam both find (a, c)."""
    x = draw(32, 12, seed)
    a, c = increasing(12, seed)
    found, loss = fit(Toy(x), shuffled(x * a + c, seed), settings)
    assert loss < 1e-8
    assert close(found.maps["site1"], a, c, 1e-5)


def test_two_sites_where_the_map_is_realisable() -> None:
    """T1 = (a, c) and T2 = identity bring the loss to 0, though both are free."""
    toy = tanh_layer(0)
    a, c = increasing(12, 0)
    found, loss = fit(toy, shuffled(toy.x * a + c, 0), ADAM)
    assert sum_of(found.before, toy.targets(toy.x)) > 1
    assert loss < 1e-9
    assert close(found.maps["site1"], a, c, 1e-5)
    assert close(found.maps["site2"], torch.ones(12), torch.zeros(12), 1e-5)


def test_a_target_that_no_map_reaches_is_come_near() -> None:
    """Independent and mixed targets behind a rectifier; the baselines' numbers are in their own test."""
    toy, y = not_realisable(0)
    found, loss = fit(toy, y, ADAM)
    assert loss < 0.1 * sum_of(found.before, toy.targets(y))


def test_a_map_at_site_1_is_found_through_a_loss_at_site_2_alone() -> None:
    x = draw(32, 12, 0)
    a, c = increasing(12, 0)
    toy = Toy(x, (lambda z: torch.tanh(0.5 * z) + 0.2 * z,), read=("site2",))
    found, loss = fit(toy, shuffled(x * a + c, 0), ADAM, "site1")
    assert loss < 1e-9
    assert close(found.maps["site1"], a, c, 1e-5)


@pytest.mark.parametrize(
    ("gamma", "seed"), [(1e-3, 0), pytest.param(1e-3, 1, marks=pytest.mark.slow), (0.1, 2), (1.0, 0)]
)
def test_only_the_neurons_that_differ_are_changed(gamma: float, seed: int) -> None:
    """3 of 12 neurons differ, and the layer between mixes nothing: the support is those 3, at site 1 alone."""
    toy, y = three_of_twelve(seed)
    found, _ = fit(toy, y, replace(SGD, gamma=gamma))
    assert found.maps["site1"].support().nonzero()[:, 0].tolist() == [1, 4, 7]
    assert not found.maps["site2"].support().any()


@pytest.mark.parametrize("seed", [0, 1])
def test_a_large_penalty_leaves_nothing_of_the_maps(seed: int) -> None:
    toy, y = three_of_twelve(seed)
    found, _ = fit(toy, y, replace(SGD, gamma=3.0, steps=300))
    assert not any(bool(one.support().any()) for one in found.maps.values())


def three_of_twelve(seed: int) -> tuple[Toy, Tensor]:
    x = draw(32, 12, seed)
    diagonal = 0.5 + torch.rand(12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    y = x.clone()
    y[:, [1, 4, 7]] = y[:, [1, 4, 7]] * 1.5 + 2
    return Toy(x, (lambda z: 2 * torch.tanh(diagonal * z),)), shuffled(y, seed)


def test_a_parameter_that_no_loss_reaches_stays_as_it_was() -> None:
    x = draw(16, 4, 0)
    toy = Toy(x, (torch.tanh,), read=("site1",))
    found, _ = fit(toy, x + 1, replace(SGD, steps=50))
    assert close(found.maps["site2"], torch.ones(4), torch.zeros(4), 1e-12)


def test_equal_distributions_leave_the_maps_at_the_identity() -> None:
    x = draw(32, 6, 0)
    found, loss = fit(Toy(x), shuffled(x, 0), replace(SGD, steps=100))
    assert loss < 1e-20
    assert close(found.maps["site1"], torch.ones(6), torch.zeros(6), 1e-12)


def test_a_floor_keeps_scales_from_reflecting() -> None:
    """A skewed target lies nearer to the reflected source: without a floor gradient descent may go there."""
    x = draw(64, 1, 0).exp()
    start = {"site1": AffineMap(torch.tensor([0.05], dtype=torch.float64), torch.tensor([0.0], dtype=torch.float64))}
    toy = Toy(x)
    distances = toy.targets(-x)
    found = {
        floor: fit_maps(
            toy, distances, toy.widths(), replace(ADAM, floor=floor, steps=800), start=start, dtype=torch.float64
        )
        for floor in (None, 0.01)
    }
    assert float(found[None].maps["site1"].w) == pytest.approx(-1, abs=1e-3)
    assert float(found[0.01].maps["site1"].w) >= 0.01


def test_micro_batches_change_nothing_but_rounding() -> None:
    toy = tanh_layer(1)
    y = shuffled(toy.x[:20] * 1.3 - 0.4, 1)
    whole, _ = fit(toy, y, replace(SGD, steps=40))
    parts, _ = fit(toy, y, replace(SGD, steps=40, microbatch=7))
    for site in toy.sites:
        assert torch.allclose(whole.maps[site].w, parts.maps[site].w, atol=1e-12)
        assert torch.allclose(whole.maps[site].b, parts.maps[site].b, atol=1e-12)
    assert whole.losses == pytest.approx(parts.losses, abs=1e-12)


def test_averaging_over_neurons_too_hardly_moves_at_the_published_rate() -> None:
    """Why the default sums over neurons: the curvature in b is 2 / (d L)."""
    toy = Toy(draw(32, 400, 0), (torch.tanh,))
    y = toy.x + 1
    start = sum_of(fit(toy, y, replace(SGD, steps=1))[0].before, toy.targets(y))
    _, summed = fit(toy, y, replace(SGD, steps=200))
    mean = fit(toy, y, replace(SGD, steps=200, neurons="mean"))[0]
    left = sum(toy.targets(y).by_site(toy.targets(y).joined(toy.run(toy.x, _pairs(mean)))).values()) / 2
    assert summed < 0.01 * start
    assert left > 0.9 * start


def _pairs(found: Fitted) -> dict[str, tuple[Tensor, Tensor]]:
    return {site: (one.w, one.b) for site, one in found.maps.items()}


def test_a_held_out_loss_that_is_no_number_is_never_the_best() -> None:
    """Held-out sentences may overflow where the others do not."""
    x = draw(12, 4, 0)
    y = draw(8, 4, 1) + 1
    overflows = Toy(x, (lambda z: torch.where(z.mean(dim=0) > 0.5, torch.nan, z) if len(z) == 4 else z,))
    with pytest.raises(InputError, match="held-out loss is no longer finite at step 20"):
        fit_maps(
            overflows,
            overflows.targets(y),
            {"site1": 4},
            FitSettings(steps=40, batch=None, check_every=20),
            held_out=HeldOut(4, overflows.targets(y)),
            dtype=torch.float64,
        )
