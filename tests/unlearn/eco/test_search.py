from __future__ import annotations

import itertools
import json
import math
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import nevergrad
import numpy as np
import pytest
from numpy.typing import NDArray

from audit.errors import InputError
from audit.runs.records import plain
from audit.stats.estimate import Estimate
from unlearn.eco import search_methods
from unlearn.eco.search import METHODS, Method, SearchSettings, search
from unlearn.eco.search_ledger import Measurement, Metric
from unlearn.eco.search_result import SearchResult, distance_of, over_seeds
from unlearn.eco.surrogates import Surrogate

Curve = Callable[[float], float | list[float]]


def target(value: float) -> Surrogate:
    return Surrogate(Estimate(value, value, value, 0.95, 1, "given"), "given")


ACCURACY = Metric("accuracy", target(0.25))
PLAIN = SearchSettings()


def sigmoid(middle: float, *, slope: float = 5.0, floor: float = 0.1) -> Callable[[float], float]:
    """From 0.9 at weak strengths down to ``floor``, halfway at 10^middle."""
    return lambda strength: floor + (0.9 - floor) / (1 + math.exp(slope * (math.log10(strength) - middle)))


class Toy:
    """A curve with noise of its own for each strength and seed; remembers what it was asked."""

    def __init__(self, curve: Curve, spread: float = 0.0, run: int = 0, dies_after: float = math.inf) -> None:
        self.curve, self.spread, self.run, self.dies_after = curve, spread, run, dies_after
        self.asked: list[tuple[float, tuple[int, ...]]] = []

    def __call__(self, strength: float, seeds: Sequence[int], /) -> NDArray[np.float64]:
        if len(self.asked) >= self.dies_after:
            raise KeyboardInterrupt
        self.asked.append((strength, tuple(seeds)))
        at = np.atleast_1d(self.curve(strength))
        bits = int(np.float64(strength).view(np.uint64))
        noise = [np.random.default_rng([self.run, bits, seed]).normal(0, self.spread, len(at)) for seed in seeds]
        return at + np.array(noise)


def searched(curve: Curve, settings: SearchSettings = PLAIN, *, spread: float = 0.0) -> SearchResult:
    return search(Toy(curve, spread), [ACCURACY], [0.9], settings)


# --- what it finds ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slope", [5.0, 15.0])
def test_the_default_meets_the_target_on_fresh_seeds_in_95_of_100_runs(slope: float) -> None:
    """Row 8 of the specification's acceptance table, noise 0.02 on one measurement, 40 runs: 38 must hold.

    The steeper curve is flat but for a third of a decade; NGOpt alone, without halvings first, loses itself there.
    """
    met = 0
    for run in range(40):
        curve = sigmoid(float(np.random.default_rng(run).uniform(0.5, 3.0)), slope=slope)
        found = search(Toy(curve, 0.02, run), [ACCURACY], [0.9], replace(PLAIN, seed=run))
        assert found.n_evaluations <= 40
        assert found.strength is not None
        assert not found.fallbacks
        unseen = Toy(curve, 0.02, run)(found.strength, range(20)).mean()
        met += abs(unseen - 0.25) <= 0.05 and found.reached
    assert met >= 38


@pytest.mark.parametrize("method", ["scan", "grid"])
def test_a_dead_zone_does_not_stop_a_search_of_log_sigma(method: Method) -> None:
    found = searched(
        lambda strength: 0.9 if strength < 300 else sigmoid(2.7, slope=12)(strength), replace(PLAIN, method=method)
    )
    assert found.reached
    assert found.distance.value is not None
    assert found.distance.value < 0.02


def test_in_a_dead_zone_the_finite_difference_stands_still() -> None:
    """Nothing changes below 300, so that g = 0 at sigma 0.1 in each step: 0.1999 and 0.0001 are all it ever sees."""
    found = searched(lambda strength: 0.9 if strength < 300 else 0.1, replace(PLAIN, method="published"))
    assert found.strength == 0.1
    assert found.outcome == "flat"
    assert {one.strength for one in found.trace if one.stage == "descent"} == {0.1 + 0.0999, 0.1 - 0.0999}
    assert found.evaluations == {"descent": 2, "report": 1}
    [flat, short] = found.warnings
    assert "does not depend on the strength from 0.0001 to 0.1999" in flat
    assert "is that of the bare model: corrupt more dims or tokens" in flat
    assert "short of it at all strengths tried" in short


