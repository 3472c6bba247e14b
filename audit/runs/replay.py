"""Are the findings what the stored scores give? What was recomputed is laid beside findings.json, number by number.

A room recomputes its section from the rows that it kept (`Replayed`) with the function that made it in the first
place; this file only compares. Every number, verdict, sentence and cell is compared, and what a room could not
recompute is told by name with the reason, so that nothing is passed over in silence.

An address names what was compared: ``traps.copies_64/auc``, ``traps.copies_64/p:arm``, ``traps.copies_64/verdict``,
``traps:arms[2]/auc`` (a cell of a table), ``items/traps.parquet/loss_score`` (a column that follows from others).
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from .provenance import provenance
from .records import plain, read_record
from .schema import AuditSection, Finding, Findings, OpeningRecord, Provenance, PValueRecord, Record, Table
from .store import Run

RELATIVE = 1e-9  # between numbers where another version, or another machine, computes them
ABSOLUTE = 1e-12  # likewise, of what is all but zero
_WORDS = "words"
_OTHER_SENSE = "words, and a number or verdict in them that the scores do not give"
_LATER_CODE = "the code that made this run did not state it yet; so there is nothing to compare"
_NO_OPENING = (
    "it is not there, so nothing shows whether the plan in run.json is the one that the run began with: an older "
    "version made this run, or the file was removed"
)
_OPENING_GONE = (
    "missing, though code that writes it wrote run.json: it was removed, or an older version began the run and this "
    "one went on with it; nothing shows whether the plan in run.json is the one that the run began with"
)
_SINCE_OPENINGS = "policy_sha256"  # run.json has this key since there is an opening.json
#: What no replay looks at, for it follows from no score.
NOT_COMPARED = (
    "ids, texts and other columns of items that no statistic is computed from",
    "names and hashes of models, seeds, stages, times, machine, versions and self-test in run.json",
    "report.html, plan.toml and files that no finding rests on",
    "deviations from the plan, or that none is told",
)


@dataclass(frozen=True, slots=True)
class Derived:
    """Values that follow from others, as they are stored and as they were computed anew; shapes (n,).

    ``address`` is a column of items ("items/traps.parquet/loss"), or a file and what of it.
    """

    address: str
    stored: Sequence[Any]
    again: Sequence[Any]

    @classmethod
    def column(cls, table: str, name: str, stored: Any, again: Any) -> Derived:
        """A column of two data frames; one that lacks is empty."""
        return cls(f"items/{table}.parquet/{name}", stored.get(name, ()), again.get(name, ()))

    @classmethod
    def record(cls, address: str, stored: Any, again: Any) -> Derived:
        """Two plain JSON values, number by number and word by word, in the order of their keys."""
        return cls(address, list(_leaves(stored)), list(_leaves(again)))


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for key in sorted(value):
            yield from _leaves(value[key])
    elif isinstance(value, list):
        for one in value:
            yield from _leaves(one)
    else:
        yield value


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a room, or a whole kind of run, computed anew.

    Attributes:
        sections: As they would stand in findings.json; findings and tables that could not be made are absent.
        not_replayed: Address -> why it could not be computed anew. An address stands for all that lies below it: that
            of a finding for its numbers, ``traps:arms`` for a table, ``traps`` for a whole section.
        derived: What else is stored and follows from scores.
        limitations: Of the run as a whole.
    """

    sections: tuple[AuditSection, ...]
    not_replayed: Mapping[str, str] = field(default_factory=dict)
    derived: tuple[Derived, ...] = ()
    limitations: tuple[str, ...] = ()

    @classmethod
    def joined(cls, parts: Sequence[Replayed], *, limitations: tuple[str, ...] = ()) -> Replayed:
        """Several rooms' as one."""
        return cls(
            tuple(section for part in parts for section in part.sections),
            {address: why for part in parts for address, why in part.not_replayed.items()},
            tuple(one for part in parts for one in part.derived),
            limitations,
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not what the stored scores give. ``stored`` and ``again`` are as in JSON, None where absent."""

    address: str
    what: str
    stored: Any
    again: Any


@dataclass(slots=True)
class Replay:
    """The comparison.

    Attributes:
        exact: Whether numbers had to be equal to the bit; otherwise within `RELATIVE`.
        versions: What differs between then and now, in words; none where the same code ran on the same machine.
        compared: What -> how many: "estimates", "p-values", "verdicts", "sentences", "cells", "stored columns",
            "recorded values".
        differences: What is not what the scores give.
        reworded: Sentences that differ and may do so, because other code wrote them.
        not_replayed: Address -> why; only what findings.json holds.
    """

    exact: bool
    versions: tuple[str, ...]
    compared: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)
    reworded: list[Difference] = field(default_factory=list)
    not_replayed: dict[str, str] = field(default_factory=dict)

    @property
    def outcome(self) -> Literal["equal", "differs", "inconclusive"]:
        """ "inconclusive": all that could be compared is equal, and some could not be."""
        if self.differences:
            return "differs"
        return "inconclusive" if self.not_replayed or self.reworded or not self.compared else "equal"


def compare(run: Run, replayed: Replayed) -> Replay:
    """Lay what was recomputed beside the run's findings."""
    stored = run.findings()
    versions, same_code = _versions(run)
    found = Replay(not versions, tuple(versions))
    again = _as_read(Findings(sections=replayed.sections, limitations=replayed.limitations))
    beside = _Beside(found, replayed.not_replayed, same_code=same_code)
    _opening(run, found, same_code=same_code)
    ours, theirs = _by_audit(stored), _by_audit(again)
    beside.order("sections", [name for name, _ in ours], [name for name, _ in theirs])
    for key in dict.fromkeys([*ours, *theirs]):
        beside.sections(key[0], ours.get(key), theirs.get(key))
    beside.words("limitations", list(stored.limitations), list(again.limitations))
    if stored.deviations:
        found.not_replayed["deviations"] = "they tell what happened while the run was made; no score says so"
    for one in replayed.derived:
        _derived(found, one, same_code=same_code)
    return found


def _opening(run: Run, found: Replay, *, same_code: bool) -> None:
    """Whether run.json holds the plan that was fixed before anything was scored.

    That there is no opening.json is excused of code that wrote none, as run.json shows.
    """
    path = run.folder / "opening.json"
    record = run.record
    if not path.exists():
        if same_code or _SINCE_OPENINGS in record.model_fields_set:
            found.differences.append(Difference("opening.json", _OPENING_GONE, None, "there"))
        else:
            found.not_replayed["opening.json"] = _NO_OPENING
        return
    opened = read_record(path, OpeningRecord, missing="")
    now = {"created": record.provenance.created} | {
        name: getattr(record, name) for name in ("id", "kind", "plan_sha256", "policy_sha256")
    }
    for name, value in now.items():
        found.compared["recorded values"] += 1
        if getattr(opened, name) != value:
            what = "another than in run.json"
            found.differences.append(Difference(f"opening.json/{name}", what, getattr(opened, name), value))


def _as_read(findings: Findings) -> Findings:
    """After a trip through JSON, as what it is compared with."""
    return Findings.model_validate_json(json.dumps(plain(findings.model_dump(mode="python"), "findings")))


def _by_audit(findings: Findings) -> dict[tuple[str, int], AuditSection]:
    seen: Counter[str] = Counter()
    found = {}
    for section in findings.sections:
        found[section.audit, seen[section.audit]] = section
        seen[section.audit] += 1
    return found


class _Beside:
    """Walks through two findings at once."""

    def __init__(self, found: Replay, not_replayed: Mapping[str, str], *, same_code: bool) -> None:
        self._found = found
        self._why = not_replayed
        self._same_code = same_code

    def _passed_over(self, address: str) -> bool:
        """Notes the reason where this, or what it lies in, could not be computed anew."""
        for prefix in _above(address):
            if prefix in self._why:
                self._found.not_replayed[prefix] = self._why[prefix]
                return True
        return False

    def _differs(self, address: str, what: str, stored: Any, again: Any) -> None:
        self._found.differences.append(Difference(address, what, _plain(stored), _plain(again)))

    def sections(self, audit: str, stored: AuditSection | None, again: AuditSection | None) -> None:
        if self._passed_over(audit):
            return
        if stored is None or again is None:
            return self._differs(audit, "section", _there(stored), _there(again))
        for name in ("title", "method", "assumptions", "cannot_show"):
            self.words(f"{audit}/{name}", getattr(stored, name), getattr(again, name))
        self.order(f"{audit}/findings", *([one.id for one in side.findings] for side in (stored, again)))
        self.order(f"{audit}/tables", *([one.name for one in side.tables] for side in (stored, again)))
        for key, one, other in _paired(stored.findings, again.findings, lambda each: each.id):
            self.finding(key, one, other)
        for key, one, other in _paired(stored.tables, again.tables, lambda each: each.name):
            self.table(f"{audit}:{key}", one, other)

    def finding(self, address: str, stored: Finding | None, again: Finding | None) -> None:
        if self._passed_over(address):
            return
        if stored is None or again is None:
            return self._differs(address, "finding", _there(stored), _there(again))
        self.value(f"{address}/verdict", "verdict", stored.verdict, again.verdict, kind="verdicts")
        if stored.audit != again.audit:
            self._differs(f"{address}/audit", "name of the audit", stored.audit, again.audit)
        self.words(f"{address}/claim", stored.claim, again.claim, of_results=True)
        for name in ("how_to_read", "items", "clause"):
            self.words(f"{address}/{name}", getattr(stored, name), getattr(again, name))
        for name in dict.fromkeys([*stored.estimates, *again.estimates]):
            self.record(f"{address}/{name}", stored.estimates.get(name), again.estimates.get(name))
        for name in dict.fromkeys([*stored.p_values, *again.p_values]):
            self.record(f"{address}/p:{name}", stored.p_values.get(name), again.p_values.get(name))
        if stored.power is None and again.power is not None and not self._same_code:
            self._found.not_replayed[f"{address}/power"] = _LATER_CODE
            return
        self.words(f"{address}/power_for", stored.power_for, again.power_for)
        if stored.power_effect is None and again.power_effect is not None and not self._same_code:
            self._found.not_replayed[f"{address}/power_effect"] = _LATER_CODE
        elif not same(stored.power_effect, again.power_effect, exact=self._found.exact):
            what = "effect that the power is for"
            self._differs(f"{address}/power_effect", what, stored.power_effect, again.power_effect)
        if stored.power is not None or again.power is not None:
            self.record(f"{address}/power", stored.power, again.power)

    def table(self, address: str, stored: Table | None, again: Table | None) -> None:
        if self._passed_over(address):
            return
        if stored is None or again is None:
            return self._differs(address, "table", _there(stored), _there(again))
        for name in ("title", "note", "columns"):
            self.words(f"{address}/{name}", getattr(stored, name), getattr(again, name), of_results=name == "note")
        if len(stored.rows) != len(again.rows):
            return self._differs(address, "number of rows", len(stored.rows), len(again.rows))
        for number, (one, other) in enumerate(zip(stored.rows, again.rows, strict=True), start=1):
            for key in dict.fromkeys([*one, *other]):
                where = f"{address}[{number}]/{key}"
                if (key in one) != (key in other):
                    if not self._passed_over(where):
                        self._differs(where, "cell", _there(one.get(key)), _there(other.get(key)))
                    continue
                mine, theirs = one[key], other[key]
                if isinstance(mine, Record) and isinstance(theirs, Record):
                    self.record(where, mine, theirs, kind="cells")
                else:
                    self.value(where, "cell", mine, theirs, kind="cells")

    def record(self, address: str, stored: Any, again: Any, *, kind: str | None = None) -> None:
        """An estimate or a p-value: its numbers as numbers, its method and its reason as words."""
        if self._passed_over(address):
            return
        if type(stored) is not type(again):
            return self._differs(address, "kind of number", _plain(stored), _plain(again))
        of = kind or ("p-values" if isinstance(stored, PValueRecord) else "estimates")
        self._found.compared[of] += 1
        for name in type(stored).model_fields:
            mine, theirs = getattr(stored, name), getattr(again, name)
            if name in ("method", "why"):
                self.words(f"{address}/{name}", mine, theirs, counted=False)
            elif not same(mine, theirs, exact=self._found.exact):
                self._differs(address, name, mine, theirs)

    def value(self, address: str, what: str, stored: Any, again: Any, *, kind: str) -> None:
        if self._passed_over(address):
            return
        self._found.compared[kind] += 1
        if not same(stored, again, exact=self._found.exact):
            self._differs(address, what, stored, again)

    def order(self, address: str, stored: Sequence[str], again: Sequence[str]) -> None:
        """The order of what both hold; what one lacks is told elsewhere."""
        both = set(stored) & set(again)
        ours, theirs = (list(dict.fromkeys(one for one in side if one in both)) for side in (stored, again))
        self.words(f"{address}/order", ours, theirs, counted=False)

    def words(self, address: str, stored: Any, again: Any, *, counted: bool = True, of_results: bool = False) -> None:
        """What is said: equal where the same code says it; other code may word it otherwise, which is told.

        Where it says what came out (``of_results``), other words may not state a number or a verdict of their own.
        """
        if self._passed_over(address):
            return
        if counted:
            self._found.compared["sentences"] += 1
        if stored == again:
            return
        if self._same_code:
            self._differs(address, _WORDS, stored, again)
        elif of_results and _of_another_sense(stored, again):
            self._differs(address, _OTHER_SENSE, stored, again)
        else:
            self._found.reworded.append(Difference(address, _WORDS, _plain(stored), _plain(again)))


def same(stored: Any, again: Any, *, exact: bool) -> bool:
    """Whether two plain values are the same; of the same type, numbers to the bit or within the tolerance."""
    if isinstance(stored, bool) or isinstance(again, bool) or not (_number(stored) and _number(again)):
        return type(stored) is type(again) and bool(stored == again)
    if stored == again or exact:
        return bool(stored == again)
    if isinstance(stored, int) and isinstance(again, int):
        return False  # counts are counts
    return math.isclose(stored, again, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


_NUMBER = re.compile(r"(?<![\w.,])[-−]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?")
_VERDICT = re.compile(r"\b(?:(no|not|nothing|none|never)\b[^.;:]*?)?\b(found|inconclusive|confounded)\b", re.IGNORECASE)


def _of_another_sense(stored: str, again: str) -> bool:
    """Whether the first sentence holds a number, or a verdict's word, that the second does not."""
    known = [_written(one) for one in _NUMBER.findall(again)]
    strange = any(
        all(round(number, min(places, other)) != round(value, min(places, other)) for value, other in known)
        for number, places in map(_written, _NUMBER.findall(stored))
    )
    return strange or not _verdicts(stored) <= _verdicts(again)


def _written(text: str) -> tuple[float, int]:
    """A number, and how many decimals it was written with."""
    plain_text = text.replace(",", "").replace("−", "-")
    decimals = plain_text.lower().partition("e")[0].partition(".")[2]
    return float(plain_text), 15 if "e" in plain_text.lower() else len(decimals)


def _verdicts(text: str) -> set[tuple[bool, str]]:
    return {(bool(negated), word.lower()) for negated, word in _VERDICT.findall(text)}


def _number(value: Any) -> bool:
    return isinstance(value, int | float)


def _above(address: str) -> Iterator[str]:
    """The address, and what it lies in: "traps:arms[2]/auc", "traps:arms[2]", "traps:arms"."""
    yield address
    if "/" in address:
        address = address.rsplit("/", 1)[0]
        yield address
    if address.endswith("]") and ":" in address:
        yield address[: address.rindex("[")]


def _paired(stored: Sequence[Any], again: Sequence[Any], key: Any) -> Iterator[tuple[str, Any, Any]]:
    """By name; of several of one name, the first with the first."""
    sides: tuple[dict[str, list[Any]], dict[str, list[Any]]] = defaultdict(list), defaultdict(list)
    for side, all_of in zip(sides, (stored, again), strict=True):
        for one in all_of:
            side[key(one)].append(one)
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        ours, theirs = sides[0].get(name, []), sides[1].get(name, [])
        for place in range(max(len(ours), len(theirs))):
            yield (
                name,
                ours[place] if place < len(ours) else None,
                theirs[place] if place < len(theirs) else None,
            )


def _there(one: Any) -> str | None:
    return None if one is None else "there"


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.model_dump(mode="json")
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value.item() if isinstance(value, np.generic) else value


def _derived(found: Replay, derived: Derived, *, same_code: bool) -> None:
    """The first row that differs, and how many do."""
    address = derived.address
    if not len(derived.stored) and len(derived.again) and not same_code:
        found.not_replayed[address] = _LATER_CODE
        return
    found.compared["stored columns" if "items/" in address else "recorded values"] += 1
    stored, again = (np.asarray(side, dtype=object).tolist() for side in (derived.stored, derived.again))
    if len(stored) != len(again):
        found.differences.append(Difference(address, "number of rows", len(stored), len(again)))
        return
    other = [
        place
        for place, (one, two) in enumerate(zip(stored, again, strict=True))
        if not (_nothing(one) and _nothing(two)) and not same(_plain(one), _plain(two), exact=found.exact)
    ]
    if other:
        first = other[0]
        what = f"row {first + 1:,}" if len(other) == 1 else f"row {first + 1:,} and {len(other) - 1:,} more"
        found.differences.append(Difference(address, what, _finite(stored[first]), _finite(again[first])))


def _nothing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _finite(value: Any) -> Any:
    return None if _nothing(value) else _plain(value)


def _versions(run: Run) -> tuple[list[str], bool]:
    """What differs between the making of the run, all attempts, and here; and whether the code is the same."""
    here = provenance(())
    told: dict[str, None] = {}
    same_code = True
    for then in run.attempts():
        for name, was, now in _facts(then, here):
            if was != now:
                told[f"{name} was {_or_unknown(was)}, is {_or_unknown(now)}"] = None
                same_code = same_code and name not in ("Palimpsest", "its commit", "uncommitted changes")
    return list(told), same_code


def _facts(then: Provenance, here: Provenance) -> Iterator[tuple[str, Any, Any]]:
    yield "Palimpsest", then.palimpsest, here.palimpsest
    yield "its commit", then.commit, here.commit
    yield "uncommitted changes", then.dirty, here.dirty
    yield "Python", then.python, here.python
    yield "the platform", then.platform, here.platform
    yield "the processor", then.hardware.get("cpu"), here.hardware.get("cpu")
    for name in sorted(then.packages.keys() | here.packages.keys()):
        yield name, then.packages.get(name), here.packages.get(name)


def _or_unknown(value: Any) -> str:
    return "unknown" if value is None else str(value)
