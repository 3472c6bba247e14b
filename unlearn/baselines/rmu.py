r"""Representation misdirection for unlearning (RMU; Li et al. 2024, arXiv:2403.03218, section 4).

    loss = E_forget || h_l(x_i) - c u ||^2 + alpha * E_retain || h_l(x_i) - h_l,baseline(x_i) ||^2

h_l is the output of one decoder layer, u a random unit vector with positive entries, drawn once, c ``steering``, alpha
the plan's ``retain_weight``. Only that layer and the ones just below it are trained, so that the baseline costs a copy
of those alone. Squares are divided by the width, as in the published code.

Departures: all weights of those layers are trained, not the second matrix of each feed-forward block alone, whose name
differs from one architecture to another; and a text's first token, whose state many models treat apart, takes no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audit.errors import InputError, ModelError
from audit.lm.hooks import patched

from ..sequences import NO_LABEL, Labelled, batch
from ..training import Term
from .method import Method, Start, n_labels


def steering_loss(hidden: Tensor, target: Tensor) -> Tensor:
    """Sum over places of the mean squared distance from a target.

    Args:
        hidden: Shape (N, D).
        target: Shape (D,) or (N, D).

    Returns:
        A scalar, >= 0.
    """
    return (hidden - target).square().mean(dim=1).sum()


def layer_names(model: Any) -> list[str]:
    """Dotted names of the decoder's layers, lowest first.

    Raises:
        ModelError: There is no such list of layers.
    """
    n_layers = model.config.get_text_config().num_hidden_layers
    inside = set(model.get_decoder().modules())
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_layers and module in inside:
            return [f"{name}.{place}" for place in range(n_layers)]
    raise ModelError(f"{type(model).__name__} has no list of {n_layers} decoder layers, so none can be steered.")


def layer_output(model: Any, name: str, rows: Sequence[Labelled]) -> Tensor:
    """What the named layer gives at the labelled places, row after row, float32 of shape (N, D), with its gradient."""
    ids, labels = batch(rows, next(model.parameters()).device)
    seen: list[Tensor] = []

    def keep(hidden: Tensor) -> Tensor:
        seen.append(hidden)
        return hidden

    with patched(model, {name: keep}):
        model(input_ids=ids, use_cache=False, logits_to_keep=1)
    hidden = seen[0]  # (B, T, D)
    return hidden[(labels != NO_LABEL).to(hidden.device)].float()


def direction(width: int, *, steering: float, seed: int) -> Tensor:
    """c u: entries uniform in [0, 1), scaled to the length ``steering``; float32 of shape (width,)."""
    drawn = np.random.default_rng([seed, 3]).random(width)
    return torch.tensor(steering * drawn / np.linalg.norm(drawn), dtype=torch.float32)


def terms(start: Start) -> list[Term[Any]]:
    own, model = start.plan.rmu, start.lm.model
    names = layer_names(model)
    layer = len(names) * 7 // 32 if own.layer is None else own.layer
    if layer >= len(names):
        raise InputError(f"rmu: layer is {layer}, but the model has layers 0 to {len(names) - 1}.")
    trained = tuple(f"{name}." for name in names[max(0, layer + 1 - own.depth) : layer + 1])
    for name, parameter in model.named_parameters():  # what lies above the layer has no part in the loss
        parameter.requires_grad_(parameter.requires_grad and name.startswith(trained))
    reference, width = start.reference(), model.config.get_text_config().hidden_size
    target = direction(width, steering=own.steering, seed=start.plan.seed)

    def misdirect(model: Any, rows: Sequence[Labelled]) -> Tensor:
        hidden = layer_output(model, names[layer], rows)
        return steering_loss(hidden, target.to(hidden.device))

    def keep(model: Any, rows: Sequence[Labelled]) -> Tensor:
        training = model.training
        with torch.no_grad(), reference():
            model.eval()  # no dropout in what is to be kept
            try:
                before = layer_output(model, names[layer], rows)
            finally:
                model.train(training)
        return steering_loss(layer_output(model, names[layer], rows), before)

    return [start.forget_term(start.forget, misdirect, n_labels), start.retain_term(keep, n_reads=1)]


METHOD = Method("rmu", terms, retain=("activations",), settings="rmu")
