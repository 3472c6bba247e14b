"""All benchmarks in turn, as `make bench` runs them; each prints a Markdown table for docs/benchmarks.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
STEPS = (
    "times",
    "scoring",
    "all_scores",
    "memory",
    "kill_demo",
    "real_input",
    "real_traps",
    "scan_speed",
    "draw_speed",
    "calibrate_traps",
    "calibrate_stats",
    "calibrate_power",
    "calibrate_survival",
    "calibrate_inference",
    "extraction_table",
    "retrain_table",
    "gsm8k_table",
    "eco_search",
    "eco_classifiers",
)


def main() -> None:
    failed = []
    for step in STEPS:
        print(f"\n## {step}\n", flush=True)
        if subprocess.run([sys.executable, "-m", f"tests.benchmarks.{step}"], check=False, cwd=ROOT).returncode:
            failed.append(step)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
