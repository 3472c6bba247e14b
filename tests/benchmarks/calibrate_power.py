"""What the power room promises, against the tests themselves on simulated scores; printed as Markdown.

    python -m tests.benchmarks.calibrate_power [--audits 1000] [--only power|excluded|bootstrap|sign|speed]

Predicted and simulated power of the arm test over a grid, what `detectable` says could be ruled out, coverage of the
AUC's intervals (DeLong, bootstrap standardised in each draw, bootstrap standardised once), level of the sign test with
ties, and the time of the permutation test.
"""

from __future__ import annotations

import argparse
import time
from itertools import product

import numpy as np
from scipy.stats import binom, rankdata

from audit.stats.auc import roc_auc
from audit.stats.bootstrap import bootstrap, bootstrap_auc
from audit.stats.estimate import Estimate
from audit.stats.permutation import rank_p_values, sign_test
from audit.stats.stratified import stratified_permutation
from audit.traps.power.design import Design
from audit.traps.power.model import arm_power, effect_size, rank_power, sign_power
from audit.traps.power.needed import detectable, members_needed
from audit.traps.power.simulated import binormal, simulated_power

Rng = np.random.Generator
DESIGNS = (
    Design.even(10, 6, 60),
    Design.even(10, 5, 20),
    Design.even(10, 2, 8),
    Design.even(30, 1, 4),
    Design.even(1, 100, 100),
    Design.even(1, 20, 80),
    Design.even(2, 5, 5),
    Design((1, 3, 20), (40, 12, 10)),
)


def named(design: Design) -> str:
    pairs = set(zip(design.members, design.decoys, strict=True))
    if len(pairs) == 1:
        members, decoys = pairs.pop()
        return f"{len(design.members)} x ({members} + {decoys})"
    return " and ".join(f"({m} + {d})" for m, d in zip(design.members, design.decoys, strict=True))


