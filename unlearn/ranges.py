"""One check of a plan's settings, with one message."""

from __future__ import annotations

from collections.abc import Mapping

from audit.errors import InputError

Ranges = Mapping[str, tuple[bool, str]]


def check_ranges(of: object, what: str, ranges: Ranges) -> None:
    """Refuses the first setting that is out of its range.

    Args:
        of: What has the settings.
        what: What it is called.
        ranges: Name of a setting -> whether it fits, and what was expected.

    Raises:
        InputError: One does not fit.
    """
    for name, (fits, expected) in ranges.items():
        if not fits:
            raise InputError(f"{what}: {name} is {getattr(of, name)!r}; expected {expected}.")
