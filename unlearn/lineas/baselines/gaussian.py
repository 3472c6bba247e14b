r"""Optimal transport between Gaussians, neuron by neuron.

    w = sigma_target / sigma_source,    b = mu_target - w mu_source

Source: arXiv:2410.23054 and its authors' code: standard deviations with n - 1, and a neuron whose deviation is 1e-4 or
less in either set is left alone (w = 1, b = 0), its mean included. Departures: none.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from audit.errors import InputError

from ..maps import AffineMap
from .samples import samples

LEAST_STD: Final = 1e-4


def gaussian(source: Tensor, target: Tensor) -> AffineMap:
    """The map of one site from pooled activations (n, D) and (m, D).

    Raises:
        InputError: As `samples`; or no neuron varies enough in both sets.
    """
    x, y = samples(source, target)
    sigma_x, sigma_y = x.std(dim=0), y.std(dim=0)
    varies = (sigma_x > LEAST_STD) & (sigma_y > LEAST_STD)
    if not bool(varies.any()):
        raise InputError(
            f"no neuron has a standard deviation above {LEAST_STD:g} in both sets, so that the Gaussian map would be "
            "the identity. Take a mean shift, or another site."
        )
    w = torch.where(varies, sigma_y / torch.where(varies, sigma_x, 1.0), 1.0)
    b = torch.where(varies, y.mean(dim=0) - w * x.mean(dim=0), 0.0)
    return AffineMap(w.to(source.dtype), b.to(source.dtype))
