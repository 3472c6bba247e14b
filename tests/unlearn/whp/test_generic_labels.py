"""The labels: their arithmetic by hand, one shift and no more, and the same however the work is cut."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from audit.errors import DataError, InputError, ModelError
from audit.lm.load import LanguageModel, load
from audit.lm.subject import Subject
from audit.text.files import sha256_file
from tests.checkpoints import build_checkpoint
from unlearn.lora import LoraPlan, attach, open_twin
from unlearn.sequences import NO_LABEL, label_loss
from unlearn.whp import label_table
from unlearn.whp.config import WhpPlan
from unlearn.whp.generic_labels import Labeller, centred, generic_logits
from unlearn.whp.label_table import Labels, label, labelled_blocks, movements
from unlearn.whp.pair import Pair, open_pair

PLAN = WhpPlan()


class Translated(NamedTuple):
    token_ids: Sequence[int]
    places: Sequence[int]
    begun: Sequence[tuple[int, Sequence[int]]] = ()


def untouched(ids: Sequence[int]) -> Translated:
    """Translation with an empty dictionary."""
    return Translated(ids, range(len(ids)))


def random_blocks(n: int, *, least: int = 5, most: int = 20) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(5, 290, rng.integers(least, most + 1)).tolist() for _ in range(n)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="module")
def other(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same architecture with other weights, as a reinforced model."""
    into = tmp_path_factory.mktemp("other") / "model"
    shutil.copytree(folder, into)
    model = load(Subject(str(folder), device="cpu")).model
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(into)
    return into


@pytest.fixture(scope="module")
def pair(folder: Path, other: Path) -> Pair:
    return open_pair(Subject(str(folder), device="cpu"), Subject(str(other), device="cpu"))


def logits(lm: LanguageModel, ids: Sequence[int]) -> torch.Tensor:
    with torch.no_grad():
        return lm.model(input_ids=torch.tensor([list(ids)])).logits[0].float()


def labels_of(
    pair: Pair, blocks: Sequence[Sequence[int]], translations: Sequence[Translated], plan: WhpPlan
) -> list[dict[float, list[int]]]:
    found = dict(Labeller(pair, plan).label(blocks, translations))
    return [{kappa: row.tolist() for kappa, row in found[at].labels.items()} for at in range(len(blocks))]


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt", "mistral", "gemma2", "falcon_h1"])
def test_with_no_dictionary_and_no_alpha_each_label_is_the_baseline_s_argmax(architecture: str, tmp_path: Path) -> None:
    lm = load(build_checkpoint(tmp_path, architecture))
    blocks = random_blocks(6)
    plan = dataclasses.replace(PLAN, alpha=0.0)
    for ids, found in zip(blocks, labels_of(Pair(lm, lm), blocks, list(map(untouched, blocks)), plan), strict=True):
        expected = [NO_LABEL, *logits(lm, ids).argmax(dim=1)[:-1].tolist()]
        assert found == dict.fromkeys(PLAN.kappas, expected)


def test_a_reinforced_model_that_is_the_baseline_moves_no_label_at_any_alpha(folder: Path) -> None:
    lm = load(Subject(str(folder), device="cpu"))
    blocks = random_blocks(5)
    found = [
        labels_of(Pair(lm, lm), blocks, list(map(untouched, blocks)), dataclasses.replace(PLAN, alpha=alpha, relu=relu))
        for alpha, relu in ((0.0, True), (5.0, True), (1000.0, True), (5.0, False))
    ]
    assert found[0] == found[1] == found[2] == found[3]


def test_the_combination_by_hand() -> None:
    """g = (1, 2, 0), r = (3, 2.1, -4): raised by (2, 0.1, -4).

    alpha 5 with ReLU: (1 - 10, 2 - 0.5, 0) = (-9, 1.5, 0), label 1; without: (-9, 1.5, 20), label 2. With s = (3, 1, 0)
    in place of g inside: r - s = (0, 1.1, -4), so (1, 2 - 5.5, 0) = (1, -3.5, 0), label 0.
    """
    g, r, s = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[3.0, 2.1, -4.0]]), torch.tensor([[3.0, 1.0, 0.0]])
    torch.testing.assert_close(generic_logits(g, r, alpha=5.0), torch.tensor([[-9.0, 1.5, 0.0]]))
    torch.testing.assert_close(generic_logits(g, r, alpha=5.0, relu=False), torch.tensor([[-9.0, 1.5, 20.0]]))
    torch.testing.assert_close(generic_logits(g, r, alpha=5.0, subtracted=s), torch.tensor([[1.0, -3.5, 0.0]]))
    assert torch.equal(generic_logits(g, r, alpha=0.0), g)
    half = generic_logits(g.bfloat16(), r.bfloat16(), alpha=5.0)
    assert half.dtype == torch.float32
    with pytest.raises(InputError, match="differ in shape"):
        generic_logits(g, r[:, :2], alpha=1.0)


