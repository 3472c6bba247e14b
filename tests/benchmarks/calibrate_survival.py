"""How far the survival simulator and the exact-duplicate equivalent can be trusted, and what they cost.

    python -m tests.benchmarks.calibrate_survival [--megabytes 50] [--audits 400]

Prints the share of near-duplicate pairs that the MinHash filter misses beside what its bands say; the coverage of the
interval of rho on simulated audits whose truth is known; and time and memory of each filter on a corpus of that size.
"""

from __future__ import annotations

import argparse
import math
import resource
import time

import numpy as np
from scipy.stats import norm

from audit.traps.fuzzy.equivalent import exact_duplicate_equivalent, exact_duplicate_equivalent_interval
from audit.traps.survival.minhash import clusters, probability_of_duplicate
from audit.traps.survival.plan import Pipeline, Stage
from audit.traps.survival.survival import Planted, simulate


def missed_pairs(pairs: int) -> None:
    print(f"\n{pairs:,} pairs each, 9 bands of 13 hashes\n\n| Jaccard | missed | by the formula |\n|---|---|---|")
    for own in (10, 24, 35, 50, 75, 100):
        jaccard = 400 / (400 + 2 * own)
        missed = 0
        for pair in range(pairs):
            common = {f"{pair}-{place}" for place in range(400)}
            sets = [{*common, *(f"{pair}-{side}-{place}" for place in range(own))} for side in "xy"]
            missed += clusters(sets, bands=9, rows=13, seed=pair)[1] != 0
        formula = 1 - probability_of_duplicate(jaccard, bands=9, rows=13)
        print(f"| {jaccard:.3f} | {missed / pairs:.1%} | {formula:.1%} |")


def coverage(audits: int) -> None:
    """Normal scores with a level of each trap's own that all models share, so that every true AUC is known."""
    print(f"\n{audits} audits each, 500 draws, 95%\n")
    print("| Traps a side | true rho | mean estimate | covered |\n|---|---|---|---|")
    shifts = 0.35 + 0.9 * np.log(np.arange(1, 11))
    exact_aucs = norm.cdf(shifts / math.sqrt(2))
    rng = np.random.default_rng(0)
    for n in (50, 100, 200):
        for worth in (1.5, 4.0, 7.0):
            fuzzy_shift = float(np.interp(worth, np.arange(1, 11), shifts))
            truth = exact_duplicate_equivalent(exact_aucs, float(norm.cdf(fuzzy_shift / math.sqrt(2))), 10)
            values, hits = [], 0
            for audit in range(audits):
                own, own_decoy = rng.normal(size=n), rng.normal(size=n)
                noise = rng.normal(size=(22, n))
                members = math.sqrt(0.7) * own + math.sqrt(0.3) * noise[:11] + np.append(shifts, fuzzy_shift)[:, None]
                decoys = math.sqrt(0.7) * own_decoy + math.sqrt(0.3) * noise[11:]
                found = exact_duplicate_equivalent_interval(
                    members[:10], decoys[:10], members[10], decoys[10], n_dup=10, n_draws=500, rng=audit
                )
                values.append(found.value)
                hits += found.low is not None and found.high is not None and found.low <= truth <= found.high
            print(f"| {n} | {truth:.3f} | {np.mean([v for v in values if v is not None]):.3f} | {hits / audits:.1%} |")


def cost(megabytes: int) -> None:
    rng = np.random.default_rng(0)
    vocabulary = ["".join(letters) for letters in rng.choice(list("abcdefghijklmnopqrstuvwxyz"), size=(50_000, 5))]
    trap = " ".join(rng.choice(vocabulary, 100))
    n_words = megabytes * 1_000_000 // 6
    places = (rng.zipf(1.3, size=n_words) % len(vocabulary)).reshape(-1)
    words = [vocabulary[place] for place in places]
    texts = [" ".join(words[start : start + 2_000]) for start in range(0, n_words, 2_000)]
    texts = [f"{text} {trap}" if place % 100 == 0 else text for place, text in enumerate(texts)]
    size = sum(map(len, texts)) / 1e6
    print(f"\n{len(texts):,} documents, {size:.0f} million characters\n")
    print("| Filter | seconds | peak GB so far |\n|---|---|---|")
    stages: tuple[Stage, ...] = ("repetition", "minhash", "exact")
    for stage in stages:
        start = time.perf_counter()
        found = simulate(texts, [Planted("trap", trap, False)], Pipeline(stages=(stage,), rounds=1))
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        left = found.stages[0].left["trap"].exact
        print(f"| {stage} ({found.planted['trap'].exact} copies, {left} left) | {seconds:.0f} | {peak:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--audits", type=int, default=400)
    parser.add_argument("--pairs", type=int, default=4_000)
    options = parser.parse_args()
    missed_pairs(options.pairs)
    coverage(options.audits)
    cost(options.megabytes)


if __name__ == "__main__":
    main()
