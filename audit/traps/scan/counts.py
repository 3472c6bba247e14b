"""What a scan found, added up by arm, and the decoys that leaked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from ...text.sources import LeftOut
from ..ledger.records import Ledger
from .shards import Unit
from .store import Found
from .units import UnitRecord

SHOWN: Final = 5  # problems that a message names


@dataclass(frozen=True, slots=True)
class ArmCounts:
    """What became of the traps that were to be planted equally often.

    Attributes:
        arm: "member" or "decoy".
        n_rep: Copies that were planned of each; 0 for decoys.
        n_traps: Traps.
        n_found: Of these, with at least one copy of any kind.
        planned: Copies planned of all of them together.
        exact: Copies letter for letter.
        loose: Copies with other white space or another normal form.
        near: Copies at most so many token edits away.
        none: Traps without a copy.
        fewer: Traps with some copies, but fewer than planned.
        as_planned: Traps with as many copies as planned; of decoys, those without one.
        more: Traps with more.
    """

    arm: str
    n_rep: int
    n_traps: int
    n_found: int
    planned: int
    exact: int
    loose: int
    near: int
    none: int
    fewer: int
    as_planned: int
    more: int


@dataclass(frozen=True, slots=True)
class Leak:
    """A decoy that was found: how often, how far its best copy lies from it, and where the first such copy stands."""

    trap_id: str
    copies: int
    kind: str
    distance: int
    shard: str
    document: str
    line: int


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What a scan found.

    Attributes:
        arms: One for each arm and number of copies, decoys last.
        leaks: Decoys that were found, exact ones first, then by distance.
        n_files: Files that were scanned.
        n_texts: Texts in them.
        n_without: Records without a text.
        n_bad: Records and files that could not be read and were left out.
        bad: The first of them.
        n_bytes: Size of the files.
        n_scanned: Bytes that were scanned now, not in an earlier attempt.
        seconds: That this took, by the clock.
        workers: Processes.
        left_out: What of a folder was not scanned.
    """

    arms: tuple[ArmCounts, ...]
    leaks: tuple[Leak, ...]
    n_files: int
    n_texts: int
    n_without: int
    n_bad: int
    bad: tuple[str, ...]
    n_bytes: int
    n_scanned: int
    seconds: float
    workers: int
    left_out: LeftOut

    def to_record(self) -> dict[str, Any]:
        return asdict(self)


class Tally:
    """Counts hits as they come."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._kinds: dict[str, Counter[str]] = {}
        self._best: dict[str, Found] = {}
        self._files: set[str] = set()
        self.n_texts = self.n_without = self.n_bad = 0
        self.problems: list[str] = []
        self.n_lost_ranges = 0

    def add_unit(self, unit: Unit, record: UnitRecord, before: list[int]) -> None:
        """Adds what a unit held; ``before`` as from `Lines`."""
        for part, held, start in zip(unit, record.parts, before, strict=True):
            is_range = (part.begin, part.end) != (0, part.size)
            self._files.add(part.path)
            self.n_bad += held.n_bad + (held.problem is not None)
            self.n_lost_ranges += held.problem is not None and is_range
            if held.problem is None:
                self.n_texts += held.n_texts
                self.n_without += held.n_without
            told = [] if held.problem is None else [held.problem]
            for row in held.bad:
                told.append(f"{held.shard}, {f'line {start + row.line}' if is_range else row.place}: {row.reason}")
            self.problems += told[: SHOWN - len(self.problems)]

    def add(self, found: Found) -> None:
        """Adds a hit."""
        self._kinds.setdefault(found.trap_id, Counter())[found.kind] += 1
        best = self._best.get(found.trap_id)
        if best is None or _badness(found) < _badness(best):
            self._best[found.trap_id] = found

    def result(self, **rest: Any) -> ScanResult:
        """What was added; ``rest`` are the other fields."""
        return ScanResult(
            arms=tuple(self._arms()),
            leaks=tuple(self._leaks()),
            n_files=len(self._files),
            n_texts=self.n_texts,
            n_without=self.n_without,
            n_bad=self.n_bad,
            bad=tuple(self.problems),
            **rest,
        )

    def _arms(self) -> Iterator[ArmCounts]:
        groups = {(trap.arm == "decoy", trap.n_rep, trap.arm) for trap in self._ledger.traps}
        for _, n_rep, arm in sorted(groups):
            own = [trap.id for trap in self._ledger.traps if (trap.arm, trap.n_rep) == (arm, n_rep)]
            copies = [self._kinds.get(trap_id, Counter()) for trap_id in own]
            totals = [kinds.total() for kinds in copies]
            yield ArmCounts(
                arm=arm,
                n_rep=n_rep,
                n_traps=len(own),
                n_found=sum(total > 0 for total in totals),
                planned=n_rep * len(own),
                exact=sum(kinds["exact"] for kinds in copies),
                loose=sum(kinds["loose"] for kinds in copies),
                near=sum(kinds["near"] for kinds in copies),
                none=sum(total == 0 for total in totals),
                fewer=sum(0 < total < n_rep for total in totals),
                as_planned=sum(total == n_rep for total in totals),
                more=sum(total > n_rep for total in totals),
            )

    def _leaks(self) -> list[Leak]:
        decoys = [trap.id for trap in self._ledger.traps if trap.arm == "decoy" and trap.id in self._best]
        leaks = []
        for trap_id in sorted(decoys, key=lambda trap_id: _badness(self._best[trap_id])):
            best = self._best[trap_id]
            copies = self._kinds[trap_id].total()
            leaks.append(Leak(trap_id, copies, best.kind, best.distance, best.shard, best.document, best.line))
        return leaks


def _badness(found: Found) -> tuple[bool, int]:
    return found.kind == "near", found.distance
