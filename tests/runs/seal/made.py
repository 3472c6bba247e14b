"""A small complete run without a model, for the tests of seals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.runs.schema import AuditSection, EstimateRecord, Finding, Findings
from audit.runs.seal.signing import SigningKey
from audit.runs.store import Run

WEIGHTS = {"model-1.safetensors": "1" * 64, "model-2.safetensors": "2" * 64}
KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(b"\x01" * 32))
OTHER_KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(b"\x02" * 32))


def scores(n: int = 7, salt: float = 0.0) -> pa.Table:
    return pa.table(
        {
            "trap_id": [f"trap-{number}" for number in range(n)],
            "n_rep": [number % 3 for number in range(n)],
            "loss": [None if number == 2 else number / 3 + salt for number in range(n)],
            "flagged_by": [["a", "b"][: number % 3] for number in range(n)],
        }
    )


def findings() -> Findings:
    estimate = EstimateRecord(value=0.7, low=0.6, high=0.8, level=0.95, n=40, method="DeLong", why=None)
    finding = Finding(
        id="traps.copies_64",
        audit="traps",
        claim="The traps were found <script>alert(1)</script>.",
        verdict="found",
        estimates={"auc": estimate},
        p_values={},
        how_to_read="0.5 is chance.",
    )
    section = AuditSection(
        audit="traps", title="Traps", method="m", assumptions=(), cannot_show=(), findings=(finding,)
    )
    return Findings(sections=(section,))


def make_run(folder: Path, *, salt: float = 0.0, policy: str | None = None, **more: Any) -> Path:
    """Two tables, findings, a plan, an attempt and a file with an odd name in a folder of its own."""
    plan = {"seed": 0, "salt": salt}
    asked = {
        "kind": "audit",
        "plan": plan,
        "plan_text": "seed = 0\n",
        "command": ["palimpsest"],
        "policy_sha256": policy,
    }
    with Run.start(folder, **{**asked, **more}):
        pass
    with Run.start(folder, **{**asked, **more}) as run:
        fingerprint = {"weights": "f" * 64, "files": {**WEIGHTS, "config.json": "3" * 64}}
        run.add_subject("subject", {"model": "/home/someone/model", "revision": None, "fingerprint": fingerprint})
        with run.stage("score"):
            run.write_items("traps", scores(salt=salt))
            run.write_items("more", scores(3, salt))
        run.write_findings(findings())
        run.finish()
    odd = folder / "remedies" / "a b"
    odd.mkdir(parents=True)
    (odd / 'naïve "x"\nline\\.txt').write_text("odd\n", encoding="utf-8")
    (odd / "empty").write_bytes(b"")
    return folder
