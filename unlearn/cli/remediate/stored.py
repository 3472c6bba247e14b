"""What a loop measured, read from its folder without a model, and what is said of it: by the loop and by a replay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from audit.cli.replay_audit import replay as replay_audit
from audit.errors import DataError, InputError, ModelError
from audit.forgetting.measured import Measured
from audit.progress import Progress, silent
from audit.runs.records import plain, read_json
from audit.runs.replay import Derived, Replayed
from audit.runs.schema import AuditSection, EstimateRecord
from audit.runs.store import Run
from audit.text.safe import printable

from ...verify.battery import Battery, Material
from ...verify.findings import AUDIT, Cost, Failure, Loop, item_table, loop_record, make_section
from ...verify.judging import Decided, Tried, judge
from ...verify.robustness.relearn import Curve
from .plan import MODELS

if TYPE_CHECKING:
    from pathlib import Path

SUBJECT, GOLD, GOLD_2 = MODELS
ITEMS = "verification"
RECORD = "verification.json"
FACTS = "loop.json"
MEASURED, AUDITS = "measured", "audits"
SO_FAR = "relearned-so-far"  # in place of "relearned" where memory ran out, which is tried again
PIECES = ("battery", "prompts", "rounded", "relearned", "soft", "evasion", "benchmarks", "membership")
REFUSED = (InputError, DataError, ModelError)  # what may go wrong with one remedy; a full disk stops the loop


@dataclass(frozen=True, slots=True)
class Facts:
    """``loop.json``: what is told beside the measures, and cannot be read from them.

    Attributes:
        systems: Every system that was measured, subject first -> whether its weights are its own, and what was not
            tried and why.
        costs: Of the remedies.
        failed: Remedies that could not be made or measured, before anything was judged.
        names: Of the remedies, in the plan's order.
        notes: What a reader must know beside the results.
        audited: Systems whose models were audited.
        seed: Of the bootstraps.
    """

    systems: Mapping[str, tuple[bool, Mapping[str, str]]]
    costs: Sequence[Cost]
    failed: Mapping[str, Failure]
    names: Sequence[str]
    notes: Sequence[str]
    audited: Sequence[str]
    seed: int

    def to_record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "systems": [
                {"name": name, "own_weights": own, "missing": dict(missing)}
                for name, (own, missing) in self.systems.items()
            ],
            "costs": [asdict(one) for one in self.costs],
            "failed": {name: asdict(one) for name, one in self.failed.items()},
            "names": list(self.names),
            "notes": list(self.notes),
            "audited": list(self.audited),
            "seed": self.seed,
        }

    @classmethod
    def of_record(cls, told: Mapping[str, Any]) -> Facts:
        """What `to_record` gave."""
        return cls(
            {one["name"]: (one["own_weights"], one["missing"]) for one in told["systems"]},
            [Cost(**one) for one in told["costs"]],
            {name: Failure(**one) for name, one in told["failed"].items()},
            told["names"],
            told["notes"],
            told["audited"],
            told["seed"],
        )


def tried_of(name: str, made: Mapping[str, Any], *, own_weights: bool, missing: Mapping[str, str]) -> Tried:
    """One system from its pieces; those that are absent were not made.

    Args:
        name: Of the system.
        made: Name of a piece (`PIECES`) -> what stands in its file.
        own_weights: As `Tried`.
        missing: Likewise.
    """
    rounded = {what: _measured(by_rounding) for what, by_rounding in made.get("rounded", {}).items()}
    soft = made.get("soft", {})
    return Tried(
        name,
        Battery.of_record(made["battery"]),
        own_weights,
        _measured(made.get("prompts", {}).get("measured", {})),
        rounded.get("rows", {}),
        [Curve.of_record(plain(each, "curve")) for each in made.get("relearned", {}).get("curves", ())],
        Measured.of_record(soft["advantage"]) if "advantage" in soft else None,
        {way: Measured.of_record(each["leak"]) for way, each in made.get("evasion", {}).items()},
        {score: _measured(by_set) for score, by_set in made["membership"].items()},
        _measured(made.get("benchmarks", {}).get("measured", {})),
        missing,
        rounded_texts=rounded.get("texts", {}),
    )


def _measured(told: Mapping[str, Any]) -> dict[str, Measured]:
    return {name: Measured.of_record(one) for name, one in told.items()}


def loop_of(
    tried: Mapping[str, Tried], facts: Facts, audits: Mapping[str, Sequence[AuditSection]], progress: Progress = silent
) -> Loop:
    """The verdicts, and everything that is told with them.

    Args:
        tried: Every system, subject first.
        facts: What is told beside.
        audits: System -> the sections of its audit.
        progress: Called as systems are judged.
    """
    failed = dict(facts.failed)
    decided = _judged(tried, failed, seed=facts.seed, progress=progress)
    return Loop(
        tried, decided, facts.costs, audit_rows(audits), Material(), facts.notes, seed=facts.seed,
        failed={name: failed[name] for name in facts.names if name in failed},
    )  # fmt: skip


def _judged(tried: Mapping[str, Tried], failed: dict[str, Failure], *, seed: int, progress: Progress) -> list[Decided]:
    """A verdict on everything but gold itself: on the subject and on a second gold, so that it is seen whether the
    instrument says what must be said of them."""
    gold, gold_2 = tried.get(GOLD), tried.get(GOLD_2)
    judged = [one for one in tried.values() if one.name != GOLD]
    found = []
    progress("verdicts", 0, len(judged))
    for done, one in enumerate(judged, start=1):
        try:
            found.append(judge(one, tried[SUBJECT], gold, gold_2=gold_2, rng=seed))
        except REFUSED as error:
            if one.name in MODELS:
                raise
            failed[one.name] = Failure("failed", f"It could not be judged: {printable(str(error))}")
        progress("verdicts", done, len(judged))
    return found


def audit_rows(audits: Mapping[str, Sequence[AuditSection]]) -> list[dict[str, Any]]:
    """Finding by finding and estimate by estimate: what each system's audit said."""
    told: dict[tuple[str, str], dict[str, Any]] = {}
    for name, sections in audits.items():
        for section in sections:
            for finding in section.findings:
                for what, one in finding.estimates.items():
                    row = told.setdefault((finding.id, what), {"finding": finding.id, "estimate": what})
                    row[name] = EstimateRecord(**one.model_dump())
    return list(told.values())


