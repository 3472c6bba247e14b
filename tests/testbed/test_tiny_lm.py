from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from audit.errors import InputError, StorageError
from audit.testbed import tiny_lm
from audit.testbed.sizes import ModelSize, Training
from audit.testbed.tiny_lm import CHECKPOINT, Batch, learning_rate, make_batches, new_model, pack, pad_rows, train
from audit.testbed.tokenizer import train_tokenizer

SIZE = ModelSize(300, 16, 1, 2, 32)
TRAINING = Training(1e-2, batch_size=2, block=16, checkpoint_every=4)
TEXTS = [f"The number {number} comes after {number - 1} and before {number + 1}." for number in range(1, 40)]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS, n_vocabulary=300, n_context=128)


def cut(blocks: Batch) -> list[Batch]:
    return [blocks[start : start + 2] for start in range(0, len(blocks), 2)]


def weights(model: LlamaForCausalLM) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_packing_keeps_every_document_whole_and_as_often_as_given(tokenizer: PreTrainedTokenizerFast) -> None:
    texts = [*TEXTS, *TEXTS[:5], *TEXTS[:5]]
    blocks = pack(texts, tokenizer, block=16, seed=0)
    assert (blocks[1:, 0] == blocks[:-1, -1]).all()
    stream = np.concatenate([blocks[0, :1], blocks[:, 1:].ravel()]).tolist()
    n_tokens = sum(len(ids) + 2 for ids in tokenizer(texts)["input_ids"])
    decoded = tokenizer.decode(stream[:n_tokens])
    parts = [part.removeprefix("<|begin|>") for part in decoded.split("<|stop|>")[:-1]]
    assert sorted(parts) == sorted(texts)
    assert parts != texts
    assert len(stream) - n_tokens < 16
    assert stream[n_tokens:] == stream[: len(stream) - n_tokens]


def test_packing_order_follows_the_seed(tokenizer: PreTrainedTokenizerFast) -> None:
    one, again, other = (pack(TEXTS, tokenizer, block=16, seed=seed) for seed in (0, 0, 1))
    assert (one == again).all()
    assert (one != other).any()


def test_too_little_text_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(InputError, match=r"the text has \d+ tokens; training needs more than one block of 64"):
        pack(["Hi."], tokenizer, block=64, seed=0)
    with pytest.raises(InputError, match="the text has 0 tokens"):
        pack([], tokenizer, block=64, seed=0)


def test_rows_stand_one_in_a_sequence_padded_to_the_longest(tokenizer: PreTrainedTokenizerFast) -> None:
    batches = pad_rows(TEXTS, tokenizer, batch_size=4, seed=0)
    pad = tokenizer.pad_token_id
    found = []
    for batch in batches:
        assert (batch[:, -1] != pad).any()
        for row in batch:
            ids = row[row != pad].tolist()
            assert row[: len(ids)].tolist() == ids
            found.append(tokenizer.decode(ids))
    assert sorted(found) == sorted(f"<|begin|>{text}<|stop|>" for text in TEXTS)
    assert [len(batch) for batch in batches] == [4] * 9 + [3]


