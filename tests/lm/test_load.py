from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from audit.errors import DataError, InputError, ModelError
from audit.lm.load import load, pick_device
from audit.lm.subject import Subject
from audit.lm.tokens import check_lengths, encode, prefix_ids


@pytest.fixture
def checkpoint(make_checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(make_checkpoint("llama"), tmp_path / "checkpoint"))


def test_fingerprint_is_what_sha256sum_says_and_changes_with_any_file(checkpoint: Path) -> None:
    before = load(checkpoint).fingerprint
    digest = hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()
    assert before.files["model.safetensors"] == digest
    assert before.weights == hashlib.sha256(f"{digest}  model.safetensors\n".encode()).hexdigest()
    weights = load_file(checkpoint / "model.safetensors")
    weights["model.norm.weight"][0] += 1e-3
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    after = load(checkpoint).fingerprint
    assert after.weights != before.weights
    assert (after.config, after.tokenizer) == (before.config, before.tokenizer)


def test_a_cpu_loads_float32_unless_told_otherwise(checkpoint: Path) -> None:
    assert load(Subject(str(checkpoint), device="cpu")).model.dtype == torch.float32
    assert load(Subject(str(checkpoint), device="cpu", dtype="bfloat16")).model.dtype == torch.bfloat16


def test_a_checkpoint_in_shards_loads_and_a_missing_shard_is_named(checkpoint: Path) -> None:
    AutoModelForCausalLM.from_pretrained(checkpoint).save_pretrained(checkpoint, max_shard_size="40KB")
    (checkpoint / "model.safetensors").unlink(missing_ok=True)
    shards = sorted(path.name for path in checkpoint.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert set(shards) <= set(load(checkpoint).fingerprint.files)
    (checkpoint / shards[0]).unlink()
    with pytest.raises(ModelError, match=f"lacks 1 of {len(shards)} weight shards, first {shards[0]}"):
        load(checkpoint)


def test_an_index_that_points_outside_is_refused(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    index = {"weight_map": {"x": "../../secret.safetensors"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="names a shard outside the folder"):
        load(checkpoint)


def test_a_pickle_is_never_loaded(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"only as a pickle \(pytorch_model.bin\)"):
        load(checkpoint)


def test_weights_that_are_missing_are_an_error_not_random_numbers(checkpoint: Path) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 weights of LlamaForCausalLM, first model.layers.1.mlp.up_proj"):
        load(checkpoint)


def test_a_truncated_file_is_named(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="model.safetensors is not a whole safetensors file"):
        load(checkpoint)


def test_code_in_a_checkpoint_is_not_run(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    marker = checkpoint / "ran"
    (checkpoint / "evil.py").write_text(f"open({str(marker)!r}, 'w')")
    config["model_type"] = "evil"
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="pass --trust-remote-code if you trust it"):
        load(checkpoint)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "config.json is not readable JSON"), ("{}", 'names no "model_type"'), (None, "holds no config.json")],
)
def test_a_broken_config_is_named(checkpoint: Path, content: str | None, message: str) -> None:
    (checkpoint / "config.json").unlink()
    if content is not None:
        (checkpoint / "config.json").write_text(content)
    with pytest.raises(ModelError, match=message):
        load(checkpoint)


def test_a_folder_without_tokenizer_is_refused(checkpoint: Path) -> None:
    for path in checkpoint.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError, match="holds no usable tokenizer"):
        load(checkpoint)


def test_a_wrong_path_names_the_nearest(checkpoint: Path) -> None:
    with pytest.raises(InputError, match=r"no folder .*checkpiont. Did you mean 'checkpoint'\?"):
        load(checkpoint.parent / "checkpiont")
    with pytest.raises(InputError, match="config.json is a file; expected the folder"):
        load(checkpoint / "config.json")
    with pytest.raises(InputError, match="revision 'main' was given with the folder"):
        load(Subject(str(checkpoint), revision="main"))


def test_devices_that_are_not_there_are_refused() -> None:
    with pytest.raises(InputError, match='no device "gpu"; expected auto, cpu'):
        pick_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="torch sees no CUDA GPU here"):
            pick_device("cuda")
    with pytest.raises(InputError, match='dtype is "int8"; expected one of auto, float32'):
        Subject("x", dtype="int8")  # type: ignore[arg-type]


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


def test_control_tokens_in_a_text_are_ordinary_text(checkpoint: Path) -> None:
    lm = load(checkpoint)
    (as_text,), (as_control,) = encode(lm, ["a</s>"]), encode(lm, ["a</s>"], parse_special=True)
    assert lm.tokenizer.eos_token_id not in as_text
    assert lm.tokenizer.eos_token_id in as_control
    assert lm.tokenizer.decode(as_text) == "a</s>"
    assert encode(lm, []) == []


def test_bos_is_prepended_only_where_the_tokenizer_has_one(make_checkpoint: Callable[..., Path]) -> None:
    assert prefix_ids(load(make_checkpoint("llama"))) == [0]
    assert prefix_ids(load(make_checkpoint("llama", bos=False))) == []


def test_too_long_and_empty_texts_are_named(checkpoint: Path) -> None:
    lm = load(checkpoint)
    with pytest.raises(DataError, match=r"text 'b' has 200 tokens; the model .* accepts at most 127. Shorten"):
        check_lengths(lm, ["a", "b"], [[1], [1] * 200], truncate=False)
    kept, cut = check_lengths(lm, ["a", "b"], [[1], list(range(200))], truncate=True)
    assert cut == ["b"]
    assert kept[1] == list(range(127))
    with pytest.raises(DataError, match="1 text with fewer than 1 token, .*first: 'b'"):
        check_lengths(lm, ["a", "b"], [[1], []], truncate=False)