def test_two_metrics_with_other_targets_and_directions_are_met_by_one_strength() -> None:
    """Accuracy is 0.3 and the truth ratio 0.65 at sigma = 10^1.6; alone the first would be met there too."""

    def curve(strength: float) -> list[float]:
        u = math.log10(strength)
        return [0.3 - 0.2 * math.tanh(u - 1.6), 0.65 + 0.3 * math.tanh(2 * (u - 1.6))]

    metrics = [Metric("accuracy", target(0.3)), Metric("truth ratio", target(0.65), falls=False)]
    found = search(Toy(curve), metrics, [0.5, 0.35], PLAIN)
    assert found.reached
    assert found.strength == pytest.approx(10**1.6, rel=0.05)
    assert [metric.brackets[0].how for metric in found.metrics] == ["falls", "falls"]  # in what the model knows
    apart = [Metric("accuracy", target(0.3)), Metric("truth ratio", target(0.9), falls=False)]
    between = search(Toy(curve), apart, [0.5, 0.35], PLAIN)
    assert between.strength is not None
    assert 10**1.6 <= between.strength <= 10**2.3


# --- what it must say ------------------------------------------------------------------------------------------------


def test_a_target_that_no_strength_reaches_gets_the_nearest_and_says_so() -> None:
    found = searched(sigmoid(1.0, floor=0.5), spread=0.01)
    assert found.outcome == "never reached"
    assert not found.reached
    assert found.bracket is None
    assert found.strength is not None
    assert found.strength > 100
    warning = next(one for one in found.warnings if "never comes to its target 0.25" in one)
    assert "short of it at all strengths tried (0.1, 0.2848, " in warning
    assert warning.endswith(", 10000)")


def test_beyond_the_target_at_the_weakest_strength_points_to_weaker_ones() -> None:
    found = searched(sigmoid(-1.5), spread=0.005)
    assert found.outcome == "never reached"
    assert any("beyond it at all strengths tried" in one and "lower `lower`" in one for one in found.warnings)


def test_a_jump_across_the_target_is_not_called_reached() -> None:
    found = searched(lambda strength: 0.9 if strength < 50 else 0.1)
    assert found.outcome == "crossed, not met"
    assert any("the metric jumps there" in one for one in found.warnings)


def test_of_two_crossings_the_first_is_taken_and_both_are_listed() -> None:
    """Falls through 0.25 at 10^1 and is back at 10^3."""
    found = searched(lambda strength: 0.25 + 0.3 * abs(math.log10(strength) - 2) - 0.3)
    [falls, rises] = found.metrics[0].brackets
    assert (falls.how, rises.how) == ("falls", "rises")
    assert falls.low <= 10 <= falls.high
    assert rises.low <= 1000 <= rises.high
    assert found.strength == pytest.approx(10, rel=0.1)
    assert found.reached
    assert any("not monotone" in one for one in found.warnings)


def test_noise_about_a_floor_that_is_the_target_is_no_second_crossing() -> None:
    several = sum(
        any(
            "not monotone" in one
            for one in search(Toy(sigmoid(1.5, floor=0.25), 0.03, run), [ACCURACY], [0.9], PLAIN).warnings
        )
        for run in range(20)
    )
    assert several <= 4  # 1 in 14 expected; P(5 or more of 20) = 0.01


def test_a_bare_model_at_its_target_has_nothing_to_corrupt_and_is_not_measured() -> None:
    toy = Toy(sigmoid(2.0))
    found = search(toy, [ACCURACY], [0.24], PLAIN)
    assert (found.outcome, found.strength, toy.asked) == ("nothing to corrupt", None, [])
    assert found.metrics[0].value.value is None
    assert "0.24, already at or beyond its target 0.25" in found.warnings[0]
    json.dumps(plain(found.to_record(), "search"), allow_nan=False)
    rising = Metric("truth ratio", target(0.6), falls=False)
    assert search(toy, [rising], [0.7], PLAIN).strength is None
    assert search(Toy(lambda strength: 1 - sigmoid(2.0)(strength)), [rising], [0.1], PLAIN).reached


@pytest.mark.parametrize("method", ["scan", "grid"])
def test_a_metric_that_starts_beyond_its_target_is_followed_back_up(method: Method) -> None:
    found = searched(lambda strength: 1 - sigmoid(2.0)(strength), replace(PLAIN, method=method))
    assert found.metrics[0].brackets[0].how == "rises"
    assert found.reached