def shown(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def powers(audits: int) -> None:
    print(f"\nPower of the arm test, {audits} simulated audits each\n")
    print("| Strata x (members + decoys) | AUC | level | predicted | simulated [Wilson] | outside |")
    print("|---|---|---|---|---|---|")
    gaps = []
    for seed, (design, auc, arms) in enumerate(product(DESIGNS, (0.5, 0.6, 0.7, 0.8, 0.9), (1, 4))):
        predicted = arm_power(auc, design, arms=arms)
        if predicted > 0.995:
            continue
        found = simulated_power(binormal(auc), design, arms=arms, n_audits=audits, rng=seed)
        outside = not (found.low or 0) <= predicted <= (found.high or 1)
        gaps.append((design.n_members, predicted - (found.value or 0)))
        mark = "x" if outside else ""
        print(
            f"| {named(design)} | {auc} | {0.05 / arms:.4g} | {predicted:.3f} | {shown(found)} | {mark} |", flush=True
        )
    for name, some in (
        ("20 members or more", [g for n, g in gaps if n >= 20]),
        ("fewer", [g for n, g in gaps if n < 20]),
    ):
        print(f"\npredicted - simulated, {name}: {min(some):+.3f} to {max(some):+.3f}, mean {np.mean(some):+.4f}")
    print("\nDesigns that are suggested for 90%, arms 4, 10 strata, 4 decoys a member\n")
    print("| AUC | members an arm | predicted | simulated |")
    print("|---|---|---|---|")
    for auc in (0.55, 0.6, 0.65, 0.7, 0.8, 0.9):
        design = members_needed(auc, arms=4)
        found = simulated_power(binormal(auc), design, arms=4, n_audits=audits, rng=1)
        print(f"| {auc} | {design.n_members} | {arm_power(auc, design, arms=4):.3f} | {shown(found)} |", flush=True)
    rng = np.random.default_rng(2)
    print("\nRank test of one trap and sign test of pairs, 20,000 simulated each, alpha 0.05\n")
    print("| Test | AUC | predicted | simulated |")
    print("|---|---|---|---|")
    for auc, n in product((0.5, 0.7, 0.9, 0.99), (19, 99)):
        p = rank_p_values(rng.normal(effect_size(auc), 1, 20_000), rng.normal(size=(20_000, n)))
        print(f"| rank among {n} decoys | {auc} | {rank_power(auc, n):.4f} | {np.mean(p <= 0.05):.4f} |")
    for auc, n in product((0.5, 0.7, 0.9), (5, 30)):
        wins = rng.normal(effect_size(auc), 1, (20_000, n)) > rng.normal(size=(20_000, n))
        level = {k: sign_test(np.repeat([1.0, -1.0], [k, n - k])).value <= 0.05 for k in range(n + 1)}
        rate = np.mean([level[int(k)] for k in wins.sum(axis=1)])
        print(f"| sign test of {n} pairs | {auc} | {sign_power(auc, n):.4f} | {rate:.4f} |")


def standardised(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Members (S, n1) and decoys (S, n0) by the mean and deviation of their stratum's decoys, flat."""
    centre, spread = y.mean(axis=1, keepdims=True), y.std(axis=1, ddof=1, keepdims=True)
    return ((x - centre) / spread).ravel(), ((y - centre) / spread).ravel()


def drawn(rng: Rng, strata: int, members: int, decoys: int, auc: float) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(effect_size(auc), 1, (strata, members)), rng.normal(size=(strata, decoys))


def excluded(audits: int) -> None:
    print(f"\nRuled out, {audits} simulated audits of a model that never saw the traps\n")
    print("| Strata x (members + decoys) | chance | AUC said to be ruled out | upper bound below it |")
    print("|---|---|---|---|")
    rng = np.random.default_rng(3)
    for sizes in ((6, 10, 99), (10, 5, 20), (10, 20, 10), (1, 6, 20), (30, 2, 40)):
        highs = np.array([roc_auc(*standardised(*drawn(rng, *sizes, 0.5))).high for _ in range(audits)])
        for chance, auc in detectable(Design.even(*sizes)).excluded_auc.items():
            if auc is not None:
                rate = np.mean(highs < auc)
                print(f"| {named(Design.even(*sizes))} | {chance:.0%} | {auc:.3f} | {rate:.1%} |", flush=True)


def bootstraps(audits: int) -> None:
    print(f"\nCoverage of 95% intervals of the AUC, {audits} simulated audits each, 500 draws\n")
    print("| Strata x (members + decoys) | AUC | DeLong | in each draw | once | widths |")
    print("|---|---|---|---|---|---|")
    rng = np.random.default_rng(4)
    grid = ((10, 6, 60), (10, 10, 40), (10, 20, 10), (20, 10, 3), (30, 2, 8), (2, 60, 240))
    for sizes, auc in product(grid, (0.5, 0.75, 0.95)):
        strata, members, decoys = sizes
        of_x, of_y = np.repeat(np.arange(strata), members), np.repeat(np.arange(strata), decoys)
        covered, width = np.zeros(3), np.zeros(3)
        for _ in range(audits):
            x, y = drawn(rng, *sizes, auc)
            zx, zy = standardised(x, y)
            intervals = (
                roc_auc(zx, zy),
                bootstrap_auc(x.ravel(), y.ravel(), strata=(of_x, of_y), n_draws=500, rng=rng),
                bootstrap(auc_of_rows, zx, zy, strata=(of_x, of_y), n_draws=500, rng=rng),
            )
            low = np.array([one.value if one.low is None else one.low for one in intervals])
            high = np.array([one.value if one.high is None else one.high for one in intervals])
            covered += (low <= auc) & (auc <= high)
            width += high - low
        rates = " | ".join(f"{rate:.1%}" for rate in covered / audits)
        widths = ", ".join(f"{one:.3f}" for one in width / audits)
        print(f"| {named(Design.even(*sizes))} | {auc} | {rates} | {widths} |", flush=True)


def auc_of_rows(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
    """AUC of each row, without standardising."""

    n1, n0 = x.shape[-1], y.shape[-1]
    ranks = rankdata(np.concatenate([x, y], axis=axis), axis=axis)[..., :n1].sum(axis=axis)
    return np.asarray((ranks - n1 * (n1 + 1) / 2) / (n1 * n0))


def signs(audits: int) -> None:
    print(f"\nSign test at 5% under the null, {audits} data sets each\n")
    print("| Pairs | scores | rejected | 99% range of a true 5% |")
    print("|---|---|---|---|")
    rng = np.random.default_rng(5)
    up = binom.ppf(0.995, audits, 0.05) / audits
    for n, levels in product((10, 25, 100), (None, 4, 2)):
        found = 0
        for _ in range(audits):
            pairs = rng.normal(size=(n, 2)) if levels is None else rng.integers(0, levels, (n, 2)).astype(float)
            found += sign_test(pairs[:, 0] - pairs[:, 1]).value <= 0.05
        what = "no ties" if levels is None else f"{levels} values, {1 / levels:.0%} tied"
        print(f"| {n} | {what} | {found / audits:.1%} | at most {up:.1%} |")


def speed() -> None:
    print("\nstratified_permutation, 100,000 re-dealings, seconds of one processor core\n")
    print("| Strata x (members + decoys) | seconds |")
    print("|---|---|")
    rng = np.random.default_rng(6)
    for strata, members, decoys in ((1, 200, 800), (1, 500, 500), (10, 20, 80), (40, 5, 20), (100, 2, 8)):
        member = np.tile(np.repeat([1, 0], [members, decoys]), strata)
        names = np.repeat(np.arange(strata), members + decoys)
        scores = rng.normal(size=len(member))
        started = time.process_time()
        stratified_permutation(scores, member, names, n_draws=100_000, rng=0)
        print(f"| {named(Design.even(strata, members, decoys))} | {time.process_time() - started:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--audits", type=int, default=1_000)
    parser.add_argument("--only", choices=("power", "excluded", "bootstrap", "sign", "speed"))
    arguments = parser.parse_args()
    parts = {"power": powers, "excluded": excluded, "bootstrap": bootstraps, "sign": signs}
    for name, part in parts.items():
        if arguments.only in (None, name):
            part(arguments.audits)
    if arguments.only in (None, "speed"):
        speed()


if __name__ == "__main__":
    main()
