"""The exact-duplicate equivalent against hand-worked curves, a plain interpolation, and its own interval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import InputError
from audit.stats.auc import roc_auc
from audit.traps.fuzzy.equivalent import (
    exact_duplicate_equivalent,
    exact_duplicate_equivalent_interval,
    smoothed,
)

PHI = [0.612, 0.706, 0.782, 0.836, 0.872, 0.910, 0.928, 0.946, 0.955, 0.964]  # GPT-Neo, of the specification


def test_the_published_curve_gives_the_specified_answer() -> None:
    """Worked in the module's docstring: 6 + (.923 - .9033) / .0247 = 6.797 copies, so 5.797 / 9."""
    assert exact_duplicate_equivalent(PHI, 0.923, 10) == pytest.approx(0.644, abs=5e-4)


def test_a_point_of_the_smoothed_curve_is_worth_its_own_number_of_copies() -> None:
    for nu, auc in enumerate(smoothed(np.array(PHI)), start=1):
        assert exact_duplicate_equivalent(PHI, float(auc), 10) == pytest.approx((nu - 1) / 9)


def test_smoothing_keeps_the_ends_and_averages_three_points() -> None:
    assert smoothed(np.array([0.5, 0.8, 0.5, 0.9])) == pytest.approx([0.5, 0.6, 0.7333333, 0.9])


def test_below_the_first_point_it_is_zero_even_where_the_curve_falls() -> None:
    """The published code would give 1 + (.60 - .62) / (.61 - .62) = 3 copies here."""
    assert exact_duplicate_equivalent(PHI, 0.3, 10) == 0
    falling = [0.62, 0.60, 0.61, 0.70, 0.80]
    assert smoothed(np.array(falling))[1] < falling[0]
    assert exact_duplicate_equivalent(falling, 0.60, 5) == 0


def test_above_the_last_point_it_goes_on_with_the_mean_of_the_last_three_slopes() -> None:
    """A straight line stays one: slope .05, so .8 is 5 + .1 / .05 = 7 copies, 6 / 4.

    A bent one: s_4 ... s_7 = .72 .71 .7433 .8, whose steps .01 (down), .0333 and .0567 have the mean .0333, so .84 is
    7 + .04 / .0333 = 8.2 copies, 7.2 / 6.
    """
    assert exact_duplicate_equivalent([0.5, 0.55, 0.6, 0.65, 0.7], 0.8, 5) == pytest.approx(6 / 4)
    bent = [0.5, 0.6, 0.8, 0.7, 0.66, 0.77, 0.8]
    assert smoothed(np.array(bent))[3:] == pytest.approx([0.72, 0.71, 0.7433333, 0.8])
    assert exact_duplicate_equivalent(bent, 0.84, 7) == pytest.approx(7.2 / 6, abs=1e-6)


def test_a_level_step_is_worth_the_fewer_copies() -> None:
    """s = .5 .6 .6 .6 .7: at .6 the last step that holds it is from 4 on, so 4 copies; never a division by zero."""
    exact = [0.5, 0.7, 0.6, 0.5, 0.7]
    assert smoothed(np.array(exact))[1:4] == pytest.approx([0.6, 0.6, 0.6])
    assert exact_duplicate_equivalent(exact, 0.6, 5) == pytest.approx(3 / 4, abs=1e-9)


def test_above_a_level_end_it_is_undefined_and_says_so() -> None:
    level = [0.5, 0.9, 0.9, 0.9, 0.9, 0.9]
    assert exact_duplicate_equivalent(level, 0.9, 6) == 1
    with pytest.raises(InputError, match=r"rho is undefined: the fuzzy AUC 0\.95 lies above the last exact one, 0\.9"):
        exact_duplicate_equivalent(level, 0.95, 6)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (([0.5, 0.6, 0.7], 0.6, 10), "exact_aucs has 3 values; expected 4 or more"),
        (([0.5, 0.6, 0.7, 1.2], 0.6, 10), r"exact_aucs\[3\] is 1.2; expected an AUC, from 0 to 1"),
        (([0.5, 0.6, 0.7, 0.8], -0.1, 10), "fuzzy_auc is -0.1; expected an AUC"),
        (([0.5, 0.6, 0.7, float("nan")], 0.6, 10), r"exact_aucs\[3\] is nan; expected finite numbers"),
        (([0.5, 0.6, 0.7, 0.8], 0.6, 1), "n_dup is 1; expected a whole number of at least 2"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple[list[float], float, int], says: str) -> None:
    with pytest.raises(InputError, match=says):
        exact_duplicate_equivalent(*arguments)


