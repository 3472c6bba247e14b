"""Means, differences, gaps and KS tests: by hand, under the null, and with the truth inside the interval."""

from __future__ import annotations

import numpy as np
import pytest

from audit.errors import InputError
from audit.forgetting.gap import beyond_placebo, forget_quality, gap_closed
from audit.forgetting.measured import Measured, difference


def measured(values: list[float] | np.ndarray, *, per_passage: int = 1, name: str = "m") -> Measured:
    numbers = np.asarray(values, dtype=float)
    ids = tuple(f"i{i}" for i in range(len(numbers)))
    return Measured(name, ids, tuple(f"p{i // per_passage}" for i in range(len(numbers))), numbers)


def test_shares_of_independent_passages_have_wilsons_interval() -> None:
    found = measured([1.0] * 5 + [0.0] * 5).mean(rng=0)
    assert (found.value, found.n) == (0.5, 10)
    assert found.low == pytest.approx(0.2366, abs=1e-3)
    assert "Wilson" in found.method


def test_items_of_one_passage_are_resampled_together() -> None:
    values = np.repeat(np.linspace(0, 1, 25), 8)
    apart, together = measured(values).mean(rng=0), measured(values, per_passage=8).mean(rng=0)
    assert together.n == 25
    assert apart.low is not None
    assert together.low is not None
    assert together.low < apart.low - 0.05


def test_few_passages_and_missing_items_are_said() -> None:
    short = Measured("m", ("a", "b", "c"), ("p", "q", "r"), np.array([0.1, 0.4, 0.2]), {"d": "too long"})
    why = short.mean(rng=0).why or ""
    assert "only 3 passages: the interval is too narrow" in why
    assert "1 items have no value and were left out; first 'd': too long" in why


def test_a_measure_without_items_is_undefined_with_its_reason() -> None:
    found = Measured("m", (), (), np.array([]), {"d": "too long"}).mean(rng=0)
    assert found.value is None
    assert "too long" in (found.why or "")


def test_a_difference_is_of_the_same_items() -> None:
    a = Measured("m", ("x", "y", "z"), ("p", "q", "r"), np.array([1.0, 2.0, 9.0]))
    b = Measured("m", ("y", "x"), ("q", "p"), np.array([1.5, 0.0]))
    found = difference(a, b, rng=0)
    assert found.value == pytest.approx(0.75)
    assert "1 of 3 items lack a value in one of the models" in (found.why or "")


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="'n' cannot be compared with 'm'"):
        difference(measured([1.0]), measured([1.0], name="n"), rng=0)
    with pytest.raises(InputError, match="the measures share no item"):
        difference(measured([1.0]), Measured("m", ("other",), ("p",), np.array([1.0])), rng=0)
    with pytest.raises(InputError, match="expected one of each for each item"):
        Measured("m", ("a", "a"), ("p", "p"), np.array([1.0, 2.0]))


def test_a_test_between_models_says_which_items_it_lacks() -> None:
    a = Measured("m", ("x", "y"), ("p", "q"), np.array([1.0, 2.0]), {"z": "too long"})
    assert "1 of 3 items lack a value" in (forget_quality(a, a).distance.why or "")


def test_few_passages_of_either_text_are_said() -> None:
    rng = np.random.default_rng(6)
    few, many = [[measured(rng.normal(size=n)) for _ in range(2)] for n in (6, 30)]
    for pairs in ((few, many), (many, few)):
        found = beyond_placebo(*pairs[0], *pairs[1], rng=0)
        assert "only 6 passages: the interval is too narrow" in (found.why or "")
    assert beyond_placebo(*many, *many, rng=0).why is None


def test_the_gap_by_hand() -> None:
    """Means 0.9, 0.3 and 0.1: G = 0.6 / 0.8."""
    target, unlearned, retrained = (measured(np.full(40, mean)) for mean in (0.9, 0.3, 0.1))
    found = gap_closed(target, unlearned, retrained, rng=0)
    assert found.value == pytest.approx(0.75)
    assert gap_closed(target, retrained, retrained, rng=0).value == pytest.approx(1.0)
    assert gap_closed(target, target, retrained, rng=0).value == pytest.approx(0.0)


def test_a_gap_that_may_be_0_is_undefined_with_its_reason() -> None:
    rng = np.random.default_rng(0)
    target, unlearned, retrained = (measured(rng.normal(size=60)) for _ in range(3))
    found = gap_closed(target, unlearned, retrained, rng=0)
    assert found.value is None
    assert "so there is no gap that could be closed" in (found.why or "")
    same = gap_closed(target, unlearned, target, rng=0)
    assert "target less retrained is 0 and has no interval" in (same.why or "")


def test_the_interval_of_the_gap_holds_the_truth() -> None:
    """40 passages with effects of their own, two prompts in each; the true G is 0.8."""
    rng = np.random.default_rng(2)
    inside = []
    for _ in range(100):
        passage = np.repeat(rng.normal(0, 0.3, 40), 2)
        values = [mean + passage + rng.normal(0, 0.2, 80) for mean in (1.0, 0.2, 0.0)]
        found = gap_closed(*(measured(one, per_passage=2) for one in values), rng=rng)
        assert found.low is not None
        assert found.high is not None
        inside.append(found.low <= 0.8 <= found.high)
    assert 0.87 <= np.mean(inside) <= 0.99


def test_two_models_of_one_kind_are_seldom_told_apart_by_ks() -> None:
    """Under the null, independent or with a common part for each passage, p <= 0.05 in 5% of the draws at most."""
    rng = np.random.default_rng(3)
    for shared in (0.0, 1.0):
        small = []
        for _ in range(300):
            common = shared * rng.normal(size=30)
            pair = [measured(np.repeat(common + rng.normal(size=30), 2), per_passage=2) for _ in range(2)]
            quality = forget_quality(*pair)
            assert quality.p_value.n == 60
            small.append(quality.p_value.value <= 0.05)
        assert np.mean(small) <= 0.05 + 0.025


def test_two_different_models_are_told_apart_by_ks() -> None:
    rng = np.random.default_rng(4)
    quality = forget_quality(measured(rng.normal(0, 1, 60)), measured(rng.normal(3, 1, 60)))
    assert quality.p_value.value < 1e-6
    assert quality.distance.value is not None
    assert quality.distance.value > 0.7


def test_what_a_placebo_text_gains_too_is_taken_off() -> None:
    """0.5 on the text, 0.2 on the placebo: 0.3 is owed to the text; with equal gains the interval holds 0."""
    rng = np.random.default_rng(5)
    low, gain = rng.normal(0, 0.1, 40), rng.normal(0.2, 0.05, 40)
    text = measured(low), measured(low + 0.5 + rng.normal(0, 0.05, 40))
    placebo = measured(low[:30]), measured(low[:30] + gain[:30])
    found = beyond_placebo(text[1], text[0], placebo[1], placebo[0], rng=0)
    assert found.value == pytest.approx(0.3, abs=0.03)
    null = beyond_placebo(measured(low + gain), measured(low), placebo[1], placebo[0], rng=0)
    assert null.low is not None
    assert null.high is not None
    assert null.low < 0 < null.high
