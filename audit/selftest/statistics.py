"""Statistics: by hand where there is a closed form, else how often they are right in a small simulation.

Counts of a simulation are binomial; intervals are set so that a right statistic falls outside with a chance of at most
1e-6 (``binom`` below), around what theory says of it. A 95% percentile bootstrap of the mean of 40 normal values covers
0.937 (z intervals with s of n = 40: P(|t_39| < 1.96 sqrt(39/40))), so 0.937 is expected and not 0.95.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.stats import binom, norm

from ..stats import auc, bootstrap, conformal, exposure, ks, multiplicity, permutation, proportion, stratified, tpr
from ..stats.estimate import Estimate
from .answers import Instrument, Known, near, refused, same, within

_LUCK = 1e-6


def ask(work: Path) -> Iterator[Known]:
    """Each statistic of `audit.stats` that a verdict rests on."""
    rng = np.random.default_rng(3)
    yield from _auc(rng)
    yield from _p_values(rng)
    yield from _intervals(rng)
    yield from _thresholds(rng)


def _auc(rng: np.random.Generator) -> Iterator[Known]:
    one, other = np.array([3.0, 1.0, 2.0]), np.array([1.0, 0.0])
    yield near("AUC of {3, 1, 2} over {1, 0}", auc.roc_auc(one, other).value, 5.5 / 6, "5 wins and one tie of 6 pairs")
    yield near("AUC of a set with itself", auc.roc_auc(other, other).value, 0.5, "each win has its loss")
    shift = math.sqrt(2) * float(norm.ppf(0.76))
    a, b = rng.normal(shift, 1, 400), rng.normal(0, 1, 400)
    yield within(
        "AUC of normals a known shift apart",
        auc.roc_auc(a, b).value,
        0.76 - 0.09,
        0.76 + 0.09,
        "Phi(shift / sqrt 2) = 0.76; standard error 0.017 with 400 each, five of them allowed",
        luck=_LUCK,
    )
    hits = 0
    for _ in range(200):
        found = auc.roc_auc(rng.normal(shift, 1, 40), rng.normal(0, 1, 40))
        hits += bool(found.low is not None and found.high is not None and found.low <= 0.76 <= found.high)
    yield _share("AUC: intervals that hold the truth", hits, 200, 0.95, "nominal level 0.95 (DeLong)")
    yield from _inside_strata(rng, shift)
    yield near(
        "TPR at no false positive",
        tpr.tpr_at_fpr(np.r_[np.full(30, 9.0), np.full(10, -9.0)], rng.normal(0, 1, 100), fpr=0.1).value,
        0.75,
        "30 of 40 lie above every negative, 10 below",
    )


def _inside_strata(rng: np.random.Generator, shift: float) -> Iterator[Known]:
    """Two strata of other levels and other shares of positives; pooled, their AUC would be near 0.9."""
    positive = np.r_[np.arange(60) < 40, np.arange(60) < 20]
    strata, hits = np.repeat(["high", "low"], 60).tolist(), 0
    for _ in range(200):
        scores = rng.normal(size=120) + shift * positive + np.r_[np.full(60, 3.0), np.zeros(60)]
        found = auc.stratified_auc(scores, positive, strata)
        hits += bool(found.low is not None and found.high is not None and found.low <= 0.76 <= found.high)
    yield _share("AUC inside strata: intervals that hold the truth", hits, 200, 0.95, "nominal level 0.95 (DeLong)")
    two = auc.stratified_auc([9.0, 8.0, 1.0, 2.0, 0.0], np.array([True, False, True, False, False]), list("aabbb"))
    yield near("AUC inside strata of {9} over {8} and {1} over {2, 0}", two.value, 0.75, "1 and 1/2, weighed alike")


def _p_values(rng: np.random.Generator) -> Iterator[Known]:
    clear = np.r_[np.full(12, 50.0) + np.arange(12), np.arange(12.0)]
    member = np.arange(24) < 12
    found = stratified.stratified_permutation(clear, member, n_draws=199, rng=0)
    why = "(1 + draws at least as large) / (1 + draws): never 0, and 1/200 where no draw reaches it"
    yield near("permutation: smallest p of 199 draws", found.value, 1 / 200, why, tolerance=1e-12)
    yield near(
        "permutation: the other side of it",
        stratified.stratified_permutation(-clear, member, n_draws=199, rng=0).value,
        1.0,
        "no draw lies below",
        tolerance=1e-12,
    )
    yield near(
        "rank p-value above nine controls", permutation.rank_p_value(9.5, np.arange(9)).value, 0.1, "the first of ten"
    )
    yield near(
        "rank p-value of a tie",
        permutation.rank_p_value(4.0, np.arange(9)).value,
        0.6,
        "five controls reach it: (1 + 5) / 10",
    )
    yield near("exposure of the first of 16", exposure.exposure(99.0, np.arange(15)).bits.value, 4.0, "log2 16")
    yield near("sign test, 10 of 10", permutation.sign_test(np.ones(10)).value, 2.0**-10, "one of 1,024 patterns")
    p = np.array(
        [
            stratified.stratified_permutation(rng.normal(size=20), np.arange(20) < 8, n_draws=99, rng=int(seed)).value
            for seed in range(400)
        ]
    )
    why = "a valid p-value is at most 0.05 in 5% of null draws"
    yield _share("permutation: null p-values of at most 0.05", int((p <= 0.05 + 1e-12).sum()), 400, 0.05, why)
    a, b = rng.normal(0, 1, 20), rng.normal(0, 1, 20)
    plain = permutation.permutation_two_sample(a, b, n_draws=999, rng=0).value
    strata = stratified.stratified_permutation(np.r_[a, b], np.arange(40) < 20, n_draws=999, rng=1).value
    yield within(
        "two forms of one permutation test: distance",
        abs(plain - strata),
        0,
        0.12,
        "each has a standard error of at most 0.016 with 999 draws",
        luck=_LUCK,
    )
    distance, value = ks.ks_two_sample(np.arange(10.0), np.arange(10.0) + 5)
    yield near("KS distance of 0..9 and 5..14", distance.value, 0.5, "half of each lies outside of the other")
    yield near(
        "KS p-value of it", value.value, 0.16782134274394334, "exact, by the lattice paths of two tens", tolerance=1e-9
    )
    yield near("KS of a set with itself", ks.ks_two_sample(a, a)[1].value, 1.0, "the distance is 0")
    low, high = np.arange(8.0), np.arange(8.0) + 100
    for name, one, other, truth in (("below", low, high, 1 / 12870), ("above", high, low, 1.0)):
        yield near(
            f"KS, one-sided, of a set that lies {name}",
            ks.ks_two_sample(one, other, alternative="greater")[1].value,
            truth,
            '"greater" is of the distribution function: one of C(16, 8) orders has all of the first set below',
            tolerance=1e-9,
        )
    holm = multiplicity.holm([0.01, 0.04, 0.03])
    yield same(
        "Holm of .01, .04, .03",
        [round(float(one), 12) for one in holm],
        [0.03, 0.06, 0.06],
        "3 x .01; 2 x .03; the larger of .04 and the one before",
    )


def _intervals(rng: np.random.Generator) -> Iterator[Known]:
    hits, widths = 0, []
    for seed in range(150):
        values = rng.normal(1, 2, 40)
        found = bootstrap.bootstrap(np.mean, values, n_draws=400, rng=seed)
        hits += bool(found.low is not None and found.high is not None and found.low <= 1 <= found.high)
        widths.append(_width(found) / (2 * 1.96 * values.std() / math.sqrt(40)))
    yield _share("bootstrap: intervals of the mean that hold the truth", hits, 150, 0.937, "see the head of the module")
    yield within(
        "bootstrap: width beside the textbook's",
        float(np.mean(widths)),
        0.95,
        1.05,
        "1.96 standard errors to each side; 400 draws give the quantiles within 6% each and 150 intervals "
        "within 0.5% together",
        luck=_LUCK,
    )
    clusters = np.repeat(np.arange(20), 10)
    together = np.repeat(rng.normal(size=20), 10)
    wide = bootstrap.bootstrap(np.mean, together, clusters=clusters, n_draws=400, rng=0)
    plain = bootstrap.bootstrap(np.mean, together, n_draws=400, rng=0)
    yield within(
        "bootstrap: clusters of ten equal rows",
        _width(wide) / max(_width(plain), 1e-12),
        2.2,
        4.2,
        "sqrt(10) = 3.16 times as wide; the ratio of two quantile ranges of 400 draws has a spread of 6.5%",
        luck=1e-5,
    )
    found = proportion.wilson(8, 10)
    yield near("Wilson 8 of 10: lower bound", found.low, 0.4901624715366418, "Wilson (1927), no correction")
    z = float(norm.isf(0.025))
    yield near("Wilson 0 of 100: upper bound", proportion.wilson(0, 100).high, z**2 / (100 + z**2), "z² / (n + z²)")
    yield near(
        "Clopper-Pearson 0 of 10: upper bound",
        proportion.clopper_pearson(0, 10).high,
        1 - 0.025**0.1,
        "1 - (alpha / 2)^(1/n)",
    )


def _thresholds(rng: np.random.Generator) -> Iterator[Known]:
    found = conformal.conformal_threshold(np.arange(1.0, 100.0), alpha=0.05)
    yield near("conformal threshold of 1..99 at 5%", found.threshold, 95.0, "the ceil(100 x 0.95)-th smallest")
    flagged = 0
    for _ in range(100):
        threshold = conformal.conformal_threshold(rng.normal(size=99), alpha=0.1).threshold
        flagged += int((rng.normal(size=20) > threshold).sum())
    why = (
        "alpha = 0.1 on average; 20 texts share a threshold, whose spread is 0.03, so counts vary by at most 1.6 times"
    )
    yield within("conformal: clean texts flagged of 2,000", flagged, 200 - 130, 200 + 130, why, luck=_LUCK)
    yield refused(
        "AUC of a score that is no number", lambda: auc.roc_auc([1.0, math.nan], [0.0, 1.0]), "nan", "a NaN has no rank"
    )


def _width(found: Estimate) -> float:
    """0 where there is no interval."""
    return 0.0 if found.low is None or found.high is None else found.high - found.low


def _share(name: str, hits: int, n: int, truth: float, why: str) -> Known:
    """A count that is binomial under the truth, in its central 1 - 1e-6; one step of slack to each side for rounding of
    the level itself."""
    low, high = binom.ppf(_LUCK / 2, n, truth) - 1, binom.ppf(1 - _LUCK / 2, n, truth) + 1
    return within(
        f"{name}, of {n}", hits, max(low, 0.0), min(high, n), f"{why}; central 1 - 1e-6 of the binomial", luck=_LUCK
    )


INSTRUMENT = Instrument("statistics", ask)
