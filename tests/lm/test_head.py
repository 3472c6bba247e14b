from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from audit.errors import ModelError
from audit.lm.load import LanguageModel, load
from audit.lm.logprobs import token_log_probs
from audit.lm.subject import Subject


def change_logits(lm: LanguageModel, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Let the model do something to its logits that its head does not show."""
    real = lm.model.forward

    def forward(*args: object, **kwargs: object) -> object:
        output = real(*args, **kwargs)
        output.logits = change(output.logits)
        return output

    lm.model.forward = forward


@pytest.mark.parametrize(("dtype", "factor"), [("float32", 2.0), ("float32", 1.001), ("bfloat16", 1.02)])
def test_a_head_that_is_not_understood_is_refused(checkpoint: Path, dtype: str, factor: float) -> None:
    lm = load(Subject(str(checkpoint), dtype=dtype))  # type: ignore[arg-type]
    change_logits(lm, lambda logits: logits * factor)
    with pytest.raises(ModelError, match="changes its logits after the head in a way that is not known"):
        token_log_probs(lm, [[5, 6]], prefix=[0])


def test_a_head_in_half_precision_agrees_with_the_model(any_checkpoint: Path) -> None:
    (score,) = token_log_probs(load(Subject(str(any_checkpoint), dtype="bfloat16")), [[5, 6, 7]], prefix=[0])
    assert np.isfinite(score.log_probs).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_soft_cap_of_recurrent_gemma_is_known(make_checkpoint: Callable[..., Path], dtype: str) -> None:
    lm = load(Subject(str(make_checkpoint("recurrent_gemma")), dtype=dtype))  # type: ignore[arg-type]
    ids = [0, *range(20, 60)]
    (score,) = token_log_probs(lm, [ids[1:]], prefix=[0])
    with torch.no_grad():
        log_p = lm.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, :-1].float().log_softmax(-1)
    expected = log_p.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    np.testing.assert_allclose(score.log_probs, expected.numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("architecture", "setting"), [("llama", "is_causal"), ("gemma3_text", "use_bidirectional_attention")]
)
def test_a_model_that_sees_what_comes_after_is_refused(
    make_checkpoint: Callable[..., Path], tmp_path: Path, architecture: str, setting: str
) -> None:
    for path in make_checkpoint(architecture).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config[setting] = setting != "is_causal"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="lets a token see what comes after it"):
        token_log_probs(load(tmp_path), [[5, 6]], prefix=[0])


def test_an_architecture_without_a_known_head_is_refused(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = load(checkpoint)
    monkeypatch.setattr(type(lm.model), "get_output_embeddings", lambda self: None)
    with pytest.raises(ModelError, match="LlamaForCausalLM has no language-model head that can be found"):
        token_log_probs(lm, [[5, 6]], prefix=[0])


def test_an_architecture_without_a_known_decoder_is_refused(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = load(checkpoint)
    whole = torch.nn.Identity()
    whole.get_output_embeddings = lambda: lm.model.lm_head  # type: ignore[assignment]
    monkeypatch.setattr(type(lm.model), "get_decoder", lambda self: whole)
    with pytest.raises(ModelError, match="LlamaForCausalLM has no decoder that can be run without its head"):
        token_log_probs(lm, [[5, 6]], prefix=[0])


def test_weights_that_are_not_finite_are_refused(checkpoint: Path) -> None:
    lm = load(checkpoint)
    with torch.no_grad():
        lm.model.get_input_embeddings().weight[1] = torch.nan
    with pytest.raises(ModelError, match="logits that are not finite"):
        token_log_probs(lm, [[5, 6]], prefix=[0])
