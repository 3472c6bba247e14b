"""Was the model trained on the traps? Every statistic is a function of the recorded scores alone.

All p-values rest on one fact: members and decoys were dealt at random inside each stratum, before the model
was trained. So, if the model never saw them, every other dealing was as likely:

    rank test        p = (1 + #{decoys of the trap's stratum that score at least as high}) / (1 + #decoys)
    arm test         p = (1 + #{re-dealings b with T_b >= T_observed}) / (1 + B), re-dealt inside the strata,
                     T = sum over the strata of the scores of the arm's members, standardised in each stratum

A rank test speaks for one trap, an arm test for all traps of one repetition. AUC and TPR describe; they carry
intervals, not p-values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..membership.blind import BLIND_LEVEL, bag_of_words, blind_auc, excludes_half
from ..membership.score_names import OF_REFERENCE
from ..stats.auc import stratified_auc
from ..stats.estimate import Estimate, PValue
from ..stats.multiplicity import benjamini_hochberg, holm
from ..stats.permutation import rank_p_values as rank_among
from ..stats.proportion import wilson
from ..stats.stratified import stratified_permutation, stratified_permutation_max
from ..stats.tpr import tpr_at_fpr
from .config import DetectionPlan

Floats = NDArray[np.float64]
LEAST_DECOYS = 10  # in each stratum, and members in an arm: with fewer the AUC rules nothing out
MIXED = 0.02  # total variation between the strata of members and of decoys up to which rates are pooled


class Tprs(NamedTuple):
    """TPR where at most 10%, 1% and 0.1% of decoys pass; undefined where decoys are too few to tell."""

    at_10pct_fpr: Estimate
    at_1pct_fpr: Estimate
    at_01pct_fpr: Estimate

    @classmethod
    def of(cls, even: Floats, member: NDArray[np.bool_], strata: NDArray[Any], *, level: float) -> Tprs:
        """Of scores standardised inside strata; pooled, so undefined where strata differ in their share of members."""
        rates = (0.1, 0.01, 0.001)
        shared = np.isin(strata, strata[member]) & np.isin(strata, strata[~member])
        names, codes = np.unique(strata[shared], return_inverse=True)
        inside = member[shared]
        if not len(names):
            why = "no stratum has traps on both sides"
            return cls(*(Estimate.undefined(method="TPR", why=why, level=level) for _ in rates))
        mixes = [np.bincount(codes[side], minlength=len(names)) / side.sum() for side in (inside, ~inside)]
        if np.abs(mixes[0] - mixes[1]).sum() / 2 > MIXED:
            why = (
                "strata differ in their share of members, so a rate over all of them is not estimable; see each length"
            )
            return cls(*(Estimate.undefined(method="TPR", why=why, level=level) for _ in rates))
        positive, negative = even[shared][inside], even[shared][~inside]
        return cls(*(tpr_at_fpr(positive, negative, fpr=fpr, level=level) for fpr in rates))


@dataclass(frozen=True, slots=True)
class Cell:
    """AUC and TPR of one score on the members of one length and repetition against the decoys of that length.

    The AUC compares inside strata; for TPR scores are standardised there. ``length`` None stands for all lengths,
    ``n_rep`` None for the control: one random half of the decoys against the other.
    """

    score: str
    length: int | None
    n_rep: int | None
    n_members: int
    n_decoys: int
    auc: Estimate
    tpr: Tprs


@dataclass(frozen=True, slots=True)
class Arm:
    """What the primary score says about all traps that were planted ``n_rep`` times.

    Attributes:
        n_rep: Copies of each trap in the training text.
        auc: All lengths together, each trap against the decoys of its own stratum.
        tpr: Likewise, of scores standardised inside each stratum.
        median_exposure: Median of log2 M - log2 rank among the M = 1 + decoys of its stratum, in bits; 1 is expected by
            chance (Carlini et al. 2019, arXiv:1802.08232).
        p_value: Arm test.
        by_score: Score -> the arm test's p-value adjusted for having looked at all scores (maximum statistic in the
            same re-dealings). Exploratory.
        p_holm: ``p_value`` after Holm's correction over all tests that can say "found", in (0, 1].
        n_tests: How many these are.
        low_rank_share: Share of the arm's traps with a rank p-value of at most alpha.
        low_rank_chance: Share expected by chance, floor(alpha (1 + d)) / (1 + d) for d decoys; at most alpha.
        median_rank_p: Median rank p-value of the arm's traps; about 0.5 is expected by chance.
        n_discoveries: Traps of the arm that a Benjamini-Hochberg procedure at alpha over all traps singles out.
        verdict: "found", "not found" or "inconclusive".
        lower: Whether its traps score below their decoys more clearly than chance explains.
    """

    n_rep: int
    auc: Estimate
    tpr: Tprs
    p_value: PValue
    by_score: dict[str, PValue]
    p_holm: float
    n_tests: int
    low_rank_share: Estimate
    low_rank_chance: float
    median_rank_p: float
    median_exposure: float
    n_discoveries: int
    verdict: str
    lower: bool


@dataclass(frozen=True, slots=True)
class Blind:
    """Can members be told from decoys without the model? Then its scores prove nothing.

    Attributes:
        bag_of_words: AUC of a random forest on word counts, on the half that it was not trained on, 99% interval.
        reference_only: AUC of the reference model's loss score, 99% interval. It sees a reference that was trained on
            many of the traps; a ratio, in which difficulty cancels, can be turned by less than this check sees
            (docs/methods/traps.md), so the reference has to be one that cannot have seen them.
        confounded: Whether either interval leaves out 0.5.
    """

    bag_of_words: Estimate
    reference_only: Estimate
    confounded: bool


def column(score: str) -> str:
    """Name of a score's column in the items."""
    return f"{score}_score"


