"""Comparisons at matched perplexity: hand-worked paths, no extrapolation, and the level under the null."""

from __future__ import annotations

import math

import numpy as np
import pytest

from audit.errors import InputError
from audit.forgetting.measured import Measured
from tests.unlearn.lineas.evaluate.small_parts import HAS_X, losses, point
from unlearn.lineas.evaluate.matched import Judged, interpolated, matched
from unlearn.lineas.evaluate.perplexity import Kind
from unlearn.lineas.evaluate.sweep import compare, given


def judged_at(
    strength: float, shown: object, mean_losses: object, arm: str = "theirs", *, scaled: bool = True
) -> Judged:
    values = np.asarray(shown, dtype=np.float64)
    units = tuple(f"prompt {place}" for place in range(len(values)))
    measured = Measured("attribute rate by told", tuple(f"{unit}, seed 0" for unit in units), units, values)
    return Judged(arm, strength, scaled, measured, losses(arm, strength, np.asarray(mean_losses).tolist()))


def test_interpolation_is_linear_in_log_perplexity_at_the_last_crossing() -> None:
    assert interpolated(np.array(8.0), np.array([4.0, 16.0]), np.array([0.0, 1.0])) == pytest.approx(0.5)
    dips = np.array([10.0, 5.0, 20.0])  # 10 is met at the start, and again between the second and the third
    assert interpolated(np.array(10.0), dips, np.array([0.0, 0.4, 0.8])) == pytest.approx(0.6)
    assert math.isnan(interpolated(np.array(21.0), dips, np.array([0.0, 0.4, 0.8])))
    assert interpolated(np.array(5.0), np.array([5.0, 5.0]), np.array([0.1, 0.7])) == 0.7
    assert interpolated(np.array(5.0), np.array([4.0, 5.0, 5.5]), np.array([0.1, 0.7, 0.9])) == 0.7


def test_a_comparison_by_hand() -> None:
    shown = [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]]
    path = [judged_at(s, row, [c] * 3) for s, row, c in zip((0, 0.5, 1), shown, (1.0, 2.0, 4.0), strict=True)]
    found = matched(judged_at(1, [1, 1, 1, 0], [3.0] * 3, "ours"), path, "per token")
    assert found.perplexity == pytest.approx(math.exp(3))
    assert found.baseline_strength == pytest.approx(0.75)
    assert found.baseline_rate.value == pytest.approx(0.75)
    assert found.difference.value == pytest.approx(0.0)
    assert found.our_rate.value == 0.75
    assert "4 + 3 rows" in found.difference.method


def test_what_cannot_be_matched_says_why_and_is_not_extrapolated() -> None:
    ours = judged_at(1, [1, 0], [5.0] * 3, "ours")
    path = [judged_at(s, [0, 1], [1.0 + s] * 3) for s in (0.0, 1.0)]
    found = matched(ours, path, "per token")
    assert found.difference.value is None
    assert found.baseline_strength is None
    assert "only 2.718 to 7.389 at strengths 0 to 1" in str(found.difference.why)
    assert "measure theirs at greater strengths" in str(found.difference.why)
    told = matched(ours, [judged_at(1, [0, 1], [1.0] * 3, "prompt", scaled=False)], "per token")
    assert "has no strength" in str(told.difference.why)
    with pytest.raises(InputError, match="one arm at different strengths"):
        matched(ours, [path[0], path[0]], "per token")


def test_an_arm_against_itself_differs_by_nothing() -> None:
    rng = np.random.default_rng(0)
    costs = [np.array([1.0, 2.0, 1.5]) + s + rng.normal(0, 0.1, 3) for s in (0, 0.5, 1)]
    shown = rng.integers(0, 2, (3, 12)).astype(bool)
    arms = {
        name: [
            point(name, s, row.tolist(), cost.tolist()) for s, row, cost in zip((0, 0.5, 1), shown, costs, strict=True)
        ]
        for name in ("ours", "twin")
    }
    plain = point("unsteered", 0.0, shown[0].tolist(), costs[0].tolist(), scaled=False)
    (found,) = compare(given("ours"), [plain, *arms["ours"], *arms["twin"]], HAS_X, texts="neutral")
    assert found.difference.value == 0
    assert found.baseline_strength == 1


@pytest.mark.parametrize("kind", ["per token", "per sentence"])
def test_the_interval_holds_its_level_where_both_arms_are_alike(kind: Kind) -> None:
    """200 worlds, 95% intervals: 190 expected to cover 0, standard deviation 3.1; 4 of them below is 177."""
    rng = np.random.default_rng(1)
    strengths = np.array([0.0, 0.5, 1.0, 1.5, 2.0])
    n_covered = n_defined = 0
    for _ in range(200):
        ease, hardness = rng.normal(0, 1, 80), rng.normal(2, 0.3, 60)  # shared by both arms, as prompts and texts are

        def arm(name: str, ease: object = ease, hardness: object = hardness) -> list[Judged]:
            found = []
            for s in strengths:
                p = 1 / (1 + np.exp(-(np.asarray(ease) - 1 + s)))
                cost = np.asarray(hardness) + 0.1 * s + rng.normal(0, 0.1, 60)
                found.append(judged_at(float(s), rng.random(80) < p, cost, name))
            return found

        ours, theirs = arm("ours")[2], arm("theirs")
        difference = matched(ours, theirs, kind, n_draws=300).difference
        if difference.low is not None and difference.high is not None:
            n_defined += 1
            n_covered += difference.low <= 0 <= difference.high
    assert n_defined >= 190
    assert 177 / 200 <= n_covered / n_defined <= 0.995
