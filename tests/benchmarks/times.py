"""Time and size of what a newcomer does first.

python -m tests.benchmarks.times [--size small]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def timed(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "audit", *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


def mib(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="small")
    size = parser.parse_args().size
    print("| What | Seconds | MiB |")
    print("|---|---|---|")
    helps = sorted(timed(["--help"]) for _ in range(5))
    print(f"| palimpsest --help (median of 5) | {helps[2]:.2f} | |", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        cache, run = Path(scratch) / "cache", Path(scratch) / "run"
        demo = timed(["demo", "--audit-only", "--size", size, "--cache", str(cache), "--out", str(run)])
        print(f"| palimpsest demo, nothing built before | {demo:.0f} | {mib(run):.1f} (run) |", flush=True)
        rest = timed(["testbed", "build", "--size", size, "--cache", str(cache)])
        print(f"| testbed build --size {size}, its other two models | {rest:.0f} | {mib(cache):.0f} (all) |")
        again = timed(
            ["demo", "--audit-only", "--size", size, "--cache", str(cache), "--out", str(Path(scratch) / "run2")]
        )
        print(f"| palimpsest demo, testbed built | {again:.0f} | |")
        print(f"| report.html | | {(run / 'report.html').stat().st_size / 2**20:.2f} |")


if __name__ == "__main__":
    main()
