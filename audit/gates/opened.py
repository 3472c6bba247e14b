"""The runs that are judged: complete, as they were sealed, and of one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError, IncompleteRunError, InputError
from ..runs.records import read_record
from ..runs.schema import OpeningRecord, RunRecord
from ..runs.store import Run
from ..text.files import sha256_file
from .result import GatedRun

if TYPE_CHECKING:
    from ..runs.seal.check import Checked


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


def open_run(folder: Path, *, head: str | None = None, public_key: str | None = None) -> Opened:
    """Opens a complete run whose files agree with each other, and with its seal where it has one.

    Args:
        folder: The run's folder.
        head: The published head that its seal must have.
        public_key: The key that must have signed it.

    Raises:
        InputError: The folder is no run, or not sealed though a head or key is given.
        IncompleteRunError: It has not ended.
        DataError: Its files were changed or damaged.
    """
    run = Run.open(folder)
    if not run.complete:
        raise IncompleteRunError(
            f"{folder} has not ended ({run.state()}), so there is nothing to judge. Run its command again to finish it."
        )
    checked = _seal(folder, head, public_key)
    run = Run.open(folder)  # again: what was read before the seal was checked is not relied on
    record = run.record
    opening = None
    if (folder / "opening.json").exists():
        opening = read_record(folder / "opening.json", OpeningRecord, missing=f"there is no {folder}/opening.json")
        fixed = (opening.id, opening.plan_sha256, opening.created)
        if fixed != (record.id, record.plan_sha256, record.provenance.created):
            raise DataError(
                f"{folder}: opening.json is of another run, plan or moment than run.json. Restore the run from a copy."
            )
    told = GatedRun(
        id=record.id,
        kind=record.kind,
        created=record.provenance.created,
        plan_sha256=record.plan_sha256,
        findings_sha256=sha256_file(folder / "findings.json") if (folder / "findings.json").exists() else "",
        policy_sha256=record.policy_sha256,
        model_weights=_weights(record),
        seal=_seal_in_words(checked),
        head=None if checked is None or checked.record is None else checked.record.head,
        public_key=None if checked is None or checked.record is None else checked.record.public_key,
    )
    return Opened(run, record, told, None if opening is None else opening.policy_sha256)


def _weights(record: RunRecord) -> str | None:
    """SHA-256 of the weights of the model under audit."""
    prints = record.audited.get("fingerprint")
    weights = prints.get("weights") if isinstance(prints, dict) else None
    return weights if isinstance(weights, str) else None


def _seal(folder: Path, head: str | None, public_key: str | None) -> Checked | None:
    """What the check of the run's seal found; None where it has none."""
    from ..runs.seal.record import SEAL_NAME, SECRET_NAME, is_sealed

    if not is_sealed(folder) and (folder / SECRET_NAME).exists():
        raise DataError(
            f"{folder} holds {SECRET_NAME} and no {SEAL_NAME}: it was sealed once and the seal was taken away, or "
            f"sealing was interrupted. Put its {SEAL_NAME} back, or seal it again: palimpsest runs seal {folder}"
        )
    if not is_sealed(folder) and head is None and public_key is None:
        return None
    from ..runs.seal.check import verify_run

    checked = verify_run(folder, head=head, public_key=public_key)
    if checked.is_of_another:
        raise DataError(
            f"{folder} agrees with its own seal, and that is not the one that you expect, so no rule is put to it:\n"
            f"{checked.listed()}\nGive the head and the key that were published, or find out who sealed it anew."
        )
    if checked.problems:
        raise DataError(
            f"{folder} is not as it was sealed, so no rule is put to it:\n{checked.listed()}\n"
            "Restore the run from a copy, or make it again."
        )
    return checked


def _seal_in_words(checked: Checked | None) -> str:
    if checked is None:
        return "not sealed"
    signed = checked.record is not None and checked.record.signature is not None
    given = [name for name, pinned in (("head", checked.pinned_head), ("key", checked.pinned_key)) if pinned]
    compared = f", with the {' and '.join(given)} that {'was' if len(given) == 1 else 'were'} given" if given else ""
    return f"{'sealed and signed' if signed else 'sealed'}, as it was{compared}"


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
        weights = (first.told.model_weights, other.told.model_weights)
        if (weights[0] != weights[1] or None in weights) and not different_models:
            differ = "may be" if None in weights else "are"
            raise InputError(
                f"{first.run.folder} and {other.run.folder} {differ} of different models (weights "
                f"{_short(first.told.model_weights)} and {_short(other.told.model_weights)}); a pass of one says "
                "nothing of the other. Gate them one by one, or say --different-models where that is meant, as for a "
                "loop and the audit of its remedied model."
            )


def _short(weights: str | None) -> str:
    return "not recorded" if weights is None else f"{weights[:12]}..."