def test_a_metric_that_does_not_depend_on_the_strength_is_called_flat() -> None:
    flat = 0
    for run in range(20):
        found = search(Toy(lambda _: 0.7, 0.03, run), [ACCURACY], [0.9], PLAIN)
        flat += found.outcome == "flat"
        assert not found.reached
        assert "is not that of the bare model: lower `lower`" in found.warnings[0]
    assert flat == 20


# --- how it measures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_all_strengths_share_the_seeds_and_fresh_ones_are_fresh(method: Method) -> None:
    toy = Toy(sigmoid(1.5), 0.02)
    found = search(toy, [ACCURACY], [0.9], replace(PLAIN, method=method))
    uses = found.seeds
    assert {seeds for _, seeds in toy.asked} <= {uses["search"], uses["confirm"], uses["report"]}
    confirmed = {strength for strength, seeds in toy.asked if seeds == uses["confirm"]}
    assert len(confirmed) == (3 if method in ("scan", "grid") else 0)
    assert found.strength == min(found.candidates, key=lambda one: one.fresh or 0.0).strength
    assert len({*uses["search"], *uses["confirm"], *uses["report"]}) == 3 + 8 + 8
    assert [strength for strength, seeds in toy.asked if seeds == uses["report"]] == [found.strength]
    assert len(set(toy.asked)) == len(toy.asked)  # nothing twice
    assert sum(len(seeds) for _, seeds in toy.asked) == found.passes == len(found.trace)
    assert len(toy.asked) == found.n_evaluations


def test_fewer_than_three_seeds_are_refused() -> None:
    with pytest.raises(InputError, match="n_seeds is 2; expected a whole number of at least 3"):
        SearchSettings(n_seeds=2)
    with pytest.raises(InputError, match="n_fresh is 1"):
        SearchSettings(n_fresh=1)


@pytest.mark.parametrize("method", METHODS)
def test_no_strength_beyond_the_limit_is_measured(method: Method) -> None:
    toy = Toy(lambda strength: 0.9 - 1e-5 * strength)
    found = search(toy, [ACCURACY], [0.9], replace(PLAIN, method=method, upper=5e3, eta=1e9))
    assert max(strength for strength, _ in toy.asked) <= 5e3
    assert found.strength == 5e3
    assert method in ("scan", "grid") or any("beyond the strongest allowed, 5000" in one for one in found.warnings)


