"""Tuning: labels are learnt, the retain term keeps what it should, and validation decides from its own blocks alone."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from audit.errors import DataError, InputError
from audit.lm.load import load
from audit.lm.subject import Subject
from audit.text.files import sha256_file
from tests.checkpoints import build_checkpoint
from unlearn.checkpoints import work_folder
from unlearn.lora import LoraPlan
from unlearn.sequences import Labelled, divergence, label_loss, own_labels
from unlearn.training import CRITERION
from unlearn.whp import finetune as module
from unlearn.whp.config import Optimisation, Retain, Tuning, WhpPlan
from unlearn.whp.finetune import split, tune
from unlearn.whp.label_table import labelled_blocks, schema
from unlearn.whp.reinforce import Trained

RNG = np.random.default_rng(0)
BLOCKS = [RNG.integers(5, 200, 10 + at).tolist() for at in range(6)]
KEEP = [RNG.integers(5, 200, 12).tolist() for _ in range(6)]
TUNE = Tuning(
    n_steps=12,
    evaluate_every=4,
    validation_share=0.3,
    optimisation=Optimisation(learning_rate=3e-3, batch_size=2),
    lora=LoraPlan(rank=4),
)
PLAN = WhpPlan(kappas=(1.0,), tune=TUNE)


def table(plan: WhpPlan = PLAN) -> pa.Table:
    """Labels that say 250 after everything but every fourth token, whose place is left out."""
    rows: dict[str, list[object]] = {name: [] for name in schema(plan).names}
    for number, ids in enumerate(BLOCKS):
        labels = [-100] + [250 if at % 4 else -100 for at in range(1, len(ids))]
        n = sum(one != -100 for one in labels)
        rows["block"].append(number)
        rows["token_ids"].append(ids)
        rows["labels@1"].append(labels)
        rows["log_p_original"].append([0.0] * len(ids))
        rows["log_p_label"].append([0.0] * len(ids))
        if plan.labels == "soft":
            rows["soft_ids@1"].append([250, 251] * n)
            rows["soft_probs@1"].append(np.array([0.75, 0.25] * n, dtype=np.float16))
    return pa.table(rows, schema=schema(plan))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("base") / "model", "llama")


@pytest.fixture(scope="module")
def subject(folder: Path) -> Subject:
    return Subject(str(folder), device="cpu")


def changed(plan: WhpPlan = PLAN, **options: object) -> WhpPlan:
    return dataclasses.replace(plan, tune=dataclasses.replace(plan.tune, **options))


def mean(model: Subject, rows: Sequence[Labelled]) -> float:
    lm = load(model)
    with torch.no_grad():
        return label_loss(lm.model, rows).item() / sum(row.n_labels for row in rows)


def kept_apart(model: Subject, baseline: Subject) -> float:
    """KL from the baseline on the retain text, nats a token."""
    loss = divergence(load(baseline).model, contextlib.nullcontext)
    rows = list(map(own_labels, KEEP))
    with torch.no_grad():
        return loss(load(model).model, rows).item() / sum(row.n_labels for row in rows)


def weights(found: Trained) -> dict[str, torch.Tensor]:
    (path,) = found.folder.glob("*.safetensors")
    return load_file(path)


@pytest.mark.parametrize("which", ["full", "lora"])
@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_the_labels_are_learnt_and_the_input_stays(
    which: str, labels: str, folder: Path, subject: Subject, tmp_path: Path
) -> None:
    plan = changed(dataclasses.replace(PLAN, labels=labels), weights=which)
    if which == "lora":
        plan = changed(plan, optimisation=Optimisation(learning_rate=2e-2, batch_size=2))
    before = sha256_file(folder / "model.safetensors")
    rows = labelled_blocks(table(plan), plan)
    found = tune(subject, table(plan), plan, out=tmp_path / "u")
    assert mean(found.subject, rows) < 0.8 * mean(subject, rows)
    assert sha256_file(folder / "model.safetensors") == before
    assert [step for step, _ in found.log["evaluations"]] == [0, 4, 8, 12]
    assert found.log["n_read"] == 0
    assert not work_folder(tmp_path / "u").exists()
    assert (found.subject.adapter is not None) == (which == "lora")


@pytest.mark.parametrize("which", ["full", "lora"])
def test_a_retain_term_keeps_the_model_where_it_was_on_the_retain_text(
    which: str, subject: Subject, tmp_path: Path
) -> None:
    rate = 3e-3 if which == "full" else 2e-2
    base = changed(weights=which, optimisation=Optimisation(learning_rate=rate, batch_size=2), validation_share=0.0)
    apart, losses = {}, {}
    for kind in ("none", "mixed", "kl"):
        plan = changed(base, retain=Retain(kind, weight=3.0, batch_size=6))
        found = tune(subject, table(), plan, out=tmp_path / kind, retain=KEEP)
        apart[kind] = kept_apart(found.subject, subject)
        losses[kind] = mean(found.subject, list(map(own_labels, KEEP)))
        reads = 12 * 6 * 12 if kind == "kl" else 0
        assert found.log["n_read"] == reads
        assert set(found.log["losses"]) == {"labels"} | ({"retain"} if kind != "none" else set())
    assert apart["kl"] < 0.7 * apart["none"]
    assert losses["mixed"] < losses["none"]
    assert losses["mixed"] < losses["kl"]


@pytest.mark.parametrize("which", ["full", "lora"])
def test_the_divergence_is_that_from_a_second_copy(
    which: str, subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model holds its own baseline: an adapter that is switched off, or the first weights put back."""
    plan = changed(weights=which, retain=Retain("kl"), validation_share=0.0, n_steps=4)
    found = tune(subject, table(), plan, out=tmp_path / "own", retain=KEEP)

    def with_a_copy(*_: object) -> object:
        return divergence(load(subject).model, contextlib.nullcontext), 1

    monkeypatch.setattr(module, "_retain_loss", with_a_copy)
    copy = tune(subject, table(), plan, out=tmp_path / "copy", retain=KEEP)
    assert found.log["losses"]["retain"] == pytest.approx(copy.log["losses"]["retain"], abs=1e-5)
    assert found.log["losses"]["retain"][0] == pytest.approx(0.0, abs=1e-5)
    assert found.log["losses"]["retain"][-1] > 1e-4