def test_centring_by_hand() -> None:
    logits = torch.tensor([[1.0, 2.0, 6.0]])
    assert torch.equal(centred(logits, "none"), logits)
    assert torch.equal(centred(logits, "mean"), torch.tensor([[-2.0, -1.0, 3.0]]))
    torch.testing.assert_close(centred(logits, "logsoftmax").exp().sum(), torch.tensor(1.0))


def oracle(pair: Pair, ids: Sequence[int], one: Translated, plan: WhpPlan, kappa: float) -> tuple[list[int], list]:
    """The definition, place by place: labels in line with x, and each labelled place's whole combination."""
    g, b, r = logits(pair.baseline, one.token_ids), logits(pair.baseline, ids), logits(pair.reinforced, ids)
    g, b, r = (centred(one, plan.center) for one in (g, b, r))
    labels, combined = [NO_LABEL] * len(ids), []
    for i in range(len(ids) - 1):
        j = one.places[i]
        if j < 0:
            continue
        here = g[j].clone()
        mean = here.mean()
        for begun, first in one.begun:
            if begun < j:
                here[list(first)] = mean
        z = generic_logits(
            here[None],
            r[i][None],
            alpha=kappa * plan.alpha,
            relu=plan.relu,
            subtracted=b[i][None] if plan.baseline == "original" else None,
        )[0]
        labels[i + 1] = int(z.argmax())
        combined.append(z)
    return labels, combined


def translated_blocks() -> tuple[list[list[int]], list[Translated]]:
    """Substitutes shorter and longer than their keys, a place without a label, tokens held back after two places."""
    blocks = random_blocks(4, least=8, most=12)
    translations = [
        Translated([40, 41, 42, *blocks[0][1:]], [2, *range(3, len(blocks[0]) + 2)], [(0, (40, 77))]),
        Translated(
            [*blocks[1][:2], *blocks[1][4:]], [0, 1, -1, -1, *range(2, len(blocks[1]) - 2)], [(1, (9,)), (3, (9, 8))]
        ),
        untouched(blocks[2]),
        Translated(
            [*blocks[3][:-1], 50, 51], [*range(len(blocks[3]) - 1), len(blocks[3])], [(len(blocks[3]) - 1, (50,))]
        ),
    ]
    return blocks, translations


@pytest.mark.parametrize("baseline", ["translated", "original"])
@pytest.mark.parametrize("center", ["none", "mean", "logsoftmax"])
@pytest.mark.parametrize("relu", [True, False])
def test_labels_of_translated_blocks_are_those_of_the_definition(
    pair: Pair, baseline: str, center: str, relu: bool
) -> None:
    plan = dataclasses.replace(PLAN, baseline=baseline, center=center, relu=relu, alpha=2.0)
    blocks, translations = translated_blocks()
    found = labels_of(pair, blocks, translations, plan)
    for ids, one, labels in zip(blocks, translations, found, strict=True):
        for kappa in plan.kappas:
            assert labels[kappa] == oracle(pair, ids, one, plan, kappa)[0]
    assert found[1][1.0][3:5] == [NO_LABEL, NO_LABEL]


def test_a_token_is_held_back_only_after_its_substitute_began(folder: Path) -> None:
    """With F holding every favourite of the baseline, what follows is another token; up to there the same."""
    lm = load(Subject(str(folder), device="cpu"))
    (ids,) = random_blocks(1, least=12, most=12)
    plan = dataclasses.replace(PLAN, alpha=0.0)
    free = labels_of(Pair(lm, lm), [ids], [untouched(ids)], plan)[0][1.0]
    held = Translated(ids, range(len(ids)), [(5, tuple(set(free[1:])))])
    found = labels_of(Pair(lm, lm), [ids], [held], plan)[0][1.0]
    assert found[:7] == free[:7]  # place 5 itself, which predicts token 6, is free
    assert all(new != old for new, old in zip(found[7:], free[7:], strict=True))


