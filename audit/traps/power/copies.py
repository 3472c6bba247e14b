"""From copies to AUC: measured by a finished run, or published; never assumed.

How far copies raise the AUC depends on model, data, trap and training, and no formula is known. So a curve is a list
of measured points. Between two of them the AUC is interpolated linearly in log(copies), after the points were made
non-decreasing (isotonic least squares); beyond them there is no answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression
from scipy.stats import norm

from ...errors import DataError, InputError
from ...stats.auc import stratified_auc
from ...stats.checks import Floats
from ...stats.estimate import Estimate
from ...text.safe import did_you_mean, quoted
from ..detect import column, standardised

COPIES = (1, 2, 3, 5, 7, 10)
PUBLISHED: Mapping[str, tuple[float, ...]] = {
    "gpt-neo-1.3b": (0.612, 0.706, 0.782, 0.872, 0.928, 0.964),
    "gemma-2b": (0.586, 0.651, 0.695, 0.810, 0.853, 0.905),
    "llama-3.2-1b": (0.593, 0.661, 0.733, 0.808, 0.868, 0.917),
    "phi-2": (0.577, 0.626, 0.679, 0.739, 0.801, 0.846),
}
PUBLISHED_NOTE = (
    "Mosaic Memory (arXiv:2405.15523), computed from its released data: AUC of the ratio score for exact copies, mean "
    "of 5 seeds, no interval given. Continued training of a finished model, one epoch on 100 Gutenberg books in chunks "
    "of 2,048 tokens, learning rate 2e-5 to 6e-5. Other training gives other numbers: in training from scratch on 3 T "
    "tokens (arXiv:2402.09363), traps of 100 tokens reached AUC 0.75 with 1,000 copies."
)
RUN_NOTE = (
    "Measured on one model in one training run. Another model, corpus, learning rate, length of trap or place in "
    "training gives another AUC for as many copies, and a small model says little about a large one."
)


@dataclass(frozen=True, slots=True)
class CopiesPoint:
    """What one number of copies gave.

    Attributes:
        n_rep: Copies, at least 1.
        auc: Measured AUC, in [0, 1].
        effect: delta = sqrt 2 Phi^-1(AUC), members above decoys in standard deviations, the interval carried over.
        members: Standardised scores, shape (n1,); empty where they are not known.
    """

    n_rep: int
    auc: Estimate
    effect: Estimate
    members: Floats


@dataclass(frozen=True, slots=True)
class CopiesCurve:
    """Measured points, by copies increasing, and where they come from; ``decoys`` are standardised scores, (n0,)."""

    source: str
    note: str
    points: tuple[CopiesPoint, ...]
    decoys: Floats

    def at(self, copies: int) -> Estimate:
        """AUC of that many copies: measured, or interpolated between the two nearest measured numbers.

        The bounds of the measured intervals are made non-decreasing and interpolated like the AUC, which is
        approximate; ``why`` says so, and where there are none.

        Raises:
            InputError: Fewer or more copies than were measured.
        """
        known = [point.n_rep for point in self.points]
        if not known[0] <= copies <= known[-1]:
            raise InputError(
                f"{copies:,} copies lie outside what {self.source} measured ({known[0]:,} to {known[-1]:,}), and "
                "beyond it nothing is known. Choose copies in that range, or measure with more."
            )
        bounds = [[getattr(point.auc, name) for point in self.points] for name in ("value", "low", "high")]
        value, low, high = (self._between(copies, numbers) for numbers in bounds)
        if value is None:
            raise InputError(f"{self.source} has no AUC for some number of copies. Choose another run.")
        exact = next((point.auc for point in self.points if point.n_rep == copies), None)
        if exact is not None and exact.value == value:
            return exact
        what = "interpolated in log(copies)" if exact is None else "made non-decreasing over copies"
        first = self.points[0].auc
        if low is None or high is None:
            return Estimate(
                value, None, None, first.level, first.n, first.method, f"{what}; the source gives no interval"
            )
        why = f"{what}; the bounds likewise, which is approximate"
        return Estimate(value, low, high, first.level, min(point.auc.n for point in self.points), first.method, why)

    def _between(self, copies: int, values: list[float | None]) -> float | None:
        numbers = [value for value in values if value is not None]
        if len(numbers) < len(values):
            return None
        rising = isotonic_regression(numbers).x
        return float(np.interp(math.log(copies), [math.log(point.n_rep) for point in self.points], rising))


def published(model: str) -> CopiesCurve:
    """The published curve of one model, 1 to 10 copies.

    Raises:
        InputError: There is none of that name; those that exist are named.
    """
    key = model.lower()
    if key not in PUBLISHED:
        raise InputError(
            f"no published curve is called {quoted(model)}; there are {', '.join(PUBLISHED)}."
            f"{did_you_mean(key, PUBLISHED)}"
        )
    none = np.empty(0)
    why = "the source gives no interval"
    points = []
    for n_rep, value in zip(COPIES, PUBLISHED[key], strict=True):
        auc = Estimate(value, None, None, 0.95, 5, f"published AUC of {key}, mean of 5 seeds", why)
        points.append(CopiesPoint(n_rep, auc, effect(auc), none))
    return CopiesCurve(f"the published curve of {key}", PUBLISHED_NOTE, tuple(points), none)


def measured(items: pd.DataFrame, score: str, *, source: str, level: float = 0.95) -> CopiesCurve:
    """The curve of a finished audit: its table of items, standardised and compared as the audit does.

    Args:
        items: Columns ``arm, n_rep, stratum`` and ``<score>_score``, one row per trap (``items/traps.parquet``).
        score: Name of the score, "ratio" for example.
        source: Where the items came from, for messages.
        level: Of the intervals.

    Raises:
        DataError: A column is missing, there are no members or decoys, or an arm has no stratum with decoys.
    """
    needed = ["arm", "n_rep", "stratum", column(score)]
    missing = [name for name in needed if name not in items]
    if missing:
        raise DataError(f"{source} lacks the columns {', '.join(missing)}; expected the items of a trap audit.")
    decoy = (items["arm"] == "decoy").to_numpy()
    alone = sorted(set(items.loc[~decoy, "stratum"]) - set(items.loc[decoy, "stratum"]))
    wrong = "has no members" if decoy.all() else f"has no decoys in stratum {quoted(alone[0])}" if alone else ""
    if not np.isfinite(items[column(score)].to_numpy(dtype=np.float64)).all():
        wrong = "has scores that are not finite"
    if wrong:
        raise DataError(f"{source} {wrong}; expected the items of a finished trap audit.")
    even, strata = standardised(items, score), items["stratum"].to_numpy()
    raw = items[column(score)].to_numpy(dtype=np.float64)
    points = []
    for n_rep in sorted({int(n) for n in items.loc[~decoy, "n_rep"]}):
        own = ~decoy & (items["n_rep"] == n_rep).to_numpy()
        auc = stratified_auc(raw[own | decoy], own[own | decoy], strata[own | decoy].tolist(), level=level)
        points.append(CopiesPoint(n_rep, auc, effect(auc), even[own]))
    return CopiesCurve(source, RUN_NOTE, tuple(points), even[decoy])


def effect(auc: Estimate) -> Estimate:
    """delta = sqrt 2 Phi^-1(AUC) with the AUC's interval carried over; undefined where it is infinite."""
    method = f"delta = sqrt 2 Phi^-1(AUC); {auc.method}"
    if auc.value is None or not 0 < auc.value < 1:
        return Estimate.undefined(method=method, why=f"the AUC is {auc.value}", n=auc.n, level=auc.level)
    bounds = [None if bound is None else math.sqrt(2) * float(norm.ppf(bound)) for bound in (auc.low, auc.high)]
    value = math.sqrt(2) * float(norm.ppf(auc.value))
    if None in bounds or not all(math.isfinite(bound) for bound in bounds if bound is not None):
        return Estimate(value, None, None, auc.level, auc.n, method, auc.why or "a bound of the AUC is 0 or 1")
    return Estimate(value, bounds[0], bounds[1], auc.level, auc.n, method, auc.why)
