r"""Negative preference optimisation (NPO; Zhang, Lin, Bai and Mei 2024, arXiv:2404.05868, equation 3).

    loss = 2 / beta * E_forget log(1 + (p(y | x) / p_baseline(y | x))^beta)

with p(y | x) the probability of a whole text. Its gradient is that of gradient ascent times
2 p^beta / (p^beta + p_baseline^beta): 1 at the start, near 0 once a text has become improbable; towards beta = 0 it
is 1 throughout (the paper's proposition 1). The usual retain term is the paper's NPO+RT; "none" is its equation alone.

The loss is not divided by a text's length, as in open-unlearning's trainer (others take the mean over tokens), but the
retain term is a mean over tokens: at equal weights and where training begins, the forget gradient is that of gradient
ascent times the tokens of a block. A ``forget_weight`` of one over that number balances the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from ..training import Term
from .likelihood import Scored, log_probs, reference_log_probs, references
from .method import Method, Start, one


def npo_loss(log_p: Tensor, reference: Tensor, *, beta: float) -> Tensor:
    """2 / beta * log(1 + (p / p_reference)^beta) of each text.

    Args:
        log_p: Log-probability of each text under the model, nats, shape (B,).
        reference: Under the baseline, shape (B,).
        beta: Inverse temperature, > 0.

    Returns:
        Shape (B,), above 0.
    """
    return 2 / beta * functional.softplus(beta * (log_p - reference))


def terms(start: Start) -> list[Term[Any]]:
    found = reference_log_probs(start.lm.model, start.forget, micro_tokens=start.plan.recipe.micro_tokens)
    items = [Scored(row, value) for row, value in zip(start.forget, found, strict=True)]
    beta = start.plan.npo.beta

    def loss(model: Any, batch: Sequence[Scored]) -> Tensor:
        log_p = log_probs(model, [item.row for item in batch])
        return npo_loss(log_p, references(batch, log_p), beta=beta).sum()

    return [start.forget_term(items, loss, one)]


METHOD = Method("npo", terms, retain=("mixed", "none", "kl"), settings="npo")