@pytest.mark.parametrize("method", METHODS)
def test_a_search_that_was_killed_goes_on_to_the_same_result(method: Method) -> None:
    def same(found: SearchResult) -> dict[str, Any]:
        return {name: value for name, value in found.to_record().items() if name not in ("seconds", "reused")}

    settings = replace(PLAIN, method=method, scan_points=6, local_points=8)
    whole = search(Toy(sigmoid(1.5), 0.02), [ACCURACY], [0.9], settings)
    for dies_after in (0, 1, len(whole.trace) // 3 // 2, whole.n_evaluations - 1):
        kept: list[Measurement] = []
        with pytest.raises(KeyboardInterrupt):
            search(Toy(sigmoid(1.5), 0.02, dies_after=dies_after), [ACCURACY], [0.9], settings, on_measured=kept.append)
        on_disk = [Measurement(**json.loads(json.dumps(plain(vars_of(one), "one")))) for one in kept[:-1]]
        toy = Toy(sigmoid(1.5), 0.02)
        again: list[Measurement] = []
        found = search(toy, [ACCURACY], [0.9], settings, done=on_disk, on_measured=again.append)
        assert same(found) == same(whole)
        assert found.reused == len(on_disk)
        assert len(again) == whole.passes - len(on_disk)
        assert whole.reused == 0


def vars_of(one: Measurement) -> dict[str, Any]:
    return {"strength": one.strength, "seed": one.seed, "values": one.values, "stage": one.stage}


# --- nevergrad -------------------------------------------------------------------------------------------------------


def _breaks_at_once(**_: Any) -> Any:
    raise TypeError("only 0-dimensional arrays can be converted to Python scalars")


class _BreaksLater:
    """Asks for the middle twice and then fails as nevergrad does under a newer numpy."""

    def __init__(self, *, parametrization: Any, **_: Any) -> None:
        self._middle, self._left = parametrization, 2

    def ask(self) -> Any:
        self._left -= 1
        if self._left < 0:
            _breaks_at_once()
        return self._middle

    def tell(self, candidate: Any, loss: float) -> None:
        pass


@pytest.mark.parametrize("broken", [_breaks_at_once, _BreaksLater, None])
def test_where_nevergrad_fails_bisection_takes_its_place(broken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if broken is None:
        monkeypatch.setitem(sys.modules, "nevergrad", None)
    else:
        monkeypatch.setattr(nevergrad.optimizers, "NGOpt", broken)
    found = searched(sigmoid(1.234), replace(PLAIN, enough=0.0))
    assert found.reached
    [fallback] = found.fallbacks
    assert "bisection took its place" in fallback
    assert ("ModuleNotFoundError" if broken is None else "TypeError") in fallback
    assert found.evaluations["local"] <= PLAIN.local_points


def test_nevergrads_own_warnings_stay_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_warnings() -> tuple[list[str], tuple[str, ...]]:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            fallbacks = searched(sigmoid(1.234), replace(PLAIN, enough=0.0)).fallbacks
        return [str(one.message) for one in seen], fallbacks

    assert all_warnings() == ([], ())
    monkeypatch.setattr(search_methods, "_quiet", nullcontext)
    assert "COBYLA" in all_warnings()[0][0]  # there is something to keep inside


def test_an_error_of_the_measure_is_no_fallback_and_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    toy = Toy(sigmoid(1.234), 0.02, dies_after=PLAIN.scan_points + PLAIN.halvings + 2)
    with pytest.raises(KeyboardInterrupt):
        search(toy, [ACCURACY], [0.9], replace(PLAIN, enough=0.0))
    for _ in range(100):
        if threading.active_count() == before:
            break
        threading.Event().wait(0.02)
    assert threading.active_count() == before


# --- the finite difference, step by step -----------------------------------------------------------------------------


def descended(curve: Curve, **settings: Any) -> tuple[float | None, list[float]]:
    toy = Toy(curve)
    found = search(toy, [ACCURACY], [0.9], replace(PLAIN, enough=0.0, sensitivity_points=0, **settings))
    return found.strength, [strength for strength, seeds in toy.asked if seeds == found.seeds["search"]]


def test_the_published_steps_follow_the_raw_metric() -> None:
    """m = 0.9 - 0.002 sigma has slope -0.002 everywhere, and 100 x 0.002 = 0.2 is added in each of 3 steps."""
    strength, asked = descended(
        lambda strength: 0.9 - 0.002 * strength, method="published", mu=0.05, start=0.1, steps=3
    )
    assert asked == pytest.approx([0.15, 0.05, 0.35, 0.25, 0.55, 0.45])
    assert strength == pytest.approx(0.7)


def test_the_published_recipe_stops_after_the_step_that_sees_less_than_its_limit() -> None:
    """m = 0.3 - 0.1 sigma: 0.285 at 0.15, 0.275 at 0.25, 0.265 < 0.27 at 0.35; the third step is still taken."""
    strength, asked = descended(lambda strength: 0.3 - 0.1 * strength, method="published", mu=0.05, start=0.1, eta=1.0)
    assert asked == pytest.approx([0.15, 0.05, 0.25, 0.15, 0.35, 0.25])
    assert strength == pytest.approx(0.4)


def test_behind_zero_the_script_looks_at_next_to_nothing_and_still_divides_by_twice_mu() -> None:
    """sigma - mu = 0.1 - 0.4 is replaced by 1e-8: g = (m(0.5) - m(0)) / 0.8 = -0.01 x 0.5 / 0.8, eta 100 adds 0.625."""
    strength, asked = descended(lambda strength: 0.9 - 0.01 * strength, method="published", mu=0.4, start=0.1, steps=1)
    assert asked == pytest.approx([0.5, 1e-8])
    assert strength == pytest.approx(0.1 + 0.625)


def test_a_metric_that_rises_holds_the_published_recipe_at_its_lower_bound() -> None:
    strength, _ = descended(lambda strength: 0.5 + 0.01 * strength, method="published", steps=2)
    assert strength == 0.1


@pytest.mark.parametrize(("start", "ends"), [(0.5, 0.7), (3.0, 2.8)])
def test_the_distance_pulls_from_both_sides(start: float, ends: float) -> None:
    """m = 0.35 - 0.1 sigma meets 0.25 at 1; d = 0.1 |1 - sigma|, and 1 x 0.1 is moved towards it in each of 2 steps."""
    strength, _ = descended(
        lambda strength: 0.35 - 0.1 * strength, method="distance", mu=0.1, start=start, eta=1.0, steps=2
    )
    assert strength == pytest.approx(ends)


# --- sensitivity, numbers, bad input ---------------------------------------------------------------------------------


def test_sensitivity_gives_the_strength_of_other_targets() -> None:
    """m = 0.45 - 0.1 u on u = log10 sigma: 0.25 at u = 2, 0.2 at 2.5, 0.3 at 1.5."""
    found = searched(lambda strength: 0.45 - 0.1 * math.log10(strength))
    low, same, high = found.sensitivity
    assert [one.factor for one in found.sensitivity] == [0.8, 1.0, 1.2]
    assert same.strength == found.strength
    for one, value, u in ((low, 0.2, 2.5), (high, 0.3, 1.5)):
        assert one.strength is not None
        assert math.log10(one.strength) == pytest.approx(u, abs=0.06)
        assert one.values[0].value == pytest.approx(value, abs=0.006)
        assert one.why is None
    floored = searched(sigmoid(1.5, floor=0.24)).sensitivity[0]
    assert floored.why == "no strength measured lies beyond these targets; the nearest is given"
    near = search(Toy(sigmoid(1.5)), [ACCURACY], [0.28], PLAIN).sensitivity[2]
    assert (near.strength, near.why) == (None, "the bare model is there already")


def test_the_interval_is_students_over_seeds_and_the_distance_follows_it() -> None:
    """0.2, 0.3, 0.4: mean 0.3, sd 0.1, t(0.975, 2) = 4.3027, half-width 0.2484."""
    found = over_seeds(np.array([0.2, 0.3, 0.4]), "report")
    assert (found.value, found.low, found.high) == pytest.approx((0.3, 0.0516, 0.5484), abs=1e-4)
    inside = distance_of([found], np.array([0.25]))
    assert (inside.value, inside.low, inside.high) == pytest.approx((0.05, 0.0, 0.2984), abs=1e-4)
    outside = distance_of([found], np.array([0.0]))
    assert (outside.value, outside.low, outside.high) == pytest.approx((0.3, 0.0516, 0.5484), abs=1e-4)
    assert over_seeds(np.full(3, 0.1), "report").why == "every noise seed gave the same value"


def test_the_record_is_plain_and_the_rows_are_those_of_the_search() -> None:
    found = searched(sigmoid(1.5), spread=0.02)
    record = json.loads(json.dumps(plain(found.to_record(), "search"), allow_nan=False))
    assert record["metrics"][0]["target"]["source"] == "given"
    assert record["n_evaluations"] == sum(record["evaluations"].values())
    assert record["distance"]["n"] == PLAIN.n_fresh
    rows = found.rows()
    assert [row["strength"] for row in rows] == list(found.tried)
    assert all(a["strength"] < b["strength"] for a, b in itertools.pairwise(rows))
    assert all(row["low"] <= row["mean"] <= row["high"] and row["n_seeds"] == 3 for row in rows)
    assert [row["strength"] for row in rows if row["chosen"]] == [found.strength]


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="metric 'accuracy' is nan at strength 0.1 under seed"):
        searched(lambda strength: math.nan)
    with pytest.raises(InputError, match=r"at strength 0.1 have shape \(3, 2\); expected \(3, 1\)"):
        searched(lambda strength: [0.5, 0.5])
    with pytest.raises(InputError, match="bare has 2 numbers for 1 metrics"):
        search(Toy(sigmoid(1)), [ACCURACY], [0.9, 0.9], PLAIN)
    with pytest.raises(InputError, match="metrics is empty"):
        search(Toy(sigmoid(1)), [], [0.9], PLAIN)
    with pytest.raises(InputError, match="'ratio' has to rise"):
        search(Toy(sigmoid(1)), [Metric("ratio", target(1.0), falls=False)], [0.9], replace(PLAIN, method="published"))
    twice = [Measurement(0.1, 1, (value,), "scan") for value in (0.1, 0.2)]
    with pytest.raises(InputError, match="twice, with other values"):
        search(Toy(sigmoid(1)), [ACCURACY], [0.9], PLAIN, done=twice)
    with pytest.raises(InputError, match="strengths from 10 to 1; expected 0 < lower < upper"):
        SearchSettings(lower=10, upper=1)
    with pytest.raises(InputError, match="start is 0.1; expected a strength from 1 to 100"):
        SearchSettings(lower=1, upper=100)
