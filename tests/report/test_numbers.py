from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.report.numbers import estimate, limits_of, method_note, p_value, plain
from audit.runs.schema import EstimateRecord, PValueRecord
from audit.text.numbers import fixed, p_number


def record(value: float | None, low: float | None, high: float | None, why: str | None = None) -> EstimateRecord:
    return EstimateRecord(value=value, low=low, high=high, level=0.95, n=40, method="AUC, DeLong", why=why)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((0.95312, 0.92146, 0.97333), "0.953 [0.921, 0.973]"),
        ((0.62, 0.4, 0.85), "0.62 [0.40, 0.85]"),
        ((1.0, 1.0, 1.0), "1.000 [1.000, 1.000]"),
        ((1234.4, 1200.0, 1270.0), "1,234 [1,200, 1,270]"),
        ((-0.002, -0.03, 0.026), "-0.002 [-0.030, 0.026]"),
        ((0.0000123, 0.000011, 0.000014), "0.000012 [0.000011, 0.000014]"),
        ((2.0, 1.0, float("inf")), "2.000 [1.000, infinite]"),
    ],
)
def test_digits_follow_the_width_of_the_interval(numbers: tuple[float, float, float], text: str) -> None:
    assert estimate(record(*numbers)) == text


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((0.55, 0.5004, 0.6), "0.5500 [0.5004, 0.6000]"),
        ((0.97, 0.93, 0.9997), "0.9700 [0.9300, 0.9997]"),
        ((0.04, 0.0004, 0.08), "0.0400 [0.0004, 0.0800]"),
        ((0.5, 0.45, 0.55), "0.500 [0.450, 0.550]"),
        ((0.6, 0.49999999, 0.7), "0.600000 [0.49999999, 0.700000]"),
        ((-2.8229e-8, -2.4931e-7, -1.2286e-12), "-2.8e-08 [-2.5e-07, -1.2e-12]"),
    ],
)
def test_rounding_never_lands_on_chance_zero_or_one(numbers: tuple[float, float, float], text: str) -> None:
    assert estimate(record(*numbers)) == text


@given(st.floats(-2, 2), st.integers(0, 6))
def test_a_printed_landmark_is_the_number_itself(number: float, decimals: int) -> None:
    shown = float(fixed(number, decimals))
    if shown in (0.0, 0.5, 1.0):
        assert shown == pytest.approx(number, rel=1e-7, abs=0)


def test_rounding_never_lands_on_a_limit_that_the_plan_states() -> None:
    """0.6 is what the audit calls negligible: whether a bound keeps it must be readable."""
    limits = limits_of({"traps": {"negligible_auc": 0.6, "alpha": 0.02, "k": 1, "on": True}, "inputs": {"x": "y"}})
    assert limits == {0.6, 0.02}
    for high, text in ((0.6004, "0.5500 [0.5000, 0.6004]"), (0.59996, "0.55000 [0.50000, 0.59996]")):
        assert estimate(record(0.55, 0.5, high), limits) == text
    assert estimate(record(0.55, 0.5, 0.6), limits) == "0.550 [0.500, 0.600]"
    assert estimate(record(0.60004, None, None), limits) == "0.60004 [no interval]"
    assert p_value(PValueRecord(value=0.0200001, attainable=0.001, n=9, method="m"), limits).startswith("0.0200001")


def test_an_undefined_estimate_is_not_estimable_and_never_zero() -> None:
    assert estimate(record(None, None, None, "no decoys")) == "not estimable"
    assert estimate(record(float("nan"), None, None, "no decoys")) == "not estimable"


def test_a_value_without_an_interval_says_so() -> None:
    assert estimate(record(0.75, None, None, "one trap")) == "0.75 [no interval]"


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.01, "0.01"),
        (0.0001, "0.0001"),
        (0.04996, "0.04996"),
        (0.0500004, "0.0500004"),
        (0.123456, "0.123"),
        (1.0, "1"),
        (0.9999, "0.9999"),
        (0.0000123, "0.0000123"),
        (3.2e-9, "3.20e-09"),
        (0.0, "0"),
    ],
)
def test_a_p_value_is_never_rounded_onto_a_threshold(p: float, text: str) -> None:
    assert p_number(p) == text


def test_a_p_value_stands_beside_the_smallest_possible_one() -> None:
    assert p_value(PValueRecord(value=0.01, attainable=0.01, n=99, method="rank")) == "0.01 (smallest possible 0.01)"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"),
        (0.95312, "0.9531"),
        (12345678.0, "12,345,678"),
        (1.5e20, "1.500e+20"),
        (2.5e-9, "2.500e-09"),
        (0.25, "0.25"),
        (float("nan"), "not estimable"),
        (float("-inf"), "-infinite"),
    ],
)
def test_plain_numbers_have_four_significant_digits(number: float, text: str) -> None:
    assert plain(number) == text


def test_the_level_stands_beside_the_method_unless_there_is_no_interval() -> None:
    assert method_note(record(0.7, 0.6, 0.8)) == "AUC, DeLong; 95% interval"
    assert method_note(record(0.7, None, None, "one trap")) == "AUC, DeLong"
