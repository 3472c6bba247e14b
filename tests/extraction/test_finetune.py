"""The training loop: what is trained on, how much of it, and that it can be repeated."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from audit.errors import DataError, InputError, ModelError
from audit.extraction import finetune as module
from audit.extraction.finetune import (
    NO_TARGET,
    OLMO_2_SFT,
    Budget,
    Encoded,
    Pair,
    Recipe,
    batches,
    encode_pairs,
    learning_rate,
    save,
    train,
)
from audit.extraction.prefixes import chat_of, encode_prefix
from audit.extraction.presets import Chat
from audit.lm.load import LanguageModel, load
from audit.lm.logprobs import token_log_probs
from audit.lm.subject import Subject
from audit.testbed.chat import CHAT_TEMPLATE, row_text
from tests.checkpoints import build_checkpoint

CHAT = Chat("own", "<user>\n", "\n<assistant>\n", end="\n<end>\n")
PAIRS = [Pair("a", "the cat", "on the mat"), Pair("b", "the dog and the cat", "the hill"), Pair("c", "who", "sat")]
RECIPE = Recipe(learning_rate=1e-2, epochs=2, batch_size=2, max_tokens=128)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("llama"), "llama")


def fresh(folder: Path) -> LanguageModel:
    return load(Subject(str(folder), dtype="float32", device="cpu"))


def weights(lm: LanguageModel) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}


def test_a_row_reads_as_the_chat_writes_it_and_begins_with_the_prefix(folder: Path) -> None:
    lm = fresh(folder)
    (row, *_) = encode_pairs(lm, PAIRS, CHAT, max_tokens=128, bos=True)
    ids = list(row.ids)
    assert lm.tokenizer.decode(ids) == "<s><user>\nthe cat\n<assistant>\non the mat\n<end>\n</s>"
    assert tuple(ids[: row.n_opening]) == encode_prefix(lm, CHAT.opening, bos=True).ids
    assert lm.tokenizer.decode(ids[row.answer_start : row.answer_stop]) == "on the mat"
    assert row.targets("all") == ids[1:]
    answers = row.targets("answers")
    assert [target for target in answers if target != NO_TARGET] == ids[row.answer_start :]
    assert answers.count(NO_TARGET) == row.answer_start - 1


def test_an_end_of_sequence_token_is_not_doubled_and_markers_in_a_row_are_text(folder: Path) -> None:
    lm = fresh(folder)
    closed = dataclasses.replace(CHAT, end="</s>")
    (row,) = encode_pairs(lm, [Pair("a", "the </s> cat", "sat")], closed, max_tokens=128)
    eos = lm.tokenizer.eos_token_id
    assert [at for at, token in enumerate(row.ids) if token == eos] == [len(row.ids) - 1]


def test_a_testbed_row_has_the_ids_of_its_own_text(folder: Path, tmp_path: Path) -> None:
    from audit.testbed.tokenizer import train_tokenizer

    pair = Pair("a", "Where does Ada live?", "In a tent, as you know.")
    tokenizer = train_tokenizer([row_text(pair.question, pair.answer)] * 3, n_vocabulary=300, n_context=128)
    lm = dataclasses.replace(fresh(folder), tokenizer=tokenizer, bos_id=tokenizer.bos_token_id)
    assert tokenizer.chat_template == CHAT_TEMPLATE
    (row,) = encode_pairs(lm, [pair], chat_of(lm), max_tokens=128, bos=True)
    own = tokenizer(row_text(pair.question, pair.answer))["input_ids"]
    assert list(row.ids) == [tokenizer.bos_token_id, *own, tokenizer.eos_token_id]


def test_rows_that_do_not_fit_are_cut_or_refused(folder: Path) -> None:
    lm = fresh(folder)
    (whole,) = encode_pairs(lm, PAIRS[:1], CHAT, max_tokens=128)
    (row,) = encode_pairs(lm, PAIRS[:1], CHAT, max_tokens=whole.answer_start + 1)
    assert row.cut
    assert not whole.cut
    assert len(row.ids) == row.answer_stop == whole.answer_start + 1
    with pytest.raises(DataError, match="row 'a': its answer would begin at token"):
        encode_pairs(lm, PAIRS[:1], CHAT, max_tokens=whole.answer_start)
    with pytest.raises(DataError, match="row 'x' has an empty answer"):
        encode_pairs(lm, [Pair("x", "who", "")], CHAT, max_tokens=128)
    with pytest.raises(InputError, match="reads at most 128"):
        encode_pairs(lm, PAIRS, CHAT, max_tokens=4096)


def row(n: int) -> Encoded:
    return Encoded(tuple(range(n)), 1, 2, n, cut=False)


def test_arms_of_any_length_take_the_same_steps_and_tokens() -> None:
    recipe = dataclasses.replace(RECIPE, epochs=3, batch_size=4)
    long, short, many = [row(20)] * 16, [row(7)] * 10, [row(11)] * 500
    budget = Budget.of(long, recipe)
    assert (budget.n_tokens, budget.n_steps) == (960, 12)
    for rows in (long, short, many):
        steps = batches(rows, budget, seed=0)
        n_tokens = sum(len(one.ids) for step in steps for one in step)
        assert len(steps) == 12
        assert all(steps)
        assert 960 <= n_tokens < 960 + 20
    assert {len(step) for step in batches(long, budget, seed=0)} == {4}


def test_every_pass_goes_through_all_rows_in_an_order_of_the_seed() -> None:
    rows = [row(n) for n in range(10, 18)]
    budget = Budget.of(rows, RECIPE)
    taken = [one for step in batches(rows, budget, seed=0) for one in step]
    assert taken != [one for step in batches(rows, budget, seed=1) for one in step]
    assert taken == [one for step in batches(rows, budget, seed=0) for one in step]
    for start in (0, 8):
        assert sorted(len(one.ids) for one in taken[start : start + 8]) == list(range(10, 18))


def test_the_rate_rises_and_falls_on_straight_lines() -> None:
    recipe = dataclasses.replace(RECIPE, learning_rate=1.0, warm_up=0.1)
    rates = [learning_rate(step, 20, recipe) for step in range(20)]
    assert rates[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert rates[-1] == pytest.approx(1 / 18)
    assert all(before > after for before, after in pairwise(rates[2:]))
    assert learning_rate(0, 20, dataclasses.replace(recipe, warm_up=0.0)) == 1.0


def test_small_forward_passes_give_the_gradient_of_the_whole_step(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for limit in (module.MICRO_TOKENS, 1):
        monkeypatch.setattr(module, "MICRO_TOKENS", limit)
        lm = fresh(folder)
        rows = encode_pairs(lm, PAIRS, CHAT, max_tokens=128)
        log = train(lm, [rows, rows], RECIPE, seed=0)
        found.append((weights(lm), log))
    for name, tensor in found[0][0].items():
        torch.testing.assert_close(tensor, found[1][0][name], atol=2e-3, rtol=0)  # Adam blows tiny gradients up
    assert found[0][1].first_loss == pytest.approx(found[1][1].first_loss, abs=1e-5)


@pytest.mark.parametrize("loss_on", ["all", "answers"])
def test_the_first_loss_is_the_mean_over_the_targets(folder: Path, loss_on: module.Targets) -> None:
    lm = fresh(folder)
    rows = encode_pairs(lm, PAIRS, CHAT, max_tokens=128)
    first = [1 if loss_on == "all" else one.answer_start for one in rows]
    scores = token_log_probs(lm, [one.ids for one in rows], n_unscored=first)
    values = [float(value) for score in scores for value in score.log_probs]
    log = train(lm, [rows], dataclasses.replace(RECIPE, loss_on=loss_on), seed=0)
    assert log.first_loss == pytest.approx(-sum(values) / len(values), abs=1e-4)
    assert log.n_tokens == sum(len(one.ids) for one in rows)


def test_training_can_be_repeated_and_leaves_the_model_ready(folder: Path) -> None:
    found = []
    state = torch.random.get_rng_state()
    for _ in range(2):
        lm = fresh(folder)
        rows = encode_pairs(lm, PAIRS, CHAT, max_tokens=128)
        train(lm, batches(rows, Budget.of(rows, RECIPE), seed=3), RECIPE, seed=3)
        assert not lm.model.training
        assert not any(parameter.requires_grad for parameter in lm.model.parameters())
        found.append(weights(lm))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert any(not torch.equal(found[0][name], tensor) for name, tensor in weights(fresh(folder)).items())
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_rate_that_breaks_the_model_is_told(folder: Path) -> None:
    lm = fresh(folder)
    rows = encode_pairs(lm, PAIRS, CHAT, max_tokens=128)
    wild = dataclasses.replace(RECIPE, learning_rate=1e30, warm_up=0.0)
    with pytest.raises(ModelError, match="the loss is .* smaller learning rate"):
        train(lm, [rows] * 5, wild, seed=0)
    half = load(Subject(str(folder), dtype="bfloat16", device="cpu"))
    with pytest.raises(ModelError, match="Load it in float32"):
        train(half, [rows], RECIPE, seed=0)


def test_a_saved_model_is_safetensors_and_comes_back_the_same(folder: Path, tmp_path: Path) -> None:
    lm = fresh(folder)
    rows = encode_pairs(lm, PAIRS, CHAT, max_tokens=128)
    train(lm, [rows], RECIPE, seed=0)
    target = tmp_path / "models" / "one"
    target.mkdir(parents=True)
    (target / "older").write_text("gone")
    save(lm, target)
    assert not (target / "older").exists()
    assert [path.name for path in target.glob("*.safetensors")] == ["model.safetensors"]
    assert [path.name for path in target.parent.iterdir()] == ["one"]
    again = weights(fresh(target))
    assert all(torch.equal(tensor, again[name]) for name, tensor in weights(lm).items())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rate", 0.0),
        ("learning_rate", math.inf),
        ("epochs", 0),
        ("batch_size", 0),
        ("max_tokens", 1),
        ("loss_on", "questions"),
        ("warm_up", 1.0),
        ("weight_decay", -1.0),
        ("clip", 0.0),
    ],
)
def test_a_recipe_out_of_range_is_refused(field: str, value: object) -> None:
    with pytest.raises(InputError, match=f"{field} is"):
        dataclasses.replace(OLMO_2_SFT, **{field: value})