def test_soft_labels_are_the_top_of_the_combination_not_of_the_baseline(pair: Pair, tmp_path: Path) -> None:
    plan = dataclasses.replace(PLAN, labels="soft", top_k=7, alpha=2.0)
    blocks, translations = translated_blocks()
    made = label(pair, blocks, translations, plan, folder=tmp_path)
    for row, ids, one in zip(labelled_blocks(made.table, plan), blocks, translations, strict=True):
        labels, combined = oracle(pair, ids, one, plan, 1.0)
        assert row.labels.tolist() == labels
        assert row.soft_ids[:, 0].tolist() == [token for token in labels if token != NO_LABEL]
        for z, kept, probs in zip(combined, row.soft_ids, row.soft_probs, strict=True):
            top = z.topk(7)
            assert kept.tolist() == top.indices.tolist()
            torch.testing.assert_close(torch.from_numpy(probs), top.values.softmax(0), atol=2e-3, rtol=0)
            assert probs.sum() == pytest.approx(1.0, abs=1e-6)


@pytest.fixture(scope="module")
def counting(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A model that says t + 1 after t, whatever stood before: one-hot embeddings, layers that add nothing."""
    n, scale = 300, 20.0
    config = LlamaConfig(
        vocab_size=n,
        hidden_size=n,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=3,
        max_position_embeddings=128,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(n))
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.lm_head.weight.copy_(scale * torch.eye(n).roll(1, dims=0))
    into = tmp_path_factory.mktemp("counting") / "model"
    shutil.copytree(folder, into)
    model.save_pretrained(into)
    return load(Subject(str(into), device="cpu"))


def test_labels_and_loss_shift_once_together(counting: LanguageModel, tmp_path: Path) -> None:
    ids = [30, 70, 110, 12, 13]
    made = label(Pair(counting, counting), [ids], [untouched(ids)], PLAN, folder=tmp_path)
    (row,) = labelled_blocks(made.table, PLAN)
    assert row.labels.tolist() == [NO_LABEL, 31, 71, 111, 13]
    assert label_loss(counting.model, [row]).item() == pytest.approx(0.0, abs=1e-4)
    late = dataclasses.replace(row, labels=np.array([NO_LABEL, NO_LABEL, 31, 71, 111]))
    early = dataclasses.replace(row, labels=np.array([NO_LABEL, 71, 111, 13, 14]))
    for wrong in (late, early):
        assert label_loss(counting.model, [wrong]).item() > 50


def test_the_map_leads_to_the_logits_of_the_translation(counting: LanguageModel) -> None:
    """x = 10 [20 21] 30, where 20 21 became 50: after 21 the model reads 50 and says 51; 20 predicts nothing."""
    found = labels_of(
        Pair(counting, counting),
        [[10, 20, 21, 30]],
        [Translated([10, 50, 30], [0, -1, 1, 2], [(1, (50,))])],
        dataclasses.replace(PLAN, alpha=0.0),
    )
    assert found[0][1.0] == [NO_LABEL, 11, NO_LABEL, 51]


def test_a_killed_labelling_goes_on_and_parts_shards_and_batches_change_nothing(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = dataclasses.replace(PLAN, labels="soft", top_k=5)
    blocks = random_blocks(11)
    translations = list(map(untouched, blocks))
    whole = label(pair, blocks, translations, plan, folder=tmp_path / "whole")
    assert whole.n_read == 2 * whole.n_tokens == 2 * sum(map(len, blocks))
    monkeypatch.setattr(label_table, "BLOCKS_OF_A_PART", 3)

    def kill(stage: str, done: int, total: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label(pair, blocks, translations, plan, folder=tmp_path / "killed", progress=kill)
    resumed = label(pair, blocks, translations, plan, folder=tmp_path / "killed")
    assert resumed.n_read == 2 * sum(map(len, blocks[6:]))
    again = label(pair, blocks, translations, plan, folder=tmp_path / "killed")
    assert (again.n_read, again.folder) == (0, resumed.folder)
    shards = [
        label(pair, blocks[at::2], translations[at::2], plan, folder=tmp_path / "shards", numbers=range(at, 11, 2))
        for at in (0, 1)
    ]
    small = label(pair, blocks, translations, plan, folder=tmp_path / "small", token_budget=1)
    for other in (resumed, again, small):
        assert_same_labels(whole, other)
    joined = {number: row for shard in shards for number, row in zip(*rows_of(shard), strict=True)}
    assert [joined[number] for number in range(11)] == rows_of(whole)[1]


def rows_of(labels: Labels) -> tuple[list[int], list[list[int]]]:
    return labels.table.column("block").to_pylist(), labels.table.column("labels@1").to_pylist()


def assert_same_labels(left: Labels, right: Labels) -> None:
    for name in left.table.column_names:
        mine, theirs = (one.table.column(name).to_pylist() for one in (left, right))
        if "log_p" in name or "probs" in name:
            for row, other in zip(mine, theirs, strict=True):
                np.testing.assert_allclose(row, other, atol=2e-3, equal_nan=True)
        else:
            assert mine == theirs, name


def test_what_determines_the_labels_names_their_folder(pair: Pair, folder: Path, tmp_path: Path) -> None:
    blocks, translations = translated_blocks()
    plan = dataclasses.replace(PLAN, kappas=(1.0,))
    swapped = Pair(pair.reinforced, pair.baseline)
    less = [one._replace(begun=()) for one in translations]
    found = {
        label(models, blocks, texts, made, folder=tmp_path).folder
        for models, texts, made in (
            (pair, translations, plan),
            (pair, translations, dataclasses.replace(plan, alpha=4.0)),
            (pair, less, plan),
            (swapped, translations, plan),
        )
    }
    assert len(found) == 4
    tuned = dataclasses.replace(plan, tune=dataclasses.replace(plan.tune, n_steps=7))
    assert label(pair, blocks, translations, tuned, folder=tmp_path).n_read == 0


@pytest.mark.parametrize("targets", [(), ("q_proj", "lm_head")])
def test_an_adapter_twin_gives_what_two_models_give(folder: Path, targets: tuple[str, ...], tmp_path: Path) -> None:
    before = sha256_file(folder / "model.safetensors")
    twin = attach(load(Subject(str(folder), device="cpu")), LoraPlan(rank=4, targets=targets), seed=0)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in twin.lm.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    twin.save(tmp_path / "adapter")
    subject = Subject(str(folder), device="cpu")
    adapted = dataclasses.replace(subject, adapter=str(tmp_path / "adapter"))
    together = open_pair(subject, adapted)
    apart = Pair(load(subject), load(adapted))
    assert together.is_twin
    assert not apart.is_twin
    blocks, translations = translated_blocks()
    found = [dict(Labeller(one, PLAN).label(blocks, translations)) for one in (together, apart)]
    for at in range(len(blocks)):
        for kappa in PLAN.kappas:
            assert found[0][at].labels[kappa].tolist() == found[1][at].labels[kappa].tolist()
        np.testing.assert_allclose(found[0][at].log_p_label, found[1][at].log_p_label, atol=1e-4, equal_nan=True)
    lone = labels_of(Pair(apart.baseline, apart.baseline), blocks, translations, PLAN)
    assert any(found[0][at].labels[1.0].tolist() != lone[at][1.0] for at in range(len(blocks)))  # the adapter matters
    assert sha256_file(folder / "model.safetensors") == before
    assert open_twin(adapted).lm.fingerprint == together.baseline.fingerprint


def test_movements_say_how_far_each_label_went(pair: Pair, tmp_path: Path) -> None:
    blocks, translations = translated_blocks()
    table = movements(label(pair, blocks, translations, PLAN, folder=tmp_path).table, PLAN)
    rows = table.to_pylist()
    first = next(row for row in rows if row["block"] == 2)
    log_probs = logits(pair.baseline, blocks[2]).log_softmax(1)[first["place"] - 1]
    assert first["token"] == blocks[2][first["place"]]
    assert first["log_p_original"] == pytest.approx(log_probs[first["token"]].item(), abs=1e-4)
    assert first["nats"] == pytest.approx((log_probs[first["label"]] - log_probs[first["token"]]).item(), abs=1e-4)
    assert all(row["nats"] == 0 for row in rows if row["token"] == row["label"])
    assert len(rows) == sum(len(ids) - 1 for ids in blocks) - 2


def test_memory_that_runs_out_halves_the_batch(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = random_blocks(6)
    expected = labels_of(pair, blocks, list(map(untouched, blocks)), PLAN)
    whole, sizes = Labeller._batch, []

    def hungry(self: Labeller, blocks: list, translations: list) -> list:
        sizes.append(len(blocks))
        if len(blocks) > 2:
            raise RuntimeError("out of memory")
        return whole(self, blocks, translations)

    monkeypatch.setattr(Labeller, "_batch", hungry)
    assert labels_of(pair, blocks, list(map(untouched, blocks)), PLAN) == expected
    assert sizes[0] > 2
    assert min(sizes) >= 1


def test_models_and_blocks_that_do_not_fit_together_are_refused(pair: Pair, folder: Path, tmp_path: Path) -> None:
    subject = Subject(str(folder), device="cpu")
    small = build_checkpoint(tmp_path / "small", "llama", letters_only=True)
    with pytest.raises(ModelError, match="does not share the vocabulary"):
        open_pair(subject, Subject(str(small), device="cpu"))
    with pytest.raises(InputError, match="a twin shares one model"):
        open_pair(subject, Subject(str(small), adapter=str(tmp_path), device="cpu"))
    with pytest.raises(InputError, match="merge the two first"):
        open_pair(Subject(str(folder), adapter="x"), subject)
    ids = [5, 6, 7]
    for blocks, translations, message in (
        ([ids], [untouched(ids[:2])], "block 0 has 3 tokens, but its translation maps 2"),
        ([ids], [Translated([5, 6], [0, 1, 2])], "to at most place 2 of 2"),
        ([ids], [], "no block of two tokens"),
        ([ids, ids], [untouched(ids)], "2 blocks, but 1 translations"),
        ([[5]], [untouched([5])], "no block of two tokens"),
        ([[5] * 129], [untouched([5] * 129)], "has 129 tokens; the model reads at most 128"),
        ([ids, []], [untouched(ids), untouched([])], "block 1 of the forget text has no token"),
    ):
        with pytest.raises(DataError, match=message):
            label(pair, blocks, translations, PLAN, folder=tmp_path / "labels")
    with pytest.raises(ModelError, match="holds token 300"):
        label(pair, [[5, 300]], [untouched([5, 300])], PLAN, folder=tmp_path / "labels")
    made = label(pair, [ids], [untouched(ids)], PLAN, folder=tmp_path / "labels")
    with pytest.raises(DataError, match="no column soft_ids@1"):
        labelled_blocks(made.table, dataclasses.replace(PLAN, labels="soft"))


def test_logits_that_are_not_finite_are_refused(folder: Path) -> None:
    pair = Pair(*(load(Subject(str(folder), device="cpu")) for _ in range(2)))
    labeller = Labeller(pair, PLAN)
    with torch.no_grad():
        pair.reinforced.model.lm_head.weight[3] = float("nan")
    with pytest.raises(ModelError, match="the reinforced model gives logits that are not finite"):
        list(labeller.label([[5, 6, 7]], [untouched([5, 6, 7])]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": -1.0}, "whp: alpha is -1.0; expected 0 or a positive number"),
        ({"alpha": float("inf")}, "whp: alpha"),
        ({"kappas": (1.0, 1.0)}, "whp: kappas"),
        ({"kappas": (1.0, 1.0000001)}, "expected numbers that differ in their first six digits"),
        ({"kappa": 3.0}, "whp: kappa is 3.0; expected one of kappas"),
        ({"center": "median"}, "whp: center is 'median'; expected none or mean or logsoftmax"),
        ({"labels": "some"}, "whp: labels"),
        ({"baseline": "both"}, "whp: baseline"),
        ({"top_k": 1}, "whp: top_k"),
        ({"block": 1}, "whp: block"),
        ({"seed": -1}, "whp: seed"),
    ],
)
def test_plans_out_of_range_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        WhpPlan(**change)
