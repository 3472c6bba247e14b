r"""What stands behind a module of a frozen network: an affine map of each neuron, at any strength.

    T(z)   = w * z + b                        shared by all tokens of a text (LinEAS, arXiv:2503.10679)
    T^s(z) = z + s (T(z) - z)                 strength s; 0 leaves z, 1 is T

Published baselines are maps of the same kind: a mean shift has w = 1, AurA has b = 0, and Linear-AcT (arXiv:2410.23054)
acts only where z lies within the range that it was fitted on (``low``, ``high``).

Letters: B texts, T tokens, D neurons of a site.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Final

import torch
from torch import Tensor

from audit.errors import InputError

TOLERANCE: Final = 1e-5  # a neuron is in the support above it (the authors' code)
LEAST_SCALE: Final = 1e-4  # a map with a smaller |w| somewhere has no inverse that is worth its name


@dataclass(frozen=True, slots=True)
class AffineMap:
    """The map of one site; all tensors are float32 of shape (D,).

    Attributes:
        w: Scales.
        b: Shifts, in units of the site's activations.
        low: Where given, a neuron is mapped only at values from ``low`` to ``high``, and left alone elsewhere.
        high: See there; both or none.

    Raises:
        InputError: Shapes differ, a number is not finite (``low`` and ``high`` may be infinite), or a range is empty.
    """

    w: Tensor
    b: Tensor
    low: Tensor | None = None
    high: Tensor | None = None

    def __post_init__(self) -> None:
        if self.w.dim() != 1 or not len(self.w) or self.b.shape != self.w.shape:
            raise InputError(
                f"w and b have shapes {tuple(self.w.shape)} and {tuple(self.b.shape)}; expected (D,) twice."
            )
        for name, one in (("w", self.w), ("b", self.b)):
            if not bool(torch.isfinite(one).all()):
                raise InputError(f"{name} of a map holds numbers that are not finite; fit it again at a lower rate.")
        if (self.low is None) != (self.high is None):
            raise InputError("a map has low or high alone; expected both or none.")
        if self.low is not None and self.high is not None:
            if self.low.shape != self.w.shape or self.high.shape != self.w.shape:
                raise InputError("low and high of a map have other shapes than w.")
            if not bool((self.low <= self.high).all()):  # also where one is no number
                raise InputError("low of a map is above high somewhere, or no number.")

    @classmethod
    def identity(cls, n: int) -> AffineMap:
        """w = 1, b = 0 for ``n`` neurons."""
        return cls(torch.ones(n), torch.zeros(n))

    def __len__(self) -> int:
        return len(self.w)

    @property
    def clipped(self) -> bool:
        return self.low is not None

    def __call__(self, z: Tensor) -> Tensor:
        """The map on activations (..., D), computed in float32 (or finer) and given back in z's dtype."""
        whole = z.to(torch.promote_types(z.dtype, self.w.dtype))
        mapped = affine(whole, self.w, self.b)
        if self.low is not None and self.high is not None:
            mapped = torch.where((whole >= self.low) & (whole <= self.high), mapped, whole)
        return mapped.to(z.dtype)

    def each(self, z: Tensor, strengths: Tensor) -> Tensor:
        """As `__call__` on z (B, ..., D) with a strength for each text, (B,). Texts at 0 come back to the bit."""
        whole = z.to(torch.promote_types(z.dtype, self.w.dtype))
        by_text = strengths.to(whole).reshape(-1, *[1] * (z.dim() - 1))
        change = affine(whole, self.w - 1, self.b)  # T(z) - z
        if self.low is not None and self.high is not None:
            change = torch.where((whole >= self.low) & (whole <= self.high), change, 0.0)
        return torch.where(by_text == 0, z, (whole + by_text * change).to(z.dtype))

    def to(self, device: torch.device) -> AffineMap:
        """The same map with its tensors there."""
        ends = (None, None) if self.low is None or self.high is None else (self.low.to(device), self.high.to(device))
        return AffineMap(self.w.to(device), self.b.to(device), *ends)

    def at(self, strength: float) -> AffineMap:
        """The map whose full strength is this one's ``strength``: w' = 1 + s (w - 1), b' = s b."""
        return AffineMap(1 + strength * (self.w - 1), strength * self.b, self.low, self.high)

    def inverse(self, *, least: float = LEAST_SCALE) -> AffineMap:
        """(z - b) / w, which turned removal into induction in the paper.

        Raises:
            InputError: Some |w| is below ``least``, or the map is clipped to a range.
        """
        if self.clipped:
            raise InputError("a map that is clipped to a range has no affine inverse.")
        small = int((self.w.abs() < least).sum())
        if small:
            raise InputError(
                f"{small:,} of {len(self):,} scales are below {least:g}, so the map cannot be inverted; fit it with a "
                "floor on w."
            )
        return AffineMap(1 / self.w, -self.b / self.w)

    def then(self, second: AffineMap) -> AffineMap:
        """``second`` after this map: w = w2 w1, b = w2 b1 + b2. The order matters.

        Raises:
            InputError: Widths differ, or one is clipped to a range.
        """
        if len(self) != len(second):
            raise InputError(f"maps of {len(self):,} and {len(second):,} neurons cannot follow each other.")
        if self.clipped or second.clipped:
            raise InputError("a map that is clipped to a range has no affine composition; steer with one at a time.")
        return AffineMap(second.w * self.w, second.w * self.b + second.b)

    def support(self, *, tolerance: float = TOLERANCE) -> Tensor:
        """Which neurons are changed: |w - 1| or |b| above ``tolerance``; boolean (D,)."""
        return ((self.w - 1).abs() > tolerance) | (self.b.abs() > tolerance)


def affine(z: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """w * z + b on activations (..., D), in one kernel."""
    return torch.addcmul(b, z, w)


Maps = Mapping[str, AffineMap]
"""Site -> its map. Names are those of ``model.named_modules()``."""


def inverse(maps: Maps, *, least: float = LEAST_SCALE) -> dict[str, AffineMap]:
    """Every map inverted; an error names the site."""
    found = {}
    for site, one in maps.items():
        try:
            found[site] = one.inverse(least=least)
        except InputError as error:
            raise InputError(f"site {site}: {error}") from error
    return found


def composed(first: Maps, second: Maps) -> dict[str, AffineMap]:
    """``second`` after ``first`` at each site; a site that only one of them has keeps that one's map."""
    found = {**first, **second}
    for site in first.keys() & second.keys():
        try:
            found[site] = first[site].then(second[site])
        except InputError as error:
            raise InputError(f"site {site}: {error}") from error
    return found


def support_share(maps: Maps, *, tolerance: float = TOLERANCE) -> float:
    """Share of neurons, over all sites, that are changed; in [0, 1], and 0 where there is no site."""
    total = sum(len(one) for one in maps.values())
    return sum(int(one.support(tolerance=tolerance).sum()) for one in maps.values()) / total if total else 0.0


def check_strength(strength: object) -> float:
    """A strength that can be used.

    Raises:
        InputError: It is no finite number.
    """
    if isinstance(strength, bool) or not isinstance(strength, Real) or not math.isfinite(strength):
        raise InputError(f"strength is {strength!r}; expected a finite number, usually from 0 (off) to 1 (as fitted).")
    return float(strength)