def standardised(items: pd.DataFrame, score: str) -> Floats:
    """Scores minus the mean of their stratum's decoys, over the decoys' standard deviation; shape (n,).

    A stratum whose decoys do not vary (or number one) is centred only.
    """
    values = items[column(score)].to_numpy(dtype=np.float64)
    out = np.empty(len(values))
    decoy = (items["arm"] == "decoy").to_numpy()
    for stratum in items["stratum"].unique():
        inside = (items["stratum"] == stratum).to_numpy()
        controls = values[inside & decoy]
        spread = controls.std(ddof=1) if len(controls) > 1 else 0.0
        out[inside] = (values[inside] - controls.mean()) / (spread if spread > 0 else 1.0)
    return out


def rank_p_values(items: pd.DataFrame, score: str) -> Floats:
    """Rank p-value of each member against the decoys of its own stratum; NaN for decoys; shape (n,)."""
    values = items[column(score)].to_numpy(dtype=np.float64)
    decoy = (items["arm"] == "decoy").to_numpy()
    out = np.full(len(values), np.nan)
    for stratum in items["stratum"].unique():
        inside = (items["stratum"] == stratum).to_numpy()
        controls = values[inside & decoy]
        if (inside & ~decoy).any():
            out[inside & ~decoy] = rank_among(values[inside & ~decoy], controls)
    return out


def cells(items: pd.DataFrame, scores: Sequence[str], *, plan: DetectionPlan) -> list[Cell]:
    """The whole table: every score, length and repetition, with the control of each score and length."""
    rows: list[Cell] = []
    decoy = (items["arm"] == "decoy").to_numpy()
    n_reps = sorted(set(items.loc[~decoy, "n_rep"]))
    lengths: list[int | None] = [int(length) for length in sorted(set(items["length"]))]
    half = _random_half(items, seed=plan.seed)
    strata = items["stratum"].to_numpy()
    for score in scores:
        raw, even = items[column(score)].to_numpy(dtype=np.float64), standardised(items, score)

        def cell(length: int | None, n_rep: int | None, one: NDArray[np.bool_], other: NDArray[np.bool_]) -> Cell:
            both = one | other
            auc = stratified_auc(raw[both], one[both], strata[both].tolist(), level=plan.level)  # noqa: B023
            tpr = Tprs.of(even[both], one[both], strata[both], level=plan.level)  # noqa: B023
            return Cell(score, length, n_rep, int(one.sum()), int(other.sum()), auc, tpr)  # noqa: B023

        for length in [*lengths, None] if len(lengths) > 1 else lengths:
            inside = np.ones(len(items), bool) if length is None else (items["length"] == length).to_numpy()
            for n_rep in n_reps:
                own = inside & ~decoy & (items["n_rep"] == n_rep).to_numpy()
                rows.append(cell(length, int(n_rep), own, inside & decoy & np.isin(strata, strata[own])))
            controls = inside & decoy
            rows.append(cell(length, None, controls & half, controls & ~half))
    return rows


