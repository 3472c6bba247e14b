"""Measures what `audit.stats` promises, on simulated data whose truth is known, and prints it as Markdown.

    python -m tests.benchmarks.calibrate_stats [--draws 2000] [--only TEXT]

Every case is a function of one generator that makes one data set and says whether the event happened: a test
rejected a true null at 5%, or a 95% interval contained the truth. The tests in tests/stats run the same cases.
"""

from __future__ import annotations

import argparse
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from scipy.stats import binom, binomtest, ks_2samp, norm

from audit.stats.auc import auc_difference_paired, roc_auc, stratified_auc
from audit.stats.bootstrap import bootstrap
from audit.stats.combine import fisher, harmonic_mean
from audit.stats.conformal import conformal_threshold, conformal_thresholds_by_group
from audit.stats.estimate import Estimate, PValue
from audit.stats.ks import ks_two_sample
from audit.stats.multiplicity import benjamini_hochberg, holm
from audit.stats.permutation import permutation_two_sample, rank_p_value, rank_p_values, sign_test
from audit.stats.proportion import clopper_pearson, difference, wilson
from audit.stats.stratified import stratified_permutation, stratified_permutation_max
from audit.stats.tpr import tpr_at_fpr

Rng = np.random.Generator
ALPHA, LEVEL = 0.05, 0.95


@dataclass(frozen=True, slots=True)
class Case:
    """One promise and a way to try it once.

    Attributes:
        function: What is tried.
        design: Data and settings.
        event: Makes a data set and says whether the event happened.
        low: Lowest rate of the event that keeps the promise.
        high: Highest rate that keeps the promise.
        noise: The bounds are of the true rate: a measured one passes inside their binomial 99% range.
        slow: Left to the slow tests.
    """

    function: str
    design: str
    event: Callable[[Rng], bool]
    low: float
    high: float
    noise: bool
    slow: bool = False

    def measure(self, draws: int) -> int:
        """Number of events in ``draws`` data sets; the seed is the case's own name."""
        rng = np.random.default_rng(zlib.crc32(f"{self.function} {self.design}".encode()))
        return sum(self.event(rng) for _ in range(draws))

    def accepted(self, draws: int, *, at_once: int = 1) -> tuple[float, float]:
        """Lowest and highest measured rate that pass; 99% of runs of ``at_once`` true promises pass as a whole."""
        if not self.noise:
            return self.low, self.high
        tail = 0.005 / at_once
        return float(binom.ppf(tail, draws, self.low)) / draws, float(binom.ppf(1 - tail, draws, self.high)) / draws


def rejects(function: str, design: str, event: Callable[[Rng], bool], level: float = ALPHA, slow: bool = False) -> Case:
    """A test that should reject a true null at this very rate."""
    return Case(function, design, event, level, level, noise=True, slow=slow)


def rejects_at_most(function: str, design: str, event: Callable[[Rng], bool], slow: bool = False) -> Case:
    """A test that is conservative on this design by construction."""
    return Case(function, design, event, 0.0, ALPHA, noise=True, slow=slow)


def covers(function: str, design: str, event: Callable[[Rng], bool], slow: bool = False) -> Case:
    """A 95% interval that should cover in 93-97% of data sets."""
    return Case(function, design, event, LEVEL - 0.02, LEVEL + 0.02, noise=False, slow=slow)


def covers_or_wide(function: str, design: str, event: Callable[[Rng], bool], slow: bool = False) -> Case:
    """A 95% interval known to be wide on this design: 93-100%."""
    return Case(function, design, event, LEVEL - 0.02, 1.0, noise=False, slow=slow)


def covers_at_least(function: str, design: str, event: Callable[[Rng], bool]) -> Case:
    """A 95% interval that is conservative by construction."""
    return Case(function, design, event, LEVEL, 1.0, noise=True)


def inside(estimate: Estimate, truth: float) -> bool:
    return estimate.low is not None and estimate.high is not None and estimate.low <= truth <= estimate.high


# Tests under a true null -----------------------------------------------------------------------------------------


def rank(rng: Rng, n: int, ties: str = "against", digits: int = 12) -> bool:
    scores = rng.normal(size=n + 1).round(digits)
    return rank_p_value(scores[0], scores[1:], ties=ties, rng=rng).value <= ALPHA  # type: ignore[arg-type]


def ranks_shared(rng: Rng) -> bool:
    return bool(rank_p_values(rng.normal(size=1), rng.normal(size=99))[0] <= ALPHA)


