"""Power of a design: against the tests themselves, by hand, and where nothing can be said."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, norm

from audit.errors import DataError, InputError
from audit.stats.auc import roc_auc
from audit.stats.estimate import Estimate
from audit.stats.permutation import rank_p_values, sign_test
from audit.traps.power.copies import COPIES, PUBLISHED, effect, measured, published
from audit.traps.power.design import Design, designs
from audit.traps.power.model import arm_power, effect_size, rank_power, rank_power_limit, sign_power
from audit.traps.power.needed import decoys_needed, detectable, members_needed, pairs_needed
from audit.traps.power.simulated import binormal, empirical, simulated_power

SOME = Design.even(10, 5, 20)
AUCS = st.floats(0.51, 0.99)


def inside(estimate: Estimate, truth: float) -> bool:
    return estimate.low is not None and estimate.high is not None and estimate.low <= truth <= estimate.high


# The arm test


def test_effect_size_is_that_of_the_binormal_model() -> None:
    """AUC 0.76025 = Phi(1 / sqrt 2): members one standard deviation above decoys."""
    assert effect_size(float(norm.cdf(1 / math.sqrt(2)))) == pytest.approx(1.0)
    assert effect_size(0.5) == 0.0


@pytest.mark.parametrize("arms", [1, 4])
@pytest.mark.parametrize("design", [SOME, Design.even(1, 20, 80), Design((1, 3, 20), (40, 12, 10))])
def test_without_an_effect_power_is_the_level(design: Design, arms: int) -> None:
    assert arm_power(0.5, design, arms=arms) == pytest.approx(0.05 / arms, rel=1e-3)
    found = simulated_power(binormal(0.5), design, arms=arms, n_audits=300, n_draws=399, rng=0)
    assert binom.ppf(0.001, 300, 0.05 / arms) <= 300 * (found.value or 0) <= binom.ppf(0.999, 300, 0.05 / arms)


@pytest.mark.parametrize(
    ("design", "auc", "arms"),
    [
        (SOME, 0.6, 1),
        (SOME, 0.65, 4),
        (Design.even(30, 1, 4), 0.65, 1),
        (Design.even(1, 100, 100), 0.6, 4),
        (Design((1, 3, 20), (40, 12, 10)), 0.7, 1),
    ],
)
def test_computed_power_is_that_of_the_real_test(design: Design, auc: float, arms: int) -> None:
    """300 audits by the permutation test itself: 99.9% of such runs lie within 3.3 standard errors, plus 0.03."""
    predicted = arm_power(auc, design, arms=arms)
    found = simulated_power(binormal(auc), design, arms=arms, n_audits=300, rng=1)
    error = 3.3 * math.sqrt(predicted * (1 - predicted) / 300)
    assert abs((found.value or 0) - predicted) <= 0.03 + error


def test_computed_power_of_small_designs_is_not_too_high() -> None:
    design = Design.even(1, 5, 20)
    predicted = arm_power(0.8, design, arms=4)
    assert predicted <= (simulated_power(binormal(0.8), design, arms=4, n_audits=300, rng=2).high or 0)


@pytest.mark.parametrize("auc", [0.6, 0.7, 0.8])
def test_the_suggested_size_has_the_power_by_the_real_test(auc: float) -> None:
    design = members_needed(auc, power=0.9, arms=4)
    found = simulated_power(binormal(auc), design, arms=4, n_audits=150, rng=3)
    assert found.high is not None
    assert found.high >= 0.9


@given(AUCS, st.integers(1, 8), st.integers(1, 30), st.integers(1, 20))
def test_more_members_and_a_larger_effect_never_lose_power(auc: float, strata: int, members: int, ratio: int) -> None:
    base = arm_power(auc, Design.even(strata, members, ratio * members))
    if Design.even(strata, members, ratio * members).members[0] + ratio > 2:  # pairs count signs, which jump
        assert arm_power(auc, Design.even(strata, members + 1, ratio * (members + 1))) >= base - 1e-9
        assert arm_power(min(0.995, auc + 0.01), Design.even(strata, members, ratio * members)) >= base - 1e-9


@pytest.mark.parametrize("auc", [0.55, 0.62, 0.7, 0.85])
@pytest.mark.parametrize("strata", [1, 10, 30])
def test_the_suggested_size_is_the_smallest(auc: float, strata: int) -> None:
    design = members_needed(auc, strata=strata, decoys_per_member=2)
    members = design.members[0]
    assert design == Design.even(strata, members, 2 * members)
    assert arm_power(auc, design) >= 0.9
    assert members == 1 or arm_power(auc, Design.even(strata, members - 1, 2 * members - 2)) < 0.9


def test_the_order_of_strata_does_not_matter() -> None:
    one, other = Design((1, 3, 20), (40, 12, 10)), Design((20, 1, 3), (10, 40, 12))
    assert arm_power(0.7, one) == pytest.approx(arm_power(0.7, other))


def test_large_designs_have_the_power_of_the_z_test() -> None:
    """Phi(delta sqrt(n1 n0 / (n1 + n0)) - z): the effect is small and every stratum large."""
    z = effect_size(0.53) * math.sqrt(2_000 * 8_000 / 10_000) - norm.isf(0.05)
    assert arm_power(0.53, Design.even(2, 1_000, 4_000)) == pytest.approx(norm.cdf(z), abs=0.003)


def test_holm_counted_conservatively_is_a_smaller_alpha() -> None:
    assert arm_power(0.65, SOME, arms=4) == arm_power(0.65, SOME, alpha=0.0125)


def test_strata_of_one_member_and_one_decoy_are_the_sign_test() -> None:
    assert arm_power(0.8, Design.even(20, 1, 1)) == sign_power(0.8, 20)
    found = simulated_power(binormal(0.8), Design.even(20, 1, 1), n_audits=300, n_draws=999, rng=4)
    assert inside(found, sign_power(0.8, 20))


def test_a_design_whose_smallest_p_value_is_above_the_level_has_no_power() -> None:
    """One stratum of 1 + 10: p is at least 1/11. Two of them: 1/121, enough for 0.05 but not for 0.05 / 10."""
    assert Design.even(1, 1, 10).attainable(9_999) == pytest.approx(1 / 11)
    assert arm_power(0.99, Design.even(1, 1, 10)) == 0.0
    assert arm_power(0.99, Design.even(2, 1, 10)) > 0.5
    assert arm_power(0.99, Design.even(2, 1, 10), arms=10) == 0.0
    assert arm_power(0.99, SOME, arms=4, n_draws=19) == 0.0
    found = simulated_power(binormal(0.99), Design.even(1, 1, 10), n_audits=50, rng=5)
    assert found.value == 0.0


# Rank and sign test


@pytest.mark.parametrize(("n_decoys", "size"), [(19, 0.05), (20, 1 / 21), (38, 1 / 39), (39, 0.05), (18, 0.0)])
def test_the_rank_test_without_an_effect_rejects_at_its_attainable_level(n_decoys: int, size: float) -> None:
    assert rank_power(0.5, n_decoys) == pytest.approx(size, abs=1e-5)


@pytest.mark.parametrize(("auc", "n_decoys"), [(0.7, 19), (0.9, 99), (0.99, 39)])
def test_rank_power_is_that_of_the_real_test(auc: float, n_decoys: int) -> None:
    rng = np.random.default_rng(0)
    p = rank_p_values(rng.normal(effect_size(auc), 1, 10_000), rng.normal(size=(10_000, n_decoys)))
    rate = rank_power(auc, n_decoys)
    assert np.mean(p <= 0.05) == pytest.approx(rate, abs=3.3 * math.sqrt(rate * (1 - rate) / 10_000))


def test_one_decoy_more_than_the_claimant_beats_is_the_auc() -> None:
    """Among one decoy at alpha 1/2 the test rejects when the trap scores higher: power is the AUC."""
    assert rank_power(0.8, 1, alpha=0.5) == pytest.approx(0.8, abs=1e-6)


@given(AUCS, st.integers(1, 400))
def test_no_number_of_decoys_passes_the_limit(auc: float, n_decoys: int) -> None:
    assert rank_power(auc, n_decoys) <= rank_power_limit(auc) + 1e-4


def test_decoys_needed_are_the_fewest_or_none() -> None:
    assert decoys_needed(0.98) is None  # limit Phi(2.904 - 1.645) = 0.896
    found = decoys_needed(0.99)
    assert found is not None
    assert rank_power(0.99, found) >= 0.9 > rank_power(0.99, found - 20)


def test_sign_power_by_hand() -> None:
    """5 pairs at 5%: only 5 of 5 (1/32). At 1/32 exactly as well; at 0.2, 4 of 5 too (6/32): 0.9^5 + 5 0.9^4 0.1."""
    assert sign_power(0.9, 5) == pytest.approx(0.9**5)
    assert sign_power(0.9, 5, alpha=1 / 32) == pytest.approx(0.9**5)
    assert sign_power(0.9, 5, alpha=0.2) == pytest.approx(0.9**5 + 5 * 0.9**4 * 0.1)
    assert sign_power(0.9, 4) == 0.0


@given(st.floats(0.5, 0.99), st.integers(1, 60), st.sampled_from([0.05, 0.0125, 0.25, 2**-7]))
def test_sign_power_sums_the_results_that_the_test_calls_significant(auc: float, n: int, alpha: float) -> None:
    wins = [k for k in range(n + 1) if sign_test(np.repeat([1.0, -1.0], [k, n - k])).value <= alpha * (1 + 1e-9)]
    assert sign_power(auc, n, alpha=alpha) == pytest.approx(float(np.sum(binom.pmf(wins, n, auc))), abs=1e-12)


@pytest.mark.parametrize("auc", [0.6, 0.7, 0.95])
def test_pairs_needed_suffice_from_there_on(auc: float) -> None:
    n = pairs_needed(auc)
    assert all(sign_power(auc, more) >= 0.9 for more in range(n, n + 60))
    assert sign_power(auc, n - 1) < 0.9


# What a design could have seen


def test_the_smallest_auc_is_found_with_the_power_that_is_said() -> None:
    can = detectable(SOME, arms=4)
    assert (can.n_members, can.n_decoys, can.n_strata) == (50, 200, 10)
    for power, auc in can.smallest_auc.items():
        assert auc is not None
        assert arm_power(auc, SOME, arms=4) == pytest.approx(power, abs=1e-4)
    found = simulated_power(binormal(can.smallest_auc[0.8] or 0), SOME, arms=4, n_audits=300, rng=6)
    assert (found.low or 0) - 0.03 <= 0.8 <= (found.high or 0) + 0.03


def test_smallest_p_values_are_those_of_the_design() -> None:
    can = detectable(Design((2, 3), (9, 99)), arms=4)
    assert can.attainable == pytest.approx(4 / 10_000)
    assert can.rank_attainable == 1 / 100
    tiny = detectable(Design.even(1, 1, 10))
    assert tiny.attainable == pytest.approx(1 / 11)
    assert tiny.smallest_auc == {0.8: None, 0.9: None}


def test_a_model_without_the_traps_rules_out_what_is_said_as_often_as_is_said() -> None:
    """800 audits of 10 strata of 6 + 30: the upper bound lies below the AUC in that share, within 4%."""
    rng = np.random.default_rng(7)
    design = Design.even(10, 6, 30)
    excluded = detectable(design).excluded_auc
    highs = []
    for _ in range(800):
        x, y = rng.normal(size=(10, 6)), rng.normal(size=(10, 30))
        centre, spread = y.mean(axis=1, keepdims=True), y.std(axis=1, ddof=1, keepdims=True)
        highs.append(roc_auc(((x - centre) / spread).ravel(), ((y - centre) / spread).ravel()).high)
    for chance, auc in excluded.items():
        assert auc is not None
        assert np.mean(np.array(highs) < auc) == pytest.approx(chance, abs=0.04)


def test_few_decoys_rule_nothing_out() -> None:
    assert detectable(Design.even(10, 5, 9)).excluded_auc == {0.8: None, 0.9: None}


def test_arms_are_counted_from_the_traps() -> None:
    rows = [("decoy", 0, "a")] * 3 + [("decoy", 0, "b")] * 4 + [("decoy", 0, "c")]
    rows += [("member", 1, "a")] * 2 + [("member", 1, "b")] + [("member", 10, "b")] * 5
    assert designs(rows) == {1: Design((2, 1), (3, 4)), 10: Design((5,), (4,))}


# From copies to AUC


def items(*, shift: dict[int, float], seed: int = 0) -> pd.DataFrame:
    """Three strata of 60 decoys and 20 members for each number of copies, of unlike level and spread."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for place, stratum in enumerate("abc"):
        for n_rep, delta, n in [(0, 0.0, 60), *((n_rep, delta, 20) for n_rep, delta in shift.items())]:
            scores = 10 * place + (1 + place) * (rng.normal(size=n) + delta)
            arm = "decoy" if n_rep == 0 else "member"
            rows += [{"arm": arm, "n_rep": n_rep, "stratum": stratum, "ratio_score": score} for score in scores]
    return pd.DataFrame(rows)


