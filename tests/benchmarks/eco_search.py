"""How near each search of the corruption's strength comes, on curves whose truth is known.

    python -m tests.benchmarks.eco_search [--runs 100]

The metric falls from 0.9 as a sigmoid of log10 sigma, with normal noise drawn for each strength and seed by itself: the
hardest case, as the noise of a model under one seed is much the same at neighbouring strengths. Slopes a decade: steep
8, shallow 1.5, dead zone 15, all down to 0.1; floor 4, down to 0.25, which is the target. The error is that of the
curve without noise at the chosen strength; intervals are bootstrap (error) and Clopper-Pearson (share), 95%.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from audit.stats.bootstrap import bootstrap
from audit.stats.estimate import Estimate
from audit.stats.proportion import clopper_pearson
from unlearn.eco.search import METHODS, SearchSettings, search
from unlearn.eco.search_ledger import Metric
from unlearn.eco.surrogates import Surrogate

TARGET = 0.25
FIRST_RUN = 1_000
"""Runs below it served to choose the defaults."""
Curve = Callable[[float], float]


def sigmoid(middle: float, slope: float, floor: float = 0.1) -> Curve:
    return lambda strength: floor + (0.9 - floor) / (1 + np.exp(slope * (np.log10(strength) - middle)))


CURVES: dict[str, Callable[[float], Curve]] = {
    "steep": lambda middle: sigmoid(middle, 8),
    "shallow": lambda middle: sigmoid(middle, 1.5),
    "dead zone": lambda middle: sigmoid(middle, 15),
    "floor": lambda middle: sigmoid(middle, 4, floor=TARGET),
}


class Noisy:
    def __init__(self, curve: Curve, spread: float, run: int) -> None:
        self.curve, self.spread, self.run = curve, spread, run

    def __call__(self, strength: float, seeds: Sequence[int], /) -> NDArray[np.float64]:
        bits = int(np.float64(strength).view(np.uint64))
        noise = [np.random.default_rng([self.run, bits, seed]).normal(0, self.spread) for seed in seeds]
        return self.curve(strength) + np.array(noise)[:, None]


def shown(found: Estimate, form: str) -> str:
    ends = "" if found.low is None else f" ({form.format(found.low)} to {form.format(found.high)})"
    return form.format(found.value) + ends


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=100)
    runs = parser.parse_args().runs
    metric = Metric("accuracy", Surrogate(Estimate(TARGET, TARGET, TARGET, 0.95, 1, "given"), "given"))
    base = SearchSettings(sensitivity_points=0)
    print(f"\n{runs} runs each, middle of the curve drawn from 10^0.5 to 10^3, target {TARGET}\n")
    print("| Curve | noise | method | mean error | within 0.05 | evaluations, mean and most | said to be reached |")
    print("|---|---|---|---|---|---|---|")
    for name, make in CURVES.items():
        for spread in (0.02, 0.05):
            for method in METHODS:
                errors, evaluations, said = [], [], 0
                for run in range(FIRST_RUN, FIRST_RUN + runs):
                    curve = make(float(np.random.default_rng(run).uniform(0.5, 3)))
                    settings = replace(base, method=method, seed=run)
                    found = search(Noisy(curve, spread, run), [metric], [0.9], settings)
                    assert found.strength is not None
                    errors.append(abs(curve(found.strength) - TARGET))
                    evaluations.append(found.n_evaluations)
                    said += found.reached
                error = bootstrap(np.mean, errors, rng=0)
                near = clopper_pearson(sum(one <= 0.05 for one in errors), runs)
                cells = [name, spread, method, shown(error, "{:.3f}"), shown(near, "{:.0%}")]
                cells += [f"{np.mean(evaluations):.1f}, {max(evaluations)}", f"{said / runs:.0%}"]
                print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
