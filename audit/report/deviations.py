"""What departed from the plan, as the run's own files tell it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..runs.schema import Findings, OpeningRecord, Provenance, RunRecord

_NAMES = {"palimpsest": "Palimpsest", "python": "Python", "platform": "the platform", "commit": "the commit"}


def deviations_of(
    record: RunRecord, findings: Findings, attempts: Sequence[Provenance], opening: OpeningRecord | None
) -> tuple[str, ...]:
    """Each departure in one sentence; none is a statement that there was none that the run could see.

    Args:
        record: ``run.json``.
        findings: ``findings.json``.
        attempts: Where and with what each attempt ran, the first one first.
        opening: ``opening.json``; None where the run has none.
    """
    return (*findings.deviations, *_attempts(attempts), *_source(record), *_opening(record, opening))


def _attempts(attempts: Sequence[Provenance]) -> Iterator[str]:
    if len(attempts) < 2:
        return
    yield (
        f"The run was interrupted and taken up again: it took {len(attempts)} attempts, the last begun "
        f"{attempts[-1].created}."
    )
    first = attempts[0]
    for number, later in enumerate(attempts[1:], start=2):
        changed = [
            f"{name} from {getattr(first, field)} to {getattr(later, field)}"
            for field, name in _NAMES.items()
            if getattr(first, field) != getattr(later, field)
        ]
        names = sorted(first.packages.keys() | later.packages.keys())
        changed += [
            f"{name} from {first.packages.get(name, 'absent')} to {later.packages.get(name, 'absent')}"
            for name in names
            if first.packages.get(name) != later.packages.get(name)
        ]
        if first.hardware != later.hardware:
            changed.append("the hardware")
        if changed:
            yield f"Between the first attempt and attempt {number} these changed: {', '.join(changed)}."


def _source(record: RunRecord) -> Iterator[str]:
    if record.provenance.dirty:
        yield (
            "Palimpsest's source tree held changes that were not committed: the commit alone does not give the code "
            "that ran."
        )


def _opening(record: RunRecord, opening: OpeningRecord | None) -> Iterator[str]:
    if record.kind == "compare":
        return
    if opening is None:
        yield (
            "There is no opening.json: nothing shows that the plan was fixed before anything was scored (runs of "
            "earlier versions have none)."
        )
        return
    differs = [
        name
        for name, before, now in (
            ("the run's id", opening.id, record.id),
            ("the plan", opening.plan_sha256, record.plan_sha256),
            ("the policy", opening.policy_sha256, record.policy_sha256),
            ("the moment when it began", opening.created, record.provenance.created),
        )
        if before != now
    ]
    if differs:
        yield (
            f"opening.json, written before anything was scored, does not fit run.json: {', '.join(differs)} "
            f"{'differs' if len(differs) == 1 else 'differ'}. One of the two was changed."
        )
