from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from audit.errors import InputError
from audit.lm.hooks import patched, recorded
from audit.lm.load import LanguageModel, load

IDS = torch.tensor([[0, 5, 6, 7]])


@pytest.fixture
def llama(make_checkpoint: Callable[..., Path]) -> LanguageModel:
    return load(make_checkpoint("llama"))


def n_hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_recorded_gives_each_calls_output_and_leaves_no_hook(llama: LanguageModel) -> None:
    with torch.no_grad(), recorded(llama.model, ["model.layers.0", "model.norm"]) as outputs:
        llama.model(input_ids=IDS)
        llama.model(input_ids=IDS[:, :2])
    assert [tuple(tensor.shape) for tensor in outputs["model.norm"]] == [(1, 4, 32), (1, 2, 32)]
    assert n_hooks(llama.model) == 0
    with torch.no_grad():  # transformers keeps hooks of its own once hidden states were asked for
        hidden = llama.model(input_ids=IDS, output_hidden_states=True).hidden_states
    torch.testing.assert_close(outputs["model.layers.0"][0], hidden[1])


def test_patched_takes_effect_counts_calls_and_leaves_the_model_as_it_was(llama: LanguageModel) -> None:
    weights = {name: value.clone() for name, value in llama.model.state_dict().items()}
    with torch.no_grad():
        before = llama.model(input_ids=IDS).logits
        with patched(llama.model, {"model.layers.1": lambda hidden: hidden * 0}) as calls:
            during = llama.model(input_ids=IDS).logits
        after = llama.model(input_ids=IDS).logits
    assert calls == {"model.layers.1": 1}
    assert not torch.allclose(before, during)
    assert torch.equal(before, after)
    assert all(torch.equal(weights[name], value) for name, value in llama.model.state_dict().items())


def test_hooks_go_after_an_exception_and_other_hooks_stay(llama: LanguageModel) -> None:
    seen: list[int] = []
    foreign = llama.model.model.norm.register_forward_hook(lambda *_: seen.append(1))
    with pytest.raises(ZeroDivisionError), patched(llama.model, {"model.norm": lambda hidden: hidden / (1 // 0)}):
        llama.model(input_ids=IDS)
    assert n_hooks(llama.model) == 1
    llama.model(input_ids=IDS)
    assert seen
    foreign.remove()


def test_modules_with_named_outputs_are_watched_and_patched_at_the_first(llama: LanguageModel) -> None:
    with torch.no_grad():
        before = llama.model(input_ids=IDS)
        with recorded(llama.model, ["model", "model.norm"]) as outputs:
            llama.model(input_ids=IDS)
        with patched(llama.model, {"model": lambda hidden: hidden * 0}) as calls:
            during = llama.model(input_ids=IDS)
    torch.testing.assert_close(outputs["model"][0], outputs["model.norm"][0])
    assert calls == {"model": 1}
    assert not during.logits.any()
    assert during.past_key_values is not None
    assert before.logits.any()


def test_a_module_that_gives_no_tensor_is_named() -> None:
    class Namer(nn.Module):
        def forward(self) -> str:
            return "no tensor"

    model = nn.ModuleDict({"namer": Namer()})
    for context in (recorded(model, ["namer"]), patched(model, {"namer": abs})):
        with pytest.raises(InputError, match="module 'namer' gives str, not a tensor"), context:  # type: ignore[attr-defined]
            model["namer"]()
    assert n_hooks(model) == 0


@pytest.mark.parametrize("context", [lambda m, n: recorded(m, n), lambda m, n: patched(m, dict.fromkeys(n, abs))])
def test_an_unknown_module_is_named_with_the_nearest_and_leaves_no_hook(
    llama: LanguageModel, context: Callable[..., object]
) -> None:
    with (
        pytest.raises(InputError, match=r"no module 'model.layer.0'. Did you mean 'model.layers.0'\?"),
        context(llama.model, ["model.norm", "model.layer.0"]),  # type: ignore[attr-defined]
    ):
        pass
    assert n_hooks(llama.model) == 0
