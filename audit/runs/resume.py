"""May this folder be gone on with? Each refusal says what differs and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import AuditError, DataError, IncompleteRunError, InputError
from ..text.files import is_temporary, storage_errors
from ..text.safe import quoted
from .lock import LOCK_NAME
from .records import first_difference, plan_hash, read_json, read_record
from .schema import Provenance, RunRecord


def refuse_strangers(folder: Path) -> None:
    """Refuses a folder that holds something but no run."""
    with storage_errors(folder, kept="nothing was changed", doing="read"):
        names = {path.name for path in folder.iterdir() if not is_temporary(path)}
    strangers = names - {LOCK_NAME, "opening.json"}  # what a run has that was killed at its very start
    if "run.json" not in names and strangers:
        raise InputError(
            f"{folder} holds no run but is not empty (it has {quoted(min(strangers))}). "
            "Choose an empty or new folder as --out."
        )


def read_run(folder: Path) -> RunRecord:
    """``run.json``, checked against its own plan hash."""
    path = folder / "run.json"
    record = read_record(path, RunRecord, missing=f"{folder} holds no run: it has no run.json.")
    if plan_hash(record.plan) != record.plan_sha256:
        raise DataError(f"{path}: the plan in it is not the one its plan_sha256 names. Restore it from a copy.")
    return record


def result_missing(folder: Path, name: str, record: RunRecord, state: str) -> AuditError:
    """What to say of a file of results that is not there: of a complete run it was lost, and running does not help."""
    if record.status == "complete":
        return DataError(
            f"{folder} has no {name}, though the run is complete. Restore {name} from a copy, or begin anew with "
            "another --out."
        )
    return IncompleteRunError(
        f"{folder} has no {name}: the run has not ended ({state}). Run the same command again to finish it."
    )


def read_seconds(folder: Path) -> dict[str, float]:
    """Seconds that earlier attempts spent in stages that did not end."""
    path = folder / "seconds.json"
    if not path.exists():
        return {}
    value = read_json(path, missing="")
    if not isinstance(value, dict) or not all(type(item) in (int, float) for item in value.values()):
        raise DataError(f"{path} does not hold seconds by stage; it was changed. Remove it and run again.")
    return {name: float(item) for name, item in value.items()}


def require_same_plan(folder: Path, record: RunRecord, kind: str, plan: dict[str, Any]) -> None:
    """Refuses to go on with another plan; the first differing key is named."""
    if record.kind != kind:
        raise InputError(
            f"{folder} holds a run of kind {quoted(record.kind)}, not {quoted(kind)}. Choose another --out."
        )
    difference = first_difference(record.plan, plan)
    if difference:
        key, old, new = difference
        raise InputError(
            f"{folder} holds a run of another plan: {key} was {old}, is {new}. "
            "Choose another --out, or give the plan that this run began with."
        )


def require_same_versions(folder: Path, old: Provenance, new: Provenance) -> None:
    """An unfinished run goes on only with the versions that it began with: others may give other numbers."""
    before = {"palimpsest": old.palimpsest, **old.packages}
    after = {"palimpsest": new.palimpsest, **new.packages}
    difference = first_difference(before, after)
    if difference:
        name, was, found = difference
        raise InputError(
            f"{folder} was begun with {name} {was}, now it is {found}; going on would mix the two in one result. "
            "Install that version, or begin a new run with another --out."
        )
