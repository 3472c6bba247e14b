"""LinEAS on a language model: what is told, kept, gone on with and refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from audit.errors import InputError
from audit.lm.load import LanguageModel, load
from tests.checkpoints import build_checkpoint
from unlearn.lineas.baselines.at_sites import fit_baseline
from unlearn.lineas.baselines.methods import baseline
from unlearn.lineas.config import FitSettings
from unlearn.lineas.fit import rows_of
from unlearn.lineas.loss import Distances
from unlearn.lineas.maps import AffineMap, support_share
from unlearn.lineas.network import pooled_activations
from unlearn.lineas.path import choose, gamma_path
from unlearn.lineas.pooling import Pooling
from unlearn.lineas.run import Plan, learn, prepare, split
from unlearn.lineas.sites import find_sites
from unlearn.lineas.steer import steered

SOURCE = [f"the cat {'sat ' * (n % 3 + 1)}on the {n} mat" for n in range(12)] + ["a mat"]
TARGET = [f"the dog {'ran ' * (n % 4 + 1)}over the {n} hill" for n in range(11)]
PLAN = Plan(settings=FitSettings(optimizer="adam", lr=0.02, steps=40, batch=None, check_every=10))


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load(build_checkpoint(tmp_path_factory.mktemp("lineas"), "llama"))


def test_the_loss_falls_and_is_that_of_the_pooled_activations(lm: LanguageModel) -> None:
    """What the fit says of itself, before and after, is what an independent reading finds."""
    learnt = learn(lm, SOURCE, TARGET, PLAN)
    rows = prepare(lm, SOURCE, TARGET, PLAN)
    names = [site.name for site in learnt.sites]
    distances = Distances.to(pooled_activations(lm, rows.target, names, Pooling()))
    before = distances.by_site(distances.joined(pooled_activations(lm, rows.source, names, Pooling())))
    after = distances.by_site(distances.joined(pooled_activations(lm, rows.source, names, Pooling(), maps=learnt.maps)))
    assert learnt.fitted.before == pytest.approx(before, rel=1e-4)
    assert learnt.fitted.after == pytest.approx(after, rel=1e-4)
    assert sum(after.values()) < 0.3 * sum(before.values())
    assert learnt.fitted.losses[0] == pytest.approx(sum(before.values()) / len(before), rel=1e-4)
    assert (learnt.n_source, learnt.n_target, learnt.n_cut) == (13, 11, 0)


def test_the_same_seed_gives_the_same_maps_and_leaves_the_model(lm: LanguageModel) -> None:
    plan = replace(PLAN, settings=replace(PLAN.settings, batch=5, steps=15))
    before = {name: one.clone() for name, one in lm.model.state_dict().items()}
    one, two = (learn(lm, SOURCE, TARGET, plan) for _ in range(2))
    for site in one.maps:
        assert torch.equal(one.maps[site].w, two.maps[site].w)
        assert torch.equal(one.maps[site].b, two.maps[site].b)
    assert all(torch.equal(value, before[name]) for name, value in lm.model.state_dict().items())
    other = learn(lm, SOURCE, TARGET, replace(plan, settings=replace(plan.settings, seed=1)))
    assert any(not torch.equal(one.maps[site].w, other.maps[site].w) for site in one.maps)


@pytest.mark.parametrize(
    "changes", [{"microbatch": 3}, {"checkpointing": True}, {"microbatch": 4, "checkpointing": True}]
)
def test_ways_to_save_memory_give_the_same_maps(lm: LanguageModel, changes: dict[str, object]) -> None:
    settings = replace(PLAN.settings, optimizer="sgd", lr=0.1, steps=10)
    plain = learn(lm, SOURCE, TARGET, replace(PLAN, settings=settings))
    saving = learn(lm, SOURCE, TARGET, replace(PLAN, settings=replace(settings, **changes)))  # type: ignore[arg-type]
    for site in plain.maps:
        assert torch.allclose(plain.maps[site].w, saving.maps[site].w, atol=1e-5)
        assert torch.allclose(plain.maps[site].b, saving.maps[site].b, atol=1e-5)


@pytest.mark.parametrize(("optimizer", "lr"), [("adam", 0.005), ("sgd", 0.1)])
def test_a_killed_fit_goes_on_to_the_same_maps(lm: LanguageModel, tmp_path: Path, optimizer: Any, lr: float) -> None:
    settings = replace(PLAN.settings, optimizer=optimizer, batch=5, steps=120, lr=lr)
    plan = replace(PLAN, held_out=0.4, settings=settings)
    whole = learn(lm, SOURCE, TARGET, plan)

    def killed(stage: str, done: int, total: int) -> None:
        if done == 73:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(lm, SOURCE, TARGET, plan, work=tmp_path, progress=killed)
    seen: list[int] = []
    gone_on = learn(lm, SOURCE, TARGET, plan, work=tmp_path, progress=lambda stage, done, total: seen.append(done))
    assert seen[0] == 51
    assert gone_on.fitted.losses == whole.fitted.losses
    assert gone_on.fitted.held_out == whole.fitted.held_out
    for site in whole.maps:
        assert torch.equal(whole.maps[site].w, gone_on.maps[site].w)


def test_a_fit_in_another_dtype_begins_anew(lm: LanguageModel, tmp_path: Path) -> None:
    plan = replace(PLAN, settings=replace(PLAN.settings, steps=60))

    def killed(stage: str, done: int, total: int) -> None:
        if done == 53:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(load(replace(lm.subject, dtype="bfloat16")), SOURCE, TARGET, plan, work=tmp_path, progress=killed)
    seen: list[int] = []
    learn(lm, SOURCE, TARGET, plan, work=tmp_path, progress=lambda stage, done, total: seen.append(done))
    assert seen[0] == 1


def test_held_out_sentences_tell_when_to_stop_and_fit_nothing(lm: LanguageModel) -> None:
    plan = replace(PLAN, held_out=0.4, settings=replace(PLAN.settings, steps=300, lr=0.05, patience=3))
    learnt = learn(lm, SOURCE, TARGET, plan)
    best = min(learnt.fitted.held_out, key=lambda look: look[1])
    assert learnt.fitted.step == best[0] < 300
    rows = prepare(lm, SOURCE, TARGET, plan)
    assert (len(rows.source), len(rows.source_out), len(rows.target), len(rows.target_out)) == (8, 5, 7, 4)
    names = [site.name for site in learnt.sites]
    distances = Distances.to(pooled_activations(lm, rows.target_out, names, Pooling()))
    for maps, said in ((None, learnt.fitted.held_out_before), (learnt.maps, best[1])):
        found = distances.total(distances.joined(pooled_activations(lm, rows.source_out, names, Pooling(), maps=maps)))
        assert said == pytest.approx(float(found), rel=1e-4)


def test_equal_sentences_are_held_out_together_or_not_at_all() -> None:
    """Else what is held out would have been fitted on."""
    rows = [[n // 2] for n in range(20)]
    for seed in range(5):
        fitted, out = split(rows, 7, seed=seed)
        assert (len(fitted), len(out)) == (14, 6)
        assert not {*map(tuple, fitted)} & {*map(tuple, out)}
    assert split(rows, 7, seed=0) != split(rows, 7, seed=1)
    assert split(rows, 0, seed=0) == (rows, [])


def test_support_falls_along_a_path_of_gammas(lm: LanguageModel) -> None:
    plan = replace(PLAN, held_out=0.35, settings=replace(PLAN.settings, optimizer="sgd", lr=0.1, steps=60))
    path = gamma_path(lm, SOURCE, TARGET, plan, [0.3, 0.0, 0.03])
    assert [one.gamma for one in path.steps] == [0.0, 0.03, 0.3]
    shares = [support_share(one.learnt.maps) for one in path.steps]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1 > shares[-1]


def test_the_sparsest_that_costs_little_is_chosen() -> None:
    assert choose([1.0, 1.05, 1.09, 1.2, 1.9], 2.0) == 2
    assert choose([2.0, 2.5], 2.0) == 0
    assert choose([1.5, 1.0, 1.4], 2.0) == 1


def test_batches_go_round_and_round() -> None:
    """Each round holds every sentence once, whatever the batch; a step's batch does not depend on the steps before."""
    places = [place for step in range(14) for place in rows_of(step, 7, 5, seed=3)]
    for start in range(0, 70, 7):
        assert sorted(places[start : start + 7]) == list(range(7))
    assert places[:7] != places[7:14]
    assert rows_of(0, 4, 4, seed=3) == [0, 1, 2, 3]


