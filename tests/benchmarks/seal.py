"""How fast runs are sealed and verified, against sha256sum on the same files, and how fast rows are hashed.

python -m tests.benchmarks.seal [--mb 512] [--rows 1000000] [--threads 1 2]
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from audit.runs.schema import Findings
from audit.runs.seal.check import verify_run
from audit.runs.seal.disclose import check_proof, disclose
from audit.runs.seal.files import find_files, hash_files
from audit.runs.seal.make import seal_run
from audit.runs.store import Run

# Each in one process. That of coreutils may lack the processor's SHA instructions, which OpenSSL has.
TOOLS = [tool for tool in (("sha256sum",), ("openssl", "dgst", "-sha256")) if shutil.which(tool[0])]


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def make(folder: Path, *, mb: int, rows: int) -> Path:
    """A complete run with ``mb`` of files of no structure, a tenth of it in files of 100 kB, and a table."""
    rng = np.random.default_rng(0)
    with Run.start(folder, kind="audit", plan={}, plan_text=None, command=["palimpsest"]) as run:
        if rows:
            table = {
                "id": [f"text-{row}" for row in range(rows)],
                "text": [f"the {row}th text of the benchmark, some ten words long or so" for row in range(rows)],
                **{name: rng.normal(size=rows) for name in ("loss", "min_k", "min_k_plus_plus", "zlib")},
                "n_tokens": rng.integers(0, 512, rows),
                "truncated": rng.random(rows) < 0.1,
            }
            run.write_items("scores", pa.table(table))
        run.write_findings(Findings(sections=()))
        run.finish()
    sizes = [mb * 100_000] * 9 + [100_000] * mb
    (folder / "measured").mkdir()
    for number, size in enumerate(sizes):
        (folder / "measured" / f"{number}.bin").write_bytes(rng.bytes(size))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mb", type=int, default=512)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = make(Path(scratch) / "run", mb=asked.mb, rows=0)
        names = find_files(folder).files
        size = sum((folder / name).stat().st_size for name in names) / 1e6
        timed(lambda: hash_files(folder, names))  # warms the page cache
        print(f"{size:,.0f} MB in {len(names):,} files; load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
        print("| What | seconds | MB/s |")
        print("|---|---|---|")
        for _ in range(3):
            took = {" ".join(tool): timed(lambda tool=tool: _run(tool, folder, names)) for tool in TOOLS}
            for threads in asked.threads:
                took[f"hash_files, {threads} threads"] = timed(lambda n=threads: hash_files(folder, names, threads=n))
            took["seal"] = timed(lambda: seal_run(folder))
            took["verify"] = timed(lambda: verify_run(folder))
            (folder / "seal.json").unlink()
            for what, seconds in took.items():
                print(f"| {what} | {seconds:.2f} | {size / seconds:,.0f} |", flush=True)
        print(f"peak memory so far {_peak():,.0f} MB")
        if asked.rows:
            run = make(Path(scratch) / "rows", mb=1, rows=asked.rows)
            before = _peak()
            processor = time.process_time()
            seconds = timed(lambda: seal_run(run))
            processor = time.process_time() - processor
            proof = disclose(run, "items/scores.parquet", ids=["text-7"])
            again = timed(lambda: disclose(run, "items/scores.parquet", ids=["text-7"]))
            checked = timed(lambda: check_proof(proof))
            print(f"{asked.rows:,} rows of 8 columns: seal {seconds:.1f} s, of them {processor:.1f} on the processor;")
            print(f"disclose one {again:.1f} s, check its proof {checked * 1e3:.1f} ms;")
            print(f"peak memory {before:,.0f} MB before, {_peak():,.0f} MB after")


def _run(tool: tuple[str, ...], folder: Path, names: tuple[str, ...]) -> None:
    subprocess.run([*tool, *names], cwd=folder, check=True, capture_output=True)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
