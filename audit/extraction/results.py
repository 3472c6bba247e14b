"""What the maxima say: rates, coverage, undercount and the test of trained against held-out rows.

For one view and one arm, over G generations and N training rows,

    memorisation rate  R = (1/G) sum_i [m_i > tau(length of i)]
    excess             R - FPR, FPR measured on negatives that had no part in tau
    coverage           (1/N) sum_j [k_j >= 1], k_j the generations that hit row j: any row above tau, or the best alone

A reject and a text that is too short count as no hit in the rate over all generations. Definitions are the spec's; the
paper's own formula for coverage was not readable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..stats.estimate import Estimate
from ..stats.proportion import difference, wilson
from .calibrate import Calibration, Negatives, calibrate, fixed
from .config import Arm, MatchPlan, View
from .coverage import coverage, coverage_curve, curve_points, hits_by_row
from .sides import Nearest, Searched, Side
from .split_half import SplitHalf, split_half

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Halves:
    """The rows of either half that were dealt at random (`audit.extraction.dealing`), for `split_half`.

    Attributes:
        trained: Their places among the training rows, ascending.
        held_out: Their places among the held-out rows.
    """

    trained: Rows
    held_out: Rows


@dataclass(frozen=True, slots=True)
class Rated:
    """One set of generations in one view and arm.

    Attributes:
        rate: Hits over all generations.
        rate_compared: Hits over those that were parsed and long enough.
        excess: ``rate_compared`` less the false-positive rate.
        hit: Which generations are hits, shape (G,).
    """

    rate: Estimate
    rate_compared: Estimate
    excess: Estimate
    hit: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Result:
    """All that is said of one view and arm.

    Attributes:
        view: The view.
        arm: The arm.
        calibration: Threshold and measured false-positive rates.
        rated: Of the model under audit.
        at_own: The same at the threshold of held-out rows alone. The base model's generations may lift the other one
            above what can be reached, where the base has learnt rows too.
        base: Of the base model, where there is one.
        coverage_any: Training rows with a generation above the threshold, whether or not another row is nearer.
        coverage_best: Training rows that are the nearest of a hit.
        clusters_hit: Clusters of near-duplicates that are the nearest of a hit.
        curve_at: Numbers of generations, ascending.
        curve: Coverage (rule "any") of so many generations.
        hits_on: Hits of each training row by rule "best", shape (N,).
        halves: Of the hits on either half, those on the trained one; None where the halves cannot be tested.
        base_halves: The same for the base model: its own check.
    """

    view: View
    arm: Arm
    calibration: Calibration
    rated: Rated
    at_own: Rated
    base: Rated | None
    coverage_any: Estimate
    coverage_best: Estimate
    clusters_hit: int
    curve_at: Rows
    curve: NDArray[np.float64]
    hits_on: Rows
    halves: SplitHalf | None
    base_halves: SplitHalf | None


@dataclass(frozen=True, slots=True)
class Sets:
    """Everything that is compared in one view.

    Attributes:
        generated: The model's generations.
        trained: Training rows.
        held_out: Rows of the same source that were not trained on.
        base: Generations of the base model, or None.
        clusters: Near-duplicates among the training rows, a label for each.
        held_out_clusters: Of alike held-out rows, one counts as a negative; a label for each.
        units: What was dealt to the halves as one, a label for each training row and then for each held-out row.
        halves: For the test of trained against held-out rows, or None where they cannot be tested (`Dealing.why_not`).
    """

    generated: Side
    trained: Side
    held_out: Side
    base: Side | None
    clusters: Rows
    held_out_clusters: Rows
    units: Rows
    halves: Halves | None


def negatives_of(sets: Sets, nearest: Mapping[str, Nearest], *, seed: int) -> list[Negatives]:
    """Maxima of what the model cannot have learnt: held-out rows and, where there are any, base generations."""
    side, of_rows = sets.held_out, nearest["held_out"].similarity
    chosen = side.compared
    found = [
        Negatives.one_each(
            "held-out rows", of_rows[chosen], side.lengths[chosen], sets.held_out_clusters[chosen], seed=seed
        )
    ]
    if sets.base is not None and sets.base.compared.any():
        chosen = sets.base.compared
        own = nearest["base"].similarity[chosen]
        found.append(Negatives("generations of the base model", own, sets.base.lengths[chosen]))
    return found


def result(
    view: View,
    arm: Arm,
    sets: Sets,
    index: Searched,
    nearest: Mapping[str, Nearest],
    halves: tuple[Searched, Searched] | None,
    *,
    plan: MatchPlan,
    threshold: float | None = None,
) -> Result:
    """Everything about one view and arm.

    Args:
        view: The view.
        arm: The arm.
        sets: What was compared.
        index: The training rows.
        nearest: "generated", "held_out" and, with a base model, "base": nearest training rows.
        halves: Training and held-out rows of `Sets.halves`.
        plan: The plan.
        threshold: A similarity given beforehand instead of a calibrated one.
    """
    negatives = negatives_of(sets, nearest, seed=plan.seed)
    usable = [one for one in negatives if len(one.maxima) >= 2 / plan.target] or negatives[:1]
    if threshold is None:
        calibration, own = (
            calibrate(some, target=plan.target, seed=plan.seed, level=plan.level) for some in (usable, negatives[:1])
        )
    else:
        calibration = own = fixed(threshold, negatives, target=plan.target, level=plan.level)
    ours = _rated(sets.generated, nearest["generated"], calibration, plan)
    any_rows = index.hits_any(sets.generated, arm, calibration.thresholds(sets.generated.lengths))
    hit = ours.hit
    best = nearest["generated"].rows[hit]
    n_rows = len(sets.trained.texts)
    best_rows = hits_by_row(best, n_rows)
    compared = sets.trained.compared
    labels = sets.clusters[compared].tolist()
    n = len(sets.generated.texts)
    at = curve_points(n)
    return Result(
        view=view,
        arm=arm,
        calibration=calibration,
        rated=ours,
        at_own=_rated(sets.generated, nearest["generated"], own, plan),
        base=None if sets.base is None else _rated(sets.base, nearest["base"], calibration, plan),
        coverage_any=coverage(any_rows[compared], labels, seed=plan.seed, level=plan.level),
        coverage_best=coverage(best_rows[compared], labels, seed=plan.seed, level=plan.level),
        clusters_hit=len(np.unique(sets.clusters[best])),
        curve_at=at,
        curve=coverage_curve(any_rows[compared], n, at),
        hits_on=best_rows,
        halves=None if halves is None else _halves(sets.generated, arm, sets, halves, own, plan),
        base_halves=None if halves is None or sets.base is None else _halves(sets.base, arm, sets, halves, own, plan),
    )


def _rated(side: Side, nearest: Nearest, calibration: Calibration, plan: MatchPlan) -> Rated:
    hit = calibration.hits(nearest.similarity, side.lengths)
    compared = wilson(int(hit.sum()), int(side.compared.sum()), level=plan.level)
    return Rated(
        rate=wilson(int(hit.sum()), len(side.texts), level=plan.level),
        rate_compared=compared,
        excess=difference(compared, calibration.worst),
        hit=hit,
    )


def _halves(
    side: Side, arm: Arm, sets: Sets, indexes: tuple[Searched, Searched], calibration: Calibration, plan: MatchPlan
) -> SplitHalf:
    """At the threshold of held-out rows alone; a text that is equally near to both halves counts for neither."""
    assert sets.halves is not None
    trained, held_out = (index.nearest(side, arm) for index in indexes)
    ours, theirs = np.nan_to_num(trained.similarity, nan=-2), np.nan_to_num(held_out.similarity, nan=-2)
    hit = calibration.hits(np.maximum(ours, theirs), side.lengths) & side.compared & (ours != theirs)
    n_trained = len(sets.trained.texts)
    rows = np.where(ours > theirs, trained.rows, n_trained + held_out.rows)[hit]
    chosen = np.concatenate([sets.halves.trained, n_trained + sets.halves.held_out])
    hits = hits_by_row(rows, len(sets.units))[chosen]
    return split_half(
        hits,
        chosen < n_trained,
        sets.units[chosen].tolist(),
        seed=plan.seed,
        level=plan.level,
    )
