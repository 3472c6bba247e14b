"""How numbers are written: as many digits as their interval supports, and never rounded onto a landmark."""

from __future__ import annotations

import math
from collections.abc import Collection

_LANDMARKS = (0.0, 0.5, 1.0)  # no effect, chance, certainty: what a reader compares with
_MOST_DECIMALS = 6


def fixed(number: float, decimals: int, landmarks: Collection[float] = ()) -> str:
    """``number`` with a fixed count of decimals; more of them where rounding would print 0, 0.5, 1 or a landmark.

    0.5004 with 3 decimals is "0.5004", not "0.500": whether a bound lies on chance, or on a limit that was set, is
    what a reader decides by.
    """
    if math.isinf(number):
        return "infinite" if number > 0 else "-infinite"
    decimals = telling(number, decimals, landmarks)
    if _lands(number, decimals, landmarks):
        return f"{number:.2g}" if abs(number) < 10.0**-decimals else f"{number:.8g}"
    return f"{number + 0.0:,.{decimals}f}"  # + 0.0 turns -0.0 into 0.0


def _lands(number: float, decimals: int, landmarks: Collection[float]) -> bool:
    shown = round(number, decimals)
    return (shown in _LANDMARKS or shown in landmarks) and shown != number


def telling(number: float, decimals: int, landmarks: Collection[float] = ()) -> int:
    """Decimals, at least as many as asked for, that tell ``number`` from the landmarks; at most 6."""
    return next((d for d in range(decimals, _MOST_DECIMALS) if not _lands(number, d, landmarks)), _MOST_DECIMALS)


def decimals_for(half_width: float | None) -> int:
    """Decimals that show two significant digits of an interval's half-width, 0 to 6; 3 without one."""
    if half_width is None or not 0.0 < half_width < math.inf:
        return 3
    return min(_MOST_DECIMALS, max(0, 1 - math.floor(math.log10(half_width))))


def p_number(value: float, landmarks: Collection[float] = ()) -> str:
    """A probability to 3 significant digits, as decimals down to a millionth; never rounded onto 0.05 or a landmark.

    0.04996 is "0.04996": the digits grow until they tell the number from a usual threshold.
    """
    if value == 0.0:
        return "0"
    digits = 3
    while digits < 8 and value != float(f"{value:.{digits}g}") in (0.001, 0.01, 0.05, 0.1, 1.0, *landmarks):
        digits += 1
    if value < 1e-6:
        return f"{value:.{digits - 1}e}"
    decimals = digits - 1 - math.floor(math.log10(value))
    return f"{value:.{decimals}f}".rstrip("0").rstrip(".")


def percent(share: float) -> str:
    """A share in [0, 1] as a percentage without needless zeros: "95%"; "99.9%"."""
    return f"{share:.4%}".rstrip("%").rstrip("0").rstrip(".") + "%"
