"""Dataset inference and the verdict on found texts where the truth is known: nothing to find, and a planted shift.

    python -m tests.benchmarks.calibrate_inference [--draws 4000] [--sets 1000] [--deals 100]

First with simulated features, whose two sets are IID by construction; then with the tiny testbed's documents, dealt at
random into "suspect" and "validation" although both its models saw all of them alike.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pandas as pd
from scipy.stats import binom, kstest, norm

from audit.lm.load import load
from audit.lm.subject import Subject
from audit.membership.config import MembershipPlan
from audit.membership.found import blind, compare, dataset_inference, judge
from audit.membership.inference import DECISION, infer, null_p_values, p_values, twice_the_median
from audit.membership.score import score_texts
from audit.testbed.planted import build

Floats = np.ndarray
Draw = Callable[[int, np.random.Generator], Floats]
FEATURES, SPLITS = 5, 25
MIXING = np.linalg.cholesky(0.3 * np.eye(FEATURES) + 0.7)  # scores of one text go together: correlation 0.7


def normal(n: int, rng: np.random.Generator) -> Floats:
    return rng.normal(size=(n, FEATURES)) @ MIXING.T


def heavy(n: int, rng: np.random.Generator) -> Floats:
    """Student t with 2 degrees of freedom has no variance."""
    return rng.standard_t(2, size=(n, FEATURES)) @ MIXING.T


def skewed(n: int, rng: np.random.Generator) -> Floats:
    return np.exp(normal(n, rng))


KINDS: dict[str, Draw] = {"normal": normal, "heavy tails (t, 2 df)": heavy, "skewed (lognormal)": skewed}
SIZES = ((20, 20), (100, 100), (500, 500), (50, 400))


def accepted(n: int, rate: float) -> str:
    low, high = binom.interval(0.99, n, rate)
    return f"{low / n:.1%} to {high / n:.1%}"


def single_split(draws: int) -> None:
    print(f"Single split, {draws:,} pairs of sets without any difference\n")
    print("| Features | Suspect, validation | p <= 0.1 | p <= 0.05 | p <= 0.01 | uniform, KS p |")
    print("|---|---|---|---|---|---|")
    for name, draw in KINDS.items():
        for sizes in SIZES:
            rng = np.random.default_rng(1)

            def pair(
                draw: Draw = draw, sizes: tuple[int, int] = sizes, rng: np.random.Generator = rng
            ) -> tuple[Floats, Floats]:
                return draw(sizes[0], rng), draw(sizes[1], rng)

            p = p_values(pair, draws, rng=rng)
            shares = " | ".join(f"{(p <= level).mean():.1%}" for level in (0.1, 0.05, 0.01))
            print(f"| {name} | {sizes[0]}, {sizes[1]} | {shares} | {kstest(p, 'uniform').pvalue:.3f} |", flush=True)
    print(f"\nexpected (99%): {', '.join(accepted(draws, level) for level in (0.1, 0.05, 0.01))}\n")


def aggregated(sets: int) -> None:
    print(
        f"Twice the median of 25 splits, {sets:,} pairs of 100 + 100 texts; shift in standard deviations of a score\n"
    )
    print("| Features | Shift | one split, p < 0.1 | twice the median, p < 0.1 | p <= 0.05 | p <= 0.01 |")
    print("|---|---|---|---|---|---|")
    for name, draw, shift in (
        *((name, draw, 0.0) for name, draw in KINDS.items()),
        *(("normal", normal, shift) for shift in (0.1, 0.2, 0.3, 0.5)),
    ):
        rng = np.random.default_rng(2)

        def pairs(
            draw: Draw = draw, shift: float = shift, rng: np.random.Generator = rng
        ) -> Iterator[tuple[Floats, Floats]]:
            for _ in range(sets):
                yield from [(draw(100, rng) + shift, draw(100, rng))] * SPLITS

        p = p_values(partial(next, pairs()), sets * SPLITS, rng=rng).reshape(sets, SPLITS)
        one = p[:, 0] < DECISION
        together = np.array([twice_the_median(row, n=200).value for row in p])
        shares = (
            f"{(together < DECISION).mean():.1%} | {(together <= 0.05).mean():.1%} | {(together <= 0.01).mean():.1%}"
        )
        print(f"| {name} | {shift:g} | {one.mean():.1%} | {shares} |", flush=True)
    print()


def false_positive_check(sets: int) -> None:
    print("The check of the validation set against itself, 200 splits each\n")
    print("| Features | Validation texts | mean share with p < 0.1 | spread between sets | binomial spread | refused |")
    print("|---|---|---|---|---|---|")
    for name, draw in KINDS.items():
        for n in (20, 100):
            rng = np.random.default_rng(3)
            shares, refused = [], 0
            for seed in range(sets):
                found = infer(draw(n, rng), draw(n, rng), n_splits=1, n_checks=200, seed=seed)
                shares.append(found.false_positives.value)
                refused += found.p_value is None
            values = np.array(shares, dtype=float)
            spread = np.sqrt(0.09 / 200)
            print(
                f"| {name} | {n} | {values.mean():.1%} | {values.std():.3f} | {spread:.3f} | {refused} of {sets} |",
                flush=True,
            )
    print()


def clustered(sets: int) -> None:
    """What the check cannot see: each set is ten works of ten alike texts, all drawn from one distribution."""
    rng = np.random.default_rng(4)

    def works() -> Floats:
        return np.repeat(normal(10, rng), 10, axis=0) + 0.3 * normal(100, rng)

    p = p_values(lambda: (works(), works()), sets, rng=rng)
    checked = np.mean([(null_p_values(works(), n_checks=100, rng=rng) < DECISION).mean() for _ in range(20)])
    print(
        f"ten works of ten alike texts a side, nothing to find: p < 0.1 in {(p < DECISION).mean():.1%} of {sets:,} "
        f"single splits; the false-positive check sees {checked:.1%}\n"
    )


def verdicts(deals: int) -> None:
    """Documents that both models saw alike, dealt at random: no difference, so hardly ever a word."""
    testbed = build("tiny", models=("reference", "subject"), device="cpu")
    texts = [document.text for document in testbed.world.documents_of("train")][:200]
    names = [str(number) for number in range(len(texts))]
    items = pd.DataFrame({"text": texts, "n_characters": [len(text) for text in texts]})
    for role in ("subject", "reference"):
        scores = score_texts(load(Subject(str(testbed.models[role]), device="cpu")), texts, ids=names)
        prefix = "" if role == "subject" else "reference_"
        items[f"{prefix}loss"] = scores.loss
        for score in ("min_k", "min_k_plus_plus", "zlib"):
            items[f"{prefix}{score}" + ("_score" if role == "subject" else "")] = getattr(scores, score)
    items["loss_score"], items["ratio_score"] = -items["loss"], items["reference_loss"] - items["loss"]
    own = [name for name in items if name.endswith("_score")]
    controls = [name for name in items if name.startswith("reference_")]
    rng, said, below, half = np.random.default_rng(5), Counter[str](), 0, len(texts) // 2
    for deal in range(deals):
        items["side"] = np.where(rng.permutation(len(texts)) < half, "suspect", "validation")
        plan = MembershipPlan(seed=deal, n_checks=100)
        checks = blind(items, plan=plan, control=dataset_inference(items, controls, plan=plan))
        said[judge(compare(items, ["ratio"], level=plan.level)[0], checks)[0]] += 1
        below += bool(dataset_inference(items, own, plan=plan).below)
    print(f"{len(texts)} documents of the tiny testbed that both models saw, dealt at random {deals} times\n")
    print("| Said | Times |")
    print("|---|---|")
    for verdict in ("information", "confounded", "inconclusive"):
        print(f"| {verdict} | {said[verdict]} of {deals} |")
    print(f"| dataset inference, p < 0.1 | {below} of {deals} |")
    print(
        f"\nthree checks at 99% leave out 0.5 in at most about 3%; an AUC at 95% lies above it in {norm.sf(1.96):.1%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=4_000)
    parser.add_argument("--sets", type=int, default=1_000)
    parser.add_argument("--deals", type=int, default=100)
    arguments = parser.parse_args()
    single_split(arguments.draws)
    aggregated(arguments.sets)
    false_positive_check(max(20, arguments.sets // 10))
    clustered(arguments.sets)
    verdicts(arguments.deals)


if __name__ == "__main__":
    main()
