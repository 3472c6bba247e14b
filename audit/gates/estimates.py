"""Every number and verdict of runs under the address by which a policy names it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..runs.schema import EstimateRecord, Finding, Findings, PValueRecord
from ..text.safe import did_you_mean


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands at an address of a run.

    Attributes:
        address: ``<finding>/<estimate>``, ``<finding>/p:<p-value>``, ``<finding>/verdict``, ``<finding>/power``.
        run: Id of the run.
        finding: That it belongs to.
        what: The estimate or p-value; the finding's verdict where the address ends so.
    """

    address: str
    run: str
    finding: Finding
    what: EstimateRecord | PValueRecord | str


def entries(run: str, findings: Findings) -> list[Entry]:
    """Everything that can be addressed in a run, in the order of its findings.

    Names are the run's: an estimate that is itself called "verdict" or "power" has no address.
    """
    found = []
    for section in findings.sections:
        for finding in section.findings:
            found.append(Entry(f"{finding.id}/verdict", run, finding, finding.verdict))
            if finding.power is not None:
                found.append(Entry(f"{finding.id}/power", run, finding, finding.power))
            for name, estimate in finding.estimates.items():
                if name not in ("verdict", "power") and not name.startswith("p:"):
                    found.append(Entry(f"{finding.id}/{name}", run, finding, estimate))
            for name, p in finding.p_values.items():
                found.append(Entry(f"{finding.id}/p:{name}", run, finding, p))
    return found


def matching(pattern: str, known: Iterable[Entry]) -> list[Entry]:
    """Entries whose address is ``pattern``, in which ``*`` stands for any text without ``/``, ``?`` for one character.

    A pattern with a wild card passes by findings that make no claim: a verdict of "information".
    """
    wild = any(mark in pattern for mark in "*?")
    shape = re.compile(
        "".join("[^/]*" if c == "*" else "[^/]" if c == "?" else re.escape(c) for c in pattern), re.DOTALL
    )
    found = [entry for entry in known if shape.fullmatch(entry.address)]
    return [one for one in found if not (wild and one.what == "information")]


def nearest(pattern: str, known: Sequence[Entry]) -> str:
    """``" Did you mean 'x'?"``, or nothing."""
    return did_you_mean(pattern, dict.fromkeys(entry.address for entry in known))
