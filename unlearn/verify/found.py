"""What a module of this room measured, and why it could not measure the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from audit.forgetting.measured import Measured


class Found(NamedTuple):
    """By key of `measures.Measure`.

    Attributes:
        measured: One number for each item.
        missing: Why a measure could not be made at all. No key stands in both.
    """

    measured: Mapping[str, Measured]
    missing: Mapping[str, str]


def together(*found: Found) -> Found:
    """All of them as one; what one of them measured is not missing, whatever another says.

    Worked: the wording of a guard is read from its answers, and its extraction strength is missing; the two functions
    that say so are joined here.
    """
    measured = {key: one for each in found for key, one in each.measured.items()}
    missing = {key: why for each in found for key, why in each.missing.items() if key not in measured}
    return Found(measured, missing)


def kept(key: str, measured: Measured) -> Found:
    """A measure under its key; where no item has a value it is missing, with the first item's reason."""
    if len(measured.ids):
        return Found({key: measured}, {})
    first = next(iter(measured.left_out.values()), "there are no items")
    return Found({}, {key: f"no item has a value; first: {first}"})
