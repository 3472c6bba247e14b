"""The instruments of ``audit`` that are tested, in the order in which they rest on each other."""

from __future__ import annotations

from . import extraction, forgetting, generation, logprobs, matching, membership, statistics, traps
from .answers import Instrument

INSTRUMENTS: tuple[Instrument, ...] = tuple(
    module.INSTRUMENT
    for module in (statistics, logprobs, generation, matching, membership, traps, extraction, forgetting)
)
