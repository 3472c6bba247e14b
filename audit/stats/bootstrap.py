"""Bootstrap intervals for any statistic: plain, paired, clustered, stratified; percentile or BCa."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from ..errors import InputError
from .checks import Floats, Labels, Seed, choice, count, finite_vector, generator, label_codes, open_unit
from .estimate import Estimate
from .resampling import Draws, ResamplingTable, resampling_table

Statistic = Callable[..., Any]
CELLS_AT_ONCE = 4_000_000  # numbers gathered for one call of the statistic: 32 MB


def bootstrap(
    statistic: Statistic,
    *samples: ArrayLike,
    paired: bool = False,
    strata: Labels | Sequence[Labels] | None = None,
    clusters: Labels | Sequence[Labels] | None = None,
    method: Literal["percentile", "bca"] = "percentile",
    n_draws: int = 2000,
    level: float = 0.95,
    max_undefined: float = 0.05,
    rng: Seed,
) -> Estimate:
    """An interval for ``statistic(*samples)`` from resampling what was sampled independently.

    Rows are drawn with replacement within each stratum; with ``clusters``, whole clusters are drawn instead.
    Resample the unit that was drawn at random (a trap, a document), never its tokens or copies.

    "percentile": the (1-level)/2 and (1+level)/2 quantiles of the draws (Efron 1979). "bca": those quantiles
    moved for bias (z0, from the share of draws below the estimate, ties half) and skewness (a, from the
    jackknife over units; strata and samples combined as in Efron & Tibshirani 1993, chapter 14). For plain and
    paired resampling the numbers are those of scipy.stats.bootstrap under the same seed, which a test holds; it is
    not called because it knows no clusters or strata, and returns NaN as soon as one draw is undefined.

    A bootstrap interval is asymptotic and a little narrow: for a mean its width carries the factor
    sqrt((u - 1)/u), u the units in a stratum. Measured at 95% (10,000 data sets each; docs/methods/statistics.md):
    93.5-94.1% with 50 or more units in a sample and 30 in a stratum; 89% with 10 clusters, 90% with strata of 4. It
    says nothing about training the model again.

    Args:
        statistic: Takes one array per sample and returns a number, NaN when undefined. With a parameter named
            ``axis`` it is called on arrays of shape (draws, n) with ``axis=-1``, which is faster.
        samples: One or more samples, each of shape (n_i,).
        paired: The samples are columns of one table: equal lengths, and a draw takes the same rows of each.
        strata: A label for each row; for several independent samples, one sequence of labels for each sample.
        clusters: A label for each row, likewise; labels of different samples are unrelated.
        method: As above.
        n_draws: Number of draws, at least 2 / (1 - level).
        level: Confidence level, in (0, 1).
        max_undefined: Share of draws that may be undefined, in (0, 1). The interval then rests on the others and
            ``why`` says how many are missing; above this share the whole estimate is undefined.
        rng: Generator or seed.

    Returns:
        ``n`` is the number of units resampled. Without an interval (and with ``why``) when a sample has fewer than
        2 units, when every draw gives one value, or when BCa's corrections do not exist; undefined when the
        statistic is, on the data or on too many draws.

    Raises:
        InputError: A sample is not a finite vector, labels do not fit, an option is out of range, or the statistic
            does not return one number per draw.
    """
    data = [finite_vector(sample, f"sample {i}") for i, sample in enumerate(samples)]
    choice(method, "method", ("percentile", "bca"))
    open_unit(level, "level")
    open_unit(max_undefined, "max_undefined")
    count(n_draws, "n_draws", least=math.ceil(2 / (1 - level) - 1e-9))
    tables = _tables(data, paired, strata, clusters)
    n = sum(table.n_units for table in tables)
    name = _describe(method, tables, paired, strata is not None, clusters is not None, n_draws)
    value = _number(statistic(*data))
    if not math.isfinite(value):
        return Estimate.undefined(method=name, why=f"the statistic is {value} on the data", n=n, level=level)
    if min(table.n_units for table in tables) < 2:
        return Estimate(value, None, None, level, n, name, "a sample has fewer than 2 units to resample")
    draws = _evaluate(statistic, data, tables, n_draws, generator(rng))
    defined = draws[np.isfinite(draws)]
    missing = n_draws - len(defined)
    if missing > max_undefined * n_draws:
        why = f"the statistic is undefined on {missing:,} of {n_draws:,} draws, above the {max_undefined:.0%} allowed"
        return Estimate.undefined(method=name, why=f"{why}; on the data it is {value:.6g}", n=n, level=level)
    notes = [f"undefined on {missing:,} of {n_draws:,} draws, which were left out"] if missing else []
    alone = sum(len(stratum.units) == 1 for table in tables for stratum in table.strata)
    if alone:
        notes.append(f"{alone} strata hold a single unit and add no spread, so the interval is too narrow")
    if defined.min() == defined.max():
        return Estimate(value, None, None, level, n, name, "; ".join(["every draw gave the same value", *notes]))
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "bca":
        corrected = _bca_tails(statistic, data, tables, value, defined, tails)
        if isinstance(corrected, str):
            return Estimate(value, None, None, level, n, name, "; ".join([corrected, *notes]))
        tails = corrected
    low, high = np.quantile(defined, tails)
    return Estimate(value, float(low), float(high), level, n, name, "; ".join(notes) or None)


def bootstrap_auc(
    positive: ArrayLike,
    negative: ArrayLike,
    *,
    strata: Sequence[Labels] | None = None,
    n_draws: int = 2000,
    level: float = 0.95,
    rng: Seed,
) -> Estimate:
    """AUC of scores standardised inside their stratum, percentile interval from resampling traps.

    z = (score - mean of the stratum's negatives) / their standard deviation (ddof 1), as the trap audit does; a stratum
    whose negatives do not vary is centred only. Traps are drawn with replacement inside each stratum and arm, and the
    scores are standardised **again in each draw**, because mean and deviation came from the sample too. (A draw whose
    negatives are all one trap keeps the deviation of the stratum.)

    Measured coverage at 95% (400 data sets each, `tests/benchmarks/calibrate_power.py`), AUC 0.5 to 0.95: 92-96% with
    20 members and 10 decoys or with 60 and 240 in a stratum; 91-93% with 10 and 40; 87-91% with 6 and 60; 85-88% with 2
    and 8, because resampling u traps inside a stratum loses a share 1/u of their variance. Standardising once for all
    draws is narrower and covers up to 12 points less. `auc.roc_auc` (DeLong) covered 92-97% wherever a stratum had 8
    decoys or more and is the interval to quote; this one is a check on it.

    Args:
        positive: Scores of members, shape (n1,), higher = more suspicious.
        negative: Scores of decoys, shape (n0,).
        strata: The labels of the members, n1 of them, and those of the decoys, n0; None is a single stratum.
        n_draws: Number of draws, at least 2,000 for numbers that are quoted, and at least 2 / (1 - level).
        level: Confidence level, in (0, 1).
        rng: Generator or seed.

    Returns:
        AUC in [0, 1]; ``n`` is n1 + n0.

    Raises:
        InputError: As `bootstrap`; or a stratum has members and no decoys.
    """
    samples = finite_vector(positive, "positive"), finite_vector(negative, "negative")
    n1, n0 = map(len, samples)
    if strata is not None and len(strata) != 2:
        raise InputError(f"strata has {len(strata)} entries; expected two: the members' labels and the decoys'.")
    both = (
        [0] * (n1 + n0) if strata is None else [*_labels(strata[0], n1, "members"), *_labels(strata[1], n0, "decoys")]
    )
    codes, names = label_codes(both, "strata", n=n1 + n0)
    alone = np.setdiff1d(codes[:n1], codes[n1:])
    if len(alone):
        raise InputError(
            f"stratum {names[alone[0]]!r} has members and no decoys; expected decoys in every such stratum."
        )
    # Sorted by stratum, so that in every draw the same columns hold the same stratum.
    order = np.argsort(codes[:n1], kind="stable"), np.argsort(codes[n1:], kind="stable")
    of_positive, of_negative = codes[:n1][order[0]], codes[n1:][order[1]]
    members, decoys = samples[0][order[0]], samples[1][order[1]]
    spreads = [_spread(decoys[of_negative == code]) or np.ones(1) for code in range(len(names))]

    def statistic(x: Floats, y: Floats, axis: int = -1) -> Floats:
        """AUC of each draw: x (..., n1), y (..., n0)."""
        x, y = x.copy(), y.copy()
        for code, original in enumerate(spreads):
            mine, theirs = of_positive == code, of_negative == code
            controls = y[..., theirs]
            centre, spread = controls.mean(axis=-1, keepdims=True), _spread(controls)
            spread = np.where(spread > 0, spread, original)
            y[..., theirs] = (controls - centre) / spread
            x[..., mine] = (x[..., mine] - centre) / spread
        ranks = rankdata(np.concatenate([x, y], axis=axis), axis=axis)[..., :n1].sum(axis=axis)
        return np.asarray((ranks - n1 * (n1 + 1) / 2) / (n1 * n0))

    found = bootstrap(
        statistic, members, decoys, strata=(of_positive, of_negative), n_draws=n_draws, level=level, rng=rng
    )
    method = f"AUC, percentile bootstrap of {n1:,} + {n0:,} traps inside {len(names)} strata and both arms, "
    return replace(found, method=f"{method}{n_draws:,} draws, standardised in each")


def _labels(labels: Labels, n: int, what: str) -> Labels:
    if len(labels) != n:
        raise InputError(f"the {what} have {len(labels)} labels for {n} scores; expected one for each score.")
    return labels


def _spread(controls: Floats) -> Floats:
    """Standard deviation along the last axis, kept as an axis; 0 where the controls do not vary."""
    if np.shape(controls)[-1] < 2:
        return np.zeros((*np.shape(controls)[:-1], 1))
    varies = np.ptp(controls, axis=-1, keepdims=True) > 0  # rounding leaves equal numbers a deviation above 0
    return np.where(varies, controls.std(axis=-1, ddof=1, keepdims=True), 0.0)


def _tables(data: list[Floats], paired: bool, strata: Any, clusters: Any) -> list[ResamplingTable]:
    """One table for paired samples, one for each sample otherwise."""
    if not data:
        raise InputError("bootstrap got no samples; expected at least one after the statistic.")
    lengths = [len(sample) for sample in data]
    if paired and len(set(lengths)) > 1:
        raise InputError(
            f"paired samples have lengths {lengths}; expected one length. Join them on the row's id first."
        )
    if paired or len(data) == 1:
        return [resampling_table(lengths[0], strata, clusters)]
    for name, labels in (("strata", strata), ("clusters", clusters)):
        if labels is not None and (len(labels) != len(data) or not all(hasattr(part, "__len__") for part in labels)):
            raise InputError(
                f"{name} has {len(labels)} entries for {len(data)} independent samples; expected one sequence "
                "of labels for each sample, or paired=True."
            )
    blank = [None] * len(data)
    return [resampling_table(*row) for row in zip(lengths, strata or blank, clusters or blank, strict=True)]


def _describe(
    method: str, tables: list[ResamplingTable], paired: bool, stratified: bool, clustered: bool, n_draws: int
) -> str:
    words = "BCa" if method == "bca" else "percentile"
    units = "clusters" if clustered else "pairs" if paired else "rows"
    where = f" within {sum(len(table.strata) for table in tables)} strata" if stratified else ""
    how_many = " + ".join(f"{table.n_units:,}" for table in tables)
    return f"{words} bootstrap of {how_many} {units}{where}, {n_draws:,} draws"


def _evaluate(
    statistic: Statistic, data: list[Floats], tables: list[ResamplingTable], n_draws: int, rng: np.random.Generator
) -> Floats:
    """The statistic on every draw, shape (n_draws,)."""
    at_once = max(1, CELLS_AT_ONCE // sum(len(sample) for sample in data))
    vectorized = _takes_axis(statistic)
    parts = []
    for start in range(0, n_draws, at_once):
        size = min(at_once, n_draws - start)
        drawn = [table.draw(size, rng) for table in tables]
        rows = drawn if len(drawn) == len(data) else drawn * len(data)
        parts.append(_evaluate_batch(statistic, data, rows, size, vectorized))
    return np.concatenate(parts)


def _evaluate_batch(statistic: Statistic, data: list[Floats], rows: list[Draws], size: int, vectorized: bool) -> Floats:
    picked = [sample[draws] for sample, draws in zip(data, rows, strict=True) if isinstance(draws, np.ndarray)]
    if not vectorized or len(picked) < len(data):
        each = zip(*rows, strict=True)
        return np.array([_number(statistic(*(s[r] for s, r in zip(data, draw, strict=True)))) for draw in each])
    values = np.asarray(statistic(*picked, axis=-1), dtype=np.float64)
    if values.shape != (size,):
        raise InputError(
            f"the statistic returned shape {values.shape} for {size} draws; expected ({size},). "
            "Reduce over `axis`, or drop that parameter."
        )
    return values


def _takes_axis(statistic: Statistic) -> bool:
    try:
        return "axis" in inspect.signature(statistic).parameters
    except ValueError:  # a builtin without a signature
        return False


def _number(value: object) -> float:
    number = np.asarray(value)
    if number.shape != () or number.dtype.kind not in "biuf":
        raise InputError(f"the statistic returned {value!r}; expected one number, NaN when it is undefined.")
    return float(number)


def _bca_tails(
    statistic: Statistic,
    data: list[Floats],
    tables: list[ResamplingTable],
    value: float,
    draws: Floats,
    tails: Floats,
) -> Floats | str:
    """The quantiles that BCa reads off, or why there are none."""
    below = (np.mean(draws < value) + np.mean(draws <= value)) / 2
    if below in (0.0, 1.0):
        return "BCa: every draw lies on one side of the estimate"
    cubes = squares = 0.0
    for influence in _jackknife(statistic, data, tables):
        cubes += float(np.sum(influence**3)) / len(influence) ** 3
        squares += float(np.sum(influence**2)) / len(influence) ** 2
    if not math.isfinite(squares):
        return "BCa: the statistic is undefined when one unit is left out"
    if squares == 0:
        return "BCa: leaving out any one unit does not change the statistic"
    skew = cubes / (6 * squares**1.5)
    bias = ndtri(below)
    moved = bias + ndtri(tails)
    return cast(Floats, ndtr(bias + moved / (1 - skew * moved)))


def _jackknife(statistic: Statistic, data: list[Floats], tables: list[ResamplingTable]) -> list[Floats]:
    """For each stratum of u >= 2 units: (u - 1)(mean - statistic without unit i), shape (u,)."""
    found = []
    for t, table in enumerate(tables):
        for stratum in table.strata:
            if len(stratum.units) < 2:
                continue
            left = []
            for unit in stratum.units:
                rows = table.all_but(unit)
                kept = [x[rows] if len(tables) == 1 or j == t else x for j, x in enumerate(data)]
                left.append(_number(statistic(*kept)))
            found.append((len(left) - 1) * (np.mean(left) - np.array(left)))
    return found