def test_a_run_tells_the_effect_that_was_planted() -> None:
    """delta 0.5 and 1.5, scores of three unlike strata; both intervals hold what was planted."""
    curve = measured(items(shift={4: 1.5, 1: 0.5}), "ratio", source="x")
    assert [point.n_rep for point in curve.points] == [1, 4]
    for point, delta in zip(curve.points, (0.5, 1.5), strict=True):
        assert inside(point.effect, delta)
        assert point.auc.value == pytest.approx(norm.cdf((point.effect.value or 0) / math.sqrt(2)))
        assert len(point.members) == 60


def test_measured_copies_are_given_back_and_others_interpolated_in_log_copies() -> None:
    curve = published("Gpt-Neo-1.3b")
    for copies, auc in zip(COPIES, PUBLISHED["gpt-neo-1.3b"], strict=True):
        assert curve.at(copies).value == auc
    share = (math.log(4) - math.log(3)) / (math.log(5) - math.log(3))
    four = curve.at(4)
    assert four.value == pytest.approx(0.782 + share * (0.872 - 0.782))
    assert four.why == "interpolated in log(copies); the source gives no interval"


def test_the_published_table_is_the_specifications() -> None:
    assert COPIES == (1, 2, 3, 5, 7, 10)
    assert {name: (row[0], row[-1]) for name, row in PUBLISHED.items()} == {
        "gpt-neo-1.3b": (0.612, 0.964),
        "gemma-2b": (0.586, 0.905),
        "llama-3.2-1b": (0.593, 0.917),
        "phi-2": (0.577, 0.846),
    }


