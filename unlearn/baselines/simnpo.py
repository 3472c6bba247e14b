r"""Simple negative preference optimisation (SimNPO; Fan et al. 2024, arXiv:2410.07163).

    loss = -2 / beta * E_forget log sigmoid(-beta / |y| * log p(y | x) - gamma)

NPO without a reference, normalised by the number of tokens |y|. Published code multiplies gamma by beta; at the
authors' gamma of 0 the two are one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..sequences import Labelled
from ..training import Term
from .likelihood import log_probs
from .method import Method, Start, one


def simnpo_loss(log_p: Tensor, n_tokens: Tensor, *, beta: float, gamma: float) -> Tensor:
    """-2 / beta * log sigmoid(-beta * mean log-probability - gamma) of each text.

    Args:
        log_p: Log-probability of each text, nats, shape (B,).
        n_tokens: Tokens that it is the sum over, shape (B,).
        beta: Inverse temperature, > 0.
        gamma: Margin.

    Returns:
        Shape (B,), above 0.
    """
    return -2 / beta * functional.logsigmoid(-beta * log_p / n_tokens - gamma)


def terms(start: Start) -> list[Term[Any]]:
    own = start.plan.simnpo

    def loss(model: Any, rows: Sequence[Labelled]) -> Tensor:
        log_p = log_probs(model, rows)
        n_tokens = torch.tensor([row.n_labels for row in rows], device=log_p.device)
        return simnpo_loss(log_p, n_tokens, beta=own.beta, gamma=own.gamma).sum()

    return [start.forget_term(start.forget, loss, one)]


METHOD = Method("simnpo", terms, retain=("mixed", "none", "kl"), settings="simnpo")
