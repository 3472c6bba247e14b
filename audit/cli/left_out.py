"""What of a folder was not read, told on standard error, so that no file is left out in silence."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from ..text.safe import counted, for_terminal

if TYPE_CHECKING:
    from ..text.sources import LeftOut

SHOWN: Final = 5  # names, and extensions


def tell_left_out(left_out: LeftOut) -> None:
    """One line for each reason for which something was left out."""
    for names, what in (
        (left_out.others, f"of a kind that is not read here ({_extensions(left_out.others)})"),
        (left_out.hidden, "hidden"),
        (left_out.links, "a link to a folder"),
    ):
        if names:
            line = f"note: {counted(len(names), 'path')} left out, {what}: {_some(names)}"
            print(for_terminal(line).replace("\n", " "), file=sys.stderr)


def _extensions(names: Sequence[str]) -> str:
    found = Counter(PurePath(name).suffix or "without an extension" for name in names)
    counts = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{number:,} {suffix}" for suffix, number in counts[:SHOWN]) + (", ..." if counts[SHOWN:] else "")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
