r"""Mean-AcT: the shift between the means.

    w = 1,    b = mu_target - mu_source

Source: arXiv:2410.23054, pooled means. Departure: the authors' code leaves neurons alone whose spread is 1e-4 or less;
a shift needs no spread, and here all neurons are shifted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..maps import AffineMap
from .samples import samples


def mean_shift(source: Tensor, target: Tensor) -> AffineMap:
    """The map of one site from pooled activations (n, D) and (m, D); errors as `samples`."""
    x, y = samples(source, target)
    b = y.mean(dim=0) - x.mean(dim=0)
    return AffineMap(torch.ones_like(b).to(source.dtype), b.to(source.dtype))