@pytest.mark.parametrize("which", ["full", "lora"])
def test_a_killed_tuning_ends_with_the_same_weights_and_log(which: str, subject: Subject, tmp_path: Path) -> None:
    plan = changed(weights=which, retain=Retain("kl"))

    def kill(stage: str, done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    whole = tune(subject, table(), plan, out=tmp_path / "whole", retain=KEEP)
    with pytest.raises(KeyboardInterrupt):
        tune(subject, table(), plan, out=tmp_path / "part", retain=KEEP, progress=kill)
    part = tune(subject, table(), plan, out=tmp_path / "part", retain=KEEP)
    assert part.log["resumed_at"] == 4
    for name in ("losses", "evaluations", "best_step", "n_trained", "n_read"):
        assert part.log[name] == whole.log[name], name
    ours, theirs = weights(part), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert tune(subject, table(), plan, out=tmp_path / "part", retain=KEEP) == part


def test_validation_blocks_are_never_trained_on_and_their_loss_is_the_criterion(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = changed(retain=Retain("mixed", weight=0.5), n_steps=4)
    seen: dict[str, set[tuple[int, ...]]] = {"labels": set(), "retain": set()}
    original = module.train

    def watched(model: object, terms: Sequence[object], *rest: object, **options: object) -> object:
        for term in terms:
            for step in range(40):
                seen[term.name] |= {tuple(row.ids.tolist()) for row in term.draw(step)}
        return original(model, terms, *rest, **options)

    monkeypatch.setattr(module, "train", watched)
    found = tune(subject, table(), plan, out=tmp_path / "u", retain=KEEP)
    out = [row for row in labelled_blocks(table(), plan) if tuple(row.ids.tolist()) not in seen["labels"]]
    keep = [own_labels(ids) for ids in KEEP if tuple(ids) not in seen["retain"]]
    assert (len(out), len(keep)) == (2, 2)
    step, first = found.log["evaluations"][0]
    assert step == 0
    assert first["labels"] == pytest.approx(mean(subject, out), rel=1e-4)
    assert first["retain"] == pytest.approx(mean(subject, keep), rel=1e-4)
    assert first[CRITERION] == pytest.approx(first["labels"] + 0.5 * first["retain"], rel=1e-6)
    best = min(found.log["evaluations"], key=lambda one: one[1][CRITERION])
    assert found.log["best_step"] == best[0]
    assert mean(found.subject, out) == pytest.approx(best[1]["labels"], rel=1e-4)


def test_patience_ends_a_tuning_that_no_longer_helps(subject: Subject, tmp_path: Path) -> None:
    """The labels of other blocks are random here, so that learning these does not help on those kept out."""
    rows = table().to_pylist()
    for row in rows:
        row["labels@1"] = [-100, *RNG.integers(5, 290, len(row["token_ids"]) - 1).tolist()]
    plan = changed(n_steps=60, patience=2)
    found = tune(subject, pa.Table.from_pylist(rows, schema=schema(PLAN)), plan, out=tmp_path / "u")
    assert found.log["n_steps"] < 60
    assert found.log["n_steps"] - found.log["best_step"] == 8


def test_a_caller_s_evaluation_decides_nothing(subject: Subject, tmp_path: Path) -> None:
    seen = []
    plain = tune(subject, table(), PLAN, out=tmp_path / "a")
    watched = tune(
        subject, table(), PLAN, out=tmp_path / "b", on_eval=lambda step, lm: seen.append((step, lm.model.training))
    )
    assert seen == [(0, False), (4, False), (8, False), (12, False)]
    ours, theirs = weights(watched), weights(plain)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_blocks_are_split_by_the_seed_into_two_whole_sides() -> None:
    rows = list(map(own_labels, BLOCKS))
    for share, n_out in ((0.05, 1), (0.5, 3), (0.3, 2)):
        kept, out = split(rows, share, seed=0, what="labels")
        assert len(out) == n_out
        assert {id(one) for one in kept} | {id(one) for one in out} == {id(one) for one in rows}
        assert len(kept) + len(out) == len(rows)
    assert split(rows, 0.0, seed=0, what="labels") == (rows, [])
    with pytest.raises(DataError, match="one block of labels, so none can be kept out"):
        split(rows[:1], 0.05, seed=0, what="labels")


def test_what_cannot_be_tuned_is_told(subject: Subject, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match='the retain term is "kl", but no retain text was given'):
        tune(subject, table(), changed(retain=Retain("kl")), out=tmp_path / "u")
    rows = [{**row, "labels@1": [-100] * len(row["token_ids"])} for row in table().to_pylist()]
    with pytest.raises(DataError, match="no block has a label"):
        tune(subject, pa.Table.from_pylist(rows, schema=schema(PLAN)), PLAN, out=tmp_path / "u")
    with pytest.raises(InputError, match="an input model is never changed"):
        tune(subject, table(), PLAN, out=folder)
    with pytest.raises(InputError, match="Merge the two"):
        tune(dataclasses.replace(subject, adapter="x"), table(), PLAN, out=tmp_path / "u")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tuning(n_steps=0), "whp.tune: n_steps is 0"),
        (lambda: Tuning(evaluate_every=0), "whp.tune: evaluate_every is 0"),
        (lambda: Tuning(validation_share=0.6), "whp.tune: validation_share is 0.6; expected from 0 to 0.5"),
        (lambda: Tuning(patience=2, validation_share=0.0), "nothing would be validated"),
        (lambda: Retain("some"), "whp.retain: kind is 'some'; expected none or mixed or kl"),
        (lambda: Retain(weight=0.0), "whp.retain: weight is 0.0; expected a positive number"),
    ],
)
def test_settings_out_of_range_are_refused(make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
