"""Promises of the threshold: by hand, in simulation, and where the calibration set is too small for one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from audit.errors import InputError
from unlearn.eco.calibration import one_sided, one_sided_by_group, require_unseen, two_sided


@pytest.mark.parametrize(("n", "high"), [(200, 0.0235), (1000, 0.0157), (5000, 0.0124)])
def test_upper_bounds_of_the_true_rate_are_those_of_the_table(n: int, high: float) -> None:
    """Level 0.9: the upper bound is the 95th percentile. k-th smallest of 0..n-1 is k - 1."""
    found = one_sided(np.arange(n)[::-1], alpha=0.01, level=0.9)
    assert found.rank == math.ceil(round((n + 1) * 0.99, 6))
    assert found.value == found.rank - 1
    assert found.rate.high == pytest.approx(high, abs=5e-5)
    assert found.flags([found.value, found.value + 1]).tolist() == [False, True]


def test_fifty_prompts_promise_nothing_at_one_percent() -> None:
    found = one_sided(np.arange(50.0), alpha=0.01)
    assert (found.value, found.rank, found.n_needed) == (math.inf, 51, 99)
    assert not found.flags([1e300]).any()
    assert found.warning == (
        "50 retain scores cannot hold a rate of 0.01, so nothing is flagged; at least 99 are needed."
    )
    assert one_sided(np.arange(99.0), alpha=0.01).warning is None
    assert one_sided(np.arange(98.0), alpha=0.01).warning is not None


def test_coverage_holds_on_average_and_the_beta_interval_holds_the_true_rates() -> None:
    """2,000 draws of 150 uniform scores, alpha 0.05: the true rate of a threshold t is 1 - t.

    New prompts flagged: k = ceil(151 x 0.95) = 144, expected rate 7/151. Bounds are 1e-6 tails of the binomial and
    of the mean.
    """
    rng, draws, n = np.random.default_rng(0), 2000, 150
    found = [one_sided(rng.random(n), alpha=0.05, level=0.9) for _ in range(draws)]
    rates = np.array([1 - one.value for one in found])
    law = scipy.stats.beta(7, 144)
    assert rates.mean() == pytest.approx(7 / 151, abs=4.9 * law.std() / math.sqrt(draws))
    inside = sum(one.rate.low <= rate <= one.rate.high for one, rate in zip(found, rates, strict=True))
    low, high = scipy.stats.binom.ppf([1e-6, 1 - 1e-6], draws, 0.9)
    assert low <= inside <= high
    flagged = sum(one.flags([rng.random()])[0] for one in found)
    assert flagged <= scipy.stats.binom.ppf(1 - 1e-6, draws, 0.05)
    assert flagged >= scipy.stats.binom.ppf(1e-6, draws, 7 / 151)


def test_ties_are_counted_and_only_lower_the_rate() -> None:
    found = one_sided([0.0] * 10 + [1.0] * 10, alpha=0.1)
    assert (found.value, found.n_tied) == (1.0, 10)
    assert "tied" in str(found.rate.why)
    assert not found.flags([1.0]).any()


def test_a_group_without_enough_prompts_gets_a_warning_and_no_threshold() -> None:
    scores = np.r_[np.arange(20.0), 100 + np.arange(5.0)]
    found = one_sided_by_group(scores, ["en"] * 20 + ["fr"] * 5, alpha=0.1)
    assert found["en"] == one_sided(scores[:20], alpha=0.1)
    assert found["fr"].value == math.inf
    assert "5 retain scores of group" in str(found["fr"].warning)
    assert "fr" in str(found["fr"].warning)


def test_two_sided_by_hand() -> None:
    """Retain 1..9 and forget 5..13, alpha 0.2: k = 8. Retain up to 8; -forget sorted -13..-5, the 8th is -6.

    So "forget" is in the set from 6 on, and 6 to 8 hold both.
    """
    retain, forget = np.arange(1.0, 10.0), np.arange(5.0, 14.0)
    found = two_sided(retain, forget, alpha_retain=0.2, alpha_forget=0.2)
    held = found.sets([5, 6, 8, 9])
    assert [one.tolist() for one in held] == [[True, True, True, False], [False, True, True, True]]
    assert found.flags([5, 6, 8, 9]).tolist() == [False, True, True, True]
    assert (found.bounds_misses, found.bounds_false_positives) == (True, False)
    passing = two_sided(retain, forget, alpha_retain=0.2, alpha_forget=0.2, on_both="pass")
    assert passing.flags([5, 6, 8, 9]).tolist() == [False, False, False, True]
    assert (passing.bounds_misses, passing.bounds_false_positives) == (False, True)


def test_scores_between_well_separated_classes_follow_the_policy_for_empty_sets() -> None:
    """Retain up to 8, forget from 22: 15 is in neither."""
    retain, forget = np.arange(1.0, 10.0), np.arange(21.0, 30.0)
    for action in ("corrupt", "pass"):
        found = two_sided(retain, forget, alpha_retain=0.2, alpha_forget=0.2, on_none=action)
        assert found.flags([8, 15, 22]).tolist() == [False, action == "corrupt", True]


@pytest.mark.parametrize("on_both", ["corrupt", "pass"])
def test_the_promised_rate_of_the_action_holds_where_classes_overlap(on_both: str) -> None:
    """4,000 draws of 40 and 40 scores, one new prompt of each class; bounds are 1e-6 tails of the binomial."""
    rng, draws, misses, alarms = np.random.default_rng(1), 4000, 0, 0
    for _ in range(draws):
        retain, forget = rng.normal(size=41), rng.normal(1.0, size=41)
        found = two_sided(retain[1:], forget[1:], alpha_retain=0.1, alpha_forget=0.1, on_both=on_both)
        misses += not found.flags(forget[:1])[0]
        alarms += found.flags(retain[:1])[0]
    most = scipy.stats.binom.ppf(1 - 1e-6, draws, 0.1)
    promised, other = (misses, alarms) if on_both == "corrupt" else (alarms, misses)
    assert promised <= most
    assert other > most, "one action cannot keep both promises here"


def test_too_few_forget_prompts_promise_no_recall() -> None:
    found = two_sided(np.arange(100.0), np.arange(5.0), alpha_retain=0.05, alpha_forget=0.05)
    assert not found.bounds_misses
    assert len(found.warnings) == 1
    assert 'every set holds "forget"; at least 19' in found.warnings[0]
    assert found.flags([0.0, 200.0]).all(), "a set of both is corrupted"


def test_trained_prompts_are_refused_for_calibration() -> None:
    with pytest.raises(InputError, match=r"1 of 2 calibration prompts were trained on, first prompt 1"):
        require_unseen(["Who?", "what  IS it?"], ["What is it?"])
    require_unseen(["Who?"], ["What is it?"])


def test_bad_scores_and_rates_are_refused() -> None:
    with pytest.raises(InputError, match="alpha is 1"):
        one_sided([1.0], alpha=1.0)
    with pytest.raises(InputError, match="retain_scores"):
        one_sided([], alpha=0.1)
    with pytest.raises(InputError, match="on_both is 'drop'"):
        two_sided([1.0], [1.0], alpha_retain=0.5, alpha_forget=0.5, on_both="drop")  # type: ignore[arg-type]
