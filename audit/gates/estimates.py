"""Every number and verdict of runs under the address by which a policy names it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ..errors import DataError
from ..runs.schema import EstimateRecord, Finding, Findings, PValueRecord
from ..text.safe import did_you_mean, quoted

# Findings about the instrument, not the model: they stand where another finding of their audit is confounded.
INSTRUMENT: Final = frozenset(
    {"traps.controls", "traps.blind", "traps.power", "membership.blind", "extraction.sensitivity"}
)


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands at an address of a run.

    Attributes:
        address: ``<finding>/<estimate>``, ``<finding>/p:<p-value>``, ``<finding>/verdict``, ``<finding>/power``.
        run: Id of the run.
        finding: That it belongs to.
        what: The estimate or p-value; the finding's verdict where the address ends so.
        beside: Id of a confounded finding of the same audit, which takes the ground from under this one; None where
            there is none.
    """

    address: str
    run: str
    finding: Finding
    what: EstimateRecord | PValueRecord | str
    beside: str | None = None


def entries(run: str, findings: Findings) -> list[Entry]:
    """Everything that can be addressed in a run, in the order of its findings.

    Names are the run's: an estimate that is itself called "verdict" or "power" has no address.

    Raises:
        DataError: Two things of the run have one address.
    """
    found: dict[str, Entry] = {}
    for section in findings.sections:
        confounded = next((one.id for one in section.findings if one.verdict == "confounded"), None)
        for finding in section.findings:
            beside = None if finding.id in INSTRUMENT else confounded
            for address, what in _addressed(finding):
                if address in found:
                    raise DataError(
                        f"{run}: findings.json has the address {quoted(address, limit=200)} twice, so a rule on it "
                        "could look at either. Restore the run from a copy, or make it again."
                    )
                found[address] = Entry(address, run, finding, what, beside)
    return list(found.values())


def _addressed(finding: Finding) -> Iterable[tuple[str, EstimateRecord | PValueRecord | str]]:
    yield f"{finding.id}/verdict", finding.verdict
    if finding.power is not None:
        yield f"{finding.id}/power", finding.power
    for name, estimate in finding.estimates.items():
        if name not in ("verdict", "power") and not name.startswith("p:"):
            yield f"{finding.id}/{name}", estimate
    for name, p in finding.p_values.items():
        yield f"{finding.id}/p:{name}", p


def matching(pattern: str, known: Iterable[Entry]) -> list[Entry]:
    """Entries whose address is ``pattern``, in which ``*`` stands for any text without ``/``, ``?`` for one character.

    A pattern with a wild card passes by findings that make no claim: a verdict of "information".
    """
    wild = any(mark in pattern for mark in "*?")
    found = [entry for entry in known if shape(pattern).fullmatch(entry.address)]
    return [one for one in found if not (wild and one.what == "information")]


def beside_it(pattern: str, known: Iterable[Entry]) -> str | None:
    """Id of a finding that ``pattern`` names and that has nothing under the pattern's address; None where none is.

    Its audit was run then, so that the address is mistyped or of another version: nothing that may be skipped.
    """
    known = list(known)
    if any(shape(pattern).fullmatch(entry.address) for entry in known):
        return None
    of_finding = shape(pattern.rpartition("/")[0])
    return next((entry.finding.id for entry in known if of_finding.fullmatch(entry.finding.id)), None)


def shape(pattern: str) -> re.Pattern[str]:
    """The pattern as a regular expression."""
    return re.compile(
        "".join("[^/]*" if c == "*" else "[^/]" if c == "?" else re.escape(c) for c in pattern), re.DOTALL
    )


def nearest(pattern: str, known: Sequence[Entry]) -> str:
    """``" Did you mean 'x'?"``, or nothing."""
    return did_you_mean(pattern, dict.fromkeys(entry.address for entry in known))
