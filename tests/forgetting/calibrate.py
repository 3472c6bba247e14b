"""How often the intervals and tests of `audit.forgetting` are right, on simulated passages whose truth is known.

    python -m tests.forgetting.calibrate [--draws 400] [--part gaps]

Prints the tables of docs/methods/forgetting.md. Each passage has four prompts and an effect of its own, which is partly
the same for all models. The seed of each cell is the checksum of its name.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from scipy.special import expit

from audit.forgetting.gap import beyond_placebo, forget_quality, gap_closed
from audit.forgetting.measured import Measured, difference
from audit.stats.checks import Floats
from audit.stats.estimate import Estimate

PER_PASSAGE = 4
SIZES = (10, 20, 50)
Scene = Callable[[np.random.Generator, int], list[Floats]]


def measured(values: Floats, passages: str = "p") -> Measured:
    """Values of shape (passages, prompts)."""
    n, m = values.shape
    places = [f"{passages}{i}" for i in range(n) for _ in range(m)]
    return Measured("m", tuple(f"{place}-{i % m}" for i, place in enumerate(places)), tuple(places), values.ravel())


def even(rng: np.random.Generator, n: int) -> list[Floats]:
    """Normal values with means 1, 0.2 and 0: most of a passage's effect is the same for all three models. G = 0.8."""
    shared = rng.normal(0, 0.3, (n, 1))
    return [
        mean + shared + rng.normal(0, 0.1, (n, 1)) + rng.normal(0, 0.2, (n, PER_PASSAGE)) for mean in (1.0, 0.2, 0.0)
    ]


def skewed(rng: np.random.Generator, n: int) -> list[Floats]:
    """Probabilities that are near 0 in most passages and near 1 in some, as those of names are."""
    shared = rng.normal(0, 1.5, (n, 1))
    return [expit(mean + shared + rng.normal(0, 1.5, (n, PER_PASSAGE))) for mean in (-0.5, -3.0, -5.0)]


def weak(rng: np.random.Generator, n: int) -> list[Floats]:
    """As `even`, with a gap as large as a passage's own spread: often none is found. G = 0.5."""
    return [mean + rng.normal(0, 0.7, (n, 1)) + rng.normal(0, 0.2, (n, PER_PASSAGE)) for mean in (1.0, 0.5, 0.0)]


def unchanged(rng: np.random.Generator, n: int) -> list[Floats]:
    """Nothing was unlearned: the unlearned model is drawn as the target is. G = 0."""
    target, _, retrained = skewed(rng, n)
    shared = rng.normal(0, 1.5, (n, 1))
    again = expit(-0.5 + shared + rng.normal(0, 1.5, (n, PER_PASSAGE)))
    return [target, again, retrained]


def no_gap(rng: np.random.Generator, n: int) -> list[Floats]:
    """Target and retrained do not differ: there is no G."""
    shared = rng.normal(0, 0.3, (n, 1))
    return [shared + rng.normal(0, 0.2, (n, 1)) + rng.normal(0, 0.2, (n, PER_PASSAGE)) for _ in range(3)]


SCENES: tuple[Scene, ...] = (even, skewed, weak, unchanged, no_gap)


def rng_of(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def covers(found: Estimate, truth: float) -> bool:
    return found.low is not None and found.high is not None and found.low <= truth <= found.high


def gaps(draws: int) -> Iterator[str]:
    """Coverage of G among those that are defined, and the shares that miss on each side."""
    yield "G: scene, passages, true G; undefined; of the others covered, too low, too high"
    for scene in SCENES:
        means = [float(one.mean()) for one in scene(rng_of("truth"), 400_000)]
        truth = (means[0] - means[1]) / (means[0] - means[2]) if scene is not no_gap else float("nan")
        for n in SIZES:
            rng = rng_of(f"{scene.__name__} {n}")
            kept = [
                (found.low, found.high)
                for _ in range(draws)
                if (found := gap_closed(*map(measured, scene(rng, n)), rng=rng)).low is not None
                and found.high is not None
            ]
            low, high = np.array(kept).reshape(-1, 2).T
            inside = np.mean((low <= truth) & (truth <= high)) if kept else np.nan
            below, above = (np.mean(side) if kept else np.nan for side in (high < truth, low > truth))
            undefined = 1 - len(kept) / draws
            yield (
                f"{scene.__name__:9} {n:3}  G {truth:5.2f}  undefined {undefined:6.1%}  covered {inside:6.1%} "
                f" {below:6.1%} {above:6.1%}"
            )


def differences(draws: int) -> Iterator[str]:
    """Coverage of a paired difference and of one beyond a placebo text, of probabilities."""
    yield "differences of `skewed`: passages; target less unlearned covered; beyond an equal gain on a placebo covers 0"
    target, unlearned, _ = (float(one.mean()) for one in skewed(rng_of("truth"), 400_000))
    for n in SIZES:
        rng = rng_of(f"difference {n}")
        paired, beyond = [], []
        for _ in range(draws):
            t, u, _ = map(measured, skewed(rng, n))
            paired.append(covers(difference(t, u, rng=rng), target - unlearned))
            pt, pu, _ = (measured(one, "q") for one in skewed(rng, n))
            beyond.append(covers(beyond_placebo(t, u, pt, pu, rng=rng), 0.0))
        yield f"{n:3}  {np.mean(paired):6.1%}  {np.mean(beyond):6.1%}"


def qualities(draws: int) -> Iterator[str]:
    """How often the KS test says that two models differ, by how much of a passage's effect they share."""
    yield "forget quality: passages, correlation of two models over passages; p <= 0.05 for equal models, and where one"
    yield "  is shifted by 1 sd; the paired difference's interval leaves out 0 for that shift"
    for n in SIZES:
        for correlation in (0.0, 0.5, 0.9, -0.5):
            rng = rng_of(f"quality {n} {correlation}")
            equal, shifted, paired = [], [], []
            for _ in range(draws):
                first, other, noise = rng.normal(size=n), rng.normal(size=n), rng.normal(0, 0.02, (2, n, PER_PASSAGE))
                second = correlation * first + np.sqrt(1 - correlation**2) * other
                a, b, c = (
                    measured(one[:, None] + part)
                    for one, part in ((first, noise[0]), (second, noise[1]), (second + 1.0, noise[1]))
                )
                equal.append(forget_quality(a, b).p_value.value <= 0.05)
                shifted.append(forget_quality(a, c).p_value.value <= 0.05)
                paired.append(not covers(difference(a, c, rng=rng), 0.0))
            yield f"{n:3}  {correlation:4.1f}  {np.mean(equal):6.1%}  {np.mean(shifted):6.1%}  {np.mean(paired):6.1%}"


PARTS = {"gaps": gaps, "differences": differences, "qualities": qualities}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--part", choices=PARTS, action="append", help="default: all")
    options = parser.parse_args()
    print(f"{options.draws} simulated audits a cell; the seed of each cell is the checksum of its name")
    for name in options.part or PARTS:
        for line in PARTS[name](options.draws):
            print(line, flush=True)
