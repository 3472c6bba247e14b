"""The instruments of ``audit`` that are tested, in the order in which they rest on each other."""

from __future__ import annotations

from . import extraction, forgetting, generation, logprobs, matching, membership, statistics, traps
from .answers import Instrument

INSTRUMENTS: tuple[Instrument, ...] = (
    statistics.INSTRUMENT,
    logprobs.INSTRUMENT,
    generation.INSTRUMENT,
    matching.INSTRUMENT,
    matching.ENCODER,
    membership.INSTRUMENT,
    traps.INSTRUMENT,
    extraction.INSTRUMENT,
    forgetting.INSTRUMENT,
)
