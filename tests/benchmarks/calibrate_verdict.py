"""How often each verdict is given to simulated remedies whose truth is known.

    python -m tests.benchmarks.calibrate_verdict [--audits 200] [--clusters 12 20 50]

At r = 0.2 (the tolerance) "removed" and "not removed" (or "suppressed") are both wrong: neither should exceed 5%.
"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

import numpy as np

from tests.unlearn.verify.simulated import World, audit

WORDS = ("removed", "suppressed", "not removed", "undecided")
CASES: dict[str, dict[str, Any]] = {
    "as gold": {},
    "as before": {"direct": (1.0, 1.0, 1.0), "attacked": (1.0, 1.0, 1.0, 1.0)},
    "half left": {"direct": (0.5, 0.5, 0.5)},
    "one measure at 0.2": {"direct": (0.2, 0.0, 0.0)},
    "all measures at 0.2": {"direct": (0.2, 0.2, 0.2)},
    "one attack at 0.2": {"attacked": (0.2, 0.0, 0.0, 0.0)},
    "all attacks at 0.2": {"attacked": (0.2, 0.2, 0.2, 0.2)},
    "one attack at 0.5": {"attacked": (0.0, 0.0, 0.5, 0.0)},
    "overshot by 0.5": {"direct": (-0.5, -0.5, -0.5)},
    "no gap": {"gap": 0.0},
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--audits", type=int, default=200)
    parser.add_argument("--clusters", type=int, nargs="+", default=[12, 20, 50])
    arguments = parser.parse_args()
    print(f"| Clusters | Truth | {' | '.join(WORDS)} |\n|---|---|{'---|' * len(WORDS)}")
    for n_clusters in arguments.clusters:
        for name, truth in CASES.items():
            rng = np.random.default_rng([n_clusters, *name.encode()])
            found = Counter(
                str(audit(rng, World(n_clusters=n_clusters), **truth).word) for _ in range(arguments.audits)
            )
            shares = " | ".join(f"{found[word] / arguments.audits:.1%}" for word in WORDS)
            print(f"| {n_clusters} | {name} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