def arm_tests(items: pd.DataFrame, *, plan: DetectionPlan) -> dict[int, PValue]:
    """Number of copies -> arm test on the primary score, uncorrected."""
    values = items[column(plan.primary)].to_numpy(dtype=np.float64)
    decoy, n_rep = (items["arm"] == "decoy").to_numpy(), items["n_rep"].to_numpy()
    strata, tests = items["stratum"].to_numpy(), {}
    for n in sorted({int(n) for n in n_rep[~decoy]}):
        inside = decoy | (n_rep == n)
        rng = np.random.default_rng([plan.seed, n]).spawn(2)[0]
        tests[n] = stratified_permutation(values[inside], ~decoy[inside], strata[inside], n_draws=plan.n_draws, rng=rng)
    return tests


def corrected(tests: Sequence[PValue], others: Sequence[PValue]) -> Floats:
    """Holm's p-values of ``tests`` in a family with ``others``: everything that can say "found"."""
    return np.asarray(holm([test.value for test in (*tests, *others)])[: len(tests)])


def arms(
    items: pd.DataFrame, scores: Sequence[str], *, plan: DetectionPlan, others: Sequence[PValue] = ()
) -> list[Arm]:
    """The arm tests on the primary score, Holm-corrected, with the verdict of each.

    ``others`` are the tests beside the arms that can say "found", those of several owners: all are corrected together,
    so that of a model that saw nothing any finding says "found" in at most alpha of audits.

    The rule: "found" when Holm's p-value is at most alpha; else as `verdict`.
    """
    decoy = (items["arm"] == "decoy").to_numpy()
    n_rep = items["n_rep"].to_numpy()
    even = standardised(items, plan.primary)
    strata = items["stratum"].to_numpy()
    ranks = rank_p_values(items, plan.primary)
    discovered = np.zeros(len(items), bool)
    discovered[~decoy] = benjamini_hochberg(ranks[~decoy]) <= plan.alpha
    tests = arm_tests(items, plan=plan)
    holms = corrected(list(tests.values()), others)
    found = []
    for (n, test), p_holm in zip(tests.items(), holms, strict=True):
        own = ~decoy & (n_rep == n)
        inside = decoy | own
        tables = {score: items[column(score)].to_numpy(dtype=np.float64)[inside] for score in scores}
        rng = np.random.default_rng([plan.seed, n]).spawn(2)[1]
        by_score = stratified_permutation_max(tables, ~decoy[inside], strata[inside], n_draws=plan.n_draws, rng=rng)
        met = own | (decoy & np.isin(strata, strata[own]))
        share, chance = _low_ranks(items[met], ranks[own], plan)
        said = judged(items[inside], plan, float(p_holm), n_tests=len(tests) + len(others))
        found.append(
            Arm(
                n_rep=n,
                auc=said.auc,
                tpr=Tprs.of(even[met], own[met], strata[met], level=plan.level),
                p_value=test,
                by_score=by_score,
                p_holm=float(p_holm),
                n_tests=len(tests) + len(others),
                low_rank_share=share,
                low_rank_chance=chance,
                median_rank_p=float(np.median(ranks[own])),
                median_exposure=float(np.median(-np.log2(ranks[own]))),
                n_discoveries=int(discovered[own].sum()),
                verdict=said.verdict,
                lower=said.lower,
            )
        )
    return found


