r"""Contrastive activation addition (CAA): the mean of paired differences, added to the residual stream.

    w = 1,    b = (1/n) sum_i (y_i - x_i),    (x_i, y_i) a pair

Source: arXiv:2312.06681. Departures: the vector is added at every token, where the source begins after the prompt;
and sets of unequal sizes, which cannot be pairs, take the difference of their means. For equal sizes the two are the
same number whatever the pairing, so that here CAA is a mean shift at other modules and of other tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..maps import AffineMap
from .samples import samples


def caa(source: Tensor, target: Tensor) -> AffineMap:
    """The map of one site from pooled activations (n, D) and (m, D), pair by pair; errors as `samples`."""
    x, y = samples(source, target)
    b = (y - x).mean(dim=0) if len(x) == len(y) else y.mean(dim=0) - x.mean(dim=0)
    return AffineMap(torch.ones_like(b).to(source.dtype), b.to(source.dtype))