def of_subject(section: AuditSection) -> AuditSection:
    """A section of the subject's audit; those of the other systems stand in the loop's table of audits."""
    return section.model_copy(update={"title": f"{section.title}, of the subject"})


# The replay


def replay(run: Run) -> Replayed:
    """The sections anew, from loop.json, measured/ and audits/ alone.

    Raises:
        DataError: A file is missing or damaged.
    """
    if not (run.folder / FACTS).exists():
        why = f"this run kept no {FACTS}, which tells what was measured of whom; later ones do"
        part = _audit(run, SUBJECT)[0] if (run.folder / AUDITS / SUBJECT).exists() else Replayed(())
        sections = tuple(map(of_subject, part.sections))
        return Replayed(sections, {AUDIT: why, **part.not_replayed}, _inside(SUBJECT, part))
    facts = Facts.of_record(read_json(run.folder / FACTS, missing=""))
    tried = {
        name: tried_of(name, _pieces(run.folder / MEASURED / name), own_weights=own, missing=missing)
        for name, (own, missing) in facts.systems.items()
    }
    audits = {name: _audit(run, name) for name in facts.audited}
    loop = loop_of(tried, facts, {name: sections for name, (_, sections) in audits.items()})
    subject = audits[SUBJECT][0] if SUBJECT in audits else Replayed(())
    not_replayed = dict(subject.not_replayed)
    for name, (part, _) in audits.items():
        for where, why in part.not_replayed.items():
            not_replayed[f"{AUDIT}:audits"] = f"it repeats the audits, and of {AUDITS}/{name} {where} is not: {why}"
    stored, again = run.read_items(ITEMS).to_pandas(), item_table(tried).to_pandas()
    derived = [Derived.column(ITEMS, name, stored, again) for name in again]
    record = read_json(run.folder / RECORD, missing=f"{run.folder} has no {RECORD}; restore it from a copy.")
    ours, theirs = dict(_leaves(record)), dict(_leaves(plain(loop_record(loop), RECORD)))
    derived.append(Derived(f"{RECORD}, its keys", list(ours), list(theirs)))
    derived += [Derived(f"{RECORD}, {path}", [value], [theirs[path]]) for path, value in ours.items() if path in theirs]
    derived += [one for name, (part, _) in audits.items() for one in _inside(name, part)]
    return Replayed((make_section(loop), *map(of_subject, subject.sections)), not_replayed, tuple(derived))


def _pieces(folder: Path) -> dict[str, Any]:
    found = {name: path for name in PIECES if (path := folder / f"{name}.json").exists()}
    if (so_far := folder / f"{SO_FAR}.json").exists():
        found.setdefault("relearned", so_far)
    return {name: read_json(path, missing="")["made"] for name, path in found.items()}


def _audit(run: Run, name: str) -> tuple[Replayed, Sequence[AuditSection]]:
    """The audit of a system anew, and its sections: as stored where they cannot be made anew."""
    opened = Run.open(run.folder / AUDITS / name)
    part = replay_audit(opened)
    made = {one.audit: one for one in part.sections}
    return part, [made.get(one.audit, one) for one in opened.findings().sections]


def _inside(name: str, part: Replayed) -> tuple[Derived, ...]:
    return tuple(Derived(f"{AUDITS}/{name}/{one.address}", one.stored, one.again) for one in part.derived)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """What stands in a JSON value, by its path."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _leaves(one, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _leaves(one, f"{path}[{number}]")
    else:
        yield path, value
