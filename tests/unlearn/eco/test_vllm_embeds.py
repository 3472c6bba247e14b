"""What is sent to vLLM, as far as can be told without it: the embeddings that the hook gives inside the model."""

from __future__ import annotations

import base64
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from audit.answers.formats import PromptFormat
from audit.errors import InputError, MissingDependencyError, ModelError
from audit.lm.load import LanguageModel, load
from audit.lm.subject import Subject
from tests.checkpoints import GATED, build_checkpoint
from unlearn.eco import vllm_embeds as module
from unlearn.eco.classifier import PromptScores
from unlearn.eco.corruptions import Corruption
from unlearn.eco.guard import EcoGuard, GuardSettings
from unlearn.eco.judge import Judge
from unlearn.eco.vllm_embeds import (
    POWERS,
    EmbeddingTable,
    check_vllm,
    completions_fields,
    load_embeddings,
    vllm_prompts,
)

PROMPTS = ["the cat sat on the mat", "who is Zorb and where did the dog run", "Zorb", "the hill"]
FLAGGED = [False, True, True, False]


class Zorb:
    """Every text that names Zorb is to be forgotten."""

    def scores(self, texts: Sequence[str]) -> PromptScores:
        found = np.array([float("Zorb" in text) for text in texts])
        return PromptScores(found, np.ones(len(texts), dtype=np.int64), np.zeros(len(texts), dtype=np.bool_))


def guarded(lm: LanguageModel) -> EcoGuard:
    form = PromptFormat("text", "Q: ", " A:")
    settings = GuardSettings("Zorb", Corruption("rand_noise_first_n", 5.0, 3), format=form)
    return EcoGuard(lm, Judge(Zorb(), 0.5, key=b"0123456789abcdef"), settings)


@pytest.fixture(scope="module", params=["llama", "gemma3_text"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp(request.param), request.param)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_table_alone_gives_what_the_hook_gives_inside_the_model(folder: Path, dtype: str) -> None:
    whole = guarded(load(Subject(str(folder), dtype=dtype, device="cpu")))  # type: ignore[arg-type]
    alone = guarded(load_embeddings(Subject(str(folder), dtype=dtype)))  # type: ignore[arg-type]
    sent = vllm_prompts(alone, PROMPTS)
    assert [sorted(one) for one in sent] == [
        ["prompt_embeds"] if flagged else ["prompt_token_ids"] for flagged in FLAGGED
    ]
    for prompt, one in zip(PROMPTS, sent, strict=True):
        prepared = whole.prepare([prompt])
        if "prompt_token_ids" in one:
            assert one["prompt_token_ids"] == prepared.input_ids[0].tolist()
            continue
        with torch.no_grad():
            inside = whole.forward(prepared, output_hidden_states=True)
            outside = whole.lm.model(inputs_embeds=one["prompt_embeds"][None])
        assert torch.equal(one["prompt_embeds"], inside.hidden_states[0][0])
        assert torch.equal(outside.logits[0, -1], inside.logits[0, -1])
        assert not torch.equal(one["prompt_embeds"], whole.lm.model.get_input_embeddings()(prepared.input_ids)[0])
    assert alone.lm.fingerprint == whole.lm.fingerprint
    assert alone.stop_ids == whole.stop_ids


def test_the_same_prompt_is_sent_as_the_same_embeddings_whatever_its_batch(folder: Path) -> None:
    guard = guarded(load_embeddings(Subject(str(folder), dtype="float32")))
    batch = vllm_prompts(guard, PROMPTS)
    for place in (1, 2):
        [again] = vllm_prompts(guard, [PROMPTS[place]])
        assert torch.equal(again["prompt_embeds"], batch[place]["prompt_embeds"])
    assert len(batch[1]["prompt_embeds"]) > len(batch[2]["prompt_embeds"])  # without padding


@pytest.mark.parametrize("kind", POWERS)
def test_every_known_kind_of_model_scales_as_transformers_does(kind: str) -> None:
    settings = GATED | ({"head_dim": 8} if "gemma" in kind else {}) | {"pad_token_id": None, "num_hidden_layers": 1}
    experts = {
        "num_experts_per_tok": 1,
        "num_local_experts": 2,
        "num_experts": 2,
        "moe_intermediate_size": 8,
        "shared_expert_intermediate_size": 8,
    }
    settings |= experts if "moe" in kind or kind == "mixtral" else {}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).eval()
    ids = torch.arange(40)[None]
    for dtype in (torch.float32, torch.bfloat16):
        model.to(dtype)
        table = EmbeddingTable(model.get_input_embeddings().weight.detach(), POWERS[kind])
        with torch.no_grad():
            inside = model(ids, output_hidden_states=True)
            assert torch.equal(table(ids), inside.hidden_states[0])  # what reaches the first layer
            assert torch.equal(model(inputs_embeds=table(ids)).logits, inside.logits)


