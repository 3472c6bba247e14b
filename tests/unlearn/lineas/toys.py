"""Networks small enough to be solved by hand: sites one after the other, in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from unlearn.lineas.loss import Distances, Reduction

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Toy:
    """x -> map of site 1 -> f -> map of site 2 -> ...; one vector for each text. A `Network`."""

    x: Tensor  # (n, d): what site 1 gives
    between: tuple[Function, ...] = ()
    read: tuple[str, ...] | None = None  # loss sites; None is all

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(f"site{number + 1}" for number in range(len(self.between) + 1))

    def __len__(self) -> int:
        return len(self.x)

    @contextmanager
    def opened(
        self, maps: Mapping[str, tuple[Tensor, Tensor]]
    ) -> Iterator[Callable[[Sequence[int]], dict[str, Tensor]]]:
        yield lambda which: self.run(self.x[list(which)], maps)

    def run(self, z: Tensor, maps: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        found = {}
        for number, site in enumerate(self.sites):
            if number:
                z = self.between[number - 1](z)
            if site in maps:
                w, b = maps[site]
                z = z * w + b
            found[site] = z
        return {site: found[site] for site in self.read or self.sites}

    def targets(self, y: Tensor, *, neurons: Reduction = "sum", over_sites: Reduction = "mean") -> Distances:
        """Of the untouched network on y."""
        return Distances.to(self.run(y, {}), neurons=neurons, over_sites=over_sites)

    def widths(self, *sites: str) -> dict[str, int]:
        return dict.fromkeys(sites or self.sites, self.x.shape[1])


def draw(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shuffled(y: Tensor, seed: int) -> Tensor:
    """The same texts in another order: sets are unpaired."""
    return y[torch.randperm(len(y), generator=torch.Generator().manual_seed(seed + 100))]


def increasing(d: int, seed: int) -> tuple[Tensor, Tensor]:
    """Scales in (0.5, 1.5) and shifts: a map that sorting can recover."""
    generator = torch.Generator().manual_seed(seed + 200)
    return (
        0.5 + torch.rand(d, generator=generator, dtype=torch.float64),
        torch.randn(d, generator=generator, dtype=torch.float64),
    )


def tanh_layer(seed: int, d: int = 12) -> Toy:
    """Two sites, f(z) = 2 tanh(A z) between them."""
    mix = draw(d, d, seed + 300) / d**0.5
    return Toy(draw(32, d, seed), (lambda z: 2 * torch.tanh(z @ mix.T),))


def not_realisable(seed: int, d: int = 12) -> tuple[Toy, Tensor]:
    """Two sites with a rectifier, and targets of another draw that are mixed by a matrix: no affine map makes them."""
    mix, other = draw(d, d, seed + 300) / d**0.5, draw(d, d, seed + 400) / d**0.5
    toy = Toy(draw(64, d, seed), (lambda z: torch.relu(z @ mix.T),))
    return toy, draw(64, d, seed + 500) @ other.T + 0.7