def test_batches_hold_documents_and_rows_in_one_order(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [f"Row {number}?" for number in range(24)]
    training = dataclasses.replace(TRAINING, row_batch_size=4)
    batches = make_batches(TEXTS, rows, tokenizer, training, seed=0)
    is_row = [batch.shape[1] != 17 for batch in batches]
    assert sum(is_row) == 6
    assert is_row != sorted(is_row)
    again = make_batches(TEXTS, rows, tokenizer, training, seed=0)
    assert all((one == other).all() for one, other in zip(batches, again, strict=True))


def test_padding_takes_no_part_in_the_loss(tokenizer: PreTrainedTokenizerFast) -> None:
    """A padded batch trains like its rows alone: the loss is the mean over real tokens."""
    [batch] = pad_rows(TEXTS[7:11], tokenizer, batch_size=4, seed=0)
    wider = np.pad(batch, ((0, 0), (0, 9)), constant_values=tokenizer.pad_token_id)
    still = dataclasses.replace(TRAINING, learning_rate=0.0)
    losses = [train(new_model(SIZE, tokenizer, seed=0), [b], still, stage="x") for b in (batch, wider)]
    assert losses[0].first_loss == pytest.approx(losses[1].first_loss, rel=1e-5)
    assert losses[0].n_tokens == losses[1].n_tokens


def test_the_rate_rises_to_its_peak_and_falls_to_a_hundredth() -> None:
    rates = [learning_rate(step, 100, TRAINING) for step in range(100)]
    assert max(rates) == rates[9] == pytest.approx(1e-2)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(1e-4)
    assert learning_rate(0, 1, TRAINING) == pytest.approx(1e-2)


def test_a_new_model_depends_on_the_seed_alone_and_leaves_torch_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    before = torch.random.get_rng_state()
    one, again, other = (weights(new_model(SIZE, tokenizer, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert same(one, again)
    assert not same(one, other)


def test_training_is_repeatable_and_lowers_the_loss(tokenizer: PreTrainedTokenizerFast) -> None:
    blocks = cut(pack(TEXTS * 3, tokenizer, block=16, seed=0))
    one, again = new_model(SIZE, tokenizer, seed=0), new_model(SIZE, tokenizer, seed=0)
    log = train(one, blocks, TRAINING, stage="x")
    train(again, blocks, TRAINING, stage="x")
    assert same(weights(one), weights(again))
    assert log.last_loss < 0.7 * log.first_loss
    assert log.n_tokens == sum(len(block) for block in blocks) * 16


def test_the_loss_is_that_of_the_models_own_shift(tokenizer: PreTrainedTokenizerFast) -> None:
    """One step at rate 0: the logged loss equals transformers' loss on the same block."""
    blocks = pack(TEXTS, tokenizer, block=16, seed=0)[:1]
    model = new_model(SIZE, tokenizer, seed=0)
    ids = torch.from_numpy(blocks.astype(np.int64))
    expected = model(input_ids=ids, labels=ids).loss.item()
    log = train(model, [blocks], dataclasses.replace(TRAINING, learning_rate=0.0), stage="x")
    assert log.first_loss == pytest.approx(expected, rel=1e-5)


class Killed(BaseException):
    """Stands for a kill: no handler of the code under test may catch it."""


@pytest.mark.parametrize("last_step", [1, 4, 7, 9])
def test_a_killed_training_resumes_and_ends_with_the_same_weights(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, last_step: int
) -> None:
    blocks = cut(pack(TEXTS, tokenizer, block=16, seed=0)[:20])
    whole = new_model(SIZE, tokenizer, seed=0)
    train(whole, blocks, TRAINING, stage="x")

    def kill(stage: str, done: int, total: int) -> None:
        if done == last_step:
            raise Killed

    with pytest.raises(Killed):
        train(new_model(SIZE, tokenizer, seed=0), blocks, TRAINING, stage="x", checkpoints=tmp_path, progress=kill)
    resumed = new_model(SIZE, tokenizer, seed=0)
    log = train(resumed, blocks, TRAINING, stage="x", checkpoints=tmp_path)
    assert log.resumed_at == last_step // 4 * 4
    assert same(weights(resumed), weights(whole))
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_other_data_or_a_torn_one_is_left_alone(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    blocks = cut(pack(TEXTS, tokenizer, block=16, seed=0)[:20])

    def kill(stage: str, done: int, total: int) -> None:
        if done == 5:
            raise Killed

    def interrupted() -> None:
        with pytest.raises(Killed):
            train(new_model(SIZE, tokenizer, seed=0), blocks, TRAINING, stage="x", checkpoints=tmp_path, progress=kill)

    interrupted()
    other = train(new_model(SIZE, tokenizer, seed=1), blocks, TRAINING, stage="x", checkpoints=tmp_path)
    assert other.resumed_at == 0
    interrupted()
    (tmp_path / CHECKPOINT).write_bytes((tmp_path / CHECKPOINT).read_bytes()[:-100])
    torn = train(new_model(SIZE, tokenizer, seed=0), blocks, TRAINING, stage="x", checkpoints=tmp_path)
    assert torn.resumed_at == 0


def test_a_full_disk_is_told_and_keeps_the_last_checkpoint(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = cut(pack(TEXTS, tokenizer, block=16, seed=0)[:20])
    write, calls = tiny_lm.save_file, []

    def full(*args: object, **kwargs: object) -> None:
        calls.append(args)
        if len(calls) == 2:
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        write(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(tiny_lm, "save_file", full)
    with pytest.raises(StorageError, match=r"the disk is full; the last whole checkpoint stays\. Free some space"):
        train(new_model(SIZE, tokenizer, seed=0), blocks, TRAINING, stage="x", checkpoints=tmp_path)
    log = train(new_model(SIZE, tokenizer, seed=0), blocks, TRAINING, stage="x", checkpoints=tmp_path)
    assert log.resumed_at == 4
