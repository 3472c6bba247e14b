"""All benchmarks in turn, as `make bench` runs them; each prints a Markdown table for docs/benchmarks.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
STEPS = (
    "times.py",
    "scoring.py",
    "memory.py",
    "kill_demo.py",
    "real_input.py",
    "calibrate_traps.py",
    "calibrate_stats.py",
)


def main() -> None:
    failed = []
    for step in STEPS:
        print(f"\n## {step}\n", flush=True)
        if subprocess.run([sys.executable, str(HERE / step)], check=False).returncode:
            failed.append(step)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
