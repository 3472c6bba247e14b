"""The instruments of ``unlearn`` that are tested."""

from __future__ import annotations

from audit.selftest.answers import Instrument

from . import guard, losses, steering, verdict

INSTRUMENTS: tuple[Instrument, ...] = tuple(module.INSTRUMENT for module in (losses, verdict, guard, steering))
