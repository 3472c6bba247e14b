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
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..membership.blind import BLIND_LEVEL, bag_of_words, blind_auc, excludes_half
from ..stats.auc import roc_auc
from ..stats.estimate import Estimate, PValue
from ..stats.multiplicity import benjamini_hochberg, holm
from ..stats.permutation import rank_p_values as rank_among
from ..stats.proportion import wilson
from ..stats.stratified import stratified_permutation, stratified_permutation_max
from ..stats.tpr import tpr_at_fpr
from .config import DetectionPlan

Floats = NDArray[np.float64]
LEAST_DECOYS = 10  # in each stratum; with fewer the AUC's interval is too narrow to rule an effect out


class Tprs(NamedTuple):
    """TPR where at most 10%, 1% and 0.1% of decoys pass; undefined where decoys are too few to tell."""

    at_10pct_fpr: Estimate
    at_1pct_fpr: Estimate
    at_01pct_fpr: Estimate

    @classmethod
    def of(cls, positive: Floats, negative: Floats, *, level: float) -> Tprs:
        return cls(*(tpr_at_fpr(positive, negative, fpr=fpr, level=level) for fpr in (0.1, 0.01, 0.001)))


@dataclass(frozen=True, slots=True)
class Cell:
    """AUC and TPR of one score on the members of one length and repetition against the decoys of that length.

    Scores are standardised inside each stratum. ``length`` None stands for all lengths, ``n_rep`` None for the
    control: one random half of the decoys against the other.
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
        auc: All lengths together, scores standardised inside each stratum.
        tpr: Likewise.
        median_exposure: Median of log2 M - log2 rank among the M = 1 + decoys of its stratum, in bits; 1 is expected by
            chance (Carlini et al. 2019, arXiv:1802.08232).
        p_value: Arm test.
        by_score: Score -> the arm test's p-value adjusted for having looked at all scores (maximum statistic in the
            same re-dealings). Exploratory.
        p_holm: ``p_value`` after Holm's correction over all arms, times the number of families, in (0, 1].
        n_tests: Tests that are counted for it: arms times families.
        low_rank_share: Share of the arm's traps with a rank p-value of at most alpha; alpha is expected by chance.
        median_rank_p: Median rank p-value of the arm's traps; about 0.5 is expected by chance.
        n_discoveries: Traps of the arm that a Benjamini-Hochberg procedure at alpha over all traps singles out.
        verdict: "found", "not found" or "inconclusive".
    """

    n_rep: int
    auc: Estimate
    tpr: Tprs
    p_value: PValue
    by_score: dict[str, PValue]
    p_holm: float
    n_tests: int
    low_rank_share: Estimate
    median_rank_p: float
    median_exposure: float
    n_discoveries: int
    verdict: str


