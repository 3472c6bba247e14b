"""Keys and values of requests that began at different moments, in one cache.

Rows are aligned on the right, where new tokens go; what is missing on the left is zeros that the attention mask hides.
A row's keys carry its own positions, which count from its first real token, so that moving it to the right changes
nothing but the rounding. In a sliding window a layer keeps the last tokens only, and the padding is cut with them.
"""

from __future__ import annotations

import inspect
from copy import copy
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from audit.lm.sharing import has_plain_rows, rope_switch

Batching: TypeAlias = Literal["continuous", "to the end", "one at a time"]
"""Requests join and leave a running batch; or batches run until their last request is finished; or no batches."""


def batching_of(model: PreTrainedModel, cache: Any) -> Batching:
    """What a model and a cache that it gave allow.

    Rows cannot be joined where a layer keeps other things than keys and values (convolution and recurrent states),
    where attention is cut into chunks that count from the beginning of the batch, or where one long row changes the
    positions of all (`audit.lm.sharing.rope_switch`). A model that takes no positions is not padded on the left.
    """
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return "one at a time"
    chunked = getattr(model.config.get_text_config(), "attention_chunk_size", None) is not None
    if chunked or rope_switch(model) is not None or not has_plain_rows(cache):
        return "to the end"
    known = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers)
    return "continuous" if known else "to the end"


def join(cache: Any, width: int, other: Any, other_width: int) -> None:
    """Put the rows of ``other`` under those of ``cache``; widths are the tokens that each holds, padding included.

    Where memory runs out, both are as before.
    """
    more, other_more = max(0, other_width - width), max(0, width - other_width)
    joined = []
    for mine, theirs in zip(cache.layers, other.layers, strict=True):
        parts = zip(_widened(mine, more), _widened(theirs, other_more), strict=True)
        joined.append([torch.cat(pair) for pair in parts])
    for layer, (keys, values) in zip(cache.layers, joined, strict=True):
        layer.keys, layer.values = keys, values
        if isinstance(layer, DynamicSlidingWindowLayer):
            layer.cumulative_length += more


def _widened(layer: Any, n_tokens: int) -> tuple[Tensor, Tensor]:
    """A layer's keys and values with ``n_tokens`` more of padding on the left, as far as it keeps them."""
    if isinstance(layer, DynamicSlidingWindowLayer):
        kept = min(layer.cumulative_length + n_tokens, layer.sliding_window - 1)
        n_tokens = max(0, kept - layer.keys.shape[2])
    if not n_tokens:
        return layer.keys, layer.values
    return pad(layer.keys, (0, 0, n_tokens, 0)), pad(layer.values, (0, 0, n_tokens, 0))


def narrow(cache: Any, n_tokens: int) -> None:
    """Cut ``n_tokens`` on the left, which are padding in every row."""
    for layer in cache.layers:
        cut = n_tokens
        if isinstance(layer, DynamicSlidingWindowLayer):
            layer.cumulative_length -= n_tokens
            cut = max(0, layer.keys.shape[2] - layer.cumulative_length)
        layer.keys = layer.keys[:, :, cut:].clone()
        layer.values = layer.values[:, :, cut:].clone()


def undo(cache: Any, width: int) -> bool:
    """Take back a step that failed half way, after which some layers hold ``width`` tokens and some one more.

    Returns:
        Whether that is possible; in a sliding window the oldest token is lost by then.
    """
    if any(type(layer) is not DynamicLayer for layer in cache.layers):
        return False
    for layer in cache.layers:
        layer.keys, layer.values = layer.keys[:, :, :width], layer.values[:, :, :width]
    return True


def split(cache: Any, n_rows: int) -> tuple[Any, Any]:
    """The first ``n_rows`` rows and the others."""
    parts = []
    for rows in (slice(None, n_rows), slice(n_rows, None)):
        part = copy(cache)
        part.layers = [copy(layer) for layer in cache.layers]
        for layer in part.layers:
            layer.keys, layer.values = layer.keys[rows].clone(), layer.values[rows].clone()
        parts.append(part)
    return parts[0], parts[1]
