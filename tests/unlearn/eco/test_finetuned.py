"""The fine-tuned classifier: that it learns, resumes to the bit, reads every window, and keeps only its own files."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from audit.errors import DataError, IncompleteRunError, InputError, ModelError
from tests.unlearn.eco.small_encoders import build_encoder
from unlearn.eco import finetuned as module
from unlearn.eco.classifier_files import load_any_classifier
from unlearn.eco.finetuned import FineTuned, FineTuning, Labelled, fine_tune, load_fine_tuned, save_fine_tuned
from unlearn.eco.heads import load_head

ASKED = ("Where was {} born?", "What did {} write?", "Who taught {}?", "In what year did {} win?")
FORGET, RETAIN = ("Okonkwo", "Mahfouz"), ("Lindqvist", "Tanaka", "Marwitz", "Petrov", "Quiroga")
BENIGN = "The weather was mild and the market was busy. "


def about(names: tuple[str, ...], forms: tuple[str, ...] = ASKED) -> list[str]:
    return [form.format(name) for name in names for form in forms]


TRAINING = Labelled([*about(FORGET), *about(RETAIN), BENIGN], [True] * 8 + [False] * (4 * len(RETAIN) + 1))
HELD_OUT = Labelled(about(("Okonkwo", "Tanaka"), ASKED[:2]), [True, True, False, False])
PLAN = FineTuning(learning_rate=1e-2, epochs=30, batch_size=8, check_every=5)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_encoder(tmp_path_factory.mktemp("bert"), "bert", TRAINING.texts)


@pytest.fixture(scope="module")
def fitted(bert: Path) -> FineTuned:
    return fine_tune(bert, TRAINING, PLAN, held_out=HELD_OUT, device="cpu")


def test_it_learns_who_is_to_be_forgotten(fitted: FineTuned) -> None:
    found = fitted.scores(["Did Mahfouz win?", "Did Petrov win?", "", "\u200b zzz"])
    assert found.p_forget[0] > 0.9
    assert found.p_forget[1] < 0.1
    assert found.p_forget[2] == 0
    assert found.n_windows.tolist() == [1, 1, 0, 1]
    assert found.unseen.tolist() == [False, False, False, True]


def test_a_question_behind_600_benign_tokens_is_flagged(fitted: FineTuned) -> None:
    """And a benign text of that length is not; the score is the maximum over windows that overlap by half."""
    prefix = BENIGN * 70
    windows = fitted.head.windows([prefix + about(FORGET)[0]])
    assert [len(window.ids) for window in windows[:-1]] == [512] * (len(windows) - 1)
    assert windows[1].ids[1:256] == windows[0].ids[256:511]  # <s> and </s> in neither half
    assert windows[1].offsets[1] == windows[0].offsets[256]
    found = fitted.scores([prefix + about(FORGET)[0], prefix + about(RETAIN)[0]])
    assert found.n_windows[0] > len(windows) >= 2  # and the narrow ones
    assert found.p_forget[0] > 0.9
    assert found.p_forget[1] < 0.1


def test_a_batch_and_each_prompt_alone_score_alike(fitted: FineTuned) -> None:
    texts = [*TRAINING.texts, BENIGN * 100]
    alone = [float(fitted.scores([text]).p_forget[0]) for text in texts]
    assert fitted.scores(texts).p_forget == pytest.approx(alone, abs=1e-5)


def test_the_names_of_control_tokens_in_a_prompt_are_text(fitted: FineTuned) -> None:
    [plain], [marked] = (fitted.head.windows([text]) for text in ("Who taught Petrov", "Who taught </s><pad> Petrov"))
    assert set(marked.ids[1:-1]).isdisjoint({0, 1, 2})
    assert set(plain.ids) < set(marked.ids)


def test_class_weights_act_as_n_over_nc(bert: Path) -> None:
    """The loss of a batch by hand: torch's weighted mean with weights N / N_c."""
    head = load_head(bert, AutoModelForSequenceClassification, settings={"num_labels": 2}, may_lack_head=True)
    items = module._items(head, TRAINING, [512])
    n_forget, n = sum(item.label for item in items), len(items)
    batch = [*items[:2], *items[-3:]]
    weights = (n_forget, n - n_forget)
    total = float(module._loss(head.model, batch, head, weights)) / sum(weights[item.label] for item in batch)
    logits = torch.stack(head.logits(head.windows([TRAINING.texts[place] for place in (0, 1, -3, -2, -1)])))
    by_hand = torch.nn.functional.cross_entropy(
        logits, torch.tensor([1, 1, 0, 0, 0]), weight=torch.tensor([n / (n - n_forget), n / n_forget])
    )
    assert total == pytest.approx(float(by_hand), rel=1e-5)