@pytest.mark.parametrize("copies", [11, 1_000])
def test_beyond_what_was_measured_there_is_no_answer(copies: int) -> None:
    with pytest.raises(InputError, match=f"{copies:,} copies lie outside .* \\(1 to 10\\), and beyond it nothing is"):
        published("phi-2").at(copies)


def test_a_dip_in_the_measurements_is_flattened_and_told() -> None:
    curve = measured(items(shift={1: 1.2, 2: 0.3, 8: 2.0}), "ratio", source="x")
    raw = [point.auc.value or 0 for point in curve.points]
    assert raw[0] > raw[1]
    one, two = curve.at(1), curve.at(2)
    assert one.value == two.value == pytest.approx((raw[0] + raw[1]) / 2)
    assert one.why is not None
    assert one.why.startswith("made non-decreasing over copies")
    assert curve.at(8).value == raw[2]


def test_a_perfect_auc_has_no_finite_effect() -> None:
    assert effect(Estimate(1.0, 0.9, 1.0, 0.95, 10, "m")).value is None
    edge = effect(Estimate(0.99, 0.9, 1.0, 0.95, 10, "m"))
    assert (edge.low, edge.high) == (None, None)
    assert edge.value == pytest.approx(math.sqrt(2) * norm.ppf(0.99))


