r"""Areas under the ROC curve of one model, of two, of three on the same texts, with whole clusters resampled.

    A = P(score of a random text of the first set > that of a random text of the second) + P(equal) / 2

    r = (A_remedied - A_gold) / (A_subject - A_gold)        0: as gold; 1: as before the remedy

One model and two models have DeLong's interval (`audit.stats.auc`), with the sums over a cluster (a person, a chapter)
in place of single texts where a cluster has several (Obuchowski 1997, recalled and not read again; its coverage is
measured below). Ratios are resampled: the clusters of the two sets are drawn apart from each other, the same ones for
every model, and a cluster that comes up twice counts its texts twice, which is the AUC of weighted texts.

Measured at 95% (``tests/benchmarks/calibrate_privacy.py``, 200 data sets a cell, so 2 to 3 points of noise; a cluster's
share of the variance 0.3): with 12 + 60 clusters of 16 texts the clustered interval covers 95, 94, 94% at A 0.5, 0.8
and 0.95, a percentile bootstrap of clusters 93, 93, 90%; with 10 + 10 of 20 it is 94, 94, 90% (bootstrap 90, 92, 84%).
At A 0.99 both are too narrow with so few clusters: 88-90% (83-84%).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from audit.forgetting.measured import FEW_PASSAGES, Measured, few_passages, joined
from audit.stats.auc import auc_difference_paired, roc_auc
from audit.stats.bootstrap import bootstrap
from audit.stats.checks import Floats, Seed, label_codes
from audit.stats.estimate import Estimate

CLUSTERED: Final = "DeLong's variance over clusters"
FEW: Final = "the interval may be too narrow (94% at an AUC of 0.5 with 10, 89% near 1)"
TwoSets: TypeAlias = tuple[Measured, Measured]  # a score on the first set (members, it is supposed) and on the second


def auc(first: Measured, second: Measured, *, rng: Seed, level: float = 0.95) -> Estimate:
    """A of one model.

    Where there is no variance (all pairs in one order, or all tied), the interval is the bound of `roc_auc` on as many
    pairs as the smaller side has clusters.

    Args:
        first: Scores of the texts that should be higher.
        second: Of the others.
        rng: Generator or seed.
        level: Confidence level, in (0, 1).
    """
    name = f"{first.name}: AUC"
    compared = _compared([(first, second)], name, level)
    if isinstance(compared, Estimate):
        return compared
    if compared.alone:
        plain = roc_auc(compared.first[0], compared.second[0], level=level)
        return _said(plain, f"{first.name}: {plain.method}", compared.note)
    (area,), variance = compared.placed()
    if variance == 0.0 or area in (0.0, 1.0):
        return _bounded(area, compared, name, low=0.0, level=level)
    centre = math.log(area / (1 - area))
    reach = float(norm.isf((1 - level) / 2)) * math.sqrt(variance) / (area * (1 - area))
    return compared.normal(
        area, _expit(centre - reach), _expit(centre + reach), f"{name}, {CLUSTERED} on the logit scale", level
    )


def difference(one: TwoSets, other: TwoSets, *, rng: Seed, level: float = 0.95) -> Estimate:
    """A of one model less A of another, on the texts that both have.

    Args:
        one: The first model's scores of both sets.
        other: The second's.
        rng: Generator or seed.
        level: Confidence level, in (0, 1).

    Raises:
        InputError: As `audit.forgetting.measured.joined`.
    """
    name = f"{one[0].name}: paired AUC difference"
    compared = _compared([one, other], name, level)
    if isinstance(compared, Estimate):
        return compared
    if compared.alone:
        sides = compared.first[0], compared.second[0], compared.first[1], compared.second[1]
        plain = auc_difference_paired(*sides, level=level)
        return _said(plain, f"{one[0].name}: {plain.method}", compared.note)
    (area, subtracted), variance = compared.placed()
    found = area - subtracted
    if variance == 0.0:
        return _bounded(found, compared, name, low=-1.0, level=level)
    reach = float(norm.isf((1 - level) / 2)) * math.sqrt(variance)
    return compared.normal(found, max(-1.0, found - reach), min(1.0, found + reach), f"{name}, {CLUSTERED}", level)


def residual(subject: TwoSets, remedied: TwoSets, gold: TwoSets, *, rng: int, level: float = 0.95) -> Estimate:
    """r; undefined, with the reason, where the subject's AUC is not clearly above gold's, or a side has one cluster.

    ``n`` is the number of clusters on the smaller side: that is what the interval rests on.

    Args:
        subject: Scores before the remedy, of both sets.
        remedied: After it.
        gold: Of the model that never saw the first set.
        rng: Seed.
        level: Confidence level, in (0, 1).

    Raises:
        InputError: As `audit.forgetting.measured.joined`.
    """
    name = f"{subject[0].name}: residual of the AUC"
    compared = _compared([subject, remedied, gold], name, level)
    if isinstance(compared, Estimate):
        return compared
    fewest = min(compared.sizes.first_clusters, compared.sizes.second_clusters)
    if fewest < 2:
        return Estimate.undefined(method=name, why="a single cluster on a side tells nothing", n=fewest, level=level)
    gap = replace(difference(subject, gold, rng=rng, level=level), n=fewest)
    if gap.low is not None and gap.high is not None and gap.high < 0.0:
        why = f"gold's AUC is above the subject's ({gap.value:.3g}), so there is nothing that was to be forgotten"
        return Estimate.undefined(method=name, why=why, n=gap.n, level=level)
    if gap.low is None or gap.high is None or gap.low <= 0.0:
        told = gap.why if gap.value is None else f"{gap.value:.3g}"
        where = "" if gap.low is None or gap.high is None else f" in [{gap.low:.3g}, {gap.high:.3g}]"
        seen = smallest_seen(*compared.sizes, level=level)
        why = f"AUC of subject less gold is {told}{where}, so there is no gap that could be closed; {seen.words()}"
        return Estimate.undefined(method=name, why=why, n=gap.n, level=level)
    with np.errstate(divide="ignore", invalid="ignore"):  # a draw without a gap is undefined and said to be
        found = compared.bootstrap(
            lambda areas: (areas[1] - areas[2]) / (areas[0] - areas[2]), name=name, rng=rng, level=level
        )
    return replace(found, n=fewest)


def of_areas(
    statistic: Callable[[list[Floats]], Floats], models: Sequence[TwoSets], *, name: str, rng: Seed, level: float
) -> Estimate:
    """Bootstrap interval of any function of several models' A.

    Args:
        statistic: Of one array of AUCs for each model, all of one shape; NaN or infinite where it is undefined.
        models: Scores of both sets by each model.
        name: What it is called.
        rng: Generator or seed.
        level: Confidence level, in (0, 1).

    Raises:
        InputError: As `audit.forgetting.measured.joined`.
    """
    compared = _compared(models, name, level)
    if isinstance(compared, Estimate):
        return compared
    with np.errstate(divide="ignore", invalid="ignore"):
        return compared.bootstrap(statistic, name=name, rng=rng, level=level)


class Sizes(NamedTuple):
    """Texts and clusters of the two sets."""

    first_texts: int
    second_texts: int
    first_clusters: int
    second_clusters: int


class SmallestSeen(NamedTuple):
    """Half width of the interval of an AUC of 0.5: a smaller difference from 0.5 would not be seen.

    Attributes:
        at_worst: If all texts of a cluster rank alike, so that clusters are what counts.
        at_best: If texts of a cluster have nothing in common.
        sizes: Of the sets.
    """

    at_worst: float
    at_best: float
    sizes: Sizes

    def words(self) -> str:
        """In words, for a reason."""
        texts = f"{self.sizes.first_texts:,} + {self.sizes.second_texts:,} texts"
        clusters = f"{self.sizes.first_clusters:,} + {self.sizes.second_clusters:,} clusters"
        if self.at_worst == self.at_best:
            return f"with {texts} an AUC is told from 0.5 when it is about {self.at_worst:.2g} away"
        return (
            f"with {texts} in {clusters} an AUC is told from 0.5 when it is about {self.at_best:.2g} away (texts of a "
            f"cluster have nothing in common) to {self.at_worst:.2g} (they rank alike)"
        )


def smallest_seen(
    first_texts: int, second_texts: int, first_clusters: int, second_clusters: int, *, level: float = 0.95
) -> SmallestSeen:
    """z sqrt((n1 + n0 + 1) / (12 n1 n0)), the Mann-Whitney statistic's spread without ties, at most 0.5.

    Args:
        first_texts: Texts of the first set, >= 1.
        second_texts: Of the second.
        first_clusters: Clusters that they lie in.
        second_clusters: Likewise.
        level: Confidence level, in (0, 1).
    """
    sizes = Sizes(first_texts, second_texts, first_clusters, second_clusters)
    reach = float(norm.isf((1 - level) / 2))

    def half_width(n1: int, n0: int) -> float:
        return min(0.5, reach * math.sqrt((n1 + n0 + 1) / (12 * n1 * n0)))

    return SmallestSeen(half_width(first_clusters, second_clusters), half_width(first_texts, second_texts), sizes)


@dataclass(frozen=True, slots=True)
class _Compared:
    """Scores of M models on the same texts of two sets.

    Attributes:
        first: Of the first set's n1 texts, one array for each model.
        second: Of the second set's n0 texts, likewise.
        first_codes: Number of each text's cluster, shape (n1,).
        second_codes: Likewise, (n0,).
        note: What was left out, or None.
    """

    first: list[Floats]
    second: list[Floats]
    first_codes: NDArray[np.int64]
    second_codes: NDArray[np.int64]
    note: str | None

    @property
    def sizes(self) -> Sizes:
        return Sizes(
            len(self.first_codes),
            len(self.second_codes),
            int(self.first_codes.max()) + 1,
            int(self.second_codes.max()) + 1,
        )

    @property
    def alone(self) -> bool:
        """Whether every text is a cluster of its own."""
        sizes = self.sizes
        return sizes.first_texts == sizes.first_clusters and sizes.second_texts == sizes.second_clusters

    def placed(self) -> tuple[list[float], float]:
        """Each model's A, and the variance of the first's, or of the first's less the second's.

        With V_i the share of second texts below first text i, W_j the share of first texts above second text j, less
        their means, and S_a, S_b the sums of V and of W over the texts of a cluster (Obuchowski 1997, the sets'
        clusters disjoint):

            variance = C1 / (C1 - 1) sum_a S_a^2 / n1^2  +  C0 / (C0 - 1) sum_b S_b^2 / n0^2
        """
        pairs = list(zip(self.first, self.second, strict=True))
        above = [_share_below(x, y) for x, y in pairs]
        below = [1 - _share_below(y, x) for x, y in pairs]
        areas = [float(one.mean()) for one in above]
        if min(self.sizes.first_clusters, self.sizes.second_clusters) < 2:
            return areas, 0.0
        variance = 0.0
        for shares, codes in ((above, self.first_codes), (below, self.second_codes)):
            moved = shares[0] if len(shares) == 1 else shares[0] - shares[1]
            sums = np.bincount(codes, weights=moved - moved.mean())
            variance += float(len(sums) / (len(sums) - 1) * (sums**2).sum() / len(codes) ** 2)
        return areas, variance

    def normal(self, value: float, low: float | None, high: float | None, method: str, level: float) -> Estimate:
        """An estimate whose units are clusters."""
        sizes = self.sizes
        fewest = min(sizes.first_clusters, sizes.second_clusters)
        few = fewest < FEW_PASSAGES and "conservative" not in method
        note = _joined(self.note, f"only {fewest} clusters on a side: {FEW}" if few else None)
        return Estimate(value, low, high, level, sizes.first_clusters + sizes.second_clusters, method, note)

    def bootstrap(self, statistic: Callable[[list[Floats]], Floats], *, name: str, rng: Seed, level: float) -> Estimate:
        ranked = [_Ranked.of(x, y) for x, y in zip(self.first, self.second, strict=True)]
        sizes = self.sizes

        def of_draw(x: Floats, y: Floats, axis: int = -1) -> Floats:
            weights = _times_drawn(x, self.first_codes), _times_drawn(y, self.second_codes)
            return np.asarray(statistic([one.auc(*weights) for one in ranked]))

        clusters = (np.arange(sizes.first_clusters, dtype=float), np.arange(sizes.second_clusters, dtype=float))
        found = bootstrap(of_draw, *clusters, rng=rng, level=level)
        few = few_passages(found, min(sizes.first_clusters, sizes.second_clusters))
        note = "; ".join(part for part in (self.note, few) if part) or None
        units = "texts" if self.alone else "clusters"
        return _said(found, f"{name}, {found.method.replace(' rows', f' {units}')}", note)


@dataclass(frozen=True, slots=True)
class _Ranked:
    """Where the first set's scores stand among the second's.

    Attributes:
        order: Second texts from the lowest score to the highest, shape (n0,).
        below: How many of them lie below each first text, (n1,).
        up_to: How many lie below or are equal, (n1,).
    """

    order: NDArray[np.int64]
    below: NDArray[np.int64]
    up_to: NDArray[np.int64]

    @classmethod
    def of(cls, first: Floats, second: Floats) -> _Ranked:
        order = np.argsort(second, kind="stable")
        ascending = second[order]
        return cls(order, np.searchsorted(ascending, first, "left"), np.searchsorted(ascending, first, "right"))

    def auc(self, first: Floats, second: Floats) -> Floats:
        """A of weighted texts: first (..., n1), second (..., n0)."""
        passed = np.concatenate([np.zeros((*second.shape[:-1], 1)), second[..., self.order].cumsum(axis=-1)], axis=-1)
        beaten = (passed[..., self.below] + passed[..., self.up_to]) / 2
        area: Floats = (first * beaten).sum(axis=-1) / (first.sum(axis=-1) * second.sum(axis=-1))
        return area


def _share_below(first: Floats, second: Floats) -> Floats:
    """Share of the second texts whose score lies below each first text's, ties half; shape (n1,)."""
    ranked = _Ranked.of(first, second)
    return np.asarray((ranked.below + ranked.up_to) / 2 / len(second), dtype=np.float64)


