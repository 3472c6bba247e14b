"""Every method on a tiny model: what it forgets, what it keeps, that the input stays and killed work goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from audit.errors import DataError, InputError, ModelError
from audit.lm.load import load
from audit.lm.subject import Subject
from audit.text.files import sha256_file
from tests.checkpoints import build_checkpoint
from unlearn.baselines.config import BaselinePlan, Npo, RetainKind, Rmu, TaskVector
from unlearn.baselines.method import Start
from unlearn.baselines.methods import METHODS, method
from unlearn.baselines.refusal import pairs
from unlearn.baselines.rmu import direction, layer_names, layer_output, steering_loss
from unlearn.checkpoints import work_folder
from unlearn.lora import LoraPlan
from unlearn.sequences import NO_LABEL, Labelled, divergence, label_loss, own_labels
from unlearn.training import Recipe
from unlearn.whp.config import Optimisation, Reinforcement, WhpPlan
from unlearn.whp.reinforce import Trained, reinforce

RNG = np.random.default_rng(0)
FORGET = [RNG.integers(5, 200, 12).tolist() for _ in range(6)]
RETAIN = [RNG.integers(5, 200, 10 + at).tolist() for at in range(6)]
PLAN = BaselinePlan(
    Recipe(learning_rate=3e-3, n_steps=8), batch_size=3, retain_batch_size=6, lora=LoraPlan(rank=4), rmu=Rmu(layer=1)
)
ADAPTER = dataclasses.replace(PLAN, recipe=Recipe(learning_rate=2e-2, n_steps=8), weights="lora")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows both texts."""
    base = tmp_path_factory.mktemp("base")
    random = Subject(str(build_checkpoint(base / "random", "llama")), device="cpu")
    stage = Reinforcement("full", 30, Optimisation(learning_rate=1e-2, batch_size=6))
    return reinforce(random, FORGET + RETAIN, WhpPlan(reinforce=stage), out=base / "model").folder


@pytest.fixture(scope="module")
def subject(folder: Path) -> Subject:
    return Subject(str(folder), device="cpu")


def rows(blocks: Sequence[Sequence[int]]) -> list[Labelled]:
    return [own_labels(ids) for ids in blocks]


def second_halves() -> list[Labelled]:
    return [Labelled(row.ids, np.where(np.arange(12) < 6, NO_LABEL, row.ids)) for row in rows(FORGET)]


def mean(model: Subject, blocks: Sequence[Labelled]) -> float:
    lm = load(model)
    with torch.no_grad():
        return label_loss(lm.model, blocks).item() / sum(row.n_labels for row in blocks)


def apart(model: Subject, baseline: Subject) -> float:
    """KL from the baseline on the retain text, nats a token."""

    loss = divergence(load(baseline).model, contextlib.nullcontext)
    with torch.no_grad():
        return loss(load(model).model, rows(RETAIN)).item() / sum(row.n_labels for row in rows(RETAIN))


def weights(found: Trained) -> dict[str, torch.Tensor]:
    (path,) = found.folder.glob("*.safetensors")
    return load_file(path)


def killed_at(step: int) -> object:
    def progress(stage: str, done: int, total: int) -> None:
        if done == step:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("plan", [PLAN, ADAPTER], ids=["full", "lora"])
@pytest.mark.parametrize("name", METHODS)
def test_the_forget_text_becomes_less_probable_and_the_input_stays(
    name: str, plan: BaselinePlan, folder: Path, subject: Subject, tmp_path: Path
) -> None:
    before = sha256_file(folder / "model.safetensors")
    found = METHODS[name](subject, FORGET, RETAIN, plan, out=tmp_path / "u")
    told = second_halves()  # what the refusals are preferred to
    lost = mean(found.subject, told) - mean(subject, told)
    assert lost > 2 * mean(subject, told)
    if METHODS[name].retain[0] != "none":
        assert mean(found.subject, rows(RETAIN)) - mean(subject, rows(RETAIN)) < 0.2 * lost
    assert sha256_file(folder / "model.safetensors") == before
    assert not work_folder(tmp_path / "u").exists()
    assert (found.subject.adapter is not None) == (plan is ADAPTER)
    assert set(found.log["losses"]) == {"forget"} | (set() if METHODS[name].retain[0] == "none" else {"retain"})


