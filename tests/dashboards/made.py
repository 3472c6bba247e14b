"""Runs made by hand, for pages and for the browser."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from audit.runs.schema import Findings
from audit.runs.store import Run


def make_trap_run(folder: Path, findings: Findings, *, kind: str = "audit", finish: bool = True) -> Path:
    """A run with those findings and one small table of items, as a trap audit's command leaves it."""
    plan = {"subject": {"model": "out/subject"}, "seed": 1}
    text = '[subject]\nmodel = "out/subject"\n'
    with Run.start(folder, kind=kind, plan=plan, plan_text=text, command=["palimpsest", "audit"]) as run:
        run.add_subject("subject", {"model": "out/subject", "fingerprint": {"weights": "a" * 64}})
        run.add_seed("assignment", 11)
        with run.stage("score"):
            run.write_items("scores", pa.table({"id": ["a", "b"], "text": ["=1+1", "two"], "score": [0.5, 1.5]}))
        run.write_findings(findings)
        if finish:
            run.finish()
    return folder
