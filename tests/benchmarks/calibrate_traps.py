"""The trap audit under the null, on a real model's scores: decoys dealt anew as if some had been planted.

    python -m tests.benchmarks.calibrate_traps [--redraws 400] [--run RUN]

Takes the decoys' scores of a finished run (default: the demo's, made if need be), deals members among them at random
again and again, and counts how often the audit finds something. Nothing was planted, so every find is false.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binom, kstest

from audit.runs.store import Run
from audit.stats.auc import stratified_auc
from audit.stats.estimate import Estimate
from audit.traps import detect
from audit.traps.config import DetectionPlan


def redealt(decoys: pd.DataFrame, *, members: int, reps: tuple[int, ...], rng: np.random.Generator) -> pd.DataFrame:
    items = decoys.copy()
    for stratum in items["stratum"].unique():
        places = items.index[items["stratum"] == stratum].to_numpy()
        chosen = rng.permutation(places)[: members * len(reps)]
        for place, n_rep in zip(chosen, np.repeat(reps, members), strict=True):
            items.loc[place, ["arm", "n_rep"]] = ["member", int(n_rep)]
    return items


def simulated(rng: np.random.Generator, strata: int, members: int, decoys: int, *, shift: float) -> Estimate:
    """The audit's AUC of scores that are normal in each stratum, members shifted."""
    arm = np.tile(np.repeat([True, False], [members, decoys]), strata)
    names = np.repeat(np.arange(strata), members + decoys)
    return stratified_auc(rng.normal(size=len(arm)) + shift * arm, arm, names.tolist())


def few_decoys(draws: int) -> None:
    """How few decoys a stratum may have before the AUC's interval misleads; `detect.LEAST_DECOYS` rests on this."""
    rng = np.random.default_rng(1)
    print(f"\n{draws} simulated audits each; a true AUC of 0.60 must be called below 0.60 in at most 2.5%\n")
    print("| Strata, members, decoys in each | 95% interval misses 0.5 | true AUC 0.60, upper bound below it |")
    print("|---|---|---|")
    for design in (
        (50, 4, 1),
        (20, 10, 3),
        (10, 20, 5),
        (10, 20, 10),
        (10, 60, 10),
        (2, 60, 10),
        (6, 10, 99),
        (30, 1, 10),
        (1, 3, 200),
        (1, 10, 200),
    ):
        null = [simulated(rng, *design, shift=0.0) for _ in range(draws)]
        real = [simulated(rng, *design, shift=0.3583) for _ in range(draws)]
        missed = np.mean([not (auc.low or 0) <= 0.5 <= (auc.high or 1) for auc in null])
        excluded = np.mean([(auc.high or 1) < 0.6 for auc in real])
        print(f"| {', '.join(map(str, design))} | {missed:.1%} | {excluded:.1%} |")


def unlike_strata(draws: int) -> None:
    """Strata of unlike length, loss and share of members, dealt at random: sound, so hardly ever confounded."""
    rng = np.random.default_rng(2)
    words = [f"w{number}" for number in range(60)]
    called = 0
    for _ in range(draws):
        rows = [
            {"text": " ".join(rng.choice(words, length)), "arm": arm, "stratum": str(length), "n_rep": 0,
             "reference_loss": length / 25 + 0.3 * rng.normal()}
            for length, members, decoys in ((25, 60, 20), (50, 20, 60))
            for arm in ["member"] * members + ["decoy"] * decoys
        ]  # fmt: skip
        called += detect.blind(pd.DataFrame(rows), plan=DetectionPlan()).confounded
    print(f"\nstrata of 60 + 20 and 20 + 60, nothing to find: called confounded {called} of {draws} times (about 2%)")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--redraws", type=int, default=400)
    parser.add_argument("--run", type=Path)
    arguments = parser.parse_args()
    run = arguments.run
    if run is None:
        run = Path("palimpsest-runs/demo-null")
        command = [sys.executable, "-m", "audit", "demo", "--audit-only", "--quiet", "--out", str(run)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    items = Run.open(run).read_items("traps").to_pandas()
    decoys = items[items["arm"] == "decoy"].reset_index(drop=True)
    rng = np.random.default_rng(0)
    arm_p, family, rank_p, confounded, high = [], [], [], 0, []
    for redraw in range(arguments.redraws):
        deal = redealt(decoys, members=5, reps=(1, 4, 16), rng=rng)
        plan = replace(DetectionPlan(), n_draws=499, seed=redraw)
        arms = detect.arms(deal, ["ratio"], plan=plan)
        arm_p.append(arms[0].p_value.value)
        family.append(min(arm.p_holm for arm in arms) <= plan.alpha)
        ranks = detect.rank_p_values(deal, "ratio")
        rank_p.append(rng.choice(ranks[~np.isnan(ranks)]))
        high.append([(arm.auc.low or 0) <= 0.5 <= (arm.auc.high or 1) for arm in arms])
        confounded += detect.blind(deal, plan=plan).confounded
    n = arguments.redraws
    low, up = binom.interval(0.99, n, 0.05)
    print(f"{len(decoys)} decoys of {run}, {n} re-deals, 15 false members in each stratum\n")
    print("| Quantity | Found | Expected |")
    print("|---|---|---|")
    print(f"| arm test, p <= 0.05 | {sum(p <= 0.05 for p in arm_p)} of {n} | {low:.0f} to {up:.0f} |")
    print(f"| arm p uniform, KS p-value | {kstest(arm_p, 'uniform').pvalue:.3f} | above 0.01 |")
    print(f"| any arm found after Holm | {sum(family)} of {n} | at most {up:.0f} |")
    print(f"| rank p <= 0.05, one trap a deal | {sum(p <= 0.05 for p in rank_p)} of {n} | at most {up:.0f} |")
    print(f"| AUC interval covers 0.5 | {np.mean(high):.3f} | 0.93 to 0.97 |")
    print(f"| called confounded | {confounded} of {n} | about 2% |")
    unlike_strata(100)
    few_decoys(2_000)


if __name__ == "__main__":
    main()
