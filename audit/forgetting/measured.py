"""One number for each item of a measure, and what is said of them: a mean, a difference, with intervals.

Items of one passage are not independent, so whole passages are resampled. All estimates speak of these passages and
these two or three models; they say nothing about training a model again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import InputError
from ..stats.bootstrap import bootstrap
from ..stats.checks import Floats, Seed, finite_array
from ..stats.estimate import Estimate
from ..stats.proportion import clopper_pearson, wilson
from ..text.safe import quoted

FEW_PASSAGES = 20  # below, the interval says that it is too narrow


@dataclass(frozen=True, slots=True)
class Measured:
    """The values of one measure for one model.

    Attributes:
        name: What was measured, and in which unit.
        ids: One for each item, all different.
        passages: The passage that each item comes from.
        values: Shape (n,), finite.
        left_out: Id -> why an item has no value; it counts nowhere, least of all as 0.
    """

    name: str
    ids: tuple[str, ...]
    passages: tuple[str, ...]
    values: Floats
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = (len(self.ids), len(self.passages), len(finite_array(self.values, self.name)))
        if len(set(sizes)) > 1 or len(set(self.ids)) < len(self.ids):
            raise InputError(
                f"{self.name}: {sizes[0]} ids ({len(set(self.ids))} different), {sizes[1]} passages and {sizes[2]} "
                "values; expected one of each for each item."
            )

    def to_record(self) -> dict[str, Any]:
        """As plain JSON values, to the bit."""
        return {
            "name": self.name,
            "ids": list(self.ids),
            "passages": list(self.passages),
            "values": self.values.tolist(),
            "left_out": dict(self.left_out),
        }

    @classmethod
    def of_record(cls, told: Mapping[str, Any]) -> Measured:
        """What `to_record` wrote."""
        values = np.array(told["values"], dtype=np.float64)
        return cls(told["name"], tuple(told["ids"]), tuple(told["passages"]), values, told["left_out"])

    def mean(self, *, rng: Seed, level: float = 0.95) -> Estimate:
        """Mean over items, whole passages resampled.

        Shares (values 0 and 1, one item to a passage) get Wilson's interval. Where every value is 0, or 1, no draw
        differs, and the interval is the exact one of a share with one trial for each passage; it bounds the mean of
        values in [0, 1] too.

        Args:
            rng: Generator or seed.
            level: Confidence level, in (0, 1).
        """
        name = f"{self.name}: mean"
        if not len(self.values):
            return Estimate.undefined(method=name, why=self._missing() or "there are no items", level=level)
        n_passages = len(set(self.passages))
        binary = bool(np.isin(self.values, (0.0, 1.0)).all())
        if binary and n_passages == len(self.values):
            return self._said(wilson(int(self.values.sum()), n_passages, level=level))
        if binary and self.values.min() == self.values.max():
            return self._said(clopper_pearson(n_passages if self.values[0] else 0, n_passages, level=level))
        return self._said(bootstrap(np.mean, self.values, clusters=self.passages, level=level, rng=rng))

    def _said(self, estimate: Estimate) -> Estimate:
        notes = (estimate.why, self._missing(), few_passages(estimate))
        why = "; ".join(note for note in notes if note) or None
        return replace(estimate, method=f"{self.name}: mean, {estimate.method}", why=why)

    def _missing(self) -> str | None:
        if not self.left_out:
            return None
        identifier, reason = next(iter(self.left_out.items()))
        return f"{len(self.left_out):,} items have no value and were left out; first {quoted(identifier)}: {reason}"


def few_passages(estimate: Estimate, n: int | None = None) -> str | None:
    """The caveat of a bootstrap over few passages: ``n`` on the smaller side, where there are two."""
    n = estimate.n if n is None else n
    if "bootstrap" not in estimate.method or estimate.low is None or n >= FEW_PASSAGES:
        return None
    return f"only {n} passages: the interval is too narrow (it covers about 89% instead of 95% with 10)"


def joined(measures: Sequence[Measured]) -> tuple[list[Floats], tuple[str, ...], str | None]:
    """The values of the items that every measure has, in one order; their passages; what was lost.

    Raises:
        InputError: Two measures are called differently, have no item in common, or place one in two passages.
    """
    first = measures[0]
    for other in measures[1:]:
        if other.name != first.name:
            raise InputError(f"{quoted(other.name)} cannot be compared with {quoted(first.name)}; measure both alike.")
    places = [dict(zip(one.ids, range(len(one.ids)), strict=True)) for one in measures]
    common = [identifier for identifier in first.ids if all(identifier in place for place in places)]
    if not common:
        raise InputError(f"{first.name}: the measures share no item; measure both on the same prompts.")
    for identifier in common:
        homes = {one.passages[place[identifier]] for one, place in zip(measures, places, strict=True)}
        if len(homes) > 1:
            raise InputError(
                f"{first.name}: item {quoted(identifier)} lies in the passages {quoted(sorted(homes))}; expected one."
            )
    every = set(common).union(*(set(one.ids) | set(one.left_out) for one in measures))
    lost = len(every) - len(common)
    passages = tuple(first.passages[places[0][identifier]] for identifier in common)
    values = [
        one.values[[place[identifier] for identifier in common]] for one, place in zip(measures, places, strict=True)
    ]
    note = f"{lost:,} of {len(every):,} items lack a value in one of the models and were left out" if lost else None
    return values, passages, note


def paired_bootstrap(
    statistic: Callable[..., object],
    values: Sequence[Floats],
    passages: Sequence[Hashable],
    *,
    name: str,
    note: str | None,
    rng: Seed,
    level: float,
) -> Estimate:
    """Bootstrap of a statistic of several models' values on the same items, whole passages resampled."""
    found = bootstrap(statistic, *values, paired=True, clusters=passages, level=level, rng=rng)
    why = "; ".join(part for part in (found.why, note, few_passages(found)) if part) or None
    return replace(found, method=f"{name}, {found.method}", why=why)


def difference(a: Measured, b: Measured, *, rng: Seed, level: float = 0.95) -> Estimate:
    """Mean of a - b over the items that both have, paired; whole passages resampled.

    Args:
        a: Values of one model.
        b: Of another, on the same items.
        rng: Generator or seed.
        level: Confidence level, in (0, 1).

    Raises:
        InputError: As `joined`.
    """
    values, passages, note = joined([a, b])
    name = f"{a.name}: paired difference"

    def mean_difference(x: Floats, y: Floats, axis: int = -1) -> Floats:
        return np.asarray((x - y).mean(axis=axis))

    return paired_bootstrap(mean_difference, values, passages, name=name, note=note, rng=rng, level=level)
