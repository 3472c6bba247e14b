"""The training loop: what it minimises, that it can be killed, shared out and stopped, and what it refuses."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from audit.errors import InputError, ModelError, StorageError
from audit.lm.load import load
from audit.lm.subject import Subject
from tests.checkpoints import build_checkpoint
from unlearn import checkpoints
from unlearn import training as module
from unlearn.sequences import NO_LABEL, Labelled, divergence, label_loss, own_labels
from unlearn.training import CRITERION, Recipe, Term, Validation, learning_rate, mean_loss, shuffled, train

RECIPE = Recipe(learning_rate=1e-2, n_steps=6, warm_up=0.3, micro_tokens=24)
TEXTS = [own_labels(np.random.default_rng(number).integers(5, 200, 6 + number).tolist()) for number in range(7)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("llama"), "llama")


def fresh(folder: Path) -> nn.Module:
    model = load(Subject(str(folder), dtype="float32", device="cpu")).model
    model.requires_grad_(True)
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.1  # so that random numbers matter
    return model


def term(rows: Sequence[Labelled] = TEXTS, name: str = "text", **options: object) -> Term[Labelled]:
    draw = shuffled(rows, batch_size=3, seed=1)
    made = Term(name, draw, label_loss, lambda row: row.n_tokens, lambda row: row.n_labels)
    return dataclasses.replace(made, **options)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: one.detach().clone() for name, one in model.named_parameters()}


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), name


def killed_at(step: int) -> object:
    def progress(stage: str, done: int, total: int) -> None:
        if done == step:
            raise KeyboardInterrupt

    return progress


def measured(model: nn.Module, values: list[float] | None = None) -> Validation:
    given = iter(values or [])

    def measure() -> dict[str, float]:
        return {CRITERION: next(given) if values else mean_loss(model, term(), TEXTS[:2])}

    return Validation(measure, every=2)


def test_a_killed_training_ends_with_the_weights_and_the_log_of_one_that_was_not(folder: Path, tmp_path: Path) -> None:
    whole = fresh(folder)
    start = weights(whole)
    expected = train(whole, [term()], RECIPE, seed=3, validation=measured(whole))
    for step in (1, 4, 5):
        work = tmp_path / str(step)
        part = fresh(folder)
        with pytest.raises(KeyboardInterrupt):
            train(
                part, [term()], RECIPE, seed=3, key="k", work=work, validation=measured(part), progress=killed_at(step)
            )
        part = fresh(folder)
        found = train(part, [term()], RECIPE, seed=3, key="k", work=work, validation=measured(part))
        assert found.resumed_at == step - step % 2
        assert_same(weights(whole), weights(part))
        ignored = {"resumed_at": 0, "seconds": 0, "peak_memory": 0}
        assert dataclasses.replace(found, **ignored) == dataclasses.replace(expected, **ignored)
    assert not torch.equal(start["lm_head.weight"], weights(whole)["lm_head.weight"])


class Idle(nn.Module):
    """A weight of every step, one of every second step (as an expert that no token chose), and one of none."""

    def __init__(self) -> None:
        super().__init__()
        self.always, self.sometimes, self.never = (nn.Parameter(torch.ones(2)) for _ in range(3))


def idle_term() -> Term[int]:
    def loss(model: Idle, items: Sequence[int]) -> Tensor:
        found = model.always.square().sum()
        return found + model.sometimes.square().sum() if items[0] % 2 else found

    return Term("idle", lambda step: [step], loss, lambda item: 1, lambda item: 1)


def test_weights_without_a_gradient_stay_and_their_moments_are_their_own(tmp_path: Path) -> None:
    whole = Idle()
    train(whole, [idle_term()], RECIPE, seed=0)
    assert torch.equal(whole.never, torch.ones(2))
    assert float(whole.sometimes.detach()[0]) < 1.0
    for step in (1, 2, 5):
        options = {"seed": 0, "key": "k", "work": tmp_path / str(step), "save_every": 1}
        with pytest.raises(KeyboardInterrupt):
            train(Idle(), [idle_term()], RECIPE, progress=killed_at(step), **options)
        part = Idle()
        assert train(part, [idle_term()], RECIPE, **options).resumed_at == step
        assert_same(weights(whole), weights(part))


def test_dropout_takes_part_and_follows_from_the_seed(folder: Path) -> None:
    found = []
    for seed in (3, 3, 4):
        model = fresh(folder)
        train(model, [term()], RECIPE, seed=seed)
        found.append(weights(model)["lm_head.weight"])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_full_disk_is_told_and_the_last_whole_checkpoint_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, part = fresh(folder), fresh(folder)
    train(whole, [term()], RECIPE, seed=3)
    save, calls = checkpoints.save_file, []

    def full(tensors: dict[str, Tensor], path: Path, **options: object) -> None:
        calls.append(path)
        if len(calls) == 2:
            path.write_bytes(b"half")
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        save(tensors, path, **options)

    options = {"seed": 3, "key": "k", "work": tmp_path, "save_every": 2}
    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "save_file", full)
        with pytest.raises(StorageError, match="the disk is full; the last whole checkpoint stays. Free some space"):
            train(part, [term()], RECIPE, **options)
    part = fresh(folder)
    assert train(part, [term()], RECIPE, **options).resumed_at == 2
    assert_same(weights(whole), weights(part))


def test_a_checkpoint_of_another_key_or_a_torn_one_is_not_used(folder: Path, tmp_path: Path) -> None:
    for key, tear in (("other", False), ("k", True)):
        model = fresh(folder)
        with pytest.raises(KeyboardInterrupt):
            train(model, [term()], RECIPE, seed=0, key="k", work=tmp_path, save_every=2, progress=killed_at(3))
        path = tmp_path / "checkpoint.safetensors"
        if tear:
            path.write_bytes(path.read_bytes()[:-500])
        assert train(fresh(folder), [term()], RECIPE, seed=0, key=key, work=tmp_path).resumed_at == 0
        path.unlink()


def test_a_step_s_gradient_is_that_of_the_weighted_sum_of_the_terms_means(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, by_hand = fresh(folder), fresh(folder)
    for one in (model, by_hand):
        for layer in one.model.layers:
            layer.self_attn.attention_dropout = 0.0
    found: dict[str, Tensor] = {}

    def step(optimizer: torch.optim.AdamW) -> None:
        found.update({name: one.grad.clone() for name, one in model.named_parameters()})

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    keep = term(TEXTS[4:], "keep", weight=0.25)
    log = train(model, [term(), keep], dataclasses.replace(RECIPE, n_steps=1, clip=None), seed=0)
    means = []
    for one in (term(), keep):
        rows = one.draw(0)
        mean = sum(label_loss(by_hand, [row]) for row in rows) / sum(row.n_tokens - 1 for row in rows)
        (one.weight * mean).backward()
        means.append(mean.item())
    assert log.losses == {"text": (pytest.approx(means[0], rel=1e-5),), "keep": (pytest.approx(means[1], rel=1e-5),)}
    for name, one in by_hand.named_parameters():
        torch.testing.assert_close(found[name], one.grad, atol=1e-5, rtol=1e-3)


def test_the_log_counts_tokens_items_and_memory(folder: Path) -> None:
    model = fresh(folder)
    kept = divergence(fresh(folder), module.contextlib.nullcontext)
    log = train(model, [term(), term(TEXTS[:3], "keep", loss=kept, n_reads=1)], RECIPE, seed=0)
    text = sum(row.n_tokens for step in range(6) for row in term().draw(step))
    keep = sum(row.n_tokens for step in range(6) for row in term(TEXTS[:3]).draw(step))
    assert (log.n_trained, log.n_read, log.n_items, log.n_processes) == (text + keep, keep, 6, 1)
    assert log.n_steps == log.n_planned == log.best_step == 6
    assert log.peak_memory > 2**20
    assert log.peak_memory_of == "process"


def test_the_best_evaluation_s_weights_are_put_back_and_patience_ends_the_training(
    folder: Path, tmp_path: Path
) -> None:
    seen: dict[int, dict[str, Tensor]] = {}
    for work in (None, tmp_path):
        model = fresh(folder)
        validation = dataclasses.replace(measured(model, [5.0, 3.0, 4.0, 3.5, 1.0]), patience=2)
        recipe = dataclasses.replace(RECIPE, n_steps=8)
        log = train(
            model,
            [term()],
            recipe,
            seed=0,
            work=work,
            validation=validation,
            on_eval=lambda step, model=model: seen.update({step: weights(model)}),
        )
        assert (log.n_steps, log.n_planned, log.best_step) == (6, 8, 2)
        assert [step for step, _ in log.evaluations] == [0, 2, 4, 6]
        assert_same(seen[2], weights(model))
        assert not torch.equal(seen[6]["lm_head.weight"], seen[2]["lm_head.weight"])


def test_evaluations_see_the_model_in_evaluation_mode_and_decide_nothing(folder: Path) -> None:
    model, modes = fresh(folder), []
    log = train(
        model, [term()], RECIPE, seed=0, on_eval=lambda step: modes.append((step, model.training)), eval_every=4
    )
    assert modes == [(0, False), (4, False), (6, False)]
    assert (log.best_step, log.evaluations) == (6, ())
    plain = fresh(folder)
    train(plain, [term()], RECIPE, seed=0)
    assert_same(weights(plain), weights(model))


def test_gradient_checkpointing_gives_the_same_weights(folder: Path) -> None:
    found = []
    for on in (False, True):
        model = fresh(folder)
        train(model, [term()], dataclasses.replace(RECIPE, n_steps=2, gradient_checkpointing=on), seed=0)
        assert not model.is_gradient_checkpointing
        found.append(weights(model)["lm_head.weight"])
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=0)


def test_a_loss_that_is_not_finite_stops_the_training_before_the_step(folder: Path) -> None:
    model = fresh(folder)

    def broken(model: nn.Module, rows: Sequence[Labelled]) -> Tensor:
        broken.calls += 1
        return label_loss(model, rows) * (float("nan") if broken.calls > 2 else 1.0)

    broken.calls = 0
    recipe = dataclasses.replace(RECIPE, micro_tokens=1000)
    held: list[dict[str, Tensor]] = []
    with pytest.raises(ModelError, match=r"unlearn: the loss \(text\) is nan at step 3 of 6.*smaller learning rate"):
        train(
            model, [term(loss=broken)], recipe, seed=0, stage="unlearn", progress=lambda *_: held.append(weights(model))
        )
    assert_same(held[-1], weights(model))
    assert not model.training


def test_memory_that_runs_out_halves_the_micro_batches_and_a_single_text_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def hungry(model: nn.Module, rows: Sequence[Labelled]) -> Tensor:
        if len(rows) > 1:
            raise RuntimeError("out of memory")
        sizes.append(len(rows))
        return label_loss(model, rows)

    recipe = dataclasses.replace(RECIPE, micro_tokens=1000, n_steps=1)
    model, plain = fresh(folder), fresh(folder)
    for one in (model, plain):
        for layer in one.model.layers:
            layer.self_attn.attention_dropout = 0.0
    found = train(model, [term(loss=hungry)], recipe, seed=0)
    expected = train(plain, [term()], recipe, seed=0)
    assert sizes == [1, 1, 1]
    assert found.losses["text"] == pytest.approx(expected.losses["text"], rel=1e-5)

    def hopeless(model: nn.Module, rows: Sequence[Labelled]) -> Tensor:
        raise RuntimeError("out of memory")

    with pytest.raises(ModelError, match="memory runs out on a single text of"):
        train(model, [term(loss=hopeless)], recipe, seed=0)


def test_weights_that_small_steps_are_lost_in_and_nothing_to_train_are_refused(folder: Path) -> None:
    model = fresh(folder).to(torch.bfloat16)
    with pytest.raises(ModelError, match=r"bfloat16; small steps are lost.*float32"):
        train(model, [term()], RECIPE, seed=0)
    model.requires_grad_(False)
    with pytest.raises(ModelError, match="nothing would be trained"):
        train(model, [term()], RECIPE, seed=0)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("learning_rate", 0.0, "a positive number"),
        ("learning_rate", float("nan"), "a positive number"),
        ("n_steps", 0, "1 or more"),
        ("warm_up", 1.0, "from 0 to below 1"),
        ("betas", (0.9, 1.0), "two, from 0 to below 1"),
        ("clip", 0.0, "a positive number, or none"),
        ("micro_tokens", 0, "1 or more, or none"),
    ],
)
def test_settings_out_of_range_are_named(field: str, value: object, expected: str) -> None:
    with pytest.raises(InputError, match=f"training: {field} is .*; expected {expected}"):
        dataclasses.replace(RECIPE, **{field: value})


def test_the_rate_rises_and_falls_on_straight_lines() -> None:
    recipe = Recipe(learning_rate=1.0, n_steps=10, warm_up=0.2)
    assert [learning_rate(step, recipe) for step in (0, 1, 2, 9)] == pytest.approx([0.5, 1.0, 1.0, 1 / 8])
    assert learning_rate(0, Recipe(learning_rate=1.0, n_steps=10)) == 1.0


def test_the_rate_falls_as_half_a_wave_where_it_is_asked_to() -> None:
    recipe = Recipe(learning_rate=1.0, n_steps=10, warm_up=0.2, decay="cosine")
    assert [learning_rate(step, recipe) for step in (0, 2, 4, 6)] == pytest.approx([0.5, 1.0, 0.5 + 0.125**0.5, 0.5])


def test_items_come_pass_after_pass_and_follow_from_the_step_alone() -> None:
    draw = shuffled(range(5), batch_size=3, seed=0, passes=2)
    steps = [draw(step) for step in range(5)]
    taken = [one for step in steps for one in step]
    assert [len(step) for step in steps] == [3, 3, 3, 1, 0]
    assert sorted(taken[:5]) == sorted(taken[5:]) == list(range(5))
    assert [shuffled(range(5), batch_size=3, seed=0, passes=2)(step) for step in (3, 1)] == [steps[3], steps[1]]
    assert taken != [one for step in range(4) for one in shuffled(range(5), batch_size=3, seed=1, passes=2)(step)]
    with pytest.raises(InputError, match="nothing to train on"):
        shuffled([], batch_size=1, seed=0)


def test_soft_labels_of_one_token_are_hard_ones_and_padding_changes_nothing(folder: Path) -> None:
    model = fresh(folder).eval()
    hard = [dataclasses.replace(row, labels=row.labels.copy()) for row in TEXTS[:3]]
    hard[1].labels[2:4] = NO_LABEL
    soft = []
    for row in hard:
        chosen = row.labels[row.labels != NO_LABEL][:, None]
        soft_ids = np.concatenate([chosen, np.full_like(chosen, 7)], axis=1)
        probs = np.concatenate([np.ones_like(chosen), np.zeros_like(chosen)], axis=1).astype(np.float32)
        soft.append(dataclasses.replace(row, soft_ids=soft_ids, soft_probs=probs))
    alone = sum(label_loss(model, [row]).item() for row in hard)
    assert label_loss(model, hard).item() == pytest.approx(alone, rel=1e-5)
    assert label_loss(model, soft).item() == pytest.approx(alone, rel=1e-5)


def test_divergence_is_zero_from_itself_and_by_hand_from_another(folder: Path) -> None:
    model, other = fresh(folder).eval(), fresh(folder).eval()
    loss = divergence(other, module.contextlib.nullcontext)
    assert loss(model, TEXTS[:3]).item() == pytest.approx(0.0, abs=1e-4)
    with torch.no_grad():
        model.lm_head.weight.mul_(0.5)
    row = TEXTS[2]
    ids = torch.from_numpy(row.ids)[None]
    p, q = other(input_ids=ids).logits.softmax(-1)[0, :-1], model(input_ids=ids).logits.softmax(-1)[0, :-1]
    assert loss(model, [row]).item() == pytest.approx((p * (p.log() - q.log())).sum().item(), rel=1e-4)


SHARED = """
import sys, torch
sys.path.insert(0, {root!r})
from tests.unlearn.test_training import *
team = module.processes()
model = load(Subject({folder!r}, dtype="float32", device="cpu")).model
model.requires_grad_(True)
recipe = dataclasses.replace(RECIPE, n_steps=3)
log = train(model, [term()], recipe, seed=0, team=team, validation=measured(model))
if team.writes:
    from safetensors.torch import save_file
    save_file({{"w": model.lm_head.weight.detach()}}, {out!r})
    print(log.n_processes, log.n_items, log.n_trained)
