"""How useful a system is still, on questions that are not about what must be forgotten.

    model utility = harmonic mean of 9 means: {p, ROUGE-L recall, max(0, 1 - R)} x {retain, real authors, world facts}

Source: Maini et al. 2024 (arXiv:2401.06121); the nine measures are those of `qa`. The interval is a bootstrap of each
part's clusters: the three numbers of a row stay together, and so do those of two systems that are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError
from ..stats.bootstrap import bootstrap
from ..stats.checks import Floats, Seed
from ..stats.estimate import Estimate
from .qa import USEFUL, Qa


def model_utility(parts: Sequence[Qa], *, rng: Seed, level: float = 0.95) -> Estimate:
    """The harmonic mean of nine, 0 where one of them is 0.

    Args:
        parts: One for each of `qa.USEFUL`, of one system and one scope.
        rng: Seed or generator.
        level: Confidence level, in (0, 1).

    Raises:
        InputError: A part is missing or stands twice, or the scopes differ.
    """
    return _utility([parts], "model utility", rng, level)


def utility_difference(a: Sequence[Qa], b: Sequence[Qa], *, rng: Seed, level: float = 0.95) -> Estimate:
    """Model utility of ``a`` less that of ``b``, the same clusters drawn for both; arguments as `model_utility`.

    Raises:
        InputError: As `model_utility`.
    """
    return _utility([a, b], "difference of model utility", rng, level)


def harmonic_mean(values: Floats) -> Floats:
    """Over the first axis, of numbers >= 0; 0 where one of them is 0, NaN where one is NaN."""
    with np.errstate(divide="ignore"):
        found: Floats = len(values) / (1 / values).sum(axis=0)
    return found


class _Sums(NamedTuple):
    """Of each measure and cluster: the sum over its rows, and how many have a number; both (3, clusters)."""

    totals: Floats
    counts: Floats

    def means(self, clusters: Any) -> Floats:
        """Over the rows of some clusters, numbers of shape (..., m); shape (3, ...), NaN where no row has a number."""
        with np.errstate(invalid="ignore"):
            found: Floats = self.totals[:, clusters].sum(axis=-1) / self.counts[:, clusters].sum(axis=-1)
        return found


def _utility(systems: Sequence[Sequence[Qa]], name: str, rng: Seed, level: float) -> Estimate:
    ordered = [_useful(parts) for parts in systems]
    scopes = {part.scope for parts in ordered for part in parts}
    if len(scopes) > 1:
        raise InputError(f"the parts were measured in the scopes {sorted(scopes)}; expected one.")
    name = f"{name} ({len(USEFUL) * 3} numbers, harmonic mean), scope {scopes.pop()}"
    tables: list[list[_Sums]] = [[] for _ in systems]
    numbers: list[Floats] = []
    for place, part in enumerate(USEFUL):
        own = [parts[place] for parts in ordered]
        homes = {home: at for at, home in enumerate(dict.fromkeys(home for one in own for home in _homes(one)))}
        if not homes:
            return Estimate.undefined(method=name, why=f"{part} has no rows", level=level)
        for table, one in zip(tables, own, strict=True):
            table.append(_sums(one, homes))
        numbers.append(np.arange(len(homes), dtype=np.float64))

    def statistic(*drawn: Floats, axis: int = -1) -> Floats:
        """Numbers of the clusters of each part -> utility, or the first system's less the second's."""
        found = [
            harmonic_mean(np.concatenate([one.means(own.astype(int)) for one, own in zip(table, drawn, strict=True)]))
            for table in tables
        ]
        return found[0] if len(found) == 1 else found[0] - found[1]

    found = bootstrap(statistic, *numbers, clusters=numbers, level=level, rng=rng)
    return replace(found, method=f"{name}, {found.method}")


def _useful(parts: Sequence[Qa]) -> list[Qa]:
    by_name = {one.part: one for one in parts if one.part in USEFUL}
    if len(by_name) < len(USEFUL) or sum(one.part in USEFUL for one in parts) > len(USEFUL):
        raise InputError(
            f"the utility has the parts {[one.part for one in parts]}; expected each of {list(USEFUL)} once."
        )
    return [by_name[part] for part in USEFUL]


def _homes(one: Qa) -> list[str]:
    return [home for measured in (one.probability, one.rouge, one.truth) for home in measured.passages]


def _sums(one: Qa, homes: dict[str, int]) -> _Sums:
    columns = [one.probability, one.rouge, one.truth]
    places = [[homes[home] for home in measured.passages] for measured in columns]
    totals = [
        np.bincount(at, weights=each.values, minlength=len(homes)) for at, each in zip(places, columns, strict=True)
    ]
    counts = [np.bincount(at, minlength=len(homes)) for at in places]
    return _Sums(np.array(totals), np.array(counts, dtype=np.float64))
