"""Strengths of flags and of rows."""

from __future__ import annotations

from audit.errors import DataError, InputError
from audit.text.safe import quoted

from ..maps import check_strength


def one_strength(strength: float | None) -> float:
    """The strength of a flag.

    Raises:
        InputError: None was given, or it is not finite.
    """
    if strength is None:
        raise InputError("give --strength: 0 is the model as it is, 1 the maps as they were fitted.")
    return check_strength(strength)


def row_strength(value: object, place: str, otherwise: float | None) -> float:
    """The strength of a row: its own, a number or a number as text, else that of the flag.

    Raises:
        InputError: Neither is given.
        DataError: It is no finite number.
    """
    if value is None or value == "":
        if otherwise is None:
            raise InputError(f'{place} has no "strength", and --strength was not given; give one of them.')
        return check_strength(otherwise)
    try:
        if isinstance(value, bool):
            raise ValueError
        return check_strength(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError, InputError):
        raise DataError(f"{place}: strength is {quoted(value)}; expected a finite number, usually 0 to 1.") from None
