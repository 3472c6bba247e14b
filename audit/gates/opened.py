"""The runs that are judged: complete, as they were sealed, and of one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError, IncompleteRunError, InputError
from ..runs.records import read_record
from ..runs.schema import OpeningRecord, RunRecord
from ..runs.store import Run
from ..text.files import sha256_file
from .result import GatedRun


@dataclass(frozen=True, slots=True)
class Opened:
    """A complete run that is to be judged.

    Attributes:
        run: The run.
        record: Its ``run.json``.
        told: What the result says of it.
        opening_policy: Hash of the policy that its ``opening.json`` names.
    """

    run: Run
    record: RunRecord
    told: GatedRun
    opening_policy: str | None


def open_run(folder: Path) -> Opened:
    """Opens a complete run whose files agree with each other, and with its seal where it has one.

    Raises:
        InputError: The folder is no run.
        IncompleteRunError: It has not ended.
        DataError: Its files were changed or damaged.
    """
    run = Run.open(folder)
    if not run.complete:
        raise IncompleteRunError(
            f"{folder} has not ended ({run.state()}), so there is nothing to judge. Run its command again to finish it."
        )
    seal = _seal_state(folder)  # before anything is read from it
    record = run.record
    opening = None
    if (folder / "opening.json").exists():
        opening = read_record(folder / "opening.json", OpeningRecord, missing=f"there is no {folder}/opening.json")
        if (opening.id, opening.plan_sha256) != (record.id, record.plan_sha256):
            raise DataError(
                f"{folder}: opening.json is of another run or plan than run.json. Restore the run from a copy."
            )
    told = GatedRun(
        id=record.id,
        kind=record.kind,
        created=record.provenance.created,
        plan_sha256=record.plan_sha256,
        findings_sha256=sha256_file(folder / "findings.json") if (folder / "findings.json").exists() else "",
        policy_sha256=record.policy_sha256,
        model_weights=_weights(record),
        seal=seal,
    )
    return Opened(run, record, told, None if opening is None else opening.policy_sha256)


def _weights(record: RunRecord) -> str | None:
    """SHA-256 of the weights of the model under audit."""
    subject = record.subjects.get("subject", record.subjects.get("baseline", {}))
    prints = subject.get("fingerprint")
    weights = prints.get("weights") if isinstance(prints, dict) else None
    return weights if isinstance(weights, str) else None


def _seal_state(folder: Path) -> str:
    from ..runs.seal.record import is_sealed

    if not is_sealed(folder):
        return "not sealed"
    from ..runs.seal.check import verify_run

    checked = verify_run(folder)
    if checked.problems:
        raise DataError(
            f"{folder} is not as it was sealed, so no rule is put to it:\n{checked.listed()}\n"
            "Restore the run from a copy, or make it again."
        )
    signed = checked.record is not None and checked.record.signature is not None
    return "sealed and signed, as it was" if signed else "sealed, as it was"


def refuse_unlike(opened: Sequence[Opened], *, different_models: bool) -> None:
    """Refuses one run twice, and runs of models with other weights unless that is allowed.

    Raises:
        InputError: Which, and what to do.
    """
    by_id: dict[str, Path] = {}
    for one in opened:
        if one.record.id in by_id:
            raise InputError(f"{one.run.folder} and {by_id[one.record.id]} are the same run. Name it once.")
        by_id[one.record.id] = one.run.folder
    first = opened[0]
    for other in opened[1:]:
        if other.told.model_weights != first.told.model_weights and not different_models:
            raise InputError(
                f"{first.run.folder} and {other.run.folder} are of different models (weights "
                f"{_short(first.told.model_weights)} and {_short(other.told.model_weights)}); a pass of one says "
                "nothing of the other. Gate them one by one, or say --different-models where that is meant, as for a "
                "loop and the audit of its remedied model."
            )


def _short(weights: str | None) -> str:
    return "not recorded" if weights is None else f"{weights[:12]}..."
