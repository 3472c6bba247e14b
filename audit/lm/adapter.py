"""Lay a PEFT adapter over a model, with every weight of it accounted for."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from safetensors import safe_open
from transformers import PreTrainedModel

from ..errors import ModelError
from .files import ADAPTER_WEIGHTS, check_headers


def apply_adapter(model: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    """Lay a PEFT adapter over ``model``; its layers end up inside, so that one model is scored.

    Args:
        model: The base model; it is changed.
        adapter: Folder with adapter_config.json and adapter_model.safetensors.

    Raises:
        ModelError: The adapter is broken, does not fit, lacks a weight that its own configuration asks for, or
            adds virtual tokens instead of changing layers.
    """
    from peft import PeftConfig, PeftModel

    check_headers([adapter / ADAPTER_WEIGHTS])
    try:
        config = PeftConfig.from_pretrained(str(adapter))
        if config.is_prompt_learning:
            raise ModelError(
                f"{adapter} is a {config.peft_type} adapter, which adds virtual tokens instead of changing layers; "
                "only adapters whose layers go into the model (LoRA and its kin) can be audited."
            )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*missing adapter keys")  # `_check_complete` says it better
            wrapped = PeftModel.from_pretrained(model, str(adapter), config=config, use_safetensors=True)
    except ModelError:
        raise
    except Exception as error:  # a hostile adapter_config.json can make peft raise anything
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"the adapter {adapter} does not fit the model: {type(error).__name__}: {text}") from error
    _check_complete(wrapped, adapter)
    return wrapped.get_base_model()


def _check_complete(wrapped: Any, adapter: Path) -> None:
    """PEFT only warns of weights that the file lacks, and the base model would be audited as if adapted.

    The reverse is not asked for: a sound file also holds the embedding or the head below an adapter layer.
    """
    from peft import get_peft_model_state_dict

    with safe_open(adapter / ADAPTER_WEIGHTS, framework="pt") as stored:
        missing = sorted(set(get_peft_model_state_dict(wrapped, save_embedding_layers=False)) - set(stored.keys()))
    if missing:
        raise ModelError(
            f"the adapter {adapter} does not fit the model: {ADAPTER_WEIGHTS} lacks {len(missing)} of its weights, "
            f"first {missing[0]}; they would be random or do nothing. Give the model that it was trained on, or save "
            "it again with peft from a model that is not compiled."
        )
