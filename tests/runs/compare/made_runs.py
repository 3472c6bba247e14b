"""Small finished runs: of unlearning, with items, so that differences can be paired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from audit.forgetting.measured import Measured
from audit.runs.schema import AuditSection, EstimateRecord, Finding, Findings
from audit.runs.store import Run

N = 30
IDS = tuple(f"passage-{number}" for number in range(N))
NAME = "loss on the forget text, nats a token"


def make_run(
    folder: Path,
    values: Sequence[float],
    *,
    plan: Mapping[str, Any] | None = None,
    kind: str = "unlearning",
    weights: str = "a" * 64,
    model: str = "model",
    ids: Sequence[str] = IDS,
    findings: Sequence[Finding] = (),
    finish: bool = True,
) -> Path:
    """A run whose one finding is the mean of ``values``, after a training, over as many passages."""
    whole = {
        "unlearn": {"method": "npo", "block": 64, "seed": 0, "rate": 1e-5, "dtype": "auto"} | dict(plan or {}),
        "inputs": {"forget": "f" * 64},
    }
    measured = Measured(NAME, tuple(ids), tuple(ids), np.array(values, dtype=float))
    found = Finding(
        id="unlearning.forget_loss",
        audit="unlearning",
        claim="A loss.",
        verdict="information",
        estimates={"result": EstimateRecord.of(measured.mean(rng=0))},
        items="items/unlearning-curves.parquet",
        how_to_read="Lower is better known.",
    )
    rows = [
        {"step": 5, "measure": "forget_loss", "id": name, "passage": name, "value": float(value)}
        for name, value in zip(ids, values, strict=True)
    ]
    section = AuditSection(
        audit="unlearning", title="Unlearning", method="npo", assumptions=(), cannot_show=(),
        findings=(found, *findings),
    )  # fmt: skip
    with Run.start(folder, kind=kind, plan=whole, plan_text=None, command=["palimpsest"]) as run:
        run.add_subject(
            "baseline", {"model": model, "fingerprint": {"weights": weights, "tokenizer": "t", "files": {}}}
        )
        run.write_items("unlearning-curves", pa.Table.from_pylist(rows))
        run.write_findings(Findings(sections=(section,)))
        if finish:
            run.finish()
    return folder
