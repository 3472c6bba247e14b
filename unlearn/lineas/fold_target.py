"""The class that holds a folded model: it must load every weight, added biases included.

transformers drops a bias that a class has no place for with no more than a note, and the folded model would be another.
Some classes have switches (Llama's ``attention_bias`` and ``mlp_bias``); a switch gives every layer of its kind a bias,
which is zero where nothing was folded. Qwen2 and Mistral have no bias in their MLP, and no switch, but without a
sliding window they compute what Llama does, so they can be written as a Llama checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any, Final

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from audit.errors import InputError

_SWITCHES: Final = {"self_attn": "attention_bias", "mlp": "mlp_bias"}
_LIKE_LLAMA: Final = ("qwen2", "mistral")
_SHARED: Final = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "use_cache",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "tie_word_embeddings",
    "rope_parameters",
    "attention_dropout",
)


def empty_target(model: PreTrainedModel, names: Iterable[str], *, as_llama: bool = False) -> PreTrainedModel:
    """A model without memory for its weights, whose class holds all of ``names``.

    Args:
        model: The source; it is only read.
        names: Of all weights that it must hold.
        as_llama: Write a Qwen2 or Mistral model as the Llama model that it equals.

    Raises:
        InputError: The class cannot hold an added bias, or the model is not like Llama.
    """
    wanted = set(names)
    added = wanted - set(model.state_dict())
    if as_llama:
        kind: type[PreTrainedModel] = LlamaForCausalLM
        config = _llama_config(model)
        wanted_switches = {name.split(".")[-3] for name in wanted if name.endswith(".bias")}
    else:
        kind, config = type(model), deepcopy(model.config)
        wanted_switches = {name.split(".")[-3] for name in added if name.count(".") >= 2}
    inner = config.get_text_config()
    for part in wanted_switches & _SWITCHES.keys():
        if hasattr(inner, _SWITCHES[part]):
            setattr(inner, _SWITCHES[part], True)
    with torch.device("meta"):
        target = kind(config)
    lost = sorted(wanted - set(target.state_dict()))
    if lost:
        offer = ""
        if not as_llama and model.config.model_type in _LIKE_LLAMA:
            offer = "write it as the Llama checkpoint that it equals (as_llama), "
        raise InputError(
            f"{kind.__name__} has no place for {lost[0]} ({len(lost):,} such), so that the shift would be lost when "
            f"the folded model is loaded. Steer without folding, {offer}or fold maps whose shifts are 0 there."
        )
    target.generation_config = deepcopy(model.generation_config)
    return target


def _llama_config(model: PreTrainedModel) -> Any:
    config: Any = model.config
    if config.model_type not in _LIKE_LLAMA:
        raise InputError(
            f"{type(model).__name__} is not written as a Llama checkpoint; only {' and '.join(_LIKE_LLAMA)} models "
            "compute the same. Leave as_llama out."
        )
    window = getattr(config, "sliding_window", None)
    if window is not None and window < config.max_position_embeddings:
        raise InputError(
            f"{type(model).__name__} attends to the last {window:,} tokens only (sliding_window), and Llama to all, so "
            "that it cannot be written as a Llama checkpoint. Steer without folding."
        )
    return LlamaConfig(**{name: deepcopy(getattr(config, name)) for name in _SHARED if hasattr(config, name)})