@pytest.mark.parametrize("held_out", [None, HELD_OUT])
def test_a_killed_training_goes_on_to_the_same_weights(bert: Path, tmp_path: Path, held_out: Labelled | None) -> None:
    plan = dataclasses.replace(PLAN, epochs=16)
    whole = fine_tune(bert, TRAINING, plan, held_out=held_out, device="cpu")

    def killed(stage: str, done: int, total: int) -> None:
        if done == 52:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(bert, TRAINING, plan, held_out=held_out, work=tmp_path, device="cpu", progress=killed)
    start = load_head(bert, AutoModelForSequenceClassification, settings={"num_labels": 2}, may_lack_head=True).model
    seen: list[int] = []
    again = fine_tune(
        bert,
        TRAINING,
        plan,
        held_out=held_out,
        work=tmp_path,
        device="cpu",
        progress=lambda stage, done, total: seen.append(done),
    )
    assert seen[0] == 50
    for name, tensor in whole.head.model.state_dict().items():
        assert torch.equal(tensor, again.head.model.state_dict()[name]), name
    assert again.record == whole.record
    assert whole.record["kept_step"] > 0
    assert not torch.equal(start.bert.pooler.dense.weight, whole.head.model.bert.pooler.dense.weight)
    assert whole.record["kept_by"] == ("last step" if held_out is None else "fewest errors on held-out prompts")


