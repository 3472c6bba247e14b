r"""Gradient ascent (GA; Jang et al. 2022, arXiv:2210.01504, and L_GA in section 2 of arXiv:2404.05868).

    loss = E over the forget text's tokens of  log p(x_i | x_<i)

that is, training with the sign turned. It has no lower bound: given enough steps every such model collapses.
"""

from __future__ import annotations

from typing import Any

from ..sequences import label_loss
from ..training import Term
from .method import Method, Start, n_labels


def terms(start: Start) -> list[Term[Any]]:
    return [start.forget_term(start.forget, label_loss, n_labels, sign=-1.0)]


METHOD = Method("gradient_ascent", terms, retain=("none",))
