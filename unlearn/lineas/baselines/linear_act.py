r"""Linear-AcT: least squares between sorted activations, neuron by neuron.

    w = sum_i (x_(i) - x_mean)(y_(i) - y_mean) / sum_i (x_(i) - x_mean)^2,    b = y_mean - w x_mean
    applied only where min_i x_i <= z <= max_i x_i

Source: arXiv:2410.23054. Its layers are fitted one after the other, each on activations that the maps before it steer
already: `at_sites`. Hooks of the authors' published code have the range as an option, which is off unless asked for.

Pooled activations have a narrower range than those of single tokens, so that many tokens lie outside and are left
alone. The map without the range is `unclipped_linear_act`, and is not called Linear-AcT here.

Departures: the code adds a jitter of 1e-8, in a way that could not be found out; here it is added above and below the
fraction, which draws w to 1 and makes the map of a neuron that is constant in the source a shift. Unequal sizes, which
the code refuses, take the pairs of the exact quantile integral with their weights (`loss.quantile_pairs`), times n.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor

from ..loss import quantile_pairs
from ..maps import AffineMap
from .samples import samples

JITTER: Final = 1e-8


def linear_act(source: Tensor, target: Tensor) -> AffineMap:
    """The map of one site from pooled activations (n, D) and (m, D), clipped; errors as `samples`."""
    whole = unclipped_linear_act(source, target)
    ends = source.detach().to("cpu").aminmax(dim=0)
    return AffineMap(whole.w, whole.b, ends.min, ends.max)


def unclipped_linear_act(source: Tensor, target: Tensor) -> AffineMap:
    """The same without its range."""
    x, y = (one.sort(dim=0).values for one in samples(source, target))
    i, j, weight = quantile_pairs(len(x), len(y))  # for equal sizes: i = j and 1/n
    x, y, weight = x[i], y[j], weight[:, None] * len(x)
    n = weight.sum()
    x_mean, y_mean = (weight * x).sum(dim=0) / n, (weight * y).sum(dim=0) / n
    together = (weight * (x - x_mean) * (y - y_mean)).sum(dim=0)
    alone = (weight * (x - x_mean).square()).sum(dim=0)
    w = (together + JITTER) / (alone + JITTER)
    return AffineMap(w.to(source.dtype), (y_mean - w * x_mean).to(source.dtype))