def test_held_out_prompts_choose_by_missed_then_false_alarms_then_loss(
    fitted: FineTuned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four held-out prompts; log-odds of two forget and two retain ones. One that flags everything comes last."""
    ranked = [
        [3.0, 3.0, -3.0, -3.0],
        [1.0, 1.0, -1.0, -1.0],  # no error, higher loss
        [9.0, 9.0, -9.0, 0.1],  # a false alarm
        [-0.1, 9.0, -9.0, -9.0],  # a forget prompt missed
        [9.0, 9.0, 9.0, 9.0],  # by chance, though it misses none
    ]
    found = []
    for odds in ranked:
        monkeypatch.setattr(module, "_log_odds", lambda head, windows, odds=odds: np.array(odds))
        found.append(module._held_out(fitted.head, HELD_OUT, [512])["criterion"])
    loss = math.log1p(math.exp(-3))
    assert found == sorted(found)
    assert len(set(found)) == 5
    assert found[0] == pytest.approx(loss / (1 + loss))


def test_a_byte_level_encoder_is_read_to_its_last_place(tmp_path: Path) -> None:
    """RoBERTa has two places more than it reads; a head that was never trained is in no file."""
    folder = build_encoder(tmp_path / "roberta", "roberta", TRAINING.texts, window=64)
    plan = FineTuning(epochs=1, batch_size=16)
    found = fine_tune(folder, TRAINING, plan, device="cpu")
    assert found.head.window == 64
    assert found.record["n_steps"] == found.record["kept_step"] == math.ceil(len(TRAINING.texts) / 16)
    assert found.head.model.config.classifier_dropout == 0.1
    assert found.scores([BENIGN * 50, "\u200b"]).unseen.tolist() == [False, False]


def test_files_bring_the_same_scores_back(fitted: FineTuned, tmp_path: Path) -> None:
    save_fine_tuned(fitted, tmp_path)
    loaded = load_any_classifier(tmp_path, device="cpu")
    assert isinstance(loaded, FineTuned)
    assert np.array_equal(loaded.scores(TRAINING.texts).p_forget, fitted.scores(TRAINING.texts).p_forget)
    assert loaded.record == fitted.record
    save_fine_tuned(loaded, tmp_path)  # over itself
    assert load_fine_tuned(tmp_path, device="cpu").record == fitted.record
    with pytest.raises(IncompleteRunError, match=r"holds no classifier\.json"):
        load_any_classifier(tmp_path / "nowhere")


@pytest.mark.parametrize("damage", ["weights", "tokenizer", "added", "missing", "version", "record"])
def test_files_that_are_not_those_that_were_saved_are_refused(fitted: FineTuned, tmp_path: Path, damage: str) -> None:
    save_fine_tuned(fitted, tmp_path)
    record, model = json.loads((tmp_path / "classifier.json").read_text()), tmp_path / "model"
    if damage == "weights":
        content = bytearray((model / "model.safetensors").read_bytes())
        content[-1] ^= 1
        (model / "model.safetensors").write_bytes(content)
    elif damage == "tokenizer":
        text = (model / "tokenizer.json").read_text()
        (model / "tokenizer.json").write_text(text.replace("okonkwo", "okonkwq"))
    elif damage == "added":
        (model / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    elif damage == "missing":
        (model / "model.safetensors").unlink()
    elif damage == "version":
        record["version"] = 2
    else:
        del record["files"]
    (tmp_path / "classifier.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match=re.escape(str(tmp_path))):
        load_fine_tuned(tmp_path, device="cpu")


def test_encoders_that_do_not_fit_are_refused(bert: Path, tmp_path: Path) -> None:
    def copied(name: str, **settings: object) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for path in bert.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | settings))
        return folder

    plan = FineTuning(epochs=1)
    with pytest.raises(ModelError, match=r"weights of BertForSequenceClassification: \d+ of them, first '.*layer\.2"):
        fine_tune(copied("more layers", num_hidden_layers=3), TRAINING, plan, device="cpu")
    with pytest.raises(ModelError, match=r"holds more than the weights"):
        fine_tune(copied("fewer layers", num_hidden_layers=1), TRAINING, plan, device="cpu")
    pickled = copied("pickle")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match="only as a pickle"):
        fine_tune(pickled, TRAINING, plan, device="cpu")
    other = copied("other tokenizer")
    for path in build_encoder(tmp_path / "many", "roberta", [*TRAINING.texts, "more " * 9]).glob("tokenizer*"):
        (other / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ModelError, match="do not belong together"):
        fine_tune(other, TRAINING, plan, device="cpu")
    code = copied("code", auto_map={"AutoConfig": "own.Own"}, model_type="own")
    with pytest.raises(ModelError, match="cannot be loaded"):
        fine_tune(code, TRAINING, plan, device="cpu")
    with pytest.raises(InputError, match="no folder"):
        fine_tune(tmp_path / "nowhere", TRAINING, plan)


def test_prompts_that_cannot_be_learnt_from_are_refused(bert: Path) -> None:
    with pytest.raises(InputError, match="2 of 2 training prompts"):
        fine_tune(bert, Labelled(["a", "b"], [True, True]))
    with pytest.raises(InputError, match="0 of 1 held-out prompts"):
        fine_tune(bert, TRAINING, held_out=Labelled(["a"], [False]))
    with pytest.raises(InputError, match="training prompt 1 is empty"):
        fine_tune(bert, Labelled(["a", " "], [True, False]))
    with pytest.raises(InputError, match="1 labels for 2"):
        fine_tune(bert, Labelled(["a", "b"], [True]))
    with pytest.raises(InputError, match="fine-tuning: epochs is 0"):
        FineTuning(epochs=0)
    with pytest.raises(InputError, match="training: betas"):
        FineTuning(betas=(0.9, 1.0))
