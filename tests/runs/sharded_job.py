"""A small job in stages and parts, for `test_kill.py` to kill.

python sharded_job.py FOLDER PAUSE [N_RENAMES]: with the third, the process dies where it would rename the next file.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from audit.runs.records import content_key
from audit.runs.schema import AuditSection, EstimateRecord, Finding, Findings
from audit.runs.store import Run

PLAN = {"n_parts": 12, "rows": 200, "seed": 7}


def part(number: int) -> pa.Table:
    rng = np.random.default_rng([PLAN["seed"], number])
    ids = [f"{number}-{row}" for row in range(PLAN["rows"])]
    return pa.table({"id": ids, "score": rng.normal(size=PLAN["rows"])})


def findings(scores: np.ndarray) -> Findings:
    mean, spread = float(scores.mean()), float(scores.std() / np.sqrt(len(scores)))
    estimate = EstimateRecord(
        value=mean, low=mean - 2 * spread, high=mean + 2 * spread, level=0.95, n=len(scores), method="mean"
    )
    finding = Finding(
        id="job.mean",
        audit="job",
        claim="A mean.",
        verdict="information",
        how_to_read="-",
        estimates={"mean": estimate},
    )
    section = AuditSection(
        audit="job", title="Job", method="-", assumptions=(), cannot_show=(), findings=(finding,), tables=()
    )
    return Findings(sections=(section,))


def main(folder: Path, pause: float) -> None:
    with Run.start(folder, kind="job", plan=PLAN, plan_text="# the plan\n", command=sys.argv) as run:
        if run.complete:
            return
        run.add_seed("job", PLAN["seed"])
        run.add_subject("subject", {"name": "none", "fingerprint": "0" * 64})
        if not run.has("score"):
            with run.stage("score") as detail:
                key = content_key(plan=PLAN)
                with run.shards("scores", key=key, n_parts=PLAN["n_parts"]) as parts:
                    for number in parts.missing():
                        time.sleep(pause)
                        parts.write(number, part(number))
                    parts.write_parquet(run.items_path("scores"))
                detail["n_parts"] = PLAN["n_parts"]
        if not run.has("judge"):
            with run.stage("judge"):
                time.sleep(pause)
                run.write_findings(findings(run.read_items("scores", ["score"]).column("score").to_numpy()))
        run.finish()


def die_after(n_renames: int) -> None:
    rename, left = os.replace, iter(range(n_renames))

    def rename_or_die(source: str, target: str) -> None:
        if next(left, None) is None:
            os._exit(9)
        rename(source, target)

    setattr(os, "replace", rename_or_die)  # noqa: B010 - the type checker knows what os.replace should be


if __name__ == "__main__":
    if len(sys.argv) > 3:
        die_after(int(sys.argv[3]))
    print("begins", flush=True)
    main(Path(sys.argv[1]), float(sys.argv[2]))
