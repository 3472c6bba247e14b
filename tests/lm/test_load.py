from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from audit.errors import DataError, InputError, ModelError
from audit.lm.checkpoint import find_checkpoint
from audit.lm.load import load, load_tokens, pick_device
from audit.lm.subject import Subject
from audit.lm.tokens import check_lengths, encode, prefix_ids


def write_json(path: Path, **changes: object) -> None:
    """Change fields of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


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


@pytest.mark.parametrize("name", ["tokenizer.4.0.0.json", "spiece.model", "qwen.tiktoken", "vocab.json"])
def test_every_file_that_a_tokenizer_may_use_is_fingerprinted(checkpoint: Path, name: str) -> None:
    before = load(checkpoint).fingerprint
    shutil.copy(checkpoint / "tokenizer.json", checkpoint / name)
    after = load(checkpoint).fingerprint
    assert after.files.keys() - before.files.keys() == {name}
    assert after.tokenizer != before.tokenizer


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


@pytest.mark.parametrize("name", [3, None, ["a.safetensors"]])
def test_an_index_of_anything_but_names_is_refused(checkpoint: Path, name: object) -> None:
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": name}}))
    with pytest.raises(ModelError, match="is not a safetensors index"):
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


def add_weights(checkpoint: Path, *names: str) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    weights |= {name: torch.ones(2) for name in names}
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})


def test_weights_that_the_configuration_leaves_over_are_refused(checkpoint: Path) -> None:
    write_json(checkpoint / "config.json", num_hidden_layers=1)
    with pytest.raises(ModelError, match=r"holds 18 weights that LlamaForCausalLM as configured does not use, first "):
        load(checkpoint)


def test_buffers_of_old_versions_towers_and_further_heads_may_be_left_over(checkpoint: Path) -> None:
    before = load(checkpoint).model.state_dict()
    add_weights(
        checkpoint,
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.layers.0.attn.masked_bias",
        "model.vision_tower.layers.0.weight",
        "multi_modal_projector.weight",
        "mtp.layers.0.weight",
    )
    assert load(checkpoint).model.state_dict().keys() == before.keys()
    add_weights(checkpoint, "model.layers.0.self_attn.q_proj.bias")
    with pytest.raises(ModelError, match=r"holds 1 weights .* first model.layers.0.self_attn.q_proj.bias"):
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


def test_a_tokenizers_own_code_is_not_run(checkpoint: Path) -> None:
    write_json(
        checkpoint / "tokenizer_config.json",
        tokenizer_class="Evil",
        auto_map={"AutoTokenizer": ["evil.Evil", None]},
    )
    with pytest.raises(ModelError, match="pass --trust-remote-code if you trust it"):
        load(checkpoint)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": "64"}, "'hidden_size' expected int, got str .*Check config.json"),
        ({"num_attention_heads": 0}, "ZeroDivisionError: .*Check config.json"),
        ({"head_dim": 7}, "even rotary dimension.*Check config.json"),
        ({"dtype": "zzz"}, "AttributeError: .*zzz.*Check config.json"),
        ({"rope_parameters": []}, "rope_parameters"),
        ({"hidden_act": "zzz"}, "KeyError: 'zzz'. Check config.json"),
        ({"vocab_size": 320}, "the shapes of its weights are not those that config.json asks for"),
        ({"max_position_embeddings": 0}, "max_position_embeddings = 0; expected a whole number of tokens, at least 2"),
        ({"max_position_embeddings": -1}, "max_position_embeddings = -1; expected"),
    ],
)
def test_a_hostile_configuration_is_refused_by_name(checkpoint: Path, changes: dict[str, object], message: str) -> None:
    write_json(checkpoint / "config.json", **changes)
    with pytest.raises(ModelError, match=message):
        load(checkpoint)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", "[]", "holds no usable tokenizer: TypeError"),
        ("tokenizer.json", "[" * 100_000, "holds no usable tokenizer: RecursionError"),
        ("tokenizer_config.json", "[]", "holds no usable tokenizer: AttributeError"),
        ("tokenizer_config.json", '{"bos_token": 5}', "bos_token has to be either str or AddedToken"),
        ("config.json", "[" * 100_000, "config.json is not readable JSON: maximum recursion depth"),
        ("model.safetensors.index.json", "[" * 100_000, "index.json is not a safetensors index: maximum recursion"),
    ],
)
def test_a_hostile_file_is_refused_by_name(checkpoint: Path, name: str, content: str, message: str) -> None:
    if name == "model.safetensors.index.json":
        (checkpoint / "model.safetensors").unlink()
    (checkpoint / name).write_text(content)
    with pytest.raises(ModelError, match=message):
        load(checkpoint)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_file_that_may_not_be_read_is_named(checkpoint: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def guarded(path: Path, *args: object, **kwargs: object) -> object:  # root, as in a container, may read anything
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", guarded)
    with pytest.raises(ModelError, match=f"{name}: permission denied. Let this user read"):
        find_checkpoint(Subject(str(checkpoint)))


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


def test_a_home_folder_of_nobody_is_refused() -> None:
    with pytest.raises(InputError, match="no home folder for '~nosuchuser' in '~nosuchuser/x'"):
        find_checkpoint(Subject("~nosuchuser/x"))


@pytest.mark.parametrize("name", ["gpu", "meta", "xpu", "cpu:1", "xla", "mps:0", "cuda:", "cuda:-1", ""])
def test_only_devices_that_can_be_audited_on_are_known(name: str) -> None:
    with pytest.raises(InputError, match=f'no device "{name}"; expected auto, cpu, cuda, cuda:N or mps'):
        pick_device(name)


def test_devices_that_are_not_there_are_refused() -> None:
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="torch sees no CUDA GPU here"):
            pick_device("cuda")
    with pytest.raises(InputError, match='dtype is "int8"; expected one of auto, float32'):
        Subject("x", dtype="int8")  # type: ignore[arg-type]


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


def test_a_context_is_read_from_where_mpt_keeps_it(make_checkpoint: Callable[..., Path]) -> None:
    assert load_tokens(Subject(str(make_checkpoint("mpt")))).n_context == 64
    assert load(make_checkpoint("mpt")).n_context == 64


def test_a_tokenizer_of_another_model_is_refused_before_weights_are_loaded(checkpoint: Path) -> None:
    write_json(checkpoint / "config.json", vocab_size=100)
    with pytest.raises(ModelError, match="the tokenizer has 286 tokens, the model only 100 embedding rows"):
        load_tokens(Subject(str(checkpoint)))


def test_a_token_without_an_embedding_is_refused_where_it_is_used(checkpoint: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    tokenizer.add_tokens([f"<extra{i}>" for i in range(20)])
    tokenizer.save_pretrained(checkpoint)
    for lm in (load_tokens(Subject(str(checkpoint))), load(checkpoint)):
        check_lengths(lm, ["a"], encode(lm, ["the cat"]), truncate=False)
        with pytest.raises(ModelError, match="text 'b' holds token 305, .* 300 embedding rows for a tokenizer of 306"):
            check_lengths(lm, ["a", "b"], encode(lm, ["the cat", "a <extra19>"]), truncate=False)


def test_an_added_token_that_is_not_special_is_one_id_in_any_text(checkpoint: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    tokenizer.add_tokens(["<think>"])
    tokenizer.save_pretrained(checkpoint)
    lm = load(checkpoint)
    assert encode(lm, ["a<think>b"]) == encode(lm, ["a<think>b"], parse_special=True)
    assert 286 in encode(lm, ["a<think>b"])[0]
