"""The verdict on retraining where the truth is known: two arms that do not differ, and one that is better.

    python -m tests.benchmarks.calibrate_retraining [--draws 4000] [--least 100]

Differences are drawn by held-out row and training, with the share of each in what varies; rows belong to clusters,
alike in weight or lognormal, and are normal or skewed to either side ("+": some rows are much worse). Told is how often
the upper limit of `over_both` lies below 0, for the 2.5% that it says, beside a percentile bootstrap over clusters
joined with Student's interval in the same way.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from audit.extraction import retrain_intervals
from audit.extraction.retrain_intervals import over_both, over_trainings

Floats = NDArray[np.float64]
Shape = Callable[[tuple[int, ...], np.random.Generator], Floats]
LEVEL = 0.95


def rarely(share: float) -> Shape:
    """A share of the clusters is worse by some ten standard deviations of the others."""

    def drawn(size: tuple[int, ...], rng: np.random.Generator) -> Floats:
        hit = (rng.random(size) < share) - share
        return 0.9 * hit / math.sqrt(share * (1 - share)) + 0.44 * rng.normal(size=size)

    return drawn


#: Name -> values of mean 0 and standard deviation 1, whose longer tail is above 0.
SHAPES: dict[str, Shape] = {
    "normal": lambda size, rng: rng.normal(size=size),
    "exponential": lambda size, rng: rng.exponential(size=size) - 1,
    "lognormal": lambda size, rng: (np.exp(rng.normal(size=size)) - math.exp(0.5)) / math.sqrt((math.e - 1) * math.e),
    "10% much worse": rarely(0.10),
    "5% much worse": rarely(0.05),
    "2% much worse": rarely(0.02),
}
SKEWED = ("exponential", "lognormal", "10% much worse", "5% much worse")


@dataclass(frozen=True, slots=True)
class Design:
    """One cell of the grid.

    Attributes:
        n_clusters: Clusters of held-out rows.
        n_trainings: Trainings of each arm.
        shape: One of `SHAPES`.
        sign: 1, or -1 for the longer tail below 0.
        unequal: Standard deviation of the logarithm of a row's tokens; 0 for rows alike.
        per_cluster: Rows of a cluster.
        within: Share of the rows' variance that is inside clusters.
        of_trainings: Share in the variance of the mean that trainings have, in [0, 1].
        training_shape: How trainings differ, one of `SHAPES`.
        shift: True difference, in standard deviations of a row.
    """

    n_clusters: int
    n_trainings: int
    shape: str = "normal"
    sign: int = 1
    unequal: float = 0.0
    per_cluster: int = 1
    within: float = 0.0
    of_trainings: float = 0.0
    training_shape: str = "normal"
    shift: float = 0.0

    def draw(self, rng: np.random.Generator) -> tuple[Floats, Floats, list[Hashable] | None]:
        """Sums by training and row (trainings, rows), tokens of the rows, and their clusters, None for each its own."""
        n = self.n_clusters * self.per_cluster
        clusters = np.repeat(np.arange(self.n_clusters), self.per_cluster)
        tokens = 20 * np.exp(self.unequal * rng.normal(size=self.n_clusters))[clusters]
        of_clusters = self.sign * SHAPES[self.shape]((self.n_clusters,), rng)[clusters]
        rows = math.sqrt(1 - self.within) * of_clusters
        if self.within:
            rows += math.sqrt(self.within) * self.sign * SHAPES[self.shape]((n,), rng)
        rows = rows + 0.1 * rng.normal(size=(self.n_trainings, n))  # what a training changes of single rows
        of_mean = (1 - self.within + self.within / self.per_cluster) * np.sum(tokens**2) * self.per_cluster
        of_mean /= tokens.sum() ** 2
        if self.of_trainings == 1:
            rows *= 0.1
            spread = math.sqrt(self.n_trainings * of_mean)
        else:
            spread = math.sqrt(self.n_trainings * of_mean * self.of_trainings / (1 - self.of_trainings))
        means = spread * SHAPES[self.training_shape]((self.n_trainings, 1), rng)
        labels = None if self.per_cluster == 1 else clusters.tolist()
        return (rows + means + self.shift) * tokens, tokens, labels


@dataclass(frozen=True, slots=True)
class Rates:
    """Of the experiments of a cell: how many gave an interval, how many lay below 0, and the same of a percentile one.

    The percentile bootstrap is tried on every fourth alone.
    """

    n: int
    below: int
    n_percentile: int
    percentile_below: int

    def __str__(self) -> str:
        if not self.n:
            return "no verdict | "
        return f"{self.below / self.n:.1%} | {self.percentile_below / self.n_percentile:.1%}"


def tried(design: Design, draws: int, *, seed: int) -> Rates:
    """As many experiments of one design."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(design.n_clusters, np.full(design.n_clusters, 1 / design.n_clusters), size=1000)
    below: list[bool] = []
    percentile: list[bool] = []
    for _ in range(draws):
        sums, tokens, clusters = design.draw(rng)
        found = over_both(sums, tokens, clusters, level=LEVEL)
        if found.high is None:
            continue
        if len(below) % 4 == 0:
            total, weight = (
                values.reshape(design.n_clusters, -1).sum(axis=1) for values in (sums.mean(axis=0), tokens)
            )
            trainings = over_trainings(sums.sum(axis=1) / tokens.sum(), LEVEL)
            percentile.append(percentile_limit(total, weight, trainings.high or 0.0, counts) < 0)
        below.append(found.high < 0)
    return Rates(len(below), sum(below), len(percentile), sum(percentile))