def two_sample(rng: Rng, n: int, n_draws: int) -> bool:
    a, b = rng.exponential(size=(2, n))
    return permutation_two_sample(a, b, n_draws=n_draws, rng=rng).value <= ALPHA


def signs(rng: Rng, n: int) -> bool:
    return sign_test(rng.standard_t(1, size=n)).value <= ALPHA


def strata_of(rng: Rng, sizes: tuple[int, ...], members: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """Strata that differ in level, spread and share of members; membership drawn at random within each."""
    strata = np.repeat(np.arange(len(sizes)), sizes)
    scores = 3.0 * strata + (1 + strata) * rng.standard_t(3, size=len(strata))
    member = np.concatenate([rng.permutation(np.arange(m) < k) for m, k in zip(sizes, members, strict=True)])
    return scores, member, strata


def stratified(rng: Rng, sizes: tuple[int, ...], members: tuple[int, ...], n_draws: int, **options: Any) -> bool:
    scores, member, strata = strata_of(rng, sizes, members)
    return stratified_permutation(scores, member, strata, n_draws=n_draws, rng=rng, **options).value <= ALPHA


def family(rng: Rng, effect: float) -> bool:
    """Whether any of two true nulls, correlated with each other and with a third score, is rejected."""
    base, member, strata = strata_of(rng, (20, 30, 12), (10, 6, 6))
    scores = {name: base + 3 * rng.normal(size=len(base)) for name in ("loss", "ratio", "min_k")}
    scores["min_k"] = scores["min_k"] + effect * member
    found = stratified_permutation_max(scores, member, strata, n_draws=199, rng=rng)
    nulls = ("loss", "ratio") if effect else ("loss", "ratio", "min_k")
    return any(found[name].value <= ALPHA for name in nulls)


def ks_null(rng: Rng, n: int) -> bool:
    return ks_two_sample(rng.normal(size=n), rng.normal(size=n))[1].value <= ALPHA


@cache
def ks_level(n: int) -> float:
    """Largest p-value <= 5% that the exact two-sided KS test of n against n can give."""
    grid = np.arange(n, dtype=float)
    attained = [float(ks_2samp(grid, grid + gap - 0.5, method="exact").pvalue) for gap in range(1, n + 1)]
    return max(p for p in attained if p <= ALPHA)


def continuous(values: Any) -> list[PValue]:
    return [PValue(float(p), 1e-300, 1, "simulated") for p in values]


def fishers(rng: Rng, k: int) -> bool:
    return fisher(continuous(rng.random(k))).value <= ALPHA


@cache
def crowded_rows(k: int, share: float, n: int = 3000) -> Any:
    """P-values in (0, share], n rows of k columns, each column uniform, with sums of 1/p as equal as can be.

    The rearrangement algorithm of Embrechts, Puccetti & Rueschendorf (2013): the dependence under which a
    harmonic mean is small most often.
    """
    rows = np.tile(n / (share * (np.arange(n) + 0.5)), (k, 1)).T  # 1/p
    rng = np.random.default_rng(0)
    rows = rng.permuted(rows, axis=0)
    for column in list(range(k)) * 30:
        others = rows.sum(axis=1) - rows[:, column]
        rows[np.argsort(others), column] = np.sort(rows[:, column])[::-1]
    return 1 / rows


def harmonic(rng: Rng, k: int, calibration: str, dependence: str, share: float = 0.0) -> bool:
    if dependence == "independent":
        p = rng.random(k)
    elif dependence == "equal":
        p = np.full(k, rng.random())
    elif rng.random() < share:
        rows = crowded_rows(k, share)
        p = rng.choice(rows) + share / len(rows) * rng.uniform(-0.5, 0.5, k)
    else:
        p = np.full(k, rng.uniform(share, 1))
    return harmonic_mean(continuous(p), calibration=calibration).value <= ALPHA  # type: ignore[arg-type]


def any_adjusted(rng: Rng, adjust: Callable[[Any], Any], m: int) -> bool:
    return bool(adjust(rng.random(m)).min() <= ALPHA)


def conformal_flags(rng: Rng, n: int) -> bool:
    return bool(rng.normal() > conformal_threshold(rng.normal(size=n), alpha=ALPHA).threshold)


def mondrian_flags(rng: Rng) -> bool:
    groups = np.repeat(["short", "long"], [99, 199])
    scores = np.where(groups == "short", 5.0, 0.0) + rng.normal(size=len(groups))
    found = conformal_thresholds_by_group(scores, groups.tolist(), alpha=ALPHA)
    return bool(rng.normal() > found["long"].threshold)


# Intervals -------------------------------------------------------------------------------------------------------


def auc_normal(rng: Rng, n1: int, n0: int, auc: float) -> bool:
    return inside(roc_auc(rng.normal(math.sqrt(2) * norm.ppf(auc), 1, n1), rng.normal(size=n0)), auc)


def auc_five_levels(rng: Rng, n: int) -> bool:
    p1, p0 = np.array([0.1, 0.15, 0.2, 0.25, 0.3]), np.full(5, 0.2)
    truth = float(np.sum(p1[:, None] * p0 * (np.tri(5, 5, -1) + 0.5 * np.eye(5))))
    return inside(roc_auc(rng.choice(5, n, p=p1), rng.choice(5, n, p=p0)), truth)


def auc_strata(rng: Rng, sizes: tuple[tuple[int, int], ...]) -> bool:
    """Exponential scores, skewed the other way in every second stratum, members shifted to an AUC of 0.6 in each."""
    member = np.concatenate([np.arange(n1 + n0) < n1 for n1, n0 in sizes])
    strata = np.repeat(np.arange(len(sizes)), [n1 + n0 for n1, n0 in sizes])
    sign = np.where(strata % 2, -1.0, 1.0)
    values = sign * rng.exponential(size=len(member)) - math.log(0.8) * member  # P = 1 - exp(log 0.8) / 2
    return inside(stratified_auc(values, member, strata.tolist()), 0.6)


def proportions_differ(rng: Rng, n: tuple[int, int], rates: tuple[float, float]) -> bool:
    found = difference(*(wilson(int(rng.binomial(size, rate)), size) for size, rate in zip(n, rates, strict=True)))
    return inside(found, rates[0] - rates[1])


def auc_paired(rng: Rng, n: int, auc_a: float, auc_b: float) -> bool:
    shift = math.sqrt(2) * norm.ppf([auc_a, auc_b])
    mix = np.array([[1.0, 0.0], [0.6, 0.8]])  # correlation 0.6
    positive, negative = rng.normal(size=(n, 2)) @ mix.T + shift, rng.normal(size=(n, 2)) @ mix.T
    found = auc_difference_paired(positive[:, 0], negative[:, 0], positive[:, 1], negative[:, 1])
    return inside(found, auc_a - auc_b)


def tpr_normal(rng: Rng, n1: int, n0: int, fpr: float, shift: float) -> bool:
    found = tpr_at_fpr(rng.normal(shift, 1, n1), rng.normal(size=n0), fpr=fpr)
    return inside(found, float(norm.sf(norm.isf(fpr) - shift)))


def tpr_few_far(rng: Rng, n: int, fpr: float, share: float, decimals: int) -> bool:
    """A share of the positives far above all else, the others like negatives; rounding makes ties."""
    step = 10.0**-decimals
    grid = np.arange(-8, 8, step)
    cut = grid[np.argmax(norm.sf(grid + step / 2) <= fpr)]  # smallest rounded score with at most fpr above it
    truth = share + (1 - share) * float(norm.sf(cut + step / 2))
    positive = np.where(rng.random(n) < share, 50.0, rng.normal(size=n))
    return inside(tpr_at_fpr(positive.round(decimals), rng.normal(size=n).round(decimals), fpr=fpr), truth)


def tpr_rival(rng: Rng, rival: str, n: int, shift: float) -> bool:
    """Intervals of TPR at FPR 1% that were not chosen; the point estimate is the same."""
    positive, negative = rng.normal(shift, 1, n), np.sort(rng.normal(size=n))
    truth = float(norm.sf(norm.isf(0.01) - shift))
    place = n - 1 - math.floor(0.01 * n + 1e-9)
    if rival == "known threshold":
        return inside(wilson(int(np.sum(positive > negative[place])), n), truth)
    pick = partial(rng.integers, 0, n, (500, n))
    thresholds = np.sort(negative[pick()], axis=1)[:, place]
    flagged = np.sum(positive[pick()] > thresholds[:, None], axis=1)
    if rival == "percentile":
        low, high = np.quantile(flagged / n, [0.025, 0.975])
        return bool(low <= truth <= high)
    z = float(norm.isf(0.025))  # BTII: Agresti-Coull estimate in each draw, normal interval around their mean
    adjusted = (flagged + z * z / 2) / (n + z * z)
    return bool(abs(truth - adjusted.mean()) <= z * adjusted.std(ddof=1))


@cache
def proportion(function: Callable[..., Estimate], k: int, n: int) -> Estimate:
    return function(k, n)


def proportion_covers(rng: Rng, function: Callable[..., Estimate], n: int, rate: float | None) -> bool:
    rate = float(rng.random()) if rate is None else rate
    return inside(proportion(function, int(rng.binomial(n, rate)), n), rate)


def ks_distance(rng: Rng, shift: float) -> bool:
    found, _ = ks_two_sample(rng.normal(size=100), rng.normal(shift, 1, 100))
    return inside(found, 2 * float(norm.cdf(shift / 2)) - 1)


def conformal_rate(rng: Rng, n: int) -> bool:
    found = conformal_threshold(rng.normal(size=n), alpha=ALPHA)
    return bool(found.beta_low <= norm.sf(found.threshold) <= found.beta_high)


def mean_of(x: Any, axis: int = -1) -> Any:
    return x.mean(axis=axis)


def difference_of(x: Any, y: Any, axis: int = -1) -> Any:
    return x.mean(axis=axis) - y.mean(axis=axis)


def boot_mean(rng: Rng, n: int, method: str, skewed: bool) -> bool:
    sample = rng.exponential(size=n) if skewed else rng.normal(1, 1, n)
    return inside(bootstrap(mean_of, sample, method=method, n_draws=500, rng=rng), 1.0)  # type: ignore[arg-type]


def boot_difference(rng: Rng, n: int, paired: bool, method: str) -> bool:
    shared = rng.normal(size=n)
    a = shared + rng.normal(1, 0.5, n)
    b = (shared if paired else rng.normal(size=n)) + rng.normal(0, 0.5, n)
    found = bootstrap(difference_of, a, b, paired=paired, method=method, n_draws=500, rng=rng)  # type: ignore[arg-type]
    return inside(found, 1.0)


def boot_strata(rng: Rng, method: str, strata: int, size: int) -> bool:
    labels = np.repeat(np.arange(strata), size)
    sample = 5.0 * labels + rng.normal(size=strata * size)
    found = bootstrap(mean_of, sample, strata=labels, method=method, n_draws=500, rng=rng)  # type: ignore[arg-type]
    return inside(found, 5.0 * (strata - 1) / 2)


def boot_clusters(rng: Rng, method: str, clusters: int, aware: bool = True) -> bool:
    labels = np.repeat(np.arange(clusters), 4)
    sample = np.repeat(rng.normal(size=clusters), 4) + rng.normal(size=4 * clusters)
    options: dict[str, Any] = {"clusters": labels} if aware else {}
    return inside(bootstrap(mean_of, sample, method=method, n_draws=500, rng=rng, **options), 0.0)  # type: ignore[arg-type]


RANK, PERMUTE, STRATA, HARMONIC = "rank_p_value", "permutation_two_sample", "stratified_permutation", "harmonic_mean"
UNLIKE = partial(stratified, sizes=(20, 30, 12), members=(10, 6, 6), n_draws=199)
GUARANTEED = partial(harmonic, k=10, calibration="guaranteed")
WILSON = partial(harmonic, calibration="independent")
TESTS = (
    rejects(RANK, "19 controls", partial(rank, n=19)),
    rejects(RANK, "99 controls, 1 decimal, ties random", partial(rank, n=99, ties="random", digits=1)),
    rejects_at_most(RANK, "99 controls, 1 decimal, ties against", partial(rank, n=99, digits=1)),
    rejects("rank_p_values", "99 controls", ranks_shared),
    rejects(
        PERMUTE, "5 + 5 exponential, all 252 assignments", partial(two_sample, n=5, n_draws=999), 12 / 252, slow=True
    ),
    rejects(PERMUTE, "30 + 30 exponential, 199 draws", partial(two_sample, n=30, n_draws=199)),
    rejects("sign_test", "13 pairs", partial(signs, n=13), float(binomtest(10, 13, alternative="greater").pvalue)),
    rejects(
        STRATA, "2 strata of 6, all 400 assignments", partial(stratified, sizes=(6, 6), members=(3, 3), n_draws=400)
    ),
    rejects(STRATA, "strata of 20, 30, 12, unlike, 199 redraws", UNLIKE),
    rejects(STRATA, "the same, two-sided", partial(UNLIKE, alternative="two-sided"), slow=True),
    rejects_at_most(STRATA, "the same, ranks (tied sums)", partial(UNLIKE, statistic="rank"), slow=True),
    rejects(f"{STRATA}_max", "3 correlated scores, all null: any rejected", partial(family, effect=0.0)),
    rejects_at_most(f"{STRATA}_max", "1 of 3 has an effect: a null rejected", partial(family, effect=8.0)),
    rejects("ks_two_sample", "50 + 50, exact", partial(ks_null, n=50), ks_level(50)),
    rejects("fisher", "5 independent", partial(fishers, k=5)),
    rejects(HARMONIC, "independent calibration, K = 10", partial(WILSON, k=10, dependence="independent")),
    rejects(HARMONIC, "independent calibration, K = 100", partial(WILSON, k=100, dependence="independent")),
    rejects_at_most(HARMONIC, "guaranteed, K = 10 independent", partial(GUARANTEED, dependence="independent")),
    rejects_at_most(HARMONIC, "guaranteed, K = 10 equal", partial(GUARANTEED, dependence="equal")),
    rejects_at_most(HARMONIC, "guaranteed, K = 10, worst case", partial(GUARANTEED, dependence="worst", share=0.049)),
    rejects(
        "holm", "20 independent: any rejected", partial(any_adjusted, adjust=holm, m=20), 1 - (1 - ALPHA / 20) ** 20
    ),
    rejects("benjamini_hochberg", "20 independent: any", partial(any_adjusted, adjust=benjamini_hochberg, m=20)),
    rejects("conformal_threshold", "99 scores, alpha 5%: new score flagged", partial(conformal_flags, n=99)),
    rejects("conformal_thresholds_by_group", "99 and 199 scores: new score of the second", mondrian_flags),
)
AUC, DIFFERENCE, TPR, BOOT = "roc_auc", "auc_difference_paired", "tpr_at_fpr", "bootstrap"
STRATA, GAP = "stratified_auc", "difference"
AUCS = partial(auc_normal, n1=100, n0=100)
PAIRS = partial(auc_paired, n=100)
TPR_10, TPR_1 = partial(tpr_normal, fpr=0.1), partial(tpr_normal, fpr=0.01)
FEW_FAR = partial(tpr_few_far, n=500)
CLOPPER = partial(proportion_covers, function=clopper_pearson)
SCORE = partial(proportion_covers, function=wilson)
PERCENTILE: dict[str, Any] = {"method": "percentile"}
BCA: dict[str, Any] = {"method": "bca"}
INTERVALS = (
    covers(AUC, "100 + 100 normal, AUC 0.5", partial(AUCS, auc=0.5)),
    covers(AUC, "100 + 100 normal, AUC 0.75", partial(AUCS, auc=0.75)),
    covers(AUC, "100 + 100 normal, AUC 0.95", partial(AUCS, auc=0.95)),
    covers(AUC, "500 + 100 normal, AUC 0.75", partial(AUCS, n1=500, auc=0.75), slow=True),
    covers(AUC, "20 + 20 normal, AUC 0.5", partial(AUCS, n1=20, n0=20, auc=0.5), slow=True),
    covers(AUC, "20 + 20 normal, AUC 0.75", partial(AUCS, n1=20, n0=20, auc=0.75), slow=True),
    covers(AUC, "20 + 20 normal, AUC 0.95", partial(AUCS, n1=20, n0=20, auc=0.95)),
    covers(AUC, "100 + 100 in five levels, AUC 0.625", partial(auc_five_levels, n=100)),
    covers_or_wide(AUC, "50 + 50 normal, AUC 0.999 (mostly the exact bound)", partial(AUCS, n1=50, n0=50, auc=0.999)),
    covers(
        STRATA,
        "shares of 40:200 and 200:100, skewed apart, AUC 0.6",
        partial(auc_strata, sizes=((40, 200), (200, 100))),
    ),
    covers_or_wide(
        STRATA, "30 strata of 1 + 10, skewed apart, AUC 0.6", partial(auc_strata, sizes=((1, 10),) * 30), slow=True
    ),
    covers(STRATA, "6 strata of 10 + 99, skewed apart, AUC 0.6", partial(auc_strata, sizes=((10, 99),) * 6), slow=True),
    covers(STRATA, "10 + 200, AUC 0.6", partial(auc_strata, sizes=((10, 200),)), slow=True),
    covers_at_least(STRATA, "5 + 200, AUC 0.6 (Hoeffding)", partial(auc_strata, sizes=((5, 200),))),
    covers(DIFFERENCE, "100 texts a side, 0.75 and 0.75", partial(PAIRS, auc_a=0.75, auc_b=0.75), slow=True),
    covers(DIFFERENCE, "100 texts a side, 0.90 and 0.75", partial(PAIRS, auc_a=0.9, auc_b=0.75)),
    covers(DIFFERENCE, "100 texts a side, 0.98 and 0.95", partial(PAIRS, auc_a=0.98, auc_b=0.95), slow=True),
    covers(TPR, "FPR 10%, 500 + 500, TPR 0.39", partial(TPR_10, n1=500, n0=500, shift=1), slow=True),
    covers_or_wide(TPR, "FPR 10%, 100 + 100, TPR 0.39", partial(TPR_10, n1=100, n0=100, shift=1), slow=True),
    covers_or_wide(TPR, "FPR 10%, 100 + 100, TPR 0.76", partial(TPR_10, n1=100, n0=100, shift=2), slow=True),
    covers_or_wide(TPR, "FPR 10%, 100 + 100, TPR 0.997", partial(TPR_10, n1=100, n0=100, shift=4), slow=True),
    covers(TPR, "FPR 1%, 1,000 + 1,000, TPR 0.09", partial(TPR_1, n1=1000, n0=1000, shift=1)),
    covers(TPR, "FPR 1%, 500 + 500, TPR 0.57", partial(TPR_1, n1=500, n0=500, shift=2.5), slow=True),
    covers_or_wide(TPR, "FPR 1%, 500 + 500, TPR 0.01 (null)", partial(TPR_1, n1=500, n0=500, shift=0), slow=True),
    covers_or_wide(TPR, "FPR 1%, 200 + 200, TPR 0.09", partial(TPR_1, n1=200, n0=200, shift=1), slow=True),
    covers_or_wide(TPR, "FPR 1%, 100 + 100, TPR 0.37", partial(TPR_1, n1=100, n0=100, shift=2)),
    covers_or_wide(TPR, "FPR 1%, 2,000 + 100, TPR 0.09", partial(TPR_1, n1=2000, n0=100, shift=1), slow=True),
    covers_or_wide(
        TPR, "FPR 0.1%, 1,000 + 1,000, TPR 0.14", partial(tpr_normal, n1=1000, n0=1000, fpr=0.001, shift=2), slow=True
    ),
    covers(TPR, "FPR 1%, 500 + 500, 10% far above", partial(FEW_FAR, fpr=0.01, share=0.1, decimals=3), slow=True),
    covers(
        TPR,
        "FPR 10%, 500 + 500, 30% far above, whole numbers",
        partial(FEW_FAR, fpr=0.1, share=0.3, decimals=0),
        slow=True,
    ),
    covers("wilson", "n = 100, rate 0.1", partial(SCORE, n=100, rate=0.1)),
    covers("wilson", "n = 100, rate 0.5", partial(SCORE, n=100, rate=0.5)),
    covers("wilson", "n = 20, rate uniform on (0, 1)", partial(SCORE, n=20, rate=None)),
    covers(GAP, "500 at 0.3, 500 at 0.01", partial(proportions_differ, n=(500, 500), rates=(0.3, 0.01))),
    covers(GAP, "200 at 0.02, 1,000 at 0.01", partial(proportions_differ, n=(200, 1000), rates=(0.02, 0.01))),
    covers_at_least("clopper_pearson", "n = 20, rate 0.3", partial(CLOPPER, n=20, rate=0.3)),
    covers_at_least("clopper_pearson", "n = 100, rate 0.01", partial(CLOPPER, n=100, rate=0.01)),
    covers_at_least("clopper_pearson", "n = 1,000, rate 0.02", partial(CLOPPER, n=1000, rate=0.02)),
    covers_at_least("ks_two_sample", "distance 0.38, 100 + 100, DKW band", partial(ks_distance, shift=1.0)),
    covers("conformal_threshold", "99 scores: Beta interval of the rate", partial(conformal_rate, n=99)),
    covers(BOOT, "mean of 50 normal, percentile", partial(boot_mean, n=50, skewed=False, **PERCENTILE), slow=True),
    covers(BOOT, "mean of 50 normal, BCa", partial(boot_mean, n=50, skewed=False, **BCA)),
    covers(BOOT, "mean of 100 exponential, BCa", partial(boot_mean, n=100, skewed=True, **BCA), slow=True),
    covers(BOOT, "mean difference, 50 pairs, percentile", partial(boot_difference, n=50, paired=True, **PERCENTILE)),
    covers(
        BOOT,
        "mean difference, 50 + 50, percentile",
        partial(boot_difference, n=50, paired=False, **PERCENTILE),
        slow=True,
    ),
    covers(BOOT, "mean difference, 50 + 50, BCa", partial(boot_difference, n=50, paired=False, **BCA), slow=True),
    covers(BOOT, "mean, 4 strata of 30, percentile", partial(boot_strata, strata=4, size=30, **PERCENTILE)),
    covers(BOOT, "mean, 4 strata of 30, BCa", partial(boot_strata, strata=4, size=30, **BCA), slow=True),
    covers(BOOT, "mean, 50 clusters of 4, percentile", partial(boot_clusters, clusters=50, **PERCENTILE)),
    covers(BOOT, "mean, 50 clusters of 4, BCa", partial(boot_clusters, clusters=50, **BCA), slow=True),
)
CAUTIONS = (
    covers(BOOT, "mean, 20 strata of 4, percentile", partial(boot_strata, strata=20, size=4, **PERCENTILE)),
    covers(BOOT, "mean, 10 clusters of 4, percentile", partial(boot_clusters, clusters=10, **PERCENTILE)),
    covers(
        BOOT, "mean, 50 clusters of 4, rows resampled", partial(boot_clusters, clusters=50, aware=False, **PERCENTILE)
    ),
    covers(BOOT, "mean of 20 exponential, percentile", partial(boot_mean, n=20, skewed=True, **PERCENTILE)),
    covers(DIFFERENCE, "30 texts a side, 0.99 and 0.98", partial(PAIRS, n=30, auc_a=0.99, auc_b=0.98)),
    covers("(rival)", "TPR, FPR 1%, 100 + 100, BTII", partial(tpr_rival, rival="BTII", n=100, shift=2)),
    covers("(rival)", "TPR, FPR 1%, 500 + 500, BTII", partial(tpr_rival, rival="BTII", n=500, shift=2.5)),
    covers("(rival)", "TPR, FPR 1%, 100 + 100, percentile", partial(tpr_rival, rival="percentile", n=100, shift=2)),
    covers("(rival)", "TPR, FPR 1%, 500 + 500, percentile", partial(tpr_rival, rival="percentile", n=500, shift=2.5)),
    covers("(rival)", "TPR, FPR 1%, 100 + 100, Wilson", partial(tpr_rival, rival="known threshold", n=100, shift=2)),
    covers("(rival)", "TPR, FPR 1%, 500 + 500, Wilson", partial(tpr_rival, rival="known threshold", n=500, shift=2.5)),
    covers("wilson", "n = 100, rate 0.0017", partial(SCORE, n=100, rate=0.0017)),
    rejects(
        HARMONIC, "independent calibration, K = 10, worst case", partial(WILSON, k=10, dependence="worst", share=0.17)
    ),
)


def markdown(title: str, cases: tuple[Case, ...], draws: int) -> str:
    """A table of one line per case."""
    lines = [f"### {title}", "", "| Function | Design | Accepted | Measured | |", "|---|---|---|---|---|"]
    for case in cases:
        low, high = case.accepted(draws)
        rate = case.measure(draws) / draws
        verdict = "" if low <= rate <= high else "**outside**"
        lines.append(f"| `{case.function}` | {case.design} | {low:.1%} to {high:.1%} | {rate:.1%} | {verdict} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000, help="data sets for each case")
    parser.add_argument("--only", default="", help="only functions whose name contains this")
    arguments = parser.parse_args()
    for title, cases in (
        ("Tests: rate of rejection of a true null at 5%", TESTS),
        ("Intervals: coverage at 95%", INTERVALS),
        ("Where it does not hold", CAUTIONS),
    ):
        chosen = tuple(case for case in cases if arguments.only in case.function)
        if chosen:
            print(markdown(f"{title}, {arguments.draws:,} data sets each", chosen, arguments.draws), end="\n\n")


if __name__ == "__main__":
    main()
