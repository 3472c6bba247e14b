"""Sweeps: points measured once, the frontier, and a choice that never reports itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from audit.errors import InputError
from tests.unlearn.lineas.evaluate.small_parts import HAS_X, PROMPTS, TEXTS, Told, model_and_arm, point
from unlearn.lineas.arms import Arm
from unlearn.lineas.evaluate.points import Point, measure_points
from unlearn.lineas.evaluate.sweep import Goal, compare, frontier, given, select_strength, sweep_rows

OTHER = Told(lambda text: "x" in text, "other")


def validation() -> list[Point]:
    shown = {0.0: [0, 0, 0, 0], 0.5: [1, 1, 0, 0], 1.0: [1, 1, 1, 0], 2.0: [1, 1, 1, 1]}
    costs = {0.0: 1.0, 0.5: 1.02, 1.0: 1.2, 2.0: 2.0}
    plain = point("unsteered", 0.0, [False] * 4, 1.0, scaled=False, prefix="validation")
    return [plain, *(point("ours", s, list(map(bool, row)), costs[s], prefix="validation") for s, row in shown.items())]


def test_every_arm_is_measured_once_and_strength_0_is_the_unsteered_model(tmp_path: Path) -> None:
    lm, arm = model_and_arm(tmp_path)
    kept: list[Point] = []
    arms = [arm, Arm("prompt", instruction="be kind:")]
    texts = {"neutral": TEXTS, "target": TEXTS[:2]}
    points = measure_points(lm, arms, PROMPTS, texts, strengths=(1.0, 2.0), on_point=kept.append)
    assert [(one.arm, one.strength) for one in points] == [
        ("unsteered", 0),
        ("ours", 0),
        ("ours", 1),
        ("ours", 2),
        ("prompt", 1),
    ]
    assert points[1].continuations.texts == points[0].continuations.texts
    assert [one.outside_paper for one in points] == [False, False, False, True, False]
    assert len(kept) == 4
    again = [Point.from_record(one.to_record()) for one in kept]
    made: list[Point] = []
    assert [
        one.to_record()
        for one in measure_points(lm, arms, PROMPTS, texts, strengths=(1.0, 2.0), known=again, on_point=made.append)
    ] == [one.to_record() for one in points]
    assert not made
    rows = sweep_rows(points, Told(lambda text: "a" in text), "raise")
    assert rows[1].rate_change.value == 0
    assert rows[1].perplexity_change["target"]["per sentence"].value == 0
    assert rows[4].perplexity_change["neutral"]["per token"].value == 0
    assert rows[3].to_record()["outside_paper"]
    assert not rows[4].on_frontier["neutral"]  # an instruction whose cost is not measured


def test_the_frontier_keeps_what_nothing_beats() -> None:
    pairs = [(1.0, 0.1), (1.5, 0.5), (1.5, 0.4), (2.0, 0.5), (3.0, 0.9), (None, 1.0)]
    assert frontier(pairs, "raise") == {0, 1, 4}
    assert frontier([(1.0, 0.5), (1.2, 0.1), (1.4, 0.2)], "lower") == {0, 1}
    assert frontier([(1.0, 0.5), (1.0, 0.5)], "raise") == {0, 1}


def test_the_best_rate_within_the_cost_is_chosen_and_the_smaller_strength_of_equals() -> None:
    one = select_strength(validation(), HAS_X, "ours", "raise", texts="neutral", most_percent=5)
    assert (one.strength, one.judge) == (0.5, "told")
    assert select_strength(validation(), HAS_X, "ours", "raise", texts="neutral", most_percent=50).strength == 1
    far = select_strength(validation(), HAS_X, "ours", "raise", texts="neutral", most_percent=500, beyond_paper=True)
    assert far.strength == 2
    assert select_strength(validation(), Told(lambda _: True), "ours", "raise", texts="neutral").strength == 0
    assert select_strength(validation(), HAS_X, "ours", "lower", texts="neutral").strength == 0
    with pytest.raises(InputError, match="costs more than -1%"):
        select_strength(validation(), HAS_X, "ours", "raise", texts="neutral", most_percent=-1)


@pytest.mark.parametrize(("goal", "good", "bad"), [("raise", "x", "o"), ("lower", "o", "x")])
def test_an_arm_that_falls_silent_is_neither_chosen_nor_on_the_frontier(goal: Goal, good: str, bad: str) -> None:
    """Of what is not empty all is as wanted, but nearly everything is empty."""

    def said(strength: float, texts: list[str], cost: float) -> Point:
        one = point("ours", strength, [True] * 4, cost)
        return replace(one, continuations=replace(one.continuations, texts=(tuple(texts),)))

    plain = point("unsteered", 0.0, [bad == "x"] * 4, 1.02, scaled=False)
    points = [plain, said(0.5, [good, good, good, bad], 1.01), said(1.0, [good, "", "", " "], 1.0)]
    assert select_strength(points, HAS_X, "ours", goal, texts="neutral").strength == 0.5
    rows = sweep_rows([plain, said(0.5, [good] * 4, 1.0), said(1.0, [good, "", "", " "], 1.0)], HAS_X, goal)
    assert [row.on_frontier["neutral"] for row in rows] == [False, True, False]


def test_neither_the_choosing_judge_nor_its_prompts_are_reported() -> None:
    chosen = select_strength(validation(), HAS_X, "ours", "raise", texts="neutral")
    plain = point("unsteered", 0.0, [False] * 4, 1.0, scaled=False)
    test = [plain, point("ours", 0.5, [True] * 4, 1.1)]
    test += [point("theirs", s, [False, True, False, s > 0], 1.0 + s) for s in (0.0, 1.0)]
    with pytest.raises(InputError, match="chosen by the judge .told., which therefore cannot report it"):
        compare(chosen, test, HAS_X, texts="neutral")
    with pytest.raises(InputError, match=r"chosen on the prompt .validation 0. \(4 of 4 prompts\)"):
        compare(chosen, validation(), OTHER, texts="neutral")
    with pytest.raises(InputError, match="not measured at strength 1, only at 0.5"):
        compare(given("ours"), test, OTHER, texts="neutral")
    (found,) = compare(chosen, test, OTHER, texts="neutral")
    assert found.baseline_strength == pytest.approx(0.1)
    assert found.difference.value == pytest.approx(1 - (0.9 * 0.25 + 0.1 * 0.5))


def test_names_and_strengths_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    lm, arm = model_and_arm(tmp_path)
    with pytest.raises(InputError, match="expected different names"):
        measure_points(lm, [arm, arm], PROMPTS, {})
    with pytest.raises(InputError, match="no strength above 0"):
        measure_points(lm, [arm], PROMPTS, {}, strengths={"other": (1.0,)})
    with pytest.raises(InputError, match="strength is nan"):
        measure_points(lm, [arm], PROMPTS, {}, strengths=(float("nan"),))
