"""How long a report and a gate take, and how much memory, by the size of their run.

    python -m tests.benchmarks.report [--sizes 1000,10000,100000,1000000] [--formats html,md,json,gate,gate-sealed]
                                      [--folder DIR]

Each run holds a trap audit, an audit of found texts and an extraction audit of so many items each; its findings are
as many as those of a small run. Each is made in a process of its own, whose peak of resident memory is told. The gate
is that of the policy "research", as JSON; a sealed run's files are hashed first.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from audit.runs.schema import AuditSection, Column, EstimateRecord, Finding, Findings, Table
from audit.runs.seal.make import seal_run
from audit.runs.store import Run

SCORES = ("ratio", "loss", "min_k_plus_plus", "min_k", "zlib")
REPETITIONS = (1, 4, 16, 64)
LENGTHS = (25, 50)


def trap_items(n: int, rng: np.random.Generator) -> pa.Table:
    """Half decoys, half members at four numbers of copies, in six strata of two lengths; texts as a run keeps them."""
    member = rng.random(n) < 0.5
    copies = np.where(member, rng.choice(REPETITIONS, n), 0)
    length = rng.choice(LENGTHS, n)
    bucket = rng.integers(0, 3, n)
    stratum = np.char.add(np.char.add(length.astype(str), " tokens, bucket "), bucket.astype(str))
    columns: dict[str, object] = {
        "trap_id": pa.array(np.char.add("trap-", np.arange(n).astype(str))),
        "text": pa.array(np.char.add("the quiet harbour keeps nine lamps, clerk ", np.arange(n).astype(str))),
        "arm": pa.array(np.where(member, "member", "decoy")),
        "n_rep": copies,
        "length": length,
        "stratum": pa.array(stratum),
    }  # fmt: skip
    for score in SCORES:
        columns[f"{score}_score"] = rng.normal(0.02 * np.log1p(copies), 1.0)
    n_decoys = {one: int(((stratum == one) & ~member).sum()) for one in np.unique(stratum)}
    of = np.array([n_decoys[one] for one in stratum])
    columns["rank_p"] = pa.array(
        np.where(member, np.ceil(rng.random(n) * (of + 1)) / (of + 1), np.nan), from_pandas=True
    )
    return pa.table(columns)


def membership_items(n: int, rng: np.random.Generator) -> pa.Table:
    side = np.where(rng.random(n) < 0.5, "suspect", "validation")
    texts = np.char.add("a found text of some length, number ", np.arange(n).astype(str))
    return pa.table(
        {"side": pa.array(side), "text": pa.array(texts), **{f"{one}_score": rng.normal(size=n) for one in SCORES}}
    )


def extraction_items(n: int, rng: np.random.Generator) -> tuple[pa.Table, pa.Table]:
    words = rng.integers(20, 200, n)
    maxima = {
        "set": pa.array(rng.choice(["generated", "held_out", "base"], n)),
        "similarity": np.clip(rng.normal(0.7, 0.15, n), -1, 1).astype(np.float32),
        "threshold": np.where(words < 60, 0.86, np.where(words < 120, 0.9, 0.93)),
        "n_words": words,
        "row": pa.array(np.char.add("row-", rng.integers(0, n, n).astype(str))),
    }
    matches = {
        "generation": pa.array(np.char.add("g-", np.arange(n).astype(str))),
        "row": pa.array(np.char.add("row-", rng.integers(0, n, n).astype(str))),
        "cosine": rng.random(n),
        "levenshtein": rng.random(n),
    }
    return pa.table(maxima), pa.table(matches)


def estimate(n: int) -> EstimateRecord:
    return EstimateRecord(value=0.7, low=0.6, high=0.8, level=0.95, n=n, method="made up for a benchmark")


def findings(n: int) -> Findings:
    auc = tuple(
        {"score": score, "length": length, "n_rep": copies, "auc": estimate(n), "tpr_at_1pct_fpr": estimate(n)}
        for score in SCORES
        for length in LENGTHS
        for copies in REPETITIONS
    )
    table = Table(
        name="auc",
        title="Separation",
        columns=tuple(Column(key=key, label=key) for key in ("score", "length", "n_rep", "auc", "tpr_at_1pct_fpr")),
        rows=auc,
    )
    return Findings(
        sections=tuple(
            AuditSection(
                audit=audit,
                title=audit.capitalize(),
                method="A benchmark.",
                assumptions=(),
                cannot_show=(),
                findings=tuple(
                    Finding(id=f"{audit}.{at}", audit=audit, claim="A claim.", verdict="found",
                            estimates={"auc": estimate(n)}, how_to_read="Not at all.")
                    for at in range(5)
                ),
                tables=(table,) if audit == "traps" else (),
            )
            for audit in ("traps", "membership", "extraction")
        )
    )  # fmt: skip


def make_run(folder: Path, n: int) -> Run:
    """A complete run of three audits with ``n`` items each."""
    rng = np.random.default_rng(0)
    plan = {"traps": {"primary": "ratio"}, "membership": {"primary": "ratio"}, "extraction": {}}
    with Run.start(folder, kind="audit", plan=plan, plan_text=None, command=("benchmark",)) as run:
        run.write_items("traps", trap_items(n, rng))
        run.write_items("membership", membership_items(n, rng))
        maxima, matches = extraction_items(n, rng)
        run.write_items("extraction-maxima", maxima)
        run.write_items("extraction-matches", matches)
        run.write_findings(findings(n))
        run.finish()
    return Run.open(folder)


_MADE = """
import json, resource, sys, time
began = time.perf_counter()
from pathlib import Path
folder, format = sys.argv[1:]
if format.startswith("gate"):
    from datetime import UTC, datetime
    from audit.gates.policy import load_policy
    from audit.gates.shipped import find_policy
    from audit.gates.verdict import gate
    size = len(gate([Path(folder)], load_policy(find_policy("research")), today=datetime.now(UTC).date()).canonical())
else:
    from audit.report.content import read_report
    from audit.report.write import rendered
    from audit.runs.store import Run
    size = len(rendered(read_report(Run.open(Path(folder))), format))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"seconds": time.perf_counter() - began, "cpu": time.process_time(), "peak_mib": peak, "bytes": size}))
"""


def measure(folder: Path, format: str) -> dict[str, float]:
    """Seconds (imports and all), CPU seconds, peak of resident memory in MiB, and the size of what was made."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _MADE, str(folder), format], capture_output=True, text=True, cwd=root, check=True
    )
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,10000,100000,1000000")
    parser.add_argument("--formats", default="html,md,json,gate,gate-sealed")
    parser.add_argument("--folder", type=Path, help="Where runs are made; default a temporary folder.")
    arguments = parser.parse_args()
    root = arguments.folder or Path(tempfile.mkdtemp())
    print("items of each audit | format | seconds | CPU seconds | peak MiB | report KiB")
    try:
        for n in map(int, arguments.sizes.split(",")):
            folder = root / f"run-{n}"
            began = time.perf_counter()
            if not (folder / "run.json").exists():
                make_run(folder, n)
            print(f"# made in {time.perf_counter() - began:.1f} s", file=sys.stderr)
            for format in arguments.formats.split(","):
                if format == "gate-sealed":
                    seal_run(folder)
                found = measure(folder, format)
                print(
                    f"{n:,} | {format} | {found['seconds']:.1f} | {found['cpu']:.1f} | {found['peak_mib']:.0f} | "
                    f"{found['bytes'] / 1024:.0f}",
                    flush=True,
                )
    finally:
        if arguments.folder is None:
            shutil.rmtree(root)


if __name__ == "__main__":
    main()
