r"""The sparse group lasso that makes maps sparse, and its exact proximal step.

    R = l1 sum_l (|w_l - 1|_1 + |b_l|_1) + lG sum_l sqrt(d_l) (|w_l - 1|_2 + |b_l|_2)        (arXiv:2503.10679)

    prox of t R on u = w - 1 and on u = b, each a group of its own:
        u <- sign(u) max(|u| - t l1, 0)
        u <- u max(0, 1 - t lG sqrt(d) / |u|_2),   0/0 -> 0

Soft thresholding and then shrinking the group is the exact prox of the sum. sqrt(d) is in the authors' code and missing
in the paper's algorithm box. After a step of Adam, which scales each coordinate by itself, this prox is a heuristic.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt

import torch
from torch import Tensor


def shrink(u: Tensor, *, l1: float, group: float) -> Tensor:
    """The proximal step of one group u (d,); ``l1`` and ``group`` hold the step size already."""
    soft = u.sign() * (u.abs() - l1).clamp_min(0)
    if group == 0:
        return soft
    norm = soft.norm().clamp_min(torch.finfo(u.dtype).tiny)  # where it is 0, so is every number
    scale: Tensor = (1 - group * sqrt(len(u)) / norm).clamp_min(0)
    return soft * scale


@torch.no_grad()
def proximal_step(
    scales: Iterable[Tensor], shifts: Iterable[Tensor], *, step: float, gamma: float, l1: float, group: float
) -> None:
    """The prox of ``step * gamma * R`` on every w and b, in place.

    Args:
        scales: w of each site, (d,).
        shifts: b of each site, (d,).
        step: The learning rate of the step before it.
        gamma: Weight of R.
        l1: l1 in R.
        group: lG in R.
    """
    if gamma == 0 or step == 0:
        return
    weight = step * gamma
    for w in scales:
        w.copy_(1 + shrink(w - 1, l1=weight * l1, group=weight * group))
    for b in shifts:
        b.copy_(shrink(b, l1=weight * l1, group=weight * group))


def penalty(scales: Iterable[Tensor], shifts: Iterable[Tensor], *, l1: float, group: float) -> float:
    """R of the maps."""
    total = 0.0
    for u in [*(w - 1 for w in scales), *shifts]:
        total += l1 * float(u.abs().sum()) + group * sqrt(len(u)) * float(u.norm())
    return total