def test_sides_from_which_nothing_can_be_learnt(lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="1 source sentence; a distribution needs several"):
        learn(lm, SOURCE[:1], TARGET, PLAN)
    with pytest.raises(InputError, match="same sentences"):
        learn(lm, SOURCE, SOURCE[::-1], PLAN)
    with pytest.raises(InputError, match="fewer than 4 sentences"):
        learn(lm, SOURCE[:3], TARGET, PLAN)
    with pytest.raises(InputError, match="held_out = 0.1 of 13 source sentences leaves 1"):
        learn(lm, SOURCE, TARGET, replace(PLAN, held_out=0.1))
    with pytest.raises(InputError, match="patience needs held-out"):
        learn(lm, SOURCE, TARGET, replace(PLAN, settings=replace(PLAN.settings, patience=2)))
    with pytest.raises(InputError, match="needs two or more"):
        gamma_path(lm, SOURCE, TARGET, PLAN, [0.1, 0.1])
    with pytest.raises(InputError, match="no longer finite.*lower --lr"):
        learn(lm, SOURCE, TARGET, replace(PLAN, settings=replace(PLAN.settings, optimizer="sgd", lr=1e6)))
    assert not any(module._forward_hooks for module in lm.model.modules())


def test_only_an_untouched_model_is_fitted_to(lm: LanguageModel) -> None:
    """Steered or with dropout, source and target would be another model's."""
    maps = {site.name: AffineMap.identity(site.width) for site in find_sites(lm, "norms")}
    rows = [[0, 5, 6], [0, 7]]
    with steered(lm.model, maps):
        with pytest.raises(InputError, match="steered at this moment"):
            learn(lm, SOURCE, TARGET, PLAN)
        with pytest.raises(InputError, match="steered at this moment"):
            fit_baseline(lm, rows, rows, list(maps), baseline("mean-act"))
    lm.model.train()
    try:
        with pytest.raises(InputError, match="training mode"):
            learn(lm, SOURCE, TARGET, PLAN)
    finally:
        lm.model.eval()


def test_long_sentences_are_cut_and_counted(lm: LanguageModel) -> None:
    plan = replace(PLAN, max_tokens=6, settings=replace(PLAN.settings, steps=2))
    assert learn(lm, SOURCE, TARGET, plan).n_cut == 23
    rows = prepare(lm, [*SOURCE, "the cat " + "sat " * 200], TARGET, PLAN)  # cut by the context, not by the plan
    assert (rows.n_cut, max(map(len, rows.source))) == (1, lm.n_context)