def test_completions_carry_ids_or_a_tensor_in_base64(folder: Path) -> None:
    sent = [
        completions_fields(one)
        for one in vllm_prompts(guarded(load_embeddings(Subject(str(folder), dtype="float32"))), PROMPTS)
    ]
    assert [sorted(one) for one in sent] == [["prompt_embeds"] if flagged else ["prompt"] for flagged in FLAGGED]
    archive = zipfile.ZipFile(BytesIO(base64.b64decode(sent[1]["prompt_embeds"], validate=True)))
    [data] = [name for name in archive.namelist() if name.endswith("data/0")]
    [prompt] = vllm_prompts(guarded(load_embeddings(Subject(str(folder), dtype="float32"))), PROMPTS[1:2])
    assert np.array_equal(np.frombuffer(archive.read(data), np.float32), prompt["prompt_embeds"].numpy().ravel())


def test_a_clients_embeddings_have_no_way_in(folder: Path) -> None:
    guard = guarded(load_embeddings(Subject(str(folder), dtype="float32")))
    for prompt in (
        torch.zeros(3, 32),
        {"prompt_embeds": torch.zeros(3, 32)},
        [{"role": "user", "content": torch.zeros(3)}],
    ):
        with pytest.raises(InputError, match="prompt 0"):
            vllm_prompts(guard, [prompt])  # type: ignore[list-item]


def test_vllm_before_026_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("0.26.0", "0.26.0+cu129", "0.33.0", "1.0"):
        check_vllm(version)
    for version in ("0.25.9", "0.26.0rc1", "unknown", ""):
        with pytest.raises(MissingDependencyError, match="expected 0.26.0 or later: .*CVE-2026-73557"):
            check_vllm(version)
    guard = guarded(load_embeddings(Subject(str(folder), dtype="float32")))
    monkeypatch.setattr(module, "find_spec", lambda name: object())
    monkeypatch.setattr(module, "installed_version", lambda name: "0.25.1")
    with pytest.raises(MissingDependencyError, match="'0.25.1'"):
        vllm_prompts(guard, PROMPTS)


def test_models_of_which_the_scale_is_not_known_are_refused(tmp_path: Path, folder: Path) -> None:
    granite = build_checkpoint(tmp_path / "granite", "granite")
    with pytest.raises(ModelError, match="kind 'granite'"):
        load_embeddings(Subject(str(granite), dtype="float32"))
    with pytest.raises(ModelError, match="kind 'granite'"):
        vllm_prompts(guarded(load(Subject(str(granite), device="cpu"))), PROMPTS)
    with pytest.raises(InputError, match="the dtype is 'auto'"):
        load_embeddings(Subject(str(folder)))
    gpt = build_checkpoint(tmp_path / "gpt", "gpt2")
    (gpt / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(ModelError, match="embed_tokens.weight: none"):
        load_embeddings(Subject(str(gpt), dtype="float32"))
