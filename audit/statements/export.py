"""Write a sealed run as a statement that other tools read: in-toto or CycloneDX. It is verified first."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path
from typing import Literal

from ..errors import DataError, InputError
from ..gates.result import GateResult
from ..progress import Progress, silent
from ..runs.schema import KINDS_OF_ONE_MODEL, RunRecord
from ..runs.seal.check import verify_run
from ..runs.seal.record import SEAL_NAME
from ..runs.store import Run
from ..text.safe import quoted
from .cyclonedx import document
from .in_toto import statement
from .judged import Judged, judged_anew, read_judged, require_of
from .subject import ModelSubject, model_subject

Format = Literal["in-toto", "cyclonedx"]


def export_run(
    folder: str | Path,
    format: Format,
    *,
    gate: Path | None = None,
    judged: GateResult | None = None,
    role: str | None = None,
    assessor: str | None = None,
    third_party: bool | None = None,
    location: str | None = None,
    progress: Progress = silent,
) -> tuple[bytes, bool]:
    """The statement as JSON, and whether its owner alone may read it, as with the findings that it quotes.

    Args:
        folder: A sealed run that is as it was sealed.
        format: Which statement.
        gate: File of a gate's result on this run, as JSON. Without ``judged`` it is believed.
        judged: The same as a gate gives it now; ``gate`` must then say the same.
        role: Role of the model that it speaks of; default: the model under audit. Another one can only be referred to:
            findings and a gate's result speak of the model under audit.
        assessor: Name of the organisation that audited; CycloneDX.
        third_party: Whether that is another one than the model's maker; CycloneDX.
        location: URI of the folder in which the run can be fetched.
        progress: As in `verify_run`.

    Raises:
        InputError: The run is not sealed, has no model in that role, or did not audit it; or a result or CycloneDX is
            asked for of a run whose findings are of models that it does not record (`KINDS_OF_ONE_MODEL`).
        DataError: It is not as it was sealed; or the gate's result is none, or one of another run or policy.
    """
    folder = Path(folder)
    checked = verify_run(folder, progress=progress)
    if checked.problems or checked.record is None:
        raise DataError(
            f"{folder} is not as it was sealed, so nothing is stated about it:\n{checked.listed()}\nRestore it from a "
            "copy."
        )
    seal, run = checked.record, Run.open(folder)
    subject = model_subject(run.record, role)
    result = None
    if gate is not None or judged is not None:
        listed = {entry.path: entry.sha256 for entry in seal.files}
        known = {
            "run_id": seal.heading.id,
            "findings_sha256": listed.get("findings.json"),
            "policy_sha256": seal.heading.policy_sha256,
        }
        result = given = None if gate is None else read_judged(gate, **known)  # type: ignore[arg-type]
        if judged is not None:
            require_of(judged, where="the gate's result", **known)  # type: ignore[arg-type]
            result = judged_anew(judged, given, where=str(gate))
    if result is not None or format == "cyclonedx":
        _require_kind(run.record)
        _require_audited(run.record, subject, result)
    if format == "in-toto":
        sha256 = hashlib.sha256((folder / SEAL_NAME).read_bytes()).hexdigest()
        made = statement(seal, sha256, subject, result, location=location)
        secret = False
    else:
        named = {"assessor": assessor, "third_party": third_party, "location": location}
        made = document(seal, run.findings(), subject, result, **named)  # type: ignore[arg-type]
        secret = not stat.S_IMODE((folder / "findings.json").stat().st_mode) & 0o077
    return (json.dumps(made, indent=2, sort_keys=True, allow_nan=False) + "\n").encode(), secret


def _require_kind(record: RunRecord) -> None:
    """Refuses to say of a model before a remedy, guard or map what was found after it."""
    if record.kind not in KINDS_OF_ONE_MODEL:
        raise InputError(
            f"{record.id} is a run of kind {quoted(record.kind)}: its findings speak of models that it made or guarded "
            "and whose weights it does not record, and the models that it names are those before. So no verdict, claim "
            "or pass can be stated of a model. Refer to the run alone (--format in-toto without --gate and --policy), "
            "or audit the model that came out and export that run."
        )


def _require_audited(record: RunRecord, subject: ModelSubject, gate: Judged | None) -> None:
    """Refuses to say of one model what was found of another."""
    told = record.audited.get("fingerprint")
    weights = told.get("weights") if isinstance(told, dict) else None
    judged = None if gate is None else gate.result.runs[0].model_weights
    if judged is not None and judged != subject.combined:
        weights = judged
    if weights != subject.combined:
        audited = "no single model" if weights is None else f"the model of the weights {quoted(weights, limit=20)}"
        raise InputError(
            f"findings and gate speak of {audited}, and the role {quoted(subject.role)} is the model of "
            f"{subject.combined[:12]}...: nothing was found of it. Leave --role out, or refer to the run alone: "
            "--format in-toto without --gate and --policy."
        )