@pytest.mark.parametrize("plan", [PLAN, ADAPTER], ids=["full", "lora"])
def test_retain_terms_keep_what_they_name(plan: BaselinePlan, subject: Subject, tmp_path: Path) -> None:
    plan = dataclasses.replace(plan, retain_weight=3.0)
    names = ("gradient_ascent", "gradient_difference", "kl_ascent")
    found = {name: METHODS[name](subject, FORGET, RETAIN, plan, out=tmp_path / name) for name in names}
    loss = {name: mean(one.subject, rows(RETAIN)) for name, one in found.items()}
    away = {name: apart(one.subject, subject) for name, one in found.items()}
    before = mean(subject, rows(RETAIN))
    assert loss["gradient_ascent"] > before
    assert loss["gradient_difference"] - before < 0.2 * (loss["gradient_ascent"] - before)
    assert away["kl_ascent"] < 0.5 * away["gradient_ascent"]
    assert found["kl_ascent"].log["losses"]["retain"][0] == pytest.approx(0.0, abs=1e-5)
    assert found["kl_ascent"].log["n_read"] == 8 * sum(map(len, RETAIN))


@pytest.mark.parametrize("name", ["npo", "simnpo", "refusal"])
def test_preference_methods_take_any_retain_term(name: str, subject: Subject, tmp_path: Path) -> None:
    away = {}
    kinds: tuple[RetainKind, ...] = ("none", "kl")
    for kind in kinds:
        plan = dataclasses.replace(PLAN, retain=kind, retain_weight=30.0)
        found = METHODS[name](subject, FORGET, RETAIN, plan, out=tmp_path / kind)
        away[kind] = apart(found.subject, subject)
    assert away["kl"] < 0.7 * away["none"]


def test_npo_begins_at_its_reference_and_is_gradient_ascent_for_a_small_beta(subject: Subject, tmp_path: Path) -> None:
    recipe = dataclasses.replace(PLAN.recipe, clip=None)
    ascent = dataclasses.replace(PLAN, recipe=recipe, batch_size=6)
    beta = 1e-3
    plan = dataclasses.replace(ascent, npo=Npo(beta), retain="none", forget_weight=1 / 11)  # 11 labels a block
    found = METHODS["npo"](subject, FORGET, [], plan, out=tmp_path / "npo")
    other = METHODS["gradient_ascent"](subject, FORGET, [], ascent, out=tmp_path / "ga")
    first, last = found.log["losses"]["forget"][0], found.log["losses"]["forget"][-1]
    assert first == pytest.approx(2 / beta * math.log(2), rel=1e-6)
    assert last < first
    moved = mean(other.subject, rows(FORGET)) - mean(subject, rows(FORGET))
    assert mean(found.subject, rows(FORGET)) - mean(subject, rows(FORGET)) == pytest.approx(moved, rel=0.05)
    slow = dataclasses.replace(plan, npo=Npo(5.0))
    held = METHODS["npo"](subject, FORGET, [], slow, out=tmp_path / "slow")
    assert mean(held.subject, rows(FORGET)) - mean(subject, rows(FORGET)) < 0.9 * moved


def test_refusals_become_more_probable_than_they_were(subject: Subject, tmp_path: Path) -> None:
    lm = load(subject)
    found = pairs(Start(lm, rows(FORGET), [], PLAN, None))
    assert [pair.rejected.ids.tolist() for pair in found] == FORGET
    assert len({tuple(pair.chosen.ids[6:].tolist()) for pair in found}) > 1
    with torch.no_grad():
        for pair in found:
            margin = label_loss(lm.model, [pair.rejected]) - label_loss(lm.model, [pair.chosen])
            assert pair.reference == pytest.approx(margin.item(), abs=1e-3)
    chosen = [pair.chosen for pair in found]
    trained = METHODS["refusal"](subject, FORGET, RETAIN, PLAN, out=tmp_path / "u")
    assert mean(trained.subject, chosen) < mean(subject, chosen)