"""


@pytest.mark.slow
def test_two_processes_train_what_one_does(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    root, out = str(Path(__file__).parents[2]), str(tmp_path / "w.safetensors")
    code = SHARED.format(root=root, folder=str(folder), out=out)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    said = [one.communicate(timeout=240) for one in running]
    assert [one.returncode for one in running] == [0, 0], said
    model = load(Subject(str(folder), dtype="float32", device="cpu")).model
    model.requires_grad_(True)
    log = train(model, [term()], dataclasses.replace(RECIPE, n_steps=3), seed=0, validation=measured(model))
    assert said[0][0].split() == ["2", "3", str(log.n_trained)]
    together = load_file(out)["w"]
    close = (together - model.lm_head.weight).abs() < 1e-4
    assert close.float().mean() > 0.98


def test_sharded_models_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(InputError, match="each process must hold the whole model"):
        module.processes()


def test_what_is_looked_at_is_on_disk_first_and_looked_at_again_by_a_training_that_goes_on(
    folder: Path, tmp_path: Path
) -> None:
    def look(step: int) -> None:
        seen.append(step)
        if step == 4:
            raise KeyboardInterrupt

    seen: list[int] = []
    options = {"seed": 0, "key": "k", "work": tmp_path, "eval_every": 2}
    with pytest.raises(KeyboardInterrupt):
        train(fresh(folder), [term()], RECIPE, on_eval=look, **options)
    model = fresh(folder)
    first: dict[int, dict[str, Tensor]] = {}
    log = train(model, [term()], RECIPE, on_eval=lambda step: first.update({step: weights(model)}), **options)
    assert seen == [0, 2, 4]
    assert list(first) == [4, 6]
    assert log.resumed_at == 4  # step 4 is not made again from step 2, where other hardware gives other weights
