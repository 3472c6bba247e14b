"""Folded weights are the hooked model, on every architecture that they can be folded into, and refused elsewhere."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.pytorch_utils import Conv1D

from audit.errors import InputError, ModelError
from audit.lm.load import LanguageModel, load
from audit.text.files import sha256_file
from tests.checkpoints import build_checkpoint
from unlearn.lineas import fold as folding
from unlearn.lineas.fold import fold
from unlearn.lineas.maps import AffineMap
from unlearn.lineas.steer import SteeredModel, steered

NORM = r".*\.post_attention_layernorm"
GATED = r".*\.(input_layernorm|post_attention_layernorm|o_proj|down_proj|gate_proj|v_proj)"


def checkpoint(folder: Path, architecture: str, *, dtype: torch.dtype = torch.float32, **changes: Any) -> Path:
    """A tiny checkpoint with nothing at its first value: a norm's scale of 1 and a bias of 0 would hide errors."""
    build_checkpoint(folder, architecture)
    source = torch.Generator().manual_seed(1)
    weights = load_file(folder / "model.safetensors")
    for one in weights.values():
        if one.dim() == 1:
            one += 0.2 * torch.randn(one.shape, generator=source)
    save_file({name: one.to(dtype) for name, one in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config |= {"dtype": str(dtype).removeprefix("torch."), **changes}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def width_of(module: nn.Module) -> int:
    if isinstance(module, nn.Linear):
        return module.out_features
    return module.nf if isinstance(module, Conv1D) else int(module.weight.shape[0])


def random_maps(lm: LanguageModel, pattern: str, *, shift: bool = True) -> dict[str, AffineMap]:
    source = torch.Generator().manual_seed(2)
    maps = {}
    for name, module in lm.model.named_modules():
        if re.fullmatch(pattern, name):
            w, b = (0.3 * torch.randn(width_of(module), generator=source) for _ in "wb")
            maps[name] = AffineMap(1 + w, b if shift else torch.zeros_like(b))
    assert maps
    return maps


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in folder.iterdir()}


def difference(lm: LanguageModel, maps: dict[str, AffineMap], strength: float, folder: Path) -> tuple[float, float]:
    """Largest difference of a logit between the hooked model and what plain transformers loads from the folder.

    Also the largest logit: rounding grows with it.
    """
    other = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.randint(200, (3, 40), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        plain, folded = lm.model(input_ids=ids).logits, other(input_ids=ids).logits
        with steered(lm.model, maps, strength):
            hooked = lm.model(input_ids=ids).logits
    assert float((plain - hooked).abs().max()) > 0.1  # steering does something
    return float((folded - hooked).abs().max()), float(hooked.abs().max())


@pytest.mark.parametrize(
    ("architecture", "pattern", "choices", "changes"),
    [
        ("gpt2", r".*\.(ln_1|ln_2|ln_f|c_proj|c_fc|c_attn)", {}, {}),
        ("llama", GATED, {}, {}),
        ("qwen2", GATED, {"as_llama": True}, {}),
        ("qwen2", r".*\.(input_layernorm|q_proj)", {}, {}),
        ("mistral", GATED, {"as_llama": True}, {"sliding_window": None}),
        ("mistral", NORM, {"shift": False}, {}),
        ("granite", GATED, {}, {}),
        ("qwen3", r".*\.(input_layernorm|o_proj)", {}, {}),
        ("gemma2", r".*\.(post.*layernorm|down_proj)", {"shift": False}, {}),
        ("gemma2", r".*\.o_proj", {}, {}),
        ("opt", r".*\.(self_attn_layer_norm|final_layer_norm|fc2|out_proj)", {}, {}),
        ("gpt_neox", r".*\.(input_layernorm|post_attention_layernorm|dense|dense_4h_to_h)", {}, {}),
        ("phi", r".*\.(input_layernorm|dense|fc2)", {}, {}),
        ("phi3", r".*\.(input_layernorm|post_attention_layernorm|down_proj)", {"shift": False}, {}),
    ],
)
def test_folded_is_hooked(
    tmp_path: Path, architecture: str, pattern: str, choices: dict[str, bool], changes: dict[str, Any]
) -> None:
    source = checkpoint(tmp_path / "source", architecture, **changes)
    before = hashes(source)
    lm = load(source)
    weights = {name: one.clone() for name, one in lm.model.state_dict().items()}
    config = lm.model.config.to_dict()
    maps = random_maps(lm, pattern, shift=choices.get("shift", True))
    as_llama = choices.get("as_llama", False)
    for strength in (0.3, 1.0):
        out = tmp_path / f"out-{strength}"
        told = fold(lm, maps, strength, out, as_llama=as_llama, texts=["the cat sat on the mat"])
        found, largest = difference(lm, maps, strength, out)
        assert found < 1e-5 * largest
        assert told.difference == told.exact_difference <= told.tolerance < 1e-4 * largest
        assert told.n_tokens > 256
        assert (out / "steering-folded.json").is_file()
        assert load(out).model.config.model_type == ("llama" if as_llama else architecture)
        assert AutoTokenizer.from_pretrained(out)("the dog")["input_ids"] == lm.tokenizer("the dog")["input_ids"]
    assert hashes(source) == before
    assert lm.model.config.to_dict() == config
    assert all(torch.equal(one, weights[name]) for name, one in lm.model.state_dict().items())


@pytest.mark.parametrize(
    ("architecture", "pattern", "shift"),
    [("gpt2", r".*\.ln_[12]", True), ("qwen2", NORM, True), ("gemma2", r".*post.*layernorm", False)],
)
def test_the_papers_sites_agree_as_the_specification_asks(
    tmp_path: Path, architecture: str, pattern: str, shift: bool
) -> None:
    lm = load(checkpoint(tmp_path / "source", architecture))
    maps = random_maps(lm, pattern, shift=shift)
    for strength in (0.3, 1.0):
        fold(lm, maps, strength, tmp_path / f"{strength}", as_llama=architecture == "qwen2")
        assert difference(lm, maps, strength, tmp_path / f"{strength}")[0] < 1e-5


def test_a_folded_model_can_be_folded_again(tmp_path: Path) -> None:
    lm = load(checkpoint(tmp_path / "source", "llama"))
    fold(lm, random_maps(lm, GATED), 1.0, tmp_path / "once")
    once = load(tmp_path / "once")  # its linear layers have biases
    maps = random_maps(once, GATED)
    told = fold(once, maps, 0.7, tmp_path / "twice")
    found, largest = difference(once, maps, 0.7, tmp_path / "twice")
    assert found < 1e-5 * largest
    assert told.n_added == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_precision_checkpoint_stays_one(tmp_path: Path, dtype: torch.dtype) -> None:
    lm = load(checkpoint(tmp_path / "source", "llama", dtype=dtype))
    maps = random_maps(lm, NORM)
    told = fold(lm, maps, 1.0, tmp_path / "out")
    assert {one.dtype for one in load_file(tmp_path / "out" / "model.safetensors").values()} == {dtype}
    assert told.exact_difference < 1e-5 < told.difference < 0.3
    assert difference(lm, maps, 1.0, tmp_path / "out")[0] == pytest.approx(told.difference, rel=0.9)
    # Loaded in half precision as well, the files are the same: what is folded is the checkpoint.
    name: Any = str(dtype).removeprefix("torch.")
    half = load(replace(lm.subject, dtype=name))
    fold(half, maps, 1.0, tmp_path / "again")
    files = [tmp_path / which / "model.safetensors" for which in ("out", "again")]
    assert sha256_file(files[0]) == sha256_file(files[1])


def test_the_record_names_source_and_maps(tmp_path: Path) -> None:
    lm = load(checkpoint(tmp_path / "source", "llama"))
    told = fold(lm, random_maps(lm, NORM), 0.5, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "steering-folded.json").read_text())
    assert content["source"]["weights"] == lm.fingerprint.weights
    assert content["maps"]["sites"] == [f"model.layers.{n}.post_attention_layernorm" for n in range(3)]
    assert content["folded"]["strength"] == 0.5
    assert content["folded"]["difference"] == told.difference
    assert told.n_added == 9  # gate, up and, by the same switch, down in three layers
    assert told.n_weights == 12


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load(checkpoint(tmp_path_factory.mktemp("fold") / "llama", "llama"))


@pytest.mark.parametrize("where", ["files", "algebra", "tokenizer"])
def test_a_wrong_export_is_removed(
    llama: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    maps = random_maps(llama, NORM)
    right, write = folding.folded_weights, folding._write
    one = "model.layers.1.mlp.up_proj.bias"

    def forgets_one_reader(*arguments: Any) -> dict[str, torch.Tensor]:
        return {name: weight for name, weight in right(*arguments).items() if name != one}

    def loses(lm: LanguageModel, target: Any, weights: dict[str, torch.Tensor], folder: Path) -> None:
        write(lm, target, weights, folder)
        if where == "files":
            path = folder / "model.safetensors"
            stored = load_file(path)
            stored[one][3] += 1e-6
            save_file(stored, path, {"format": "pt"})
        else:
            tokenizer = folder / "tokenizer.json"
            content = json.loads(tokenizer.read_text())
            content["model"]["merges"] = []
            tokenizer.write_text(json.dumps(content))

    if where == "algebra":
        monkeypatch.setattr(folding, "folded_weights", forgets_one_reader)
    else:
        monkeypatch.setattr(folding, "_write", loses)
    said = {"files": "not what was written", "algebra": "logits differ by up to", "tokenizer": "splits texts otherwise"}
    with pytest.raises(ModelError, match=said[where]):
        fold(llama, maps, 1.0, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_class_without_a_place_for_a_shift_is_refused(tmp_path: Path) -> None:
    for architecture, changes, said in (
        ("qwen2", {}, r"Qwen2ForCausalLM has no place for .*mlp.gate_proj.bias .*Llama checkpoint .*\(as_llama\)"),
        ("mistral", {"sliding_window": None}, r"MistralForCausalLM has no place .*\(as_llama\)"),
        ("phi3", {}, "Phi3ForCausalLM has no place for .*gate_up_proj.bias"),
        ("gemma2", {}, r"Gemma2RMSNorm\) cannot be folded: it has no bias"),
        ("cohere", {}, r"CohereLayerNorm\) cannot be folded"),
    ):
        lm = load(checkpoint(tmp_path / architecture, architecture, **changes))
        pattern = r".*\.input_layernorm" if architecture == "cohere" else NORM
        with pytest.raises(InputError, match=said):
            fold(lm, random_maps(lm, pattern), 1.0, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_not_like_llama_is_not_written_as_llama(llama: LanguageModel, tmp_path: Path) -> None:
    mistral = load(checkpoint(tmp_path / "mistral", "mistral"))
    with pytest.raises(InputError, match="attends to the last 24 tokens only"):
        fold(mistral, random_maps(mistral, NORM), 1.0, tmp_path / "out", as_llama=True)
    with pytest.raises(InputError, match="only qwen2 and mistral models"):
        fold(llama, random_maps(llama, NORM), 1.0, tmp_path / "out", as_llama=True)


def test_sites_that_hold_no_map_are_refused(llama: LanguageModel, tmp_path: Path) -> None:
    gpt2 = load(checkpoint(tmp_path / "gpt2", "gpt2"))
    n = 32
    ones, zeros = torch.ones(n), torch.zeros(n)
    for lm, site, one, said in (
        (llama, "model.layers.1", AffineMap(2 * ones, zeros), "the residual stream goes past its weights"),
        (llama, "model.layers.1", AffineMap(ones, ones), 'sites "mlp_out"'),
        (llama, "model.norm", AffineMap(ones, ones), "which layers of llama models read it is not known"),
        (llama, "model.layers.1.mlp.act_fn", AffineMap(torch.ones(64), torch.ones(64)), "is no LayerNorm"),
        (llama, "model.layers.1.mlp.down_proj", AffineMap(ones, ones, zeros, ones), "within a range only"),
        (llama, "model.layers.1.mlp.down_pro", AffineMap(ones, ones), "Did you mean"),
        (llama, "model.layers.1.mlp.down_proj", AffineMap(torch.ones(31), torch.ones(31)), "31 neurons"),
        (gpt2, "lm_head", AffineMap(2 * torch.ones(300), torch.zeros(300)), r"also transformer\.wte\.weight \(tied"),
    ):
        with pytest.raises(InputError, match=said):
            fold(lm, {site: one}, 1.0, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_module_of_two_layers_is_refused(tmp_path: Path) -> None:
    lm = load(checkpoint(tmp_path / "source", "llama"))
    lm.model.model.layers[1].mlp = lm.model.model.layers[0].mlp
    with pytest.raises(InputError, match=r"is also model\.layers\.1\.mlp\.down_proj"):
        fold(lm, random_maps(lm, r".*\.0\.mlp\.down_proj"), 1.0, tmp_path / "out")


def test_packed_weights_and_adapters_are_refused(tmp_path: Path) -> None:
    lm = load(checkpoint(tmp_path / "source", "llama"))
    maps = random_maps(lm, NORM)
    with pytest.raises(ModelError, match="Merge it into the model"):
        fold(replace(lm, subject=replace(lm.subject, adapter="lora")), maps, 1.0, tmp_path / "out")
    lm.model.config.quantization_config = {"quant_method": "gptq", "bits": 4}
    with pytest.raises(ModelError, match="quantised with gptq"):
        fold(lm, maps, 1.0, tmp_path / "out")
    del lm.model.config.quantization_config
    head = lm.model.lm_head
    head.weight = nn.Parameter(head.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(ModelError, match=r"lm_head\.weight is torch\.int8"):
        fold(lm, maps, 1.0, tmp_path / "out")


def test_a_steered_model_and_a_strength_that_does_nothing_are_refused(llama: LanguageModel, tmp_path: Path) -> None:
    maps = random_maps(llama, NORM)
    with SteeredModel(llama.model, maps), pytest.raises(InputError, match="steered or watched at this moment"):
        fold(llama, maps, 1.0, tmp_path / "out")
    for strength, said in ((0.0, "nothing to fold"), (float("nan"), "strength is nan")):
        with pytest.raises(InputError, match=said):
            fold(llama, maps, strength, tmp_path / "out")


def test_hooks_that_transformers_leaves_do_not_matter(llama: LanguageModel, tmp_path: Path) -> None:
    llama.model(input_ids=torch.zeros((1, 2), dtype=torch.long), output_hidden_states=True)
    assert any(module._forward_hooks for module in llama.model.modules())
    fold(llama, random_maps(llama, NORM), 1.0, tmp_path / "out")


def test_numbers_beyond_half_precision_are_refused(tmp_path: Path) -> None:
    lm = load(checkpoint(tmp_path / "source", "llama", dtype=torch.float16))
    wide = {"model.layers.1.input_layernorm": AffineMap(torch.full((32,), 1e6), torch.zeros(32))}
    with pytest.raises(InputError, match="does not fit float16 after the fold"):
        fold(lm, wide, 1.0, tmp_path / "out")


def test_folders_that_hold_something_are_refused(tmp_path: Path) -> None:
    lm = load(checkpoint(tmp_path / "source", "llama"))
    maps = random_maps(lm, NORM)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("kept")
    with pytest.raises(InputError, match="is not empty"):
        fold(lm, maps, 1.0, tmp_path / "full")
    with pytest.raises(InputError, match="lie one in the other"):
        fold(lm, maps, 1.0, tmp_path / "source" / "out")
    assert (tmp_path / "full" / "a.txt").read_text() == "kept"
