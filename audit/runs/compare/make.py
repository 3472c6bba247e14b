"""The comparison of several runs, from their folders to one record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ... import __version__
from ...errors import IncompleteRunError, InputError
from ...stats.estimate import Estimate
from ...text.safe import counted, printable, quoted
from ..records import plan_hash
from ..schema import EstimateRecord, PValueRecord, RunRecord
from ..store import Run
from .differences import Difference, difference
from .estimates import Place, Read, read
from .items import ItemTables
from .settings import Setting, differing, model_of, names, require_same, told_of, weights_of

FORMAT = 1  # of compare.json
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One run: its number from 1, what it is called in messages, and its record."""

    number: int
    folder: str
    record: RunRecord

    @property
    def name(self) -> str:
        return f"run {self.number}"

    @property
    def model(self) -> str:
        return model_of(self.record)


@dataclass(frozen=True, slots=True)
class Row:
    """One estimate in each run (None where a run lacks it), and each run's difference from the first.

    ``differences`` has one entry for each run after the first.
    """

    place: Place
    estimates: tuple[EstimateRecord | None, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: In the order given; differences are taken from the first.
        rows: Estimates that two or more runs have, in the order of the first run that has them.
        verdicts: (audit, finding) and the verdict of each run.
        p_values: Place and the p-value of each run; no difference of p-values means anything.
        allowed: Settings that matter, differ, and were let through by name.
        told: What else differs, in words.
        left_out: What was passed over, and why.
        n_repeated: Cells of tables that only repeat the estimate of a finding, which were left out.
        n_cells: Further cells of tables, which were left out because they were not asked for.
        seed: Of the bootstraps.
    """

    runs: tuple[ComparedRun, ...]
    rows: tuple[Row, ...]
    verdicts: tuple[tuple[tuple[str, str], tuple[str | None, ...]], ...]
    p_values: tuple[tuple[Place, tuple[PValueRecord | None, ...]], ...]
    allowed: tuple[Setting, ...]
    told: tuple[str, ...]
    left_out: tuple[str, ...]
    n_repeated: int
    n_cells: int
    seed: int

    @property
    def run_names(self) -> tuple[str, ...]:
        return tuple(run.name for run in self.runs)

    @property
    def id(self) -> str:
        """Named by the runs and what was let through; the same comparison has the same id."""
        told = {
            "runs": [[run.record.id, run.record.plan_sha256] for run in self.runs],
            "allowed": [one.name for one in self.allowed],
            "seed": self.seed,
        }
        return f"compare-{plan_hash(told)[:16]}"

    def to_record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "format": FORMAT,
            "palimpsest": __version__,
            "id": self.id,
            "kind": self.runs[0].record.kind,
            "seed": self.seed,
            "runs": [
                {
                    "number": run.number,
                    "folder": run.folder,
                    "id": run.record.id,
                    "model": run.model,
                    "plan_sha256": run.record.plan_sha256,
                    "created": run.record.provenance.created,
                    "finished": run.record.finished,
                    "palimpsest": run.record.provenance.palimpsest,
                }
                for run in self.runs
            ],
            "allowed": [{"setting": one.name, "values": list(one.values)} for one in self.allowed],
            "told": list(self.told),
            "left_out": list(self.left_out),
            "n_repeated": self.n_repeated,
            "verdicts": [
                {"audit": audit, "finding": finding, "verdicts": list(said)} for (audit, finding), said in self.verdicts
            ],
            "estimates": [
                _named(row.place)
                | {
                    "runs": [None if one is None else one.model_dump() for one in row.estimates],
                    "differences": [
                        {"how": one.how} | EstimateRecord.of(one.estimate).model_dump() for one in row.differences
                    ],
                }
                for row in self.rows
            ],
            "p_values": [
                _named(place) | {"runs": [None if one is None else one.model_dump() for one in said]}
                for place, said in self.p_values
            ],
        }


def compare(
    folders: Sequence[str | Path],
    *,
    allow: Sequence[str] = (),
    cells: bool = True,
    seed: int = 0,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Comparison:
    """Lay finished runs of one kind side by side.

    Args:
        folders: Of two runs or more; the first is what the others are compared with.
        allow: Names of settings that may differ although they matter.
        cells: Whether cells of tables are compared beside the estimates of findings; they take most of the time.
        seed: Of the bootstraps.
        progress: Called as rows are made.

    Raises:
        InputError: Fewer than two runs, a run given twice, runs of different kinds or without an audit or an estimate
            in common, or settings that differ and matter.
        IncompleteRunError: A run has not ended.
        DataError: A run is damaged or of another schema version.
    """
    opened = _open(folders)
    kind = opened[0].record.kind
    found = [read(run.findings()) for run in opened]
    audits = _in_common(opened, found)
    records = [run.record for run in opened]
    runs = tuple(
        ComparedRun(number, printable(folder), record)
        for number, (folder, record) in enumerate(zip(folders, records, strict=True), start=1)
    )
    called = [f"run {run.number}" for run in runs]
    settings = differing(records, audits)
    allowed = require_same(
        settings, [printable(folder) for folder in folders], allowed=allow, known=names(records, audits)
    )
    places = _merged([[place for place in one.estimates if place.audit in audits] for one in found])
    shared = [place for place in places if sum(place in one.estimates for one in found) > 1]
    if not shared:
        raise InputError(
            f"these runs of kind {quoted(kind)} have no estimate in common (they have "
            f"{', '.join(str(len(one.estimates)) for one in found)}). Compare runs that measured the same things."
        )
    whole, n_repeated = _without_repeated(shared, found)
    kept = [place for place in whole if cells or place.finding is not None]
    tables = [ItemTables(run) for run in opened]
    rows = []
    for number, place in enumerate(kept):
        progress("compare", number, len(kept))
        rows.append(_row(place, found, tables, seed=seed))
    progress("compare", len(kept), len(kept))
    return Comparison(
        runs=runs,
        rows=tuple(rows),
        verdicts=tuple(
            (key, tuple(one.verdicts.get(key) for one in found))
            for key in _merged([[key for key in one.verdicts if key[0] in audits] for one in found])
        ),
        p_values=tuple(
            (place, tuple(one.p_values.get(place) for one in found))
            for place in _merged([[place for place in one.p_values if place.audit in audits] for one in found])
            if sum(place in one.p_values for one in found) > 1
        ),
        allowed=allowed,
        told=(*told_of(settings, called), *_versions(records, called), *_same(records, called)),
        left_out=_left_out(found, audits, places, shared, called),
        n_repeated=n_repeated,
        n_cells=len(whole) - len(kept),
        seed=seed,
    )


def _open(folders: Sequence[str | Path]) -> list[Run]:
    if len(folders) < 2:
        raise InputError(
            f"expected two runs or more, got {len(folders)}. Name the folders of the runs, first the one that the "
            "others are compared with."
        )
    places: dict[Path, str | Path] = {}
    for folder in folders:
        place = Path(folder).resolve()
        if place in places:
            raise InputError(f"{printable(folder)} was given twice. Name each run once.")
        places[place] = folder
    opened = [Run.open(folder) for folder in folders]
    for run in opened:
        if not run.complete:
            raise IncompleteRunError(
                f"{printable(run.folder)} has not ended ({run.state()}), so its numbers are not final. Run its command "
                "again to finish it, then compare."
            )
    kinds = {run.record.kind: run for run in opened}
    if len(kinds) > 1:
        told = ", ".join(f"{printable(run.folder)} is of kind {quoted(run.record.kind)}" for run in kinds.values())
        raise InputError(f"runs of different kinds measure different things: {told}. Compare runs of one kind.")
    return opened


def _in_common(opened: Sequence[Run], found: Sequence[Read]) -> list[str]:
    """Audits that every run made, in the first run's order."""
    made = [list(dict.fromkeys(place.audit for place in one.estimates)) for one in found]
    common = [audit for audit in made[0] if all(audit in others for others in made)]
    if not common:
        told = "; ".join(
            f"{printable(run.folder)} has {', '.join(map(quoted, audits)) or 'none'}"
            for run, audits in zip(opened, made, strict=True)
        )
        raise InputError(
            f"these runs have no audit with estimates in common: {told}. Compare runs that measured the same things."
        )
    return common


def _merged(lists: Sequence[Sequence[Value]]) -> list[Value]:
    """All of them, each once, in the order of the first list that has it."""
    return list(dict.fromkeys(one for each in lists for one in each))


def _without_repeated(places: Sequence[Place], found: Sequence[Read]) -> tuple[list[Place], int]:
    """Without cells of tables that are, in every run, the estimate of a finding over again."""
    told = {tuple(one.estimates.get(place) for one in found): place for place in places if place.finding is not None}
    kept = [
        place
        for place in places
        if place.finding is not None or tuple(one.estimates.get(place) for one in found) not in told
    ]
    return kept, len(places) - len(kept)


def _row(place: Place, found: Sequence[Read], tables: Sequence[ItemTables], *, seed: int) -> Row:
    estimates = tuple(one.estimates.get(place) for one in found)
    first = estimates[0]
    items = [one.of(place) for one in tables] if first is not None and first.value is not None else [None] * len(tables)
    return Row(
        place,
        estimates,
        tuple(
            _lacking("the first run" if first is None else "this run")
            if first is None or other is None
            else difference(first, other, (items[0], theirs), seed=seed)
            for other, theirs in zip(estimates[1:], items[1:], strict=True)
        ),
    )


def _lacking(run: str) -> Difference:
    return Difference("none", Estimate.undefined(method="difference", why=f"{run} has no such estimate"))


def _versions(records: Sequence[RunRecord], called: Sequence[str]) -> list[str]:
    versions = [record.provenance.palimpsest for record in records]
    if len(set(versions)) < 2:
        return []
    made = ", ".join(f"{version} for {run}" for version, run in zip(versions, called, strict=True))
    return [f"made by different versions of Palimpsest, which may measure otherwise: {made}"]


def _same(records: Sequence[RunRecord], called: Sequence[str]) -> list[str]:
    """Copies of one run, and runs of one model."""
    told = []
    weights = [weights_of(record) for record in records]
    for number, record in enumerate(records):
        first = next(place for place, one in enumerate(records) if one.id == record.id)
        if first < number:
            told.append(f"{called[number]} is a copy of {called[first]}: both are {record.id}")
            continue
        alike = weights.index(weights[number])
        if weights[number] is not None and alike < number:
            told.append(f"{called[number]} and {called[alike]} are of models with the same weights")
    return told


def _left_out(
    found: Sequence[Read],
    audits: Sequence[str],
    places: Sequence[Place],
    shared: Sequence[Place],
    called: Sequence[str],
) -> tuple[str, ...]:
    lines = []
    for run, one in zip(called, found, strict=True):
        others = list(dict.fromkeys(place.audit for place in one.estimates if place.audit not in audits))
        if others:
            lines.append(f"{', '.join(others)}: not every run made it, {run} did")
        alone = [place for place in places if place in one.estimates and place not in set(shared)]
        if alone:
            first = alone[0]
            lines.append(
                f"{counted(len(alone), 'estimate')} that only {run} has; the first is {first.where}, {first.name}"
            )
    for what, why in _merged([list(one.left_out.items()) for one in found]):
        lines.append(f"{what}: {why}")
    lines.append("numbers that were recorded without an interval")
    return tuple(lines)


def _named(place: Place) -> dict[str, Any]:
    return {
        "audit": place.audit,
        "where": place.where,
        "finding": place.finding,
        "table": place.table,
        "row": dict(place.row),
        "name": place.name,
    }
