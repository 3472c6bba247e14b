r"""Inference-time intervention (ITI): a step along one direction, as long as the activations spread along it.

    w = 1,    b = sigma theta,    |theta| = 1,    applied with strength lambda: z + lambda sigma theta

    ITI-c   theta = normal of a logistic regression that tells target from source
    ITI-m   theta = (mu_target - mu_source) / |.|
    sigma   = standard deviation of <z, theta> over both sets

Source: arXiv:2306.03341; lambda = 0.5 at the attention's output projection from arXiv:2503.10679.
Departures: the source works on single heads before that projection, and only on those whose probe is the most accurate;
how that was carried over to a whole projection is not in our sources, and here all neurons of a site are one vector.
The regression (L2, C = 1) sees activations divided by one number, the root mean square of their spread, so that its
penalty means the same at each site.

Also where source and target are alike, sigma theta is not 0: ITI moves activations whatever there is to find.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from audit.errors import InputError

from ..maps import AffineMap
from .samples import samples

LEAST_LENGTH: Final = 1e-6  # of a direction, in units of the spread; below it is rounding


def iti_c(source: Tensor, target: Tensor) -> AffineMap:
    """ITI-c of one site from pooled activations (n, D) and (m, D).

    Raises:
        InputError: As `samples`; or the classifier finds no direction.
    """
    x, y = _in_units_of_spread(source, target)
    labels = np.repeat([0, 1], [len(x), len(y)])
    found = LogisticRegression(max_iter=10_000).fit(torch.cat([x, y]).numpy(), labels)
    return _along(torch.from_numpy(found.coef_[0]), source, target)


def iti_m(source: Tensor, target: Tensor) -> AffineMap:
    """ITI-m of one site from pooled activations (n, D) and (m, D).

    Raises:
        InputError: As `samples`; or both sets have the same means.
    """
    x, y = _in_units_of_spread(source, target)
    return _along(y.mean(dim=0) - x.mean(dim=0), source, target)


def _in_units_of_spread(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    x, y = samples(source, target)
    centre = torch.cat([x, y]).mean(dim=0)
    unit = (torch.cat([x, y]) - centre).square().mean().sqrt()
    return (x - centre) / unit, (y - centre) / unit


def _along(direction: Tensor, source: Tensor, target: Tensor) -> AffineMap:
    length = float(direction.norm())
    if length < LEAST_LENGTH:
        raise InputError("no direction tells the target from the source: their activations are the same on average.")
    theta = direction / length
    b = (torch.cat(samples(source, target)) @ theta).std() * theta
    return AffineMap(torch.ones_like(b).to(source.dtype), b.to(source.dtype))
