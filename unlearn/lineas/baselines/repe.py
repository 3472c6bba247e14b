r"""Representation engineering (RepE): the first principal component of paired differences.

    v = first right singular vector of the rows y_i - x_i, not centred,    |v| = 1
    w = 1,    b = v <v, mu_target - mu_source>

Source: arXiv:2310.01405, which draws each pair's sign at random and centres; without centring the sign does not matter
and no draw is needed. Departures: the source leaves the step's length to the user; here it is the part of the mean
difference that lies along v, which also fixes the sign. Sets that are not pairs are paired in their order.

Of 32 sentences v is mostly noise where the difference between sets is smaller than the spread within them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from audit.errors import InputError

from ..maps import AffineMap
from .samples import samples


def repe(source: Tensor, target: Tensor) -> AffineMap:
    """The map of one site from pooled activations (n, D) and (n, D), pair by pair.

    Raises:
        InputError: As `samples`; sizes differ, or all pairs are alike.
    """
    x, y = samples(source, target)
    if len(x) != len(y):
        raise InputError(
            f"there are {len(x):,} source and {len(y):,} target sentences; RepE takes pairs. Give as many of each."
        )
    differences = y - x
    if not bool(differences.any()):
        raise InputError("each source sentence has the activations of its target sentence; there is no direction.")
    v = torch.linalg.svd(differences, full_matrices=False).Vh[0]
    b = v * (differences.mean(dim=0) @ v)
    return AffineMap(torch.ones_like(b).to(source.dtype), b.to(source.dtype))