def percentile_limit(total: Floats, weight: Floats, trainings: float, counts: NDArray[np.int64]) -> float:
    """Upper limit from the quantile of bootstrap draws, ``counts`` of each cluster (draws, clusters)."""
    value = total.sum() / weight.sum()
    over_rows = np.quantile((counts @ total) / (counts @ weight), (1 + LEVEL) / 2)
    return float(value + math.hypot(over_rows - value, trainings - value))


def grid() -> list[Design]:
    """Every cell without a difference between the arms that a verdict is asked of."""
    shapes = [("normal", 1), *((name, sign) for name in SKEWED for sign in (1, -1))]
    few = [Design(n, 3, unequal=unequal) for n, unequal in ((20, 0.0), (20, 1.0), (40, 0.0), (40, 1.0), (100, 1.0))]
    rows = [
        Design(n, n_trainings, shape, sign, unequal, per_cluster, within, of_trainings)
        for n, unequal, per_cluster, within in (
            (100, 0.0, 1, 0.0),
            (300, 0.0, 1, 0.0),
            (300, 1.0, 1, 0.0),
            (300, 1.0, 3, 0.5),
        )
        for shape, sign in shapes
        for n_trainings in (2, 3, 10)
        for of_trainings in (0.0, 0.5)
    ]
    return [*few, *rows, *(Design(100, n, of_trainings=1.0) for n in (2, 3, 10))]


def table(designs: list[Design], draws: int) -> None:
    print("| Clusters | Rows a cluster | Weights | Trainings | Rows | Share of trainings | Below 0 | Percentile |")
    print("|---|---|---|---|---|---|---|---|")
    highest = (0.0, "")
    for number, one in enumerate(designs):
        found = tried(one, draws, seed=number)
        rows = one.shape if one.shape == "normal" else f"{'+' if one.sign > 0 else '-'} {one.shape}"
        trainings = f"{one.n_trainings}" + ("" if one.training_shape == "normal" else f", {one.training_shape}")
        cells = f"{one.n_clusters} | {one.per_cluster} | {'lognormal' if one.unequal else 'alike'} | {trainings}"
        print(f"| {cells} | {rows} | {one.of_trainings:.0%} | {found} |", flush=True)
        if found.n:
            highest = max(highest, (found.below / found.n, cells))
    low, high = binom.interval(0.99, draws, (1 - LEVEL) / 2)
    print(f"\nhighest {highest[0]:.2%} ({highest[1]}); 2.5% would show as {low / draws:.2%} to {high / draws:.2%}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=4_000)
    parser.add_argument("--least", type=int, default=retrain_intervals.LEAST_CLUSTERS, help="Effective clusters.")
    given = parser.parse_args()
    retrain_intervals.LEAST_CLUSTERS = given.least
    print(f"No difference, {given.draws:,} experiments a cell\n")
    table(grid(), given.draws)
    print("Outside of what is held: rarer rows, and trainings that are skewed\n")
    table(
        [
            *(Design(n, 3, "2% much worse") for n in (100, 300)),
            *(Design(100, n, of_trainings=1.0, training_shape="exponential") for n in (2, 3, 10)),
        ],
        given.draws,
    )
    print("A true difference, in standard deviations of a row: -0.5\n")
    table(
        [
            Design(n, n_trainings, shape, unequal=unequal, shift=-0.5)
            for n, unequal in ((100, 0.0), (300, 1.0))
            for shape in ("normal", "exponential")
            for n_trainings in (2, 3, 10)
        ],
        given.draws,
    )


if __name__ == "__main__":
    main()
