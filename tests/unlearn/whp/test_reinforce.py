"""Reinforcement: the text becomes more probable, the input stays as it was, and killed work goes on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from audit.errors import DataError, InputError, ModelError
from audit.lm.load import load
from audit.lm.subject import Subject
from audit.text.files import sha256_file
from tests.checkpoints import build_checkpoint
from unlearn.checkpoints import work_folder
from unlearn.lora import LoraPlan, open_twin
from unlearn.sequences import label_loss, own_labels
from unlearn.training import Processes
from unlearn.whp import reinforce as module
from unlearn.whp.config import REINFORCE_RATE, Optimisation, Reinforcement, WhpPlan
from unlearn.whp.reinforce import Trained, reinforce

BLOCKS = [[5 + (7 * at + 3 * step) % 200 for step in range(12)] for at in range(5)]
OPTIMISATION = Optimisation(learning_rate=2e-3, batch_size=2)
FULL = WhpPlan(reinforce=Reinforcement("full", 2, OPTIMISATION))
LORA = WhpPlan(
    reinforce=Reinforcement("lora", 2, dataclasses.replace(OPTIMISATION, learning_rate=2e-2), LoraPlan(rank=4))
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("base") / "model", "llama")


def loss_of(subject: Subject) -> float:
    lm = load(subject)
    with torch.no_grad():
        return label_loss(lm.model, list(map(own_labels, BLOCKS))).item()


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in folder.iterdir()}


@pytest.mark.parametrize("plan", [FULL, LORA], ids=["full", "lora"])
def test_the_text_becomes_more_probable_and_the_input_stays(plan: WhpPlan, folder: Path, tmp_path: Path) -> None:
    before, subject = hashes(folder), Subject(str(folder), device="cpu")
    found = reinforce(subject, BLOCKS, plan, out=tmp_path / "r")
    assert loss_of(found.subject) < 0.97 * loss_of(subject)
    assert hashes(folder) == before
    assert found.log["n_steps"] == 5  # 2 passes over 5 blocks, 2 in a step
    assert found.log["n_trained"] == 2 * sum(map(len, BLOCKS))
    assert not work_folder(tmp_path / "r").exists()
    assert (found.subject.adapter is not None) == (plan is LORA)
    if plan is LORA:
        assert not (tmp_path / "r" / "model.safetensors").exists()
        twin = open_twin(found.subject)
        plain = load(subject).model
        ids = torch.tensor([BLOCKS[0]])
        with twin.off(), torch.no_grad():
            assert torch.equal(twin.lm.model(input_ids=ids).logits, plain(input_ids=ids).logits)


@pytest.mark.parametrize("plan", [FULL, LORA], ids=["full", "lora"])
def test_a_killed_reinforcement_ends_with_the_same_weights(
    plan: WhpPlan, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAVE_EVERY", 2)
    subject = Subject(str(folder), device="cpu")

    def kill(stage: str, done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    whole = reinforce(subject, BLOCKS, plan, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        reinforce(subject, BLOCKS, plan, out=tmp_path / "part", progress=kill)
    assert not (tmp_path / "part").exists()
    part = reinforce(subject, BLOCKS, plan, out=tmp_path / "part")
    assert part.log["resumed_at"] == 2
    assert part.log["losses"] == whole.log["losses"]
    assert weights(part) == weights(whole)


def weights(found: Trained) -> dict[str, list[float]]:
    (path,) = found.folder.glob("*.safetensors")
    return {name: tensor.flatten().tolist() for name, tensor in load_file(path).items()}


def test_a_finished_result_is_read_and_another_one_s_place_is_refused(folder: Path, tmp_path: Path) -> None:
    subject, out = Subject(str(folder), device="cpu"), tmp_path / "r"
    first = reinforce(subject, BLOCKS, FULL, out=out)
    stamp = (out / "model.safetensors").stat().st_mtime_ns
    assert reinforce(subject, BLOCKS, FULL, out=out) == first
    assert (out / "model.safetensors").stat().st_mtime_ns == stamp
    with pytest.raises(InputError, match="holds the result of another training"):
        reinforce(subject, BLOCKS[:3], FULL, out=out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="holds something that is no result of a training"):
        reinforce(subject, BLOCKS, FULL, out=tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text(encoding="utf-8") == "mine"
    for inside in (folder, folder / "sub", folder.parent):
        with pytest.raises(InputError, match="an input model is never changed"):
            reinforce(subject, BLOCKS, FULL, out=inside)


def test_a_loss_that_is_not_finite_leaves_no_result(folder: Path, tmp_path: Path) -> None:
    wild = Optimisation(learning_rate=1e30, batch_size=1, clip=None)
    plan = WhpPlan(reinforce=Reinforcement("full", 3, wild))
    before = hashes(folder)
    with pytest.raises(ModelError, match="reinforce: the (loss|gradient).* at step .* of 15.*unchanged on disk"):
        reinforce(Subject(str(folder), device="cpu"), BLOCKS, plan, out=tmp_path / "r")
    assert not (tmp_path / "r").exists()
    assert hashes(folder) == before


def test_a_baseline_with_an_adapter_and_blocks_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    subject = Subject(str(folder), device="cpu")
    with pytest.raises(InputError, match="Merge the two"):
        reinforce(dataclasses.replace(subject, adapter="x"), BLOCKS, LORA, out=tmp_path / "r")
    with pytest.raises(DataError, match="no block of two tokens"):
        reinforce(subject, [[5]], FULL, out=tmp_path / "r")
    with pytest.raises(DataError, match="block 0 of the forget text has 200 tokens; the model reads at most 128"):
        reinforce(subject, [[5] * 200], FULL, out=tmp_path / "r")


def test_evaluations_are_given_the_model(folder: Path, tmp_path: Path) -> None:
    seen = []
    reinforce(
        Subject(str(folder), device="cpu"),
        BLOCKS,
        FULL,
        out=tmp_path / "r",
        on_eval=lambda step, lm: seen.append((step, lm.model.training)),
        eval_every=2,
    )
    assert seen == [(0, False), (2, False), (4, False), (5, False)]


def test_a_rate_that_is_not_given_is_the_usual_one_of_full_weights_or_adapter() -> None:
    for weights, rate in REINFORCE_RATE.items():
        made = module.recipe(Optimisation(), 3, rate)
        assert (made.learning_rate, made.betas, made.n_steps) == (rate, (0.9, 0.98), 3), weights


def test_one_process_of_several_is_given_its_own_device(folder: Path) -> None:
    team = Processes(rank=1, n=2, device="cpu")
    lm = module.load_baseline(Subject(str(folder), dtype="bfloat16"), "full", team)
    assert (lm.subject.device, lm.model.dtype) == ("cpu", torch.float32)
    assert module.load_baseline(Subject(str(folder), dtype="bfloat16"), "lora", team).model.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Reinforcement(weights="some"), "whp.reinforce: weights is 'some'; expected full or lora"),
        (lambda: Reinforcement(epochs=0), "whp.reinforce: epochs is 0; expected 1 or more"),
        (lambda: Optimisation(batch_size=0), "whp: batch_size is 0"),
        (lambda: Optimisation(learning_rate=-1.0), "whp: learning_rate is -1.0"),
    ],
)
def test_settings_out_of_range_are_refused(make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