@pytest.mark.parametrize("plan", [PLAN, ADAPTER], ids=["full", "lora"])
def test_rmu_steers_the_forget_text_and_leaves_other_layers_alone(
    plan: BaselinePlan, subject: Subject, tmp_path: Path
) -> None:
    plan = dataclasses.replace(plan, rmu=Rmu(layer=1, depth=1), retain_weight=1.0)
    found = METHODS["rmu"](subject, FORGET, RETAIN, plan, out=tmp_path / "u")
    target = direction(32, steering=20.0, seed=0)
    base, new = load(subject).model, load(found.subject).model
    name = layer_names(base)[1]
    with torch.no_grad():
        distance = {
            which: steering_loss(layer_output(model, name, rows(FORGET)), target).item()
            for which, model in (("base", base), ("new", new))
        }
        kept = layer_output(base, name, rows(RETAIN))
        strayed = (layer_output(new, name, rows(RETAIN)) - kept).square().mean()
        moved = (layer_output(new, name, rows(FORGET)) - layer_output(base, name, rows(FORGET))).square().mean()
    assert distance["new"] < distance["base"]
    assert strayed < moved
    assert found.log["losses"]["retain"][0] == pytest.approx(0.0, abs=1e-6)
    if plan.weights == "full":
        ours, theirs = weights(found), load_file(Path(subject.model) / "model.safetensors")
        changed = {one for one in theirs if not torch.equal(ours[one], theirs[one])}
        assert changed
        assert all(one.startswith("model.layers.1.") for one in changed)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_task_vector_is_the_change_of_ordinary_training_negated(
    scale: float, subject: Subject, tmp_path: Path
) -> None:
    plan = dataclasses.replace(PLAN, task_vector=TaskVector(scale))
    learnt: list[dict[str, torch.Tensor]] = []
    found = METHODS["task_vector"](
        subject,
        FORGET,
        [],
        plan,
        out=tmp_path / "u",
        on_eval=lambda step, lm: learnt.append({name: one.clone() for name, one in lm.model.state_dict().items()}),
        eval_every=8,
    )
    theirs = load_file(Path(subject.model) / "model.safetensors")
    assert found.log["losses"]["forget"][-1] < found.log["losses"]["forget"][0]
    for name, weight in weights(found).items():
        assert torch.equal(weight, theirs[name] - scale * (learnt[-1][name] - theirs[name])), name


def test_a_negated_adapter_is_its_product_negated(subject: Subject, tmp_path: Path) -> None:
    plan = dataclasses.replace(ADAPTER, task_vector=TaskVector(2.0))
    learnt: list[dict[str, torch.Tensor]] = []

    def keep(step: int, lm: object) -> None:
        learnt.append({name: one.clone() for name, one in lm.model.named_parameters() if one.requires_grad})

    found = METHODS["task_vector"](subject, FORGET, [], plan, out=tmp_path / "u", on_eval=keep, eval_every=8)
    saved = weights(found)
    assert len(saved) == len(learnt[-1])
    for name, weight in learnt[-1].items():
        factor = -2.0 if ".lora_B." in name else 1.0
        assert torch.equal(saved[f"base_model.model.{name.replace('.default', '')}"], factor * weight), name


@pytest.mark.parametrize("name", METHODS)
def test_no_step_leaves_every_weight_as_it_was(name: str, subject: Subject, tmp_path: Path) -> None:
    plan = dataclasses.replace(PLAN, recipe=Recipe(learning_rate=1e-30, n_steps=2))
    ours = weights(METHODS[name](subject, FORGET, RETAIN, plan, out=tmp_path / "u"))
    theirs = load_file(Path(subject.model) / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[one], theirs[one]) for one in theirs)


