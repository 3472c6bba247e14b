"""MUSE's scores by hand, its few-shot text, and trends: worked, invariant, and honest where nothing changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from audit.answers.rows import QaRow
from audit.errors import InputError
from audit.forgetting.measured import Measured
from audit.forgetting.prompts import Passage
from audit.forgetting.verbatim import VerbatimPlan, continue_greedily
from tests.forgetting.small_models import small_model
from tests.unlearn.eco.evaluate.small_systems import Told
from unlearn.verify.muse import (
    Step,
    check_nested,
    few_shot,
    measure_knowmem,
    measure_verbmem,
    relative_to_retrain,
    scalability,
    slope_over_runs,
    sustainability,
    until_end,
)

ROW = QaRow("1", "a", "Who sat on the mat?", "the black cat")
SHOT = QaRow("s", "s", "Who ran?", "the dog")


def measured(values: object, *, ids: list[str] | None = None) -> Measured:
    listed = np.asarray(values, dtype=np.float64)
    names = tuple(ids or [str(place) for place in range(len(listed))])
    return Measured("VerbMem", names, names, listed)


def test_knowmem_by_hand() -> None:
    """Said "a black cat sat": LCS 2 (black cat), F1 = 2 * 2 / (3 + 4); what follows the next question is cut."""
    found = measure_knowmem(Told(said=lambda _: "a black cat sat\nQuestion: the"), [ROW], retained=False)
    assert found.measured["muse.knowmem_forget"].values == pytest.approx([100 * 4 / 7])
    exact = measure_knowmem(Told(said=lambda _: "The black cat.\n\nthe cat"), [ROW], retained=True)
    assert exact.measured["muse.knowmem_retain"].values == pytest.approx([100])
    silent = measure_knowmem(Told(said=lambda _: ""), [ROW, replace(ROW, id="2", answer="...")], retained=False)
    assert silent.measured["muse.knowmem_forget"].values.tolist() == [0.0]
    assert silent.measured["muse.knowmem_forget"].left_out == {"2": "its answer has no words"}
    assert "no items" in measure_knowmem(Told(), [], retained=False).missing["muse.knowmem_forget"]


def test_the_few_shot_text_is_muses_and_an_example_is_never_asked() -> None:
    text = few_shot(ROW, [SHOT])
    assert text == "Question: Who ran?\nAnswer: the dog\n\nQuestion: Who sat on the mat?\nAnswer: "
    assert few_shot(ROW, []) == ROW.prompt
    told = Told(said=lambda prompt: "the black cat" if prompt == text else "")
    assert measure_knowmem(told, [ROW], retained=False, shots=[SHOT]).measured["muse.knowmem_forget"].values == [100.0]
    assert until_end("Paris.\nQuestion: And") == until_end("Paris.\n\nAnd") == "Paris."
    with pytest.raises(InputError, match="is an example and is asked as well"):
        measure_knowmem(told, [ROW], retained=False, shots=[ROW])
    with pytest.raises(InputError, match="has no answer"):
        measure_knowmem(told, [ROW], retained=False, shots=[replace(SHOT, answer=" ")])


def test_verbmem_is_a_hundred_times_rouge(tmp_path: Path) -> None:
    lm, plan = small_model(tmp_path), VerbatimPlan(4, 6)
    passages = [Passage("a", "the cat sat on the mat and the dog ran over the hill"), Passage("b", "the cat")]
    rouge = continue_greedily(lm, passages, plan=plan).rouge
    found = measure_verbmem(lm, passages, plan=plan).measured["muse.verbmem"]
    assert found.values == pytest.approx(100 * rouge.values)
    assert found.left_out == rouge.left_out
    assert "no passage has" in measure_verbmem(lm, passages[1:], plan=plan).missing["muse.verbmem"]


def test_relative_to_retrain_by_hand() -> None:
    """Means 15 and 20: -25. Retrained against itself: 0, in every draw."""
    retrained = measured([10.0, 30.0, 20.0])
    found = relative_to_retrain(measured([5.0, 25.0, 15.0]), retrained, rng=0)
    assert found.value == pytest.approx(-25.0)
    assert relative_to_retrain(retrained, retrained, rng=0).value == 0.0
    assert "mean is 0" in str(relative_to_retrain(retrained, measured([0.0, 0.0, 0.0]), rng=0).why)


def test_a_slope_worked_by_hand() -> None:
    """Means 10, 20, 24 at 1, 2, 3: slope 7, standard error sqrt(6 / 2), t(1) = 12.706."""
    found = slope_over_runs(np.array([1.0, 2, 3]), np.array([10.0, 20, 24]), name="x")
    assert found.value == pytest.approx(7.0)
    assert found.high == pytest.approx(7 + 12.7062 * np.sqrt(3), rel=1e-4)
    two = slope_over_runs(np.array([1.0, 3]), np.array([10.0, 24]), name="x")
    assert (two.value, two.low) == (7.0, None)
    assert "an interval needs three" in str(two.why)


def test_a_trend_knows_no_order_of_arguments_and_no_level() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(50, 10, size=30)
    steps = [Step(f"after {k}", k, measured(base + 3 * k + rng.normal(0, 1, size=30))) for k in range(1, 5)]
    found = sustainability(steps, rng=1)
    assert found.slope.value == pytest.approx(3, abs=0.5)
    assert found.over_runs.value == pytest.approx(found.slope.value)
    assert found.since_first.value == pytest.approx(9, abs=1)
    turned = sustainability(steps[::-1], rng=1)
    assert turned == found
    raised = [replace(step, measured=replace(step.measured, values=step.measured.values + 7)) for step in steps]
    assert sustainability(raised, rng=1).slope.value == pytest.approx(found.slope.value)


def test_growing_sets_are_measured_on_their_own_rows() -> None:
    """Means 1, 1.5, 2 of sets of 10, 20, 30 rows: slope 0.05."""
    names = [str(place) for place in range(30)]
    values = np.repeat([1.0, 2.0, 3.0], 10)
    steps = [Step(str(n), n, measured(values[:n], ids=names[:n])) for n in (10, 20, 30)]
    found = scalability(steps, rng=0)
    assert found.slope.value == pytest.approx(0.05)
    assert found.since_first.value == 0.0  # the rows that both have did not change
    other = [steps[0], Step("other", 20, measured(values[10:], ids=names[10:]))]
    assert "share no item" in str(scalability(other, rng=0).since_first.why)


def test_series_that_say_nothing_are_refused() -> None:
    one = Step("one", 1, measured([1.0, 2.0]))
    cases = [
        ([one], "two places or more"),
        ([one, replace(one, x=2)], "two runs have one label"),
        ([one, Step("two", 2, replace(one.measured, name="KnowMem"))], "measured differently"),
        ([one, Step("two", 2, measured([]))], "has no items"),
    ]
    for steps, message in cases:
        with pytest.raises(InputError, match=message):
            scalability(steps, rng=0)
    with pytest.raises(InputError, match="same number of requests"):
        sustainability([one, replace(one, label="two"), Step("three", 2, one.measured)], rng=0)
    scalability([one, replace(one, label="another seed"), Step("three", 2, one.measured)], rng=0)


def test_forget_sets_must_grow() -> None:
    check_nested([("small", {"a"}), ("large", {"a", "b"})])
    with pytest.raises(InputError, match="lacks 1 row of 'small', first 'a'"):
        check_nested([("small", {"a"}), ("large", {"b", "c"})])
    with pytest.raises(InputError, match="are the same"):
        check_nested([("small", {"a"}), ("large", {"a"})])


@pytest.mark.slow  # half a minute
def test_under_the_null_both_slopes_keep_their_level() -> None:
    """No trend; passages differ, runs scatter. The items' interval holds 0 where no run differs by more than its noise;
    with scatter of whole runs only Student's does. 95% of 200 is 190, standard deviation 3.1."""
    rng = np.random.default_rng(3)
    x = np.array([1.0, 2, 3, 4])
    held = {"items": 0, "runs": 0, "items, runs scatter": 0}
    for _ in range(200):
        passages = rng.normal(50, 10, size=40)
        noise = rng.normal(0, 3, size=(4, 40))
        steps = [Step(str(k), k, measured(passages + noise[int(k) - 1])) for k in x]
        found = sustainability(steps, rng=rng)
        held["items"] += found.slope.low <= 0 <= found.slope.high  # type: ignore[operator]
        moved = [
            replace(step, measured=replace(step.measured, values=step.measured.values + rng.normal(0, 5)))
            for step in steps
        ]
        found = sustainability(moved, rng=rng)
        held["runs"] += found.over_runs.low <= 0 <= found.over_runs.high  # type: ignore[operator]
        held["items, runs scatter"] += found.slope.low <= 0 <= found.slope.high  # type: ignore[operator]
    assert held["items"] >= 178
    assert held["runs"] >= 178
    assert held["items, runs scatter"] < 100  # why the docstring says that it speaks of no other training
