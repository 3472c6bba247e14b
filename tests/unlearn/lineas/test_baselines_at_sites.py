"""Baselines at many sites: on networks solved by hand, and on language models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from audit.errors import InputError, ModelError
from audit.lm.load import LanguageModel, load
from tests.checkpoints import build_checkpoint
from unlearn.lineas import network
from unlearn.lineas.baselines.at_sites import fit_baseline, in_order_met, one_after_the_other, sites_of
from unlearn.lineas.baselines.linear_act import unclipped_linear_act
from unlearn.lineas.baselines.methods import METHODS, Fit
from unlearn.lineas.config import FitSettings
from unlearn.lineas.fit import fit_maps, sum_of
from unlearn.lineas.maps import AffineMap, Maps
from unlearn.lineas.network import pooled_activations
from unlearn.lineas.pooling import Pooling
from unlearn.lineas.steer import steered

from .toys import Toy, increasing, not_realisable, shuffled, tanh_layer

# --- networks solved by hand


def loss_of(toy: Toy, y: Tensor, maps: Maps) -> float:
    distances = toy.targets(y)
    return float(distances.total(distances.joined(toy.run(toy.x, {site: (m.w, m.b) for site, m in maps.items()}))))


def losses(toy: Toy, y: Tensor, fit: Fit) -> tuple[float, float, float]:
    """Of the untouched network, of maps fitted at once, and of maps fitted one after the other."""
    targets = toy.run(y, {})
    untouched = toy.run(toy.x, {})
    at_once = {site: fit(untouched[site], targets[site]) for site in targets}
    read = lambda site, maps: toy.run(toy.x, {name: (m.w, m.b) for name, m in maps.items()})[site]  # noqa: E731
    return loss_of(toy, y, {}), loss_of(toy, y, at_once), loss_of(toy, y, one_after_the_other(read, targets, fit))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_after_the_other_finds_a_realisable_map_and_at_once_does_not(seed: int) -> None:
    """y = a x + c before a tanh layer: sequential 0; at once the second map does again what the first has done."""
    toy = tanh_layer(seed)
    a, c = increasing(12, seed)
    initial, at_once, sequential = losses(toy, shuffled(toy.x * a + c, seed), unclipped_linear_act)
    assert sequential < 1e-12
    assert 0.1 * initial < at_once < 0.5 * initial


def test_where_no_map_reaches_the_target_end_to_end_is_best_and_at_once_worst() -> None:
    toy, y = not_realisable(0)
    _, at_once, sequential = losses(toy, y, unclipped_linear_act)
    settings = FitSettings(optimizer="adam", lr=0.05, steps=300, batch=None)
    joint = fit_maps(toy, toy.targets(y), toy.widths(), settings, dtype=torch.float64)
    assert sum_of(joint.after, toy.targets(y)) < sequential < 0.5 * at_once


# --- language models

SOURCE_LENGTHS = (7, 3, 12, 5, 9, 4)
TARGET_LENGTHS = (4, 8, 6, 11, 5, 3)


def rows(lengths: tuple[int, ...], seed: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [[0, *torch.randint(3, 290, (length,), generator=generator).tolist()] for length in lengths]


SOURCE, TARGET = rows(SOURCE_LENGTHS, 0), rows(TARGET_LENGTHS, 1)


@pytest.fixture(scope="module")
def gemma2(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load(build_checkpoint(tmp_path_factory.mktemp("gemma2") / "model", "gemma2"))


@pytest.fixture
def broken(tmp_path: Path) -> LanguageModel:
    lm = load(build_checkpoint(tmp_path / "model", "llama"))
    lm.model.get_submodule("model.layers.1.mlp.down_proj").weight.data.fill_(torch.nan)
    return lm


def n_hooks(lm: LanguageModel) -> int:
    return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in lm.model.modules())


def one_site_at_a_time(lm: LanguageModel, sites: list[str], fit: Fit, pooling: Pooling) -> dict[str, AffineMap]:
    """The slow oracle: a whole forward pass over all texts for each site."""
    targets = pooled_activations(lm, TARGET, sites, pooling)
    maps: dict[str, AffineMap] = {}
    for site in sites:
        maps[site] = fit(pooled_activations(lm, SOURCE, [site], pooling, maps=maps)[site], targets[site])
    return maps


def test_sites_come_in_the_order_of_the_forward_pass(gemma2: LanguageModel) -> None:
    names = sites_of(gemma2, METHODS["linear-act"])
    assert names[:2] == [f"model.layers.0.post_{what}_layernorm" for what in ("attention", "feedforward")]
    assert in_order_met(gemma2, names[::-1]) == names
    assert len(names) == 6


def test_the_middle_layer_alone(gemma2: LanguageModel) -> None:
    assert sites_of(gemma2, METHODS["caa-middle"]) == ["model.layers.1"]
    assert sites_of(gemma2, METHODS["caa"], r".*layers\.[02]") == ["model.layers.0", "model.layers.2"]


@pytest.mark.parametrize("name", ["linear-act", "mean-act-sequential"])
@pytest.mark.parametrize("batches", ["one", "many"])
def test_a_fit_inside_one_pass_is_that_of_a_pass_for_each_site(
    gemma2: LanguageModel, name: str, batches: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = METHODS[name]
    if batches == "many":
        monkeypatch.setitem(network._TOKENS, "cpu", 20)
    sites = sites_of(gemma2, method)
    slow = one_site_at_a_time(gemma2, sites, method.fit, method.pooling)
    seen: list[int] = []
    fast = fit_baseline(
        gemma2, SOURCE, TARGET, sites[::-1], method, progress=lambda _stage, done, _total: seen.append(done)
    )
    assert list(fast) == sites[::-1]
    for site in sites:
        torch.testing.assert_close(fast[site].w, slow[site].w, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(fast[site].b, slow[site].b, rtol=1e-3, atol=1e-4)
    assert seen == [1, 2, 3, 4, 5, 6]
    assert n_hooks(gemma2) == 0


def test_after_sequential_shifts_every_sites_mean_is_the_targets_and_at_once_it_is_not(gemma2: LanguageModel) -> None:
    """The mean over tokens and texts commutes with a shift, so that the answer is known at all sites."""
    sites = sites_of(gemma2, METHODS["mean-act"])
    wanted = pooled_activations(gemma2, TARGET, sites, Pooling())
    gaps = {}
    for name in ("mean-act", "mean-act-sequential"):
        maps = fit_baseline(gemma2, SOURCE, TARGET, sites, METHODS[name])
        found = pooled_activations(gemma2, SOURCE, sites, Pooling(), maps=maps)
        gaps[name] = [float((found[site].mean(0) - wanted[site].mean(0)).abs().max()) for site in sites]
    assert max(gaps["mean-act-sequential"]) < 1e-4
    assert gaps["mean-act"][0] < 1e-4
    assert max(gaps["mean-act"]) > 0.05


@pytest.mark.parametrize("name", METHODS)
def test_every_method_steers_at_its_own_sites(gemma2: LanguageModel, name: str) -> None:
    method = METHODS[name]
    before = {key: value.clone() for key, value in gemma2.model.state_dict().items()}
    maps = fit_baseline(gemma2, SOURCE, TARGET, sites_of(gemma2, method), method)
    ids = torch.tensor([SOURCE[0]])
    with torch.no_grad():
        plain = gemma2.model(input_ids=ids, use_cache=False).logits
        with steered(gemma2.model, maps, method.strength):
            moved = gemma2.model(input_ids=ids, use_cache=False).logits
    assert bool(torch.isfinite(moved).all())
    assert not torch.equal(plain, moved)
    assert all(torch.equal(before[key], value) for key, value in gemma2.model.state_dict().items())


@pytest.mark.parametrize("name", ["gaussian", "linear-act"])
@pytest.mark.parametrize("batches", ["one", "many"])
def test_an_error_names_the_site_and_leaves_no_hook(
    gemma2: LanguageModel, name: str, batches: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if batches == "many":
        monkeypatch.setitem(network._TOKENS, "cpu", 20)
    sites = sites_of(gemma2, METHODS[name])
    with pytest.raises(InputError, match=r"^site model.layers.0.post_attention_layernorm: all 6 source sentences give"):
        fit_baseline(gemma2, [SOURCE[2]] * 6, TARGET, sites, METHODS[name])
    with pytest.raises(InputError, match=r"there is 1 source sentence"):
        fit_baseline(gemma2, SOURCE[:1], TARGET, sites, METHODS[name])
    assert n_hooks(gemma2) == 0


def test_activations_that_are_no_numbers_are_refused(broken: LanguageModel) -> None:
    with pytest.raises(
        ModelError, match=r"activations of target sentences at model.layers.1.mlp.down_proj are not finite"
    ):
        fit_baseline(broken, SOURCE, TARGET, sites_of(broken, METHODS["aura"]), METHODS["aura"])
    assert n_hooks(broken) == 0


def test_no_sites_are_refused(gemma2: LanguageModel) -> None:
    with pytest.raises(InputError, match="there is no site"):
        fit_baseline(gemma2, SOURCE, TARGET, [], METHODS["caa"])
