from __future__ import annotations

import copy
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from audit.errors import ModelError
from audit.lm.load import load
from audit.lm.subject import Subject

IDS = torch.tensor([[0, 5, 6, 7]])
LORA = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")


def save_adapter(checkpoint: Path, folder: Path, config: PeftConfig = LORA) -> torch.Tensor:
    """Save an adapter that changes the model, and return the adapted model's logits."""
    wrapped = get_peft_model(AutoModelForCausalLM.from_pretrained(checkpoint), copy.deepcopy(config)).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
        wrapped.save_pretrained(folder)
        return wrapped(input_ids=IDS).logits


def test_an_adapter_changes_the_model_and_its_fingerprint(checkpoint: Path, tmp_path: Path) -> None:
    plain = load(checkpoint)
    wrapped = get_peft_model(
        AutoModelForCausalLM.from_pretrained(checkpoint),
        LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM"),
    )
    wrapped.save_pretrained(tmp_path / "adapter")
    adapted = load(Subject(str(checkpoint), adapter=str(tmp_path / "adapter")))
    ids = torch.tensor([[0, 5, 6, 7]])
    with torch.no_grad():
        expected = wrapped.eval()(input_ids=ids).logits
        torch.testing.assert_close(adapted.model(input_ids=ids).logits, expected)
        assert not torch.allclose(plain.model(input_ids=ids).logits, expected)
    assert adapted.fingerprint.weights != plain.fingerprint.weights
    assert "adapter/adapter_model.safetensors" in adapted.fingerprint.files
    (tmp_path / "adapter/adapter_model.safetensors").rename(tmp_path / "adapter/adapter_model.bin")
    with pytest.raises(ModelError, match="holds no adapter_model.safetensors"):
        load(Subject(str(checkpoint), adapter=str(tmp_path / "adapter")))


def test_an_adapter_of_virtual_tokens_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    wrapped = get_peft_model(
        AutoModelForCausalLM.from_pretrained(checkpoint),
        PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    )
    wrapped.save_pretrained(tmp_path / "adapter")
    with pytest.raises(ModelError, match="adds virtual tokens"):
        load(Subject(str(checkpoint), adapter=str(tmp_path / "adapter")))


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(r=2, target_modules=["lm_head", "q_proj"]),
        LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head", "embed_tokens"]),
        LoraConfig(r=2, use_dora=True, target_modules="all-linear"),
        LoraConfig(r=2, target_modules=["embed_tokens"]),
        LoraConfig(r=2, target_modules=["q_proj"], trainable_token_indices=[5, 6]),
        IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
    ],
)
def test_adapters_of_every_kind_are_sound(checkpoint: Path, tmp_path: Path, config: PeftConfig) -> None:
    expected = save_adapter(checkpoint, tmp_path / "adapter", config)
    adapted = load(Subject(str(checkpoint), adapter=str(tmp_path / "adapter")))
    with torch.no_grad():
        torch.testing.assert_close(adapted.model(input_ids=IDS).logits, expected)


@pytest.mark.parametrize(
    ("old", "new", "lacking"),
    [(".model.model.", ".model._orig_mod.model.", 6), (".layers.1.", ".layers.9.", 2)],
)
def test_an_adapter_whose_weights_do_not_fit_is_refused(
    checkpoint: Path, tmp_path: Path, old: str, new: str, lacking: int
) -> None:
    save_adapter(checkpoint, tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({name.replace(old, new): value for name, value in load_file(path).items()}, path)
    with warnings.catch_warnings(record=True) as seen, pytest.raises(ModelError, match=f"lacks {lacking} of its weigh"):
        load(Subject(str(checkpoint), adapter=str(tmp_path / "adapter")))
    assert not [warning for warning in seen if "adapter keys" in str(warning.message)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("adapter_model.safetensors", "junk", "adapter_model.safetensors is not a whole safetensors file"),
        ("adapter_config.json", "[]", "does not fit the model"),
        ("adapter_config.json", '{"peft_type": "zzz"}', "does not fit the model: KeyError: 'zzz'"),
    ],
)
def test_a_broken_adapter_is_named(checkpoint: Path, tmp_path: Path, name: str, content: str, message: str) -> None:
    save_adapter(checkpoint, tmp_path / "adapter")
    (tmp_path / "adapter" / name).write_text(content)
    with pytest.raises(ModelError, match=message):
        load(Subject(str(checkpoint), adapter=str(tmp_path / "adapter")))


def test_an_adapter_inside_the_models_folder_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    save_adapter(checkpoint, tmp_path / "adapter")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(tmp_path / "adapter" / name, checkpoint / name)
    with pytest.raises(ModelError, match=r"holds adapter_config.json, .* the adapter with --adapter FOLDER"):
        load(checkpoint)