@dataclass(frozen=True, slots=True)
class Blind:
    """Can members be told from decoys without the model? Then its scores prove nothing.

    Attributes:
        bag_of_words: AUC of a random forest on word counts, on the half that it was not trained on, 99% interval.
        reference_only: AUC of the reference model's loss score, 99% interval.
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
    for score in scores:
        values = standardised(items, score)
        for length in [*lengths, None] if len(lengths) > 1 else lengths:
            inside = np.ones(len(items), bool) if length is None else (items["length"] == length).to_numpy()
            for n_rep in n_reps:
                positive = values[inside & ~decoy & (items["n_rep"] == n_rep).to_numpy()]
                rows.append(_cell(score, length, int(n_rep), positive, values[inside & decoy], plan))
            controls = inside & decoy
            rows.append(_cell(score, length, None, values[controls & half], values[controls & ~half], plan))
    return rows


def arms(items: pd.DataFrame, scores: Sequence[str], *, plan: DetectionPlan, families: int = 1) -> list[Arm]:
    """The arm tests on the primary score, Holm-corrected, with the verdict of each.

    ``families`` counts those whose tests can say "found": with several owners, arms and owners are two. Each is held
    to alpha / families, so that of a model that saw nothing any finding says "found" in at most alpha of audits.

    The rule: "found" when Holm's p-value is at most alpha; "not found" when the upper bound of the AUC lies below
    ``plan.negligible_auc`` and every stratum has `LEAST_DECOYS` decoys; else "inconclusive".
    """
    decoy = (items["arm"] == "decoy").to_numpy()
    enough = enough_decoys(items)
    n_rep = items["n_rep"].to_numpy()
    even = standardised(items, plan.primary)
    strata = items["stratum"].to_numpy()
    ranks = rank_p_values(items, plan.primary)
    discovered = np.zeros(len(items), bool)
    discovered[~decoy] = benjamini_hochberg(ranks[~decoy]) <= plan.alpha
    reps = sorted({int(n) for n in n_rep[~decoy]})
    tests, adjusted = [], []
    for n in reps:
        inside = decoy | (n_rep == n)
        tables = {score: items[column(score)].to_numpy(dtype=np.float64)[inside] for score in scores}
        primary_rng, all_rng = np.random.default_rng([plan.seed, n]).spawn(2)
        tests.append(
            stratified_permutation(
                tables[plan.primary], ~decoy[inside], strata[inside], n_draws=plan.n_draws, rng=primary_rng
            )
        )
        adjusted.append(
            stratified_permutation_max(tables, ~decoy[inside], strata[inside], n_draws=plan.n_draws, rng=all_rng)
        )
    corrected = np.minimum(1.0, families * np.array(holm([test.value for test in tests])))
    found = []
    for n, test, by_score, p_holm in zip(reps, tests, adjusted, corrected, strict=True):
        own = ~decoy & (n_rep == n)
        auc = roc_auc(even[own], even[decoy], level=plan.level)
        found.append(
            Arm(
                n_rep=n,
                auc=auc,
                tpr=Tprs.of(even[own], even[decoy], level=plan.level),
                p_value=test,
                by_score=by_score,
                p_holm=float(p_holm),
                n_tests=len(tests) * families,
                low_rank_share=replace(
                    wilson(int((ranks[own] <= plan.alpha).sum()), int(own.sum()), level=plan.level),
                    why="traps of a stratum share their decoys; the interval takes them as independent, so it is a "
                    "little narrow",
                ),
                median_rank_p=float(np.median(ranks[own])),
                median_exposure=float(np.median(-np.log2(ranks[own]))),
                n_discoveries=int(discovered[own].sum()),
                verdict=verdict(float(p_holm), auc, plan, enough=enough),
            )
        )
    return found


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


def _cell(
    score: str, length: int | None, n_rep: int | None, positive: Floats, negative: Floats, plan: DetectionPlan
) -> Cell:
    if len(positive) and len(negative):
        auc = roc_auc(positive, negative, level=plan.level)
        tpr = Tprs.of(positive, negative, level=plan.level)
    else:
        auc = Estimate.undefined(method="AUC and TPR", why="one side is empty", level=plan.level)
        tpr = Tprs(auc, auc, auc)
    return Cell(score, length, n_rep, len(positive), len(negative), auc, tpr)


def _random_half(items: pd.DataFrame, *, seed: int) -> NDArray[np.bool_]:
    """A random half of the decoys of each stratum; shape (n,)."""
    rng = np.random.Generator(np.random.Philox(seed))
    half = np.zeros(len(items), bool)
    for stratum in sorted(items["stratum"].unique()):
        places = np.flatnonzero(((items["stratum"] == stratum) & (items["arm"] == "decoy")).to_numpy())
        half[rng.permutation(places)[: len(places) // 2]] = True
    return half


def enough_decoys(items: pd.DataFrame) -> bool:
    """Whether every stratum has `LEAST_DECOYS` decoys."""
    return bool((items[items["arm"] == "decoy"].groupby("stratum").size() >= LEAST_DECOYS).all())


def verdict(p_holm: float, auc: Estimate, plan: DetectionPlan, *, enough: bool) -> str:
    """The rule of `arms`."""
    if p_holm <= plan.alpha:
        return "found"
    return "not found" if enough and auc.high is not None and auc.high < plan.negligible_auc else "inconclusive"
