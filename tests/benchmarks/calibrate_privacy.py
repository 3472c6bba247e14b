"""Do the intervals of `unlearn.verify.privacy` cover? ``python -m tests.benchmarks.calibrate_privacy [--sets 400]``.

Simulated scores of two models on clustered texts: a cluster's share of the variance 0.3, the models alike in part.
Minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from audit.forgetting.measured import Measured
from audit.stats.estimate import Estimate
from unlearn.verify.privacy.areas import TwoSets, auc, difference, of_areas, residual
from unlearn.verify.privacy.priv_leak import priv_leak

CELLS = ((12, 60, 16), (10, 10, 20), (40, 40, 8), (24, 24, 1), (100, 100, 1))  # clusters of both sets, texts in each
AREAS = (0.5, 0.8, 0.95, 0.99)
OF_CLUSTER, SHARED = 0.3, 0.7  # shares of the variance: of the cluster, of what two models have in common


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=400)
    n_sets = parser.parse_args().sets
    print("clusters, texts in each | what: share of 95% intervals that hold the truth, mean width")
    for cell in CELLS:
        for area in AREAS:
            _tell(cell, f"AUC {area}", area, n_sets, lambda models: auc(*models[0], rng=0), (area, area))
            _tell(cell, f"AUC {area}, percentile bootstrap", area, n_sets, _percentile, (area, area))
        _tell(cell, "paired difference, both 0.5", 0.0, n_sets, lambda m: difference(m[0], m[1], rng=0), (0.5, 0.5))
        _tell(cell, "paired difference, 0.9 and 0.7", 0.2, n_sets, lambda m: difference(m[0], m[1], rng=0), (0.9, 0.7))
        _tell(cell, "PrivLeak, both 0.5", 0.0, n_sets, lambda m: priv_leak(m[0], m[1], rng=0).value, (0.5, 0.5))
        _tell(cell, "residual .95, .5, .5", 0.0, n_sets, lambda m: residual(m[0], m[1], m[2], rng=0), (0.95, 0.5, 0.5))


def _percentile(models: list[TwoSets]) -> Estimate:
    return of_areas(lambda areas: areas[0], [models[0]], name="A", rng=0, level=0.95)


def _tell(
    cell: tuple[int, int, int],
    what: str,
    truth: float,
    n_sets: int,
    measure: Callable[[list[TwoSets]], Estimate],
    areas: tuple[float, ...],
) -> None:
    dice = np.random.default_rng(0)
    held = defined = 0
    widths = []
    for _ in range(n_sets):
        found = measure(_models(cell, areas, dice))
        if found.low is None or found.high is None:
            continue
        defined += 1
        held += found.low <= truth <= found.high
        widths.append(found.high - found.low)
    clusters = f"{cell[0]} + {cell[1]}, {cell[2]}"
    undefined = f", {n_sets - defined} of {n_sets} undefined" if defined < n_sets else ""
    print(f"{clusters} | {what}: {held / max(defined, 1):.1%}, {np.mean(widths):.3f}{undefined}", flush=True)


def _models(cell: tuple[int, int, int], areas: tuple[float, ...], dice: np.random.Generator) -> list[TwoSets]:
    first, second, size = cell
    common = [_draw(n, size, dice) for n in (first, second)]
    models = []
    for area in areas:
        own = [_draw(n, size, dice) for n in (first, second)]
        shift = float(norm.ppf(area)) * np.sqrt(2)
        sides = [np.sqrt(SHARED) * c + np.sqrt(1 - SHARED) * o for c, o in zip(common, own, strict=True)]
        models.append((_measured(sides[0] + shift, size, "f"), _measured(sides[1], size, "n")))
    return models


def _draw(n_clusters: int, size: int, dice: np.random.Generator) -> NDArray[np.float64]:
    own = dice.normal(size=n_clusters * size)
    of_cluster = np.repeat(dice.normal(size=n_clusters), size)
    return np.asarray(np.sqrt(OF_CLUSTER) * of_cluster + np.sqrt(1 - OF_CLUSTER) * own, dtype=np.float64)


def _measured(values: NDArray[np.float64], size: int, side: str) -> Measured:
    ids = tuple(f"{side}{place}" for place in range(len(values)))
    return Measured("Min-40% score", ids, tuple(f"{side}{place // size}" for place in range(len(values))), values)


if __name__ == "__main__":
    main()
