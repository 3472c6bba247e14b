"""Kill the demo at random moments, go on each time, and compare with an undisturbed one.

    python -m tests.benchmarks.kill_demo [--size tiny] [--kills 20] [--seed 0]

Moments are spread over the time that the undisturbed demo takes, so kills fall into building, training, scoring and
reporting alike. The findings must be equal to the byte, the scores too.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def command(size: str, folder: Path) -> list[str]:
    return [sys.executable, "-m", "audit", "demo", "--size", size, "--quiet", "--json",
            "--cache", str(folder / "cache"), "--out", str(folder / "run")]  # fmt: skip


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as scratch:
        calm, wild = Path(scratch) / "calm", Path(scratch) / "wild"
        calm.mkdir()
        wild.mkdir()
        start = time.monotonic()
        subprocess.run(command(arguments.size, calm), check=True, stdout=subprocess.DEVNULL)
        whole = time.monotonic() - start
        print(f"undisturbed: {whole:.0f} s")
        kills = 0
        while True:
            child = subprocess.Popen(
                command(arguments.size, wild), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
            limit = moments.uniform(0, whole / 3) + 3 if kills < arguments.kills else None
            try:
                code = child.wait(timeout=limit)
            except subprocess.TimeoutExpired:
                os.kill(child.pid, signal.SIGKILL)
                child.wait()
                kills += 1
                continue
            if code != 0:
                sys.exit(f"the resumed demo ended with exit code {code}: {child.stderr.read() if child.stderr else ''}")
            if kills >= arguments.kills:
                break
            # It finished before the next kill: begin anew, so that all kills are spent.
            subprocess.run(["rm", "-rf", str(wild)], check=True)
            wild.mkdir()
        names = ["run/findings.json", "run/items/traps.parquet"]
        same = {name: digest(calm / name) == digest(wild / name) for name in names}
        print(f"killed {kills} times at random moments and resumed; equal to the undisturbed run: {same}")
        sys.exit(0 if all(same.values()) else 1)


if __name__ == "__main__":
    main()
