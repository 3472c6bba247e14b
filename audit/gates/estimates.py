"""Every number and verdict of runs under the address by which a policy names it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from ..errors import DataError
from ..runs.schema import EstimateRecord, Finding, Findings, PValueRecord
from ..text.safe import did_you_mean, quoted

# Beginnings of findings that an audit makes only where its plan or its data have what they are about.
OPTIONAL: Final = (
    "traps.all", "traps.commitment", "traps.copies_", "traps.documents", "traps.in_context", "traps.owner_",
    "traps.power", "traps.tokens", "membership.inference", "extraction.canaries", "extraction.coverage",
    "extraction.halves", "extraction.likelihood", "extraction.numbers", "extraction.opening",
)  # fmt: skip
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
    """Id of a finding that shows that the audit of ``pattern`` was run, though nothing stands there, or None.

    The address is mistyped then, or of another version: nothing that may be skipped. It is the finding that the pattern
    names itself; else any one of the same audit, unless the pattern names what an audit need not have (`OPTIONAL`).
    """
    known = list(known)
    if any(shape(pattern).fullmatch(entry.address) for entry in known):
        return None
    named = pattern.rpartition("/")[0]
    of_finding, audit = shape(named), named.partition(".")[0]
    itself = next((entry.finding.id for entry in known if of_finding.fullmatch(entry.finding.id)), None)
    if itself is not None or named.startswith(OPTIONAL):
        return itself
    return next((entry.finding.id for entry in known if entry.finding.id.partition(".")[0] == audit), None)


def lacking(pattern: str, known: Iterable[Entry]) -> list[Entry]:
    """Verdicts of the findings that a pattern with a wild card names and that have nothing under its address.

    Findings that make no claim need not have it.
    """
    named = pattern.rpartition("/")[0]
    if not any(mark in named for mark in "*?"):
        return []
    known = list(known)
    have = {(one.run, one.finding.id) for one in known if shape(pattern).fullmatch(one.address)}
    return [
        one
        for one in known
        if one.address == f"{one.finding.id}/verdict"
        and one.what != "information"
        and shape(named).fullmatch(one.finding.id)
        and (one.run, one.finding.id) not in have
    ]


@cache
def shape(pattern: str) -> re.Pattern[str]:
    """The pattern as a regular expression, whose time grows with pattern times text and no faster.

    What follows a star is taken where it first stands and never looked for further on (an atomic group): the next star
    reaches there as well, since neither crosses a ``/``.
    """
    first, *others = ("".join("[^/]" if c == "?" else re.escape(c) for c in part) for part in pattern.split("*"))
    if not others:
        return re.compile(first, re.DOTALL)
    middle = "".join(f"(?>[^/]*?{part})" for part in others[:-1])
    return re.compile(f"{first}{middle}[^/]*{others[-1]}", re.DOTALL)


def nearest(pattern: str, known: Sequence[Entry]) -> str:
    """``" Did you mean 'x'?"``, of the same audit: a rule on another one would ask something else. Or nothing."""
    audit = pattern.partition(".")[0]
    of_audit = dict.fromkeys(one.address for one in known if one.finding.id.partition(".")[0] == audit)
    if not of_audit and "*" not in audit and "?" not in audit:
        near = did_you_mean(audit, {one.finding.id.partition(".")[0] for one in known})
        return f" None of them holds an audit {audit!r}.{near}"
    return did_you_mean(pattern, of_audit)