def _low_ranks(met: pd.DataFrame, ranks: Floats, plan: DetectionPlan) -> tuple[Estimate, float]:
    """Share of traps with a rank p-value of at most alpha, and the share that chance gives.

    Traps of a stratum share their decoys, so their rank p-values rise and fall together; the interval, which takes them
    as independent, was simulated to cover 94% with four decoys for each trap and 78% with 0.4.
    """
    sizes = met.groupby(["stratum", "arm"]).size().unstack()
    decoys = sizes["decoy"].to_numpy()
    chances = np.floor(plan.alpha * (1 + decoys) + 1e-9) / (1 + decoys)
    chance = float(np.average(chances, weights=sizes["member"]))
    share = wilson(int((ranks <= plan.alpha).sum()), len(ranks), level=plan.level)
    if (decoys < 4 * sizes["member"]).any():
        why = "traps of a stratum share their decoys, of which there are too few for an interval"
        return replace(share, low=None, high=None, why=why), chance
    why = "traps of a stratum share their decoys; the interval takes them as independent, so it is a little narrow"
    return replace(share, why=why), chance


def blind(items: pd.DataFrame, *, plan: DetectionPlan) -> Blind:
    """The model-blind baselines: a bag of words, and the reference model alone.

    The bag of words is `audit.membership.blind.bag_of_words`. Both scores are standardised inside each stratum
    (over members and decoys alike), because strata may differ in length, perplexity and share of members by design.
    """
    member = (items["arm"] == "member").to_numpy()
    strata = items["stratum"].to_numpy()
    words = bag_of_words(items["text"].tolist(), member, strata, seed=plan.seed)
    if "reference_loss" in items:
        reference = blind_auc(-items["reference_loss"].to_numpy(dtype=np.float64), member, strata)
    else:
        reference = Estimate.undefined(method="AUC", why="no reference model was given", level=BLIND_LEVEL)
    return Blind(words, reference, any(excludes_half(estimate) for estimate in (words, reference)))


def _random_half(items: pd.DataFrame, *, seed: int) -> NDArray[np.bool_]:
    """A random half of the decoys of each stratum; shape (n,)."""
    rng = np.random.Generator(np.random.Philox(seed))
    half = np.zeros(len(items), bool)
    for stratum in sorted(items["stratum"].unique()):
        places = np.flatnonzero(((items["stratum"] == stratum) & (items["arm"] == "decoy")).to_numpy())
        half[rng.permutation(places)[: len(places) // 2]] = True
    return half


class Judged(NamedTuple):
    """AUC and verdict of some traps; and whether they score below their decoys more clearly than chance explains."""

    auc: Estimate
    verdict: str
    lower: bool


def judged(items: pd.DataFrame, plan: DetectionPlan, p_holm: float, *, n_tests: int) -> Judged:
    """AUC of the primary score of some traps against the decoys of their strata, and the verdict.

    "found" when the corrected p-value is at most alpha. "not found" when all of these hold, else "inconclusive":

    - the upper bound of the AUC lies below ``plan.negligible_auc``;
    - its one-sided upper bound at alpha / ``n_tests`` does not lie below 0.5: random dealing explains traps that score
      far below their decoys no better than far above (the traps were unlearnt, or the reference saw them);
    - of a ratio, the lower bound of the loss alone does not lie above 0.5: a reference that saw the traps as the model
      did hides them in the ratio only;
    - there are `LEAST_DECOYS` traps, and as many decoys in every stratum.
    """
    items = items[items["stratum"].isin(items.loc[items["arm"] == "member", "stratum"])]
    member, strata = (items["arm"] == "member").to_numpy(), items["stratum"].tolist()

    def auc_of(score: str, level: float) -> Estimate:
        return stratified_auc(items[column(score)].to_numpy(dtype=np.float64), member, strata, level=level)

    auc = auc_of(plan.primary, plan.level)
    bound = auc_of(plan.primary, max(1 - 2 * plan.alpha / n_tests, 1e-9)).high
    lower = bound is not None and bound < 0.5
    if p_holm <= plan.alpha:
        return Judged(auc, "found", lower)
    least = items[~member].groupby("stratum").size().min()
    if member.sum() < LEAST_DECOYS or least < LEAST_DECOYS or auc.low is None or auc.high is None:
        return Judged(auc, "inconclusive", lower)
    if lower or (plan.primary in OF_REFERENCE and (auc_of("loss", plan.level).low or 0.0) > 0.5):
        return Judged(auc, "inconclusive", lower)
    return Judged(auc, "not found" if auc.high < plan.negligible_auc else "inconclusive", lower)
