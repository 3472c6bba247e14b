"""Checks that every statistic makes on its arguments; each refusal names the argument and the value."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from numbers import Integral
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Seed: TypeAlias = np.random.Generator | int
Labels: TypeAlias = Sequence[Hashable] | NDArray[Any]
Alternative: TypeAlias = Literal["greater", "less", "two-sided"]


def finite_vector(values: ArrayLike, name: str) -> Floats:
    """``values`` as a float64 vector, shape (n,), n >= 1, every entry finite; `InputError` otherwise."""
    vector = finite_array(values, name)
    if vector.ndim != 1:
        raise InputError(f"{name} has shape {vector.shape}; expected one dimension. Flatten it or pass one column.")
    if vector.size == 0:
        raise InputError(f"{name} is empty; expected at least 1 number. Check the filter that made it.")
    return vector


def finite_array(values: ArrayLike, name: str) -> Floats:
    """``values`` as a float64 array of any shape, every entry finite; `InputError` otherwise."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} cannot be read as numbers ({error}); expected a list or array of them.") from error
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        where = ", ".join(str(index) for index in bad[0])
        raise InputError(
            f"{name}[{where}] is {array[tuple(bad[0])]}; expected finite numbers ({len(bad)} of {array.size} are not). "
            "Remove or repair them, and say how many in the report."
        )
    return array


def open_unit(value: float, name: str) -> float:
    """``value`` when it lies strictly between 0 and 1; `InputError` otherwise."""
    if not 0.0 < value < 1.0:
        raise InputError(
            f"{name} is {value}; expected a number between 0 and 1, both excluded, for example 0.05 or 0.95."
        )
    return float(value)


def count(value: object, name: str, *, least: int) -> int:
    """``value`` when it is a whole number of at least ``least``; `InputError` otherwise."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise InputError(f"{name} is {value!r}; expected a whole number of at least {least}.")
    return int(value)


def choice(value: str, name: str, legal: tuple[str, ...]) -> None:
    """Refuse a ``value`` that is not one of ``legal``."""
    if value not in legal:
        raise InputError(f"{name} is {value!r}; expected one of {', '.join(map(repr, legal))}.")


def generator(rng: object) -> np.random.Generator:
    """A generator from a generator or a non-negative whole seed; an unseeded draw is refused."""
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, bool) or not isinstance(rng, Integral) or rng < 0:
        raise InputError(
            f"rng is {rng!r}; expected a numpy Generator or a whole seed of at least 0, so that it replays."
        )
    return np.random.default_rng(int(rng))


def label_codes(labels: Labels, name: str, *, n: int) -> tuple[Integers, list[Hashable]]:
    """Codes 0 .. k-1 in order of first appearance, shape (n,), and the k labels that they stand for.

    Raises:
        InputError: There are not ``n`` labels, or one is missing (NaN, None) or cannot be a label.
    """
    if len(labels) != n:
        raise InputError(f"{name} has {len(labels)} labels for {n} scores; expected one label for each score.")
    seen: dict[Hashable, int] = {}
    codes = np.empty(n, dtype=np.int64)
    for i, label in enumerate(labels):
        if not _is_label(label):
            raise InputError(
                f"{name}[{i}] is {label!r}; expected a name or number. Give missing labels a name of their own."
            )
        codes[i] = seen.setdefault(label, len(seen))
    return codes, list(seen)


def _is_label(label: object) -> bool:
    """Hashable and equal to itself, which NaN and the missing value of pandas are not."""
    try:
        return label is not None and bool(label == label) and isinstance(hash(label), int)
    except (TypeError, ValueError):
        return False
