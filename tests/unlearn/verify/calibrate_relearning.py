"""How often the intervals of relearning hold the truth, and what they see: simulated audits, minutes.

python -m tests.unlearn.verify.calibrate_relearning [AUDITS]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from tests.unlearn.verify.test_relearn_curves import world
from unlearn.verify.robustness.relearn_curves import Relearned


def audits(n_audits: int, cell: int, **options: float) -> Iterator[Relearned]:
    for place in range(n_audits):
        yield world(np.random.default_rng([cell, place]), **options)  # type: ignore[arg-type]


def main(n: int) -> None:
    cell = 0
    for n_clusters in (12, 24, 60):
        for noise in (0.0, 0.03, 0.06):
            cell += 1
            found = list(audits(n, cell, start=0.0, speed=1.0, n=n_clusters, seed_noise=noise))
            holds = np.mean([one.excess.low <= 0 <= one.excess.high for one in found])
            width = np.mean([one.excess.high - one.excess.low for one in found])
            undefined = np.mean([one.ratio.value is None for one in found])
            wrong = np.mean([one.by_steps == "suppressed" for one in found])
            print(
                f"null, {n_clusters} clusters, seed noise {noise}: excess holds 0 in {holds:.1%}, width {width:.2f}; "
                f"ratio undefined {undefined:.1%}, wrongly suppressed {wrong:.1%}",
                flush=True,
            )
    for name, start, speed in (
        ("twice as fast", 0.0, 2.0),
        ("four times", 0.0, 4.0),
        ("begins at a quarter", 0.25, 1.0),
    ):
        cell += 1
        found = list(audits(n, cell, start=start, speed=speed))
        seen = np.mean([one.excess.low > 0 for one in found])
        by_steps = np.mean([one.by_steps == "suppressed" for one in found])
        print(f"{name}: excess above 0 in {seen:.1%}, suppressed by steps in {by_steps:.1%}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
