r"""The distance between two sets of activations: 1-D Wasserstein, squared, neuron by neuron.

    W2^2(u, v) = int_0^1 (F_u^-1(t) - F_v^-1(t))^2 dt          = (1/n) sum_i (u_(i) - v_(i))^2   for equal sizes
    Delta_l    = sum_j W2^2(xi_.j, eta_.j),  j over neurons of site l
    C          = sum_l Delta_l                                  (LinEAS, arXiv:2503.10679)

The authors' code averages over sites; how it reduces over neurons could not be found out. With a mean there as well,
plain gradient descent at the paper's rate would hardly move, so that the default here is the sum over neurons and the
mean over sites. Both are switches; Adam is nearly insensitive to them.

Unequal sizes n and m use the exact quantile integral, not an interpolation: between two of the breakpoints i m and j n
(of n m in all) both quantile functions are constant.

Letters: n source texts, m target texts, D neurons of all sites together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from audit.errors import InputError

Reduction = Literal["sum", "mean"]
LEAST_BATCH = 4  # the authors' code refuses smaller ones


def quantile_pairs(n: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which order statistics meet, and with what weight.

    Returns:
        Indices i into n sorted numbers, indices j into m, and weights that sum to 1; float64.
    """
    marks = torch.unique(torch.cat([torch.arange(n + 1) * m, torch.arange(m + 1) * n]))
    before, after = marks[:-1], marks[1:]
    return before // m, before // n, (after - before).double() / (n * m)


def wasserstein_squared(u: Tensor, v: Tensor) -> Tensor:
    """W2^2 of each column of u (n, D) and v (m, D), shape (D,), in the dtype of u.

    Raises:
        InputError: Shapes do not fit.
    """
    return _between(u.sort(dim=0).values, v.sort(dim=0).values)


def _between(u: Tensor, v: Tensor) -> Tensor:
    """As `wasserstein_squared`, of sorted columns."""
    if u.dim() != 2 or v.dim() != 2 or u.shape[1] != v.shape[1] or not len(u) or not len(v):
        raise InputError(f"shapes are {tuple(u.shape)} and {tuple(v.shape)}; expected (n, D) and (m, D).")
    if len(u) == len(v):
        return (u - v).square().mean(dim=0)
    i, j, weight = quantile_pairs(len(u), len(v))
    gap = (u[i.to(u.device)] - v[j.to(v.device)]).square()
    return weight.to(u) @ gap


@dataclass(frozen=True, slots=True)
class Distances:
    """Targets of all sites, sorted once.

    Attributes:
        sites: Names, in the order of the columns.
        widths: Neurons of each site.
        targets: Pooled target activations, each column sorted; (m, D), float32 or finer.
        neurons: How a site's neurons are reduced.
        over_sites: How sites are.
    """

    sites: tuple[str, ...]
    widths: tuple[int, ...]
    targets: Tensor
    neurons: Reduction = "sum"
    over_sites: Reduction = "mean"

    @classmethod
    def to(
        cls, targets: Mapping[str, Tensor], *, neurons: Reduction = "sum", over_sites: Reduction = "mean"
    ) -> Distances:
        """Of each site's pooled target activations (m, D_l), which are on any devices."""
        first = next(iter(targets.values())).device
        whole = torch.cat([one.to(first) for one in targets.values()], dim=1)
        widths = tuple(int(one.shape[1]) for one in targets.values())
        return cls(tuple(targets), widths, whole.sort(dim=0).values, neurons, over_sites)

    def joined(self, pooled: Mapping[str, Tensor]) -> Tensor:
        """Pooled activations of all sites side by side, (n, D), where the targets are."""
        return torch.cat([pooled[site].to(self.targets.device) for site in self.sites], dim=1)

    def each(self, joined: Tensor) -> Tensor:
        """Delta_l of each site, its neurons reduced; shape (L,)."""
        parts = torch.split(_between(joined.sort(dim=0).values, self.targets), list(self.widths))
        return torch.stack([part.sum() if self.neurons == "sum" else part.mean() for part in parts])

    def total(self, joined: Tensor) -> Tensor:
        """C, a scalar."""
        each = self.each(joined)
        return each.sum() if self.over_sites == "sum" else each.mean()

    def by_site(self, joined: Tensor) -> dict[str, float]:
        """Delta_l by site."""
        with torch.no_grad():
            return dict(zip(self.sites, self.each(joined).tolist(), strict=True))


def check_sizes(n: int, batch: int, *, forced: bool = False) -> None:
    """Refuse batches in which a distribution is hardly one.

    Raises:
        InputError: The batch is larger than the set, or below `LEAST_BATCH` and not forced.
    """
    if batch > n:
        raise InputError(f"the source batch is {batch:,} of {n:,} sentences; take at most all of them.")
    if batch < LEAST_BATCH and not forced:
        raise InputError(
            f"the source batch is {batch:,}; from fewer than {LEAST_BATCH} sentences no distribution can be read. Give "
            "more sentences."
        )