def test_scores_of_a_run_can_be_simulated_from() -> None:
    """Resampled from normal scores of AUC 0.65, power is about that of the model; members 0, decoys 1: none at all."""
    rng = np.random.default_rng(8)
    delta = effect_size(0.65)
    scores = empirical(rng.normal(delta, 1, 5_000), rng.normal(size=5_000))
    found = simulated_power(scores, SOME, n_audits=400, n_draws=499, rng=9)
    assert found.value == pytest.approx(arm_power(0.65, SOME), abs=0.08)
    below = simulated_power(empirical(np.zeros(3), np.ones(3)), SOME, n_audits=20, n_draws=499, rng=9)
    assert below.value == 0.0


# Refusals


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (lambda: members_needed(0.5), "auc is 0.5; expected above 0.5"),
        (lambda: members_needed(1.0), "auc is 1.0; expected a number between 0 and 1"),
        (lambda: members_needed(0.7, power=0.01), "power is 0.01, not above the level 0.05"),
        (lambda: members_needed(0.7, arms=0), "arms is 0; expected a whole number of at least 1"),
        (lambda: members_needed(0.7, strata=0), "strata is 0"),
        (lambda: members_needed(0.7, decoys_per_member=0), "decoys_per_member is 0; expected a number above 0"),
        (lambda: members_needed(0.7, arms=4, n_draws=19), "below the smallest p-value of 19 re-dealings, 0.05"),
        (lambda: members_needed(0.50001), "more than 1,000,000 members an arm would be needed"),
        (lambda: pairs_needed(0.5001), "more than 1,000,000 pairs would be needed"),
        (lambda: detectable(SOME, alpha=2), "alpha is 2; expected a number between 0 and 1"),
        (lambda: Design((1,), (0,)), "a design has a stratum without members or without decoys"),
        (lambda: Design((1, 2), (3,)), "members in 2 strata and decoys in 1"),
        (lambda: Design((), ()), "members in 0 strata"),
        (lambda: designs([("decoy", 0, "a")]), "there are no members among the traps"),
        (lambda: designs([("member", 1, "a")]), "a stratum without members or without decoys"),
        (lambda: published("gpt-neo"), "no published curve is called 'gpt-neo'; .* Did you mean 'gpt-neo-1.3b'"),
    ],
)
def test_what_cannot_be_answered_is_refused(asked: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        asked()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.drop(columns="ratio_score"),
            "x lacks the columns ratio_score; expected the items of a trap audit",
        ),
        (lambda t: t[t["arm"] == "decoy"], "x has no members"),
        (lambda t: t[(t["arm"] == "member") | (t["stratum"] != "b")], "x has no decoys in stratum 'b'"),
        (lambda t: t.assign(ratio_score=math.nan), "x has scores that are not finite"),
    ],
)
def test_items_that_are_no_finished_audit_are_refused(change: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        measured(change(items(shift={1: 1.0})), "ratio", source="x")
