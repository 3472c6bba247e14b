"""Write a sealed run as a statement that other tools read: in-toto or CycloneDX. It is verified first."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path
from typing import Literal

from ...errors import DataError
from ...progress import Progress, silent
from ..store import Run
from .check import verify_run
from .cyclonedx import document
from .gate_result import read_gate
from .in_toto import statement
from .record import SEAL_NAME
from .subject import model_subject

Format = Literal["in-toto", "cyclonedx"]


def export_run(
    folder: str | Path,
    format: Format,
    *,
    gate: Path | None = None,
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
        gate: A gate's result on this run, as JSON.
        role: Role of the model that it speaks of; default: the model under audit.
        assessor: Name of the organisation that audited; CycloneDX.
        third_party: Whether that is another one than the model's maker; CycloneDX.
        location: URI of the folder in which the run can be fetched.
        progress: As in `verify_run`.

    Raises:
        InputError: The run is not sealed, or has no model in that role.
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
    if gate is not None:
        listed = {entry.path: entry.sha256 for entry in seal.files}
        result = read_gate(
            gate,
            run_id=seal.heading.id,
            findings_sha256=listed.get("findings.json"),
            policy_sha256=seal.heading.policy_sha256,
        )
    if format == "in-toto":
        sha256 = hashlib.sha256((folder / SEAL_NAME).read_bytes()).hexdigest()
        made = statement(seal, sha256, subject, result, location=location)
        secret = False
    else:
        named = {"assessor": assessor, "third_party": third_party, "location": location}
        made = document(seal, run.findings(), subject, result, **named)  # type: ignore[arg-type]
        secret = not stat.S_IMODE((folder / "findings.json").stat().st_mode) & 0o077
    return (json.dumps(made, indent=2, sort_keys=True, allow_nan=False) + "\n").encode(), secret