@given(
    steps=st.lists(st.floats(0.001, 0.05), min_size=4, max_size=12),
    fuzzies=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    n_dup=st.integers(2, 20),
)
def test_on_a_rising_curve_it_is_plain_interpolation_and_never_falls(
    steps: list[float], fuzzies: tuple[float, float], n_dup: int
) -> None:
    exact = 0.4 + np.cumsum(steps)
    curve = smoothed(exact)
    low, high = sorted(fuzzies)
    if curve[0] <= low <= curve[-1]:
        copies = np.interp(low, curve, np.arange(1, len(curve) + 1))
        assert exact_duplicate_equivalent(exact, low, n_dup) == pytest.approx((copies - 1) / (n_dup - 1), abs=1e-6)
    both = [exact_duplicate_equivalent(exact, auc, n_dup) for auc in (low, high)]
    assert both[0] <= both[1] + 1e-12


def scores(rng: np.random.Generator, n: int = 80) -> tuple[np.ndarray, ...]:
    """Ten exact models and a fuzzy one worth about 5 copies; traps keep an own level in all of them."""
    own, own_decoy = rng.normal(size=n), rng.normal(size=n)
    members = np.array([own + 0.2 * nu + 0.3 * rng.normal(size=n) for nu in range(1, 11)])
    decoys = np.array([own_decoy + 0.3 * rng.normal(size=n) for _ in range(10)])
    return members, decoys, own + 1.0 + 0.3 * rng.normal(size=n), own_decoy + 0.3 * rng.normal(size=n)


def test_the_interval_is_round_the_value_that_the_aucs_give() -> None:
    members, decoys, fuzzy, fuzzy_decoys = scores(np.random.default_rng(0))
    found = exact_duplicate_equivalent_interval(members, decoys, fuzzy, fuzzy_decoys, n_dup=10, n_draws=400, rng=1)
    aucs = [roc_auc(one, other).value or 0 for one, other in zip(members, decoys, strict=True)]
    value = exact_duplicate_equivalent(aucs, roc_auc(fuzzy, fuzzy_decoys).value or 0, 10)
    assert found.value == pytest.approx(value)
    assert found.low is not None
    assert found.high is not None
    assert found.low < value < found.high
    assert found.n == 160
    assert "percentile bootstrap of 80 + 80 rows, 400 draws" in found.method


def test_what_the_models_share_cancels_because_a_draw_takes_the_same_traps_in_all() -> None:
    """Shuffling the traps apart in each model leaves every AUC as it is and takes the pairing away."""
    rng = np.random.default_rng(3)
    members, decoys, fuzzy, fuzzy_decoys = scores(rng)
    apart = [np.array([rng.permutation(row) for row in table]) for table in (members, decoys)]
    paired = exact_duplicate_equivalent_interval(members, decoys, fuzzy, fuzzy_decoys, n_dup=10, n_draws=400, rng=1)
    unpaired = exact_duplicate_equivalent_interval(*apart, fuzzy, fuzzy_decoys, n_dup=10, n_draws=400, rng=1)
    assert paired.value == pytest.approx(unpaired.value)
    assert (paired.high or 0) - (paired.low or 0) < 0.7 * ((unpaired.high or 0) - (unpaired.low or 0))


def test_traps_can_be_resampled_within_their_strata() -> None:
    data = scores(np.random.default_rng(0))
    labels = ["a"] * 40 + ["b"] * 40
    found = exact_duplicate_equivalent_interval(
        *data, n_dup=10, member_strata=labels, decoy_strata=labels, n_draws=200, rng=1
    )
    assert "within 4 strata" in found.method


def test_scores_that_do_not_belong_together_are_named() -> None:
    members, decoys, fuzzy, fuzzy_decoys = scores(np.random.default_rng(0))
    with pytest.raises(InputError, match=r"exact_members has shape \(10, 80\) and fuzzy_members \(79,\)"):
        exact_duplicate_equivalent_interval(members, decoys, fuzzy[:-1], fuzzy_decoys, n_dup=10, rng=1)
    with pytest.raises(InputError, match="exact_members has 10 models and exact_decoys 9"):
        exact_duplicate_equivalent_interval(members, decoys[:-1], fuzzy, fuzzy_decoys, n_dup=10, rng=1)
    with pytest.raises(InputError, match="give member_strata and decoy_strata, or neither"):
        exact_duplicate_equivalent_interval(
            members, decoys, fuzzy, fuzzy_decoys, n_dup=10, member_strata=["a"] * 80, rng=1
        )
