"""Adapters: off is the baseline to the bit, on is the trained model, and what does not fit is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM

from audit.errors import InputError, ModelError
from audit.lm.load import LanguageModel, load
from audit.lm.subject import Subject
from audit.text.files import sha256_file
from tests.checkpoints import build_checkpoint
from unlearn.checkpoints import RECORD
from unlearn.lora import LoraPlan, Twin, attach, base_weights, merge, open_twin

IDS = torch.tensor([[0, 5, 6, 7, 30, 8]])
PLAN = LoraPlan(rank=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("llama"), "llama")


def fresh(folder: Path) -> LanguageModel:
    return load(Subject(str(folder), dtype="float32", device="cpu"))


def logits(lm: LanguageModel) -> Tensor:
    with torch.no_grad():
        return lm.model(input_ids=IDS).logits


def moved(lm: LanguageModel) -> Twin:
    """An adapter that does something."""
    twin = attach(lm, PLAN, seed=0)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in lm.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return twin


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox", "qwen3"])
def test_a_new_adapter_changes_nothing_and_off_is_the_baseline_to_the_bit(architecture: str, tmp_path: Path) -> None:
    checkpoint = build_checkpoint(tmp_path / "model", architecture)
    plain = logits(fresh(checkpoint))
    lm = fresh(checkpoint)
    twin = attach(lm, PLAN, seed=0)
    torch.testing.assert_close(logits(twin.lm), plain)
    twin = moved(fresh(checkpoint))
    on = logits(twin.lm)
    assert not torch.allclose(on, plain, atol=1e-3)
    with twin.off():
        assert torch.equal(logits(twin.lm), plain)
    assert torch.equal(logits(twin.lm), on)


def test_only_the_adapter_asks_for_a_gradient_also_after_it_was_off_and_after_an_error(folder: Path) -> None:
    lm = fresh(folder)
    twin = attach(lm, PLAN, seed=0)
    asked = {name for name, one in lm.model.named_parameters() if one.requires_grad}
    assert asked
    assert all("lora_" in name for name in asked)
    with pytest.raises(ZeroDivisionError), twin.off():
        raise ZeroDivisionError
    assert {name for name, one in lm.model.named_parameters() if one.requires_grad} == asked
    lm.model.requires_grad_(False)
    with twin.off():
        pass
    assert not any(one.requires_grad for one in lm.model.parameters())


def test_the_seed_decides_the_first_weights(folder: Path) -> None:
    found = [attach(fresh(folder), PLAN, seed=seed).lm.model.state_dict() for seed in (0, 0, 1)]
    name = next(name for name in found[0] if "lora_A" in name)
    assert torch.equal(found[0][name], found[1][name])
    assert not torch.equal(found[0][name], found[2][name])


def test_a_saved_adapter_is_read_again_and_merged_into_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    before = sha256_file(folder / "model.safetensors")
    twin = moved(fresh(folder))
    on = logits(twin.lm)
    twin.save(tmp_path / "adapter")
    assert not list((tmp_path / "adapter").glob("*.bin"))
    subject = Subject(str(folder), adapter=str(tmp_path / "adapter"), device="cpu")
    again = open_twin(subject)
    assert torch.equal(logits(again.lm), on)
    with again.off():
        assert torch.equal(logits(again.lm), logits(fresh(folder)))
    out = merge(subject, tmp_path / "merged")
    torch.testing.assert_close(logits(fresh(out)), on, atol=1e-4, rtol=0)
    assert merge(subject, out) == out
    assert sha256_file(folder / "model.safetensors") == before
    with pytest.raises(InputError, match="an input model is never changed"):
        merge(subject, folder)
    with pytest.raises(InputError, match="an input model is never changed"):
        merge(subject, tmp_path / "adapter" / "inside")


def test_an_adapter_of_another_shape_or_of_other_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    twin = moved(fresh(folder))
    twin.save(tmp_path / "adapter")
    other = build_checkpoint(tmp_path / "gpt2", "gpt2")
    with pytest.raises(ModelError, match="does not fit the model"):
        open_twin(Subject(str(other), adapter=str(tmp_path / "adapter"), device="cpu"))
    like = tmp_path / "like"
    shutil.copytree(folder, like)
    model = AutoModelForCausalLM.from_pretrained(like)
    with torch.no_grad():
        model.lm_head.weight.add_(1.0)
    model.save_pretrained(like)
    record = {"key": "k", "base": base_weights(twin.lm.fingerprint)}
    (tmp_path / "adapter" / RECORD).write_text(json.dumps(record), encoding="utf-8")
    open_twin(Subject(str(folder), adapter=str(tmp_path / "adapter"), device="cpu"))
    with pytest.raises(ModelError, match="trained over a model with other weights"):
        open_twin(Subject(str(like), adapter=str(tmp_path / "adapter"), device="cpu"))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"]), "also holds whole layers"),
        (LoraConfig(r=2, target_modules=["q_proj"], bias="all"), "also changes biases"),
    ],
)
def test_an_adapter_that_cannot_be_switched_off_whole_is_refused(
    folder: Path, tmp_path: Path, config: LoraConfig, message: str
) -> None:
    get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ModelError, match=message):
        open_twin(Subject(str(folder), adapter=str(tmp_path / "adapter"), device="cpu"))


def test_what_no_adapter_can_be_laid_over_is_told(folder: Path) -> None:
    lm = fresh(folder)
    with pytest.raises(ModelError, match="no adapter can be laid over LlamaForCausalLM"):
        attach(lm, LoraPlan(targets=("no_such_layer",)), seed=0)
    attach(lm, PLAN, seed=0)
    with pytest.raises(InputError, match="has an adapter already"):
        attach(lm, PLAN, seed=0)
    with pytest.raises(InputError, match="without an adapter"):
        open_twin(Subject(str(folder)))
    with pytest.raises(InputError, match="adapter: rank is 0; expected 1 or more"):
        LoraPlan(rank=0)
