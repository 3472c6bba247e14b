"""What the trap audit says of scores whose truth is arithmetic: found, not found, inconclusive or confounded.

The scores of n traps are the normal quantiles of (i - 1/2) / n, moved by a known shift d: no chance is in them, and
their AUC over decoys at 0 is Phi(d / sqrt 2). With m traps and n decoys its standard error is about
sqrt((1/m + 1/n) / 12): 0.033 with 100 and 300, so 0.6 is excluded at an AUC of 0.5, and 0.095 with 12 and 40, so it is
not. Every table goes the audit's whole way (`audit.traps.from_scores.section_of`); what is read are its findings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from ..membership.blind import bag_of_words, excludes_half
from ..membership.score_names import Score
from ..runs.schema import Finding
from ..stats.stratified import stratified_permutation
from ..traps import from_scores
from ..traps.config import DetectionPlan
from ..traps.detect import column
from ..traps.power.design import Design
from ..traps.power.model import arm_power, sign_power
from .answers import Known, near, same, within

_DRAWS = 1_999
_FAR = 1e-6  # p-values that are estimated from draws lie five standard errors from where a verdict would turn


@dataclass(frozen=True, slots=True)
class _Traps:
    """``n`` traps of so many copies (0: decoys), moved by ``shift`` against the decoys of ``stratum``."""

    n: int
    copies: int = 0
    shift: float = 0.0
    stratum: str = "one"
    owner: str = "all traps"


_NOTHING = (_Traps(100, 1), _Traps(100, 30), _Traps(300))
_LEARNT = (_Traps(100, 1), _Traps(100, 30, 1.0), _Traps(300))


def ask() -> Iterator[Known]:
    """Every branch of the rule, then power."""
    nothing = _findings(_NOTHING, reference=0.0)
    yield _said(
        "traps that nobody learnt",
        nothing,
        {"copies_1": "not found", "copies_30": "not found", "overall": "not found"},
        "each interval excludes an AUC of 0.6",
    )
    learnt = _findings(_LEARNT)
    yield _said(
        "traps that were learnt at 30 copies",
        learnt,
        {"copies_1": "not found", "copies_30": "found", "overall": "found"},
        "one arm lies a standard deviation above its decoys, the other does not",
    )
    for name, copies, truth in (("no", 1, 0.5), ("one standard deviation of", 30, float(norm.cdf(math.sqrt(0.5))))):
        yield near(
            f"AUC of {name} shift",
            learnt[f"traps.copies_{copies}"].estimates["auc"].value,
            truth,
            "Phi(shift / sqrt 2), to the width of a quantile",
            tolerance=5e-3,
        )
    yield _said(
        "few traps that nobody learnt",
        _findings([_Traps(12, 1), _Traps(40)]),
        {"copies_1": "inconclusive", "overall": "inconclusive"},
        "so few exclude nothing: that nothing is significant is no pass",
    )
    yield _said(
        "one arm too small to tell",
        _findings([_Traps(100, 1), _Traps(12, 30), _Traps(300)]),
        {"copies_1": "not found", "copies_30": "inconclusive", "overall": "inconclusive"},
        "the audit is no better than its weakest arm",
    )
    yield _said(
        "a stratum of nine decoys",
        _findings([_Traps(50, 1, stratum="few"), _Traps(9, stratum="few"), _Traps(100, 1), _Traps(300)]),
        {"copies_1": "inconclusive", "overall": "inconclusive"},
        "ten decoys are asked of each stratum, whatever the interval",
    )
    yield _said(
        "traps that score below their decoys",
        _findings([_Traps(100, 30, -1.0), _Traps(300)]),
        {"copies_30": "inconclusive", "overall": "inconclusive"},
        "a random dealing explains that no better than the contrary: they were suppressed",
    )
    yield _said(
        "a lift that is neither significant nor negligible",
        _findings([_Traps(100, 30, _shift(0.545)), _Traps(300)]),
        {"copies_30": "inconclusive", "overall": "inconclusive"},
        "p = 0.08, and the interval of an AUC of 0.545 reaches 0.61",
        luck=_FAR,
    )
    yield _said(
        "one of five arms with p = 0.03",
        _findings([*(_Traps(100, copies) for copies in (1, 2, 4, 8)), _Traps(100, 30, 0.217), _Traps(300)]),
        {"copies_30": "inconclusive", "overall": "inconclusive"},
        "five times 0.03 is above 0.05 (Holm)",
        luck=_FAR,
    )
    yield _said(
        "more traps where all scores are high",
        _findings([_Traps(100, 1, 3.0, "high"), _Traps(100, 0, 3.0, "high"), _Traps(20, 1), _Traps(200)]),
        {"copies_1": "not found", "overall": "not found"},
        "inside each stratum nothing was learnt",
    )
    yield from _of_owners()
    yield from _confounded()
    yield from _power(nothing)


def _of_owners() -> Iterator[Known]:
    of_one = [_Traps(40, 1, 0.8, "Ann", "Ann"), _Traps(300, stratum="Ann", owner="Ann")]
    others = [_Traps(600, 1, stratum="Bo", owner="Bo"), _Traps(600, stratum="Bo", owner="Bo")]
    yield _said(
        "traps of one owner of two were learnt",
        _findings([*of_one, *others]),
        {"copies_1": "not found", "owner_1": "found", "owner_2": "not found", "overall": "found"},
        "an owner's traps are tested by themselves; among all of the arm they are few (p = 0.06, of three tests)",
        luck=_FAR,
    )


def _confounded() -> Iterator[Known]:
    apart = {"copies_1": "confounded", "copies_30": "confounded", "overall": "confounded"}
    yield _said(
        "traps whose texts tell them apart", _findings(_LEARNT, apart=True), apart, "a bag of words needs no model"
    )
    yield _said(
        "traps that the reference alone tells apart",
        _findings(_LEARNT, reference=1.0),
        apart,
        "it was trained on them, or they are no draw of one kind",
    )
    yield _said(
        "a ratio whose reference saw the traps as well",
        _findings([_Traps(100, 30, 1.0), _Traps(300)], primary="ratio"),
        {"copies_30": "inconclusive", "overall": "inconclusive"},
        "the ratio is that of strangers, and the loss alone is not",
    )
    rng = np.random.default_rng(9)
    texts = [" ".join(rng.choice(_WORDS, 12)) for _ in range(400)]
    alike = bag_of_words(texts, np.arange(400) < 200, np.zeros(400), seed=0)
    yield within(
        "bag of words: AUC of texts that are drawn alike",
        alike.value,
        0.5 - 0.21,
        0.5 + 0.21,
        "100 against 100 texts: a standard error of 0.041, five to each side",
        luck=6e-7,
    )
    marked = [f"{text} a mark" if place < 150 else text for place, text in enumerate(texts)]
    found = bag_of_words(marked, np.arange(400) < 200, np.zeros(400), seed=0)
    yield same("bag of words: a mark on three traps of four", excludes_half(found), True, "an AUC of 0.875 is expected")


def _power(nothing: Mapping[str, Finding]) -> Iterator[Known]:
    """Of the tests themselves by simulation and by closed forms, and of what findings state."""
    rng = np.random.default_rng(10)
    design, shift, hits = Design((12, 12), (24, 24)), _shift(0.66), 0
    member, strata = np.tile(np.arange(36) < 12, 2), np.repeat([0, 1], 36)
    for seed in range(400):
        scores = rng.normal(size=72) + shift * member
        hits += stratified_permutation(scores, member, strata, n_draws=199, rng=seed).value <= 0.05
    yield within(
        "power of 24 traps at an AUC of 0.66, less its share of 400 simulated audits",
        arm_power(0.66, design, n_draws=199) - hits / 400,
        -0.12 - 0.035,
        0.12 + 0.035,
        "a share near 0.7 has a standard error of 0.023, five of them, and the approximation is within 0.035",
        luck=1e-6,
    )
    yield near(
        "power where there is no effect",
        arm_power(0.5, Design((100,), (300,)), alpha=0.05),
        0.05,
        "the level of the test",
        tolerance=2e-3,
    )
    yield near("power of draws that cannot reach the level", arm_power(0.9, design, arms=20, n_draws=99), 0.0, "1/100")
    yield near("power of a sign test of five", sign_power(0.9, 5), 0.9**5, "all five have to fall one way")
    plan = DetectionPlan(primary="loss", n_draws=_DRAWS)
    reach = _shift(plan.negligible_auc) * math.sqrt(100 * 300 / 400)
    truth = float(norm.cdf(reach - norm.isf(plan.alpha / 2)))
    for one in ("copies_1", "overall"):
        stated = nothing[f"traps.{one}"].power
        yield near(
            f"power that traps.{one} states",
            None if stated is None else stated.value,
            truth,
            "the normal test of 100 against 300 at 0.05 / 2, for the AUC that is not negligible",
            tolerance=0.02,
        )


_WORDS = [a + b for a in ("ba", "ke", "lo", "mu", "ti", "so") for b in ("ran", "lim", "dos", "ket", "vun", "pel")]


def _shift(auc: float) -> float:
    return math.sqrt(2) * float(norm.ppf(auc))


def _said(name: str, found: Mapping[str, Finding], truth: Mapping[str, str], why: str, *, luck: float = 0.0) -> Known:
    told = {one: getattr(found.get(f"traps.{one}"), "verdict", None) for one in truth}
    return same(f"verdicts: {name}", _line(told), _line(truth), why, luck=luck)


def _line(told: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {verdict}" for name, verdict in told.items())


def _findings(
    traps: Sequence[_Traps], *, primary: Score = "loss", reference: float | None = None, apart: bool = False
) -> dict[str, Finding]:
    """What the audit says of these traps.

    Args:
        traps: The table.
        primary: The score of the shifts; of "ratio", they are those of the loss and the ratio has none.
        reference: Shift of all planted traps in a reference's loss; None where there is no reference.
        apart: Whether a word tells planted traps from decoys.
    """
    rows: list[dict[str, Any]] = []
    for one in traps:
        scores = norm.ppf((np.arange(one.n) + 0.5) / one.n)
        for place, score in enumerate(scores.tolist()):
            name = f"{one.stratum}{one.copies}x{place}"
            rows.append(
                {
                    "trap_id": name,
                    "text": f"{name} planted" if apart and one.copies else f"{name} kept" if apart else name,
                    "arm": "member" if one.copies else "decoy",
                    "n_rep": one.copies,
                    "length": 20,
                    "stratum": one.stratum,
                    "owner": one.owner,
                    "documents": (),
                    "truncated": False,
                    column("loss"): score + one.shift,
                }
                | ({column("ratio"): score} if primary == "ratio" else {})
                | ({} if reference is None else {"reference_loss": -score - (reference if one.copies else 0.0)})
            )
    items = pd.DataFrame(rows).sort_values(["stratum", "trap_id"], ignore_index=True)
    plan = DetectionPlan(primary=primary, n_draws=_DRAWS)
    scored: tuple[Score, ...] = ("ratio", "loss") if primary == "ratio" else ("loss",)
    section = from_scores.section_of(items, scored, plan=plan, beside=from_scores.Beside())
    return {one.id: one for one in section.findings}
