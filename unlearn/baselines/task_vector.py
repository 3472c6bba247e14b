r"""Task-vector negation (Ilharco et al. 2022, arXiv:2212.04089, "forgetting via negation").

    result = theta - scale * (theta_forget - theta)

theta_forget is the model trained further on the forget text in the ordinary way. With an adapter the difference is the
adapter's product scale / rank * B A, which is negated through B alone. What is measured while it trains is the model
that learns the text, not the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..sequences import label_loss
from ..training import Term
from .method import Method, Start, n_labels


def negate(trained: Mapping[str, nn.Parameter], before: Mapping[str, Tensor], *, scale: float) -> None:
    """In place: each trained weight becomes what it was before, less ``scale`` times its change."""
    with torch.no_grad():
        for name, weight in before.items():
            trained[name].copy_(weight - scale * (trained[name] - weight))


def terms(start: Start) -> list[Term[Any]]:
    return [start.forget_term(start.forget, label_loss, n_labels)]


def ending(start: Start) -> Callable[[], None]:
    weights = {name: one for name, one in start.lm.model.named_parameters() if one.requires_grad}
    if start.twin is not None:  # the change of a layer is linear in B, which was zero before
        weights = {name: one for name, one in weights.items() if ".lora_B." in name}
    before = {name: one.detach().clone() for name, one in weights.items()}
    scale = start.plan.task_vector.scale
    return lambda: negate(weights, before, scale=scale)


METHOD = Method("task_vector", terms, retain=("none",), settings="task_vector", ending=ending)
