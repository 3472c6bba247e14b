"""One number under one rule: a weaker model never comes out better, and a useless number never passes."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from audit.gates.estimates import Entry
from audit.gates.judge import corrected_already, number_outcome, p_value_outcome, verdict_outcome
from audit.gates.policy import Rule
from audit.gates.result import TestOutcome
from audit.runs.schema import EstimateRecord
from audit.stats.multiplicity import holm
from tests.gates.made import estimate, finding, p_value, power

ORDER = {"pass": 0, "inconclusive": 1, "missing": 2, "breached": 2}
unit = st.floats(0, 1)
LIMITS = {
    "at_most": {"direction": "at_most", "limit": 0.6},
    "at_least": {"direction": "at_least", "limit": 0.4},
    "between": {"direction": "between", "limits": (0.4, 0.6)},
}


def a_rule(**keys: Any) -> Rule:
    return Rule(**{"id": "r", "title": "A rule", "estimate": "f/x", "unit": "share"} | keys)


def entry(what: Any, verdict: str = "information", **more: Any) -> Entry:
    return Entry("f/x", "run", finding("f", verdict, **more), what)


def judged(rule: Rule, what: EstimateRecord, verdict: str = "information", **more: Any) -> TestOutcome:
    return number_outcome(rule, entry(what, verdict, **more))


@st.composite
def intervals(draw: st.DrawFn) -> tuple[float, float, float]:
    low, value, high = sorted(draw(st.lists(unit, min_size=3, max_size=3)))
    return value, low, high


@pytest.mark.parametrize("direction", ["at_most", "at_least"])
@given(one=intervals(), moved=st.tuples(unit, unit, unit))
def test_a_model_that_is_weaker_in_any_number_never_comes_out_better(
    direction: str, one: tuple[float, float, float], moved: tuple[float, float, float]
) -> None:
    """Weaker: value and both bounds moved away from what the rule asks for, each by its own step."""
    sign = 1 if direction == "at_most" else -1
    value, low, high = (number + sign * step for number, step in zip(one, moved, strict=True))
    assume(low <= value <= high)
    rule = a_rule(**LIMITS[direction], unit="number")
    before, after = judged(rule, estimate(*one)), judged(rule, estimate(value, low, high))
    assert ORDER[after.outcome] >= ORDER[before.outcome], (before.reason, after.reason)


@given(one=intervals(), moved=st.tuples(unit, unit), off=st.floats(-1, 1))
def test_between_limits_neither_a_wider_interval_nor_one_further_off_comes_to_pass(
    one: tuple[float, float, float], moved: tuple[float, float], off: float
) -> None:
    rule = a_rule(**LIMITS["between"], unit="number")
    value, low, high = one
    failed = judged(rule, estimate(*one)).outcome != "pass"
    wider = judged(rule, estimate(value, low - moved[0], high + moved[1])).outcome
    assert not (failed and wider == "pass")
    assume((off > 0) == (value > 0.5) and not 0.4 <= value <= 0.6)
    away = judged(rule, estimate(value + off, low + off, high + off)).outcome
    assert ORDER[away] >= ORDER[judged(rule, estimate(*one)).outcome]


@given(ps=st.lists(unit, min_size=1, max_size=6), at=st.integers(0, 5), factor=unit)
def test_a_smaller_p_value_never_makes_any_rule_come_out_better(ps: list[float], at: int, factor: float) -> None:
    rule = Rule(id="r", title="t", estimate="f/p:x", min_power=0.8, max_effect=0.6)
    strong = finding("f", "not found", power=power(0.9))

    def outcomes(values: list[float]) -> list[int]:
        corrected = holm(values).tolist()
        return [
            ORDER[
                p_value_outcome(
                    rule, Entry("f/p:x", "run", strong, p_value(one)), corrected=c, tests=len(values), alpha=0.05
                ).outcome
            ]
            for one, c in zip(values, corrected, strict=True)
        ]

    lower = list(ps)
    lower[at % len(ps)] *= factor
    assert all(after >= before for before, after in zip(outcomes(ps), outcomes(lower), strict=True))


@given(what=intervals(), n=st.integers(1, 10_000))
def test_the_outcome_is_read_off_the_bound_against_the_release(what: tuple[float, float, float], n: int) -> None:
    """The oracle: three plain comparisons."""
    value, low, high = what
    found = judged(a_rule(direction="at_most", limit=0.6), estimate(value, low, high, n=n)).outcome
    assert found == ("pass" if high <= 0.6 else "breached" if low > 0.6 else "inconclusive")
    found = judged(a_rule(direction="at_least", limit=0.4), estimate(value, low, high, n=n)).outcome
    assert found == ("pass" if low >= 0.4 else "breached" if high < 0.4 else "inconclusive")


def bad(**numbers: Any) -> EstimateRecord:
    return EstimateRecord.model_construct(**estimate(0.5, 0.4, 0.55).model_dump() | numbers)


@pytest.mark.parametrize(
    ("what", "outcome", "said"),
    [
        (bad(value=math.nan), "missing", "its value is nan, which is no finite number"),
        (bad(high=math.nan), "missing", "its high is nan"),
        (bad(low=-math.inf), "missing", "its low is -inf"),
        (bad(low=0.55, high=0.4), "missing", "its lower bound 0.55 lies above its upper bound 0.4"),
        (bad(level=1.0), "missing", "which cannot be"),
        (bad(n=0), "missing", "its n is 0"),
        (bad(value=0.97), "missing", "its value 0.97 lies outside of its own interval, from 0.4 to 0.55"),
        (estimate(43.0, 40.0, 45.0), "missing", "wrong unit: its value is 43, and share lies in [0, 1]"),
        (estimate(None, None, None, why="no decoys"), "inconclusive", "f/x is undefined: no decoys"),
        (estimate(0.5, None, None, why="one cluster"), "inconclusive", "f/x has no interval: one cluster"),
        (estimate(0.5, 0.4, 0.55, level=0.9), "inconclusive", "Its interval is at 0.9, and 0.95 is asked for"),
        (estimate(0.5, 0.4, 0.55, n=9), "inconclusive", "It rests on n = 9, and 50 are asked for"),
    ],
)
def test_a_number_that_decides_nothing_never_passes(what: EstimateRecord, outcome: str, said: str) -> None:
    found = judged(a_rule(direction="at_most", limit=0.6, min_n=50), what)
    assert found.outcome == outcome
    assert said in found.reason


@pytest.mark.parametrize(
    ("unit", "limit", "method", "said"),
    [
        ("percent", 60.0, "made", "all its numbers lie in [0, 1], as a share's do"),
        ("number", 60.0, "AUC inside strata, DeLong on the logit scale", "the limit is 60, and by its method (AUC"),
        ("ratio", 60.0, "proportion, Wilson score interval", "the limit is 60, and by its method (proportion"),
        ("number", 60.0, "rows that are hits; proportion, Wilson score interval", "the limit is 60, and by its method"),
    ],
)
def test_a_limit_in_another_unit_than_the_estimate_is_no_limit(unit: str, limit: float, method: str, said: str) -> None:
    over = estimate(0.97, 0.95, 0.99, method=method)
    found = judged(a_rule(direction="at_most", limit=limit, unit=unit), over)
    assert found.outcome == "missing"
    assert said in found.reason
    if unit == "percent":  # below one percent, and said to be
        narrow = a_rule(direction="at_most", limit=0.5, unit=unit, range=(0, 1))
        assert judged(narrow, estimate(0.1, 0.0, 0.4)).outcome == "pass"
    residual = estimate(0.1, 0.0, 0.2, method="AUC inside strata: residual")
    assert judged(a_rule(direction="at_most", limit=60.0, unit="number"), residual).outcome == "pass"


@pytest.mark.parametrize(
    "stated",
    [
        estimate(0.1, 0.99, 1.0),
        estimate(0.9, 95.0, 99.0),
        estimate(0.9, None, None, n=0),
        estimate(0.99, 0.95, 0.97),
        estimate(1.5, 1.5, 1.5),  # which agrees with itself, and is no probability
    ],
)
def test_power_that_contradicts_itself_is_no_power(stated: EstimateRecord) -> None:
    rule = Rule(id="r", title="t", estimate="f/p:x", min_power=0.8, max_effect=0.6)
    made = Entry("f/p:x", "run", finding("f", "not found", power=stated), p_value(0.4))
    found = p_value_outcome(rule, made, corrected=0.4, tests=1, alpha=0.05)
    assert found.outcome == "inconclusive"
    assert "contradicts itself" in found.reason


def test_a_p_value_that_cannot_be_decides_nothing() -> None:
    rule = Rule(id="r", title="t", estimate="f/p:x", min_power=0.8, max_effect=0.6)
    for p in (p_value(0.5).model_copy(update={"n": 0}), p_value(0.5, attainable=0.6)):
        made = Entry("f/p:x", "run", finding("f", "not found", power=power(0.9)), p)
        found = p_value_outcome(rule, made, corrected=0.5, tests=1, alpha=0.05)
        assert found.outcome == "missing"
        assert "contradicts itself" in found.reason


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        (Entry("gold/x", "run", finding("gold", "confounded"), estimate(0.5, 0.45, 0.55)), "gold is confounded"),
        (Entry("gold/x", "run", finding("gold"), estimate(0.5, 0.45, 0.55), beside="g.all"), "g.all, of the same"),
        (
            Entry("gold/x", "run", finding("gold", "inconclusive"), estimate(0.5, 0.45, 0.55)),
            "leaves its question open",
        ),
    ],
)
def test_a_reference_that_says_nothing_is_no_reference(gold: Entry, said: str) -> None:
    rule = a_rule(direction="between", limits=(-0.2, 0.2), reference="gold/x", two_sided=True)
    found = number_outcome(rule, entry(estimate(0.5, 0.45, 0.55)), gold)
    assert found.outcome == "inconclusive"
    assert said in found.reason


def test_nothing_is_its_own_reference() -> None:
    rule = a_rule(direction="between", limits=(-0.2, 0.2), reference="f*/x")
    one = entry(estimate(0.97, 0.95, 0.99))
    found = number_outcome(rule, one, one)
    assert found.outcome == "missing"
    assert "compared with itself" in found.reason


def test_another_kind_of_thing_than_the_rule_asks_for_is_missing() -> None:
    number, verdict = (
        a_rule(direction="at_most", limit=0.6),
        Rule(id="r", title="t", estimate="f/verdict", one_of=("found",)),
    )
    of_p = Rule(id="r", title="t", estimate="f/p:x", min_power=0.8, max_effect=0.6)
    for said in (
        number_outcome(number, entry("found")),
        verdict_outcome(verdict, entry(estimate(0.5, 0.4, 0.6))),
        p_value_outcome(of_p, entry("found"), corrected=1.0, tests=1, alpha=0.05),
    ):
        assert said.outcome == "missing"
        assert "which the rule asks for" in said.reason


def test_a_confounded_finding_passes_no_rule_and_breaches_none() -> None:
    rule = a_rule(direction="at_most", limit=0.6)
    for numbers in ((0.1, 0.0, 0.2), (0.9, 0.8, 1.0)):
        assert judged(rule, estimate(*numbers), "confounded").outcome == "inconclusive"
    of_p = Rule(id="r", title="t", estimate="f/p:x", min_power=0.8, max_effect=0.6)
    made = Entry("f/p:x", "run", finding("f", "confounded", power=power(0.9)), p_value(0.0001))
    assert p_value_outcome(of_p, made, corrected=0.0001, tests=1, alpha=0.05).outcome == "inconclusive"


def test_a_destroyed_model_is_no_forgetting() -> None:
    """Its residual may lie at 0 by chance; the finding is then inconclusive, and a rule that is judged two-sided holds
    to that."""
    rule = a_rule(direction="between", limits=(-0.2, 0.2), unit="residual", two_sided=True)
    inside = estimate(0.0, -0.1, 0.1)
    assert judged(rule, inside, "not found").outcome == "pass"
    assert judged(rule, inside, "inconclusive").outcome == "inconclusive"
    assert judged(rule, estimate(-0.7, -0.8, -0.6), "inconclusive").outcome == "breached"  # silence is no way round
    assert judged(rule, estimate(-0.9, -1.0, -0.8), "not found").outcome == "breached"  # overshot
    assert judged(rule, estimate(0.9, 0.8, 1.0), "found").outcome == "breached"


def test_a_difference_to_a_reference_is_judged_with_both_uncertainties() -> None:
    rule = a_rule(direction="between", limits=(-0.2, 0.2), reference="gold/x")
    gold = Entry("gold/x", "run", finding("gold"), estimate(0.3, 0.25, 0.35))
    near = number_outcome(rule, entry(estimate(0.35, 0.3, 0.4)), gold)
    assert near.outcome == "pass"
    assert (near.low, near.high) == pytest.approx((-0.05, 0.15))
    assert number_outcome(rule, entry(estimate(0.02, 0.0, 0.04)), gold).outcome == "breached"  # less than gold
    assert number_outcome(rule, entry(estimate(0.35, 0.2, 0.5)), gold).outcome == "inconclusive"


@pytest.mark.parametrize(("stated", "outcome"), [(None, "inconclusive"), (0.5, "inconclusive"), (0.85, "pass")])
def test_a_test_that_could_see_nothing_is_no_pass(stated: float | None, outcome: str) -> None:
    more = {} if stated is None else {"power": power(stated), "power_for": "an AUC of 0.6"}
    rule = Rule(id="r", title="t", estimate="f/p:x", min_power=0.8, max_effect=0.6)
    made = Entry("f/p:x", "run", finding("f", "not found", **more), p_value(0.4))
    found = p_value_outcome(rule, made, corrected=0.4, tests=1, alpha=0.05)
    assert found.outcome == outcome
    of_verdict = Rule(id="r", title="t", estimate="f/verdict", one_of=("not found",), min_power=0.8, max_effect=0.6)
    assert verdict_outcome(of_verdict, Entry("f/verdict", "run", made.finding, "not found")).outcome == outcome
    for effect in (0.61, math.nan, None):  # every test has power for an effect that is large enough
        other = made.finding.model_copy(update={"power_effect": effect})
        for of, what in ((rule, p_value(0.4)), (of_verdict, "not found")):
            made = Entry(str(of.estimate), "run", other, what)
            judged = verdict_outcome(of, made) if what == "not found" else p_value_outcome(
                of, made, corrected=0.4, tests=1, alpha=0.05)  # type: ignore[arg-type]  # fmt: skip
            assert judged.outcome == "inconclusive"
    by_value = EstimateRecord.model_construct(**estimate(None, None, None).model_dump() | {"value": math.inf})
    made = Entry("f/p:x", "run", finding("f").model_copy(update={"power": by_value}), p_value(0.4))
    assert p_value_outcome(rule, made, corrected=0.4, tests=1, alpha=0.05).outcome == "inconclusive"


def test_a_design_that_could_not_be_significant_is_no_pass() -> None:
    rule = Rule(id="r", title="t", estimate="f/p:x", min_power=0.8, max_effect=0.6)
    made = Entry("f/p:x", "run", finding("f", "not found", power=power(0.9)), p_value(0.4, attainable=0.02))
    assert p_value_outcome(rule, made, corrected=0.8, tests=2, alpha=0.05).outcome == "pass"
    found = p_value_outcome(rule, made, corrected=1.0, tests=3, alpha=0.05)
    assert found.outcome == "inconclusive"
    assert "could not have been significant over 3 tests" in found.reason


def test_a_p_value_is_not_corrected_twice() -> None:
    found = corrected_already(
        Entry("f/p:x", "run", finding("f"), p_value(0.04, method="re-dealing; Holm over 4 tests"))
    )
    assert found is not None
    assert found.outcome == "missing"
    assert "correcting it again would hide effects" in found.reason


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ("not found", "pass"),
        ("found", "breached"),
        ("inconclusive", "inconclusive"),
        ("confounded", "inconclusive"),
        ("information", "inconclusive"),
    ],
)
def test_a_verdict_that_leaves_the_question_open_is_no_pass(said: str, outcome: str) -> None:
    rule = Rule(id="r", title="t", estimate="f/verdict", one_of=("not found",))
    assert verdict_outcome(rule, Entry("f/verdict", "run", finding("f", said), said)).outcome == outcome


def test_what_would_have_to_change_says_how_much_and_how_many_more() -> None:
    """Half-width 0.12 must become 0.06: four times the items."""
    rule = a_rule(direction="at_most", limit=0.6)
    found = judged(rule, estimate(0.54, 0.42, 0.66, n=100))
    assert found.outcome == "inconclusive"
    assert "The bound must move by 0.06" in found.change
    assert "about 400 items instead of 100 (roughly: widths fall with 1/sqrt(n))" in found.change
    beyond = judged(rule, estimate(0.62, 0.5, 0.7, n=100))
    assert "more data alone would sooner show a breach" in beyond.change
    assert "More data would not help" in judged(rule, estimate(0.8, 0.7, 0.9)).change
    assert "0.05 to spare" in judged(rule, estimate(0.5, 0.45, 0.55)).change


def test_numbers_are_shown_with_the_digits_that_decide() -> None:
    found = judged(a_rule(direction="at_most", limit=0.6), estimate(0.5, 0.4, 0.6000004))
    assert "[0.4, 0.6000004]" in found.reason
