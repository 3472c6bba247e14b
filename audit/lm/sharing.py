"""What texts may share in a forward pass: a cache whose rows can be copied and dropped, a batch, and memory."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel


def has_plain_rows(cache: Any) -> bool:
    """Whether rows of a cache can be repeated and selected: keys and values only, in transformers' own class.

    State-space and hybrid models also carry convolution and recurrent states, which transformers does not repeat
    or select (in some layers it forgets them without an error); others bring a cache class of their own.
    """
    return type(cache) is DynamicCache and not any(hasattr(layer, "conv_states") for layer in cache.layers)


def rope_switch(model: PreTrainedModel) -> int | None:
    """Longest input, in tokens, that a longrope model reads with its short factors; None for any other model.

    One position beyond it in any row switches the factors of the whole batch (Phi-3's 128k kinds), so that a
    text's score would depend on its batch mates. Inputs on the two sides of it must not share a batch or a cache.
    """
    parameters = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    kinds = [parameters, *(value for value in parameters.values() if isinstance(value, dict))]
    return min(
        (int(kind["original_max_position_embeddings"]) for kind in kinds if kind.get("rope_type") == "longrope"),
        default=None,
    )


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that memory ran out, on any device."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text


def release_memory(device: torch.device) -> None:
    """Give cached blocks back after memory ran out, so that a smaller try finds room."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