def _times_drawn(drawn: Floats, codes: NDArray[np.int64]) -> Floats:
    """How often each text comes up, shape (..., n), for numbers of clusters that were drawn, (..., C)."""
    rows = np.atleast_2d(drawn).astype(np.int64)
    n_clusters = rows.shape[1]
    places = rows + np.arange(len(rows))[:, None] * n_clusters
    times = np.bincount(places.ravel(), minlength=rows.size).reshape(len(rows), n_clusters)[:, codes]
    weights: Floats = times.astype(np.float64)
    return weights if np.ndim(drawn) > 1 else weights[0]


def _compared(models: Sequence[TwoSets], name: str, level: float) -> _Compared | Estimate:
    """The texts that all models have a score of; undefined where a side has none."""
    for side, what in enumerate(("first", "second")):
        empty = next((model[side] for model in models if not len(model[side].values)), None)
        if empty is not None:
            reason = next(iter(empty.left_out.values()), "it is empty")
            return Estimate.undefined(method=name, why=f"the {what} set has no scored text: {reason}", level=level)
    first, homes, note = joined([model[0] for model in models])
    second, others, other_note = joined([model[1] for model in models])
    left_out = [_left_out(model[side]) for model in models[:1] for side in (0, 1)] if len(models) == 1 else []
    shared = set(homes) & set(others)
    same = f"{len(shared):,} clusters lie in both sets and are drawn apart" if shared else None
    notes = [part for part in (note, other_note, *left_out, same) if part]
    codes: list[Any] = [label_codes(labels, "clusters", n=len(labels))[0] for labels in (homes, others)]
    return _Compared(first, second, codes[0], codes[1], "; ".join(notes) or None)


def _left_out(measured: Measured) -> str | None:
    if not measured.left_out:
        return None
    return f"{len(measured.left_out):,} texts have no score: {next(iter(measured.left_out.values()))}"


def _bounded(value: float, compared: _Compared, name: str, *, low: float, level: float) -> Estimate:
    """An interval where no variance can be had, from as many disjoint pairs as the smaller side has clusters."""
    n1, n0 = compared.sizes.first_clusters, compared.sizes.second_clusters
    if low == 0.0 and value in (0.0, 1.0):
        bound = roc_auc(np.full(n1, value), np.full(n0, 1 - value), level=level)
        return compared.normal(value, bound.low, bound.high, f"{name}, {bound.method}", level)
    margin = (1.0 - low) * math.sqrt(math.log(2 / (1 - level)) / (2 * min(n1, n0)))
    method = f"{name}, no usable variance: Hoeffding bound on {min(n1, n0)} disjoint pairs of clusters (conservative)"
    return compared.normal(value, max(low, value - margin), min(1.0, value + margin), method, level)


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _said(found: Estimate, method: str, note: str | None) -> Estimate:
    return replace(found, method=method, why=_joined(found.why, note))


def _joined(*notes: str | None) -> str | None:
    return "; ".join(note for note in notes if note) or None