@pytest.mark.parametrize("plan", [PLAN, ADAPTER], ids=["full", "lora"])
@pytest.mark.parametrize("name", METHODS)
def test_a_killed_training_ends_with_the_same_weights(
    name: str, plan: BaselinePlan, subject: Subject, tmp_path: Path
) -> None:
    options = {"on_eval": lambda step, lm: None, "eval_every": 2}
    whole = METHODS[name](subject, FORGET, RETAIN, plan, out=tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        METHODS[name](subject, FORGET, RETAIN, plan, out=tmp_path / "part", progress=killed_at(5), **options)
    part = METHODS[name](subject, FORGET, RETAIN, plan, out=tmp_path / "part", **options)
    assert part.log["resumed_at"] == 4
    assert part.log["losses"] == whole.log["losses"]
    ours, theirs = weights(part), weights(whole)
    assert all(torch.equal(ours[one], theirs[one]) for one in theirs)
    assert METHODS[name](subject, FORGET, RETAIN, plan, out=tmp_path / "part", **options) == part


@pytest.mark.parametrize("name", ["npo", "refusal", "rmu", "kl_ascent"])
def test_how_a_step_is_cut_and_computed_changes_nothing(name: str, subject: Subject, tmp_path: Path) -> None:
    whole = METHODS[name](subject, FORGET, RETAIN, PLAN, out=tmp_path / "whole").log["losses"]
    for option in ({"micro_tokens": 25}, {"gradient_checkpointing": True}):
        plan = dataclasses.replace(PLAN, recipe=dataclasses.replace(PLAN.recipe, **option))
        found = METHODS[name](subject, FORGET, RETAIN, plan, out=tmp_path / next(iter(option)))
        for term, losses in found.log["losses"].items():
            assert losses == pytest.approx(whole[term], rel=1e-3, abs=1e-4), (term, option)


def test_only_labelled_tokens_are_forgotten(subject: Subject, tmp_path: Path) -> None:
    found = METHODS["gradient_ascent"](subject, second_halves(), [], PLAN, out=tmp_path / "u")
    assert found.log["losses"]["forget"][0] == pytest.approx(mean(subject, second_halves()), rel=0.2)
    first = METHODS["gradient_ascent"](
        subject, second_halves(), [], dataclasses.replace(PLAN, batch_size=6), out=tmp_path / "all"
    )
    assert first.log["losses"]["forget"][0] == pytest.approx(mean(subject, second_halves()), rel=1e-4)


def test_only_a_method_s_own_settings_name_its_result(subject: Subject, tmp_path: Path) -> None:
    other = dataclasses.replace(PLAN, npo=Npo(0.7))
    for name in ("gradient_ascent", "npo"):
        METHODS[name](subject, FORGET, RETAIN, PLAN, out=tmp_path / name)
    METHODS["gradient_ascent"](subject, FORGET, RETAIN[:1], other, out=tmp_path / "gradient_ascent")
    with pytest.raises(InputError, match="another training"):
        METHODS["npo"](subject, FORGET, RETAIN, other, out=tmp_path / "npo")


def test_what_cannot_be_run_is_told(subject: Subject, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "u"
    with pytest.raises(InputError, match="no baseline method 'npoo'; expected one of .*Did you mean 'npo'"):
        method("npoo")
    assert method("npo") is METHODS["npo"]
    with pytest.raises(InputError, match='npo: the retain term is "mixed", but no retain text was given'):
        METHODS["npo"](subject, FORGET, [], PLAN, out=out)
    with pytest.raises(InputError, match='gradient_ascent has no retain term "kl"; expected none'):
        METHODS["gradient_ascent"](subject, FORGET, RETAIN, dataclasses.replace(PLAN, retain="kl"), out=out)
    with pytest.raises(InputError, match="rmu: layer is 3, but the model has layers 0 to 2"):
        METHODS["rmu"](subject, FORGET, RETAIN, dataclasses.replace(PLAN, rmu=Rmu(layer=3)), out=out)
    with pytest.raises(InputError, match="an input model is never changed"):
        METHODS["gradient_ascent"](subject, FORGET, [], PLAN, out=folder)
    copy = shutil.copytree(
        folder, tmp_path / "v.unfinished"
    )  # where the state of a training to "v" is kept and removed
    with pytest.raises(InputError, match="an input model is never changed"):
        METHODS["gradient_ascent"](Subject(str(copy), device="cpu"), FORGET, [], PLAN, out=tmp_path / "v")
    assert {path.name for path in copy.iterdir()} == {path.name for path in folder.iterdir()}
    settings = json.loads((copy / "tokenizer_config.json").read_text())
    settings["chat_template"] = [{"name": "../../x", "template": ""}]
    (copy / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="cannot be saved with the result"):  # and not after hours of training
        METHODS["gradient_ascent"](Subject(str(copy), device="cpu"), FORGET, [], PLAN, out=out)
    silent = [Labelled(row.ids, np.full(12, NO_LABEL)) for row in rows(FORGET)]
    with pytest.raises(DataError, match="no block of the forget text has a label"):
        METHODS["gradient_ascent"](subject, silent, [], PLAN, out=out)
    soft = dataclasses.replace(rows(FORGET)[0], soft_ids=np.zeros((11, 1), dtype=np.int64))
    with pytest.raises(InputError, match="the forget text has soft labels"):
        METHODS["gradient_ascent"](subject, [soft], [], PLAN, out=out)
    assert not out.exists()
