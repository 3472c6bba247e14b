"""The page ECO: the calibrated threshold with its bound, the search in its order, flagged prompts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dashboards.conftest import assert_inert, drawn, words
from tests.dashboards.hostile import ALL
from tests.dashboards.rooms import guard_evaluation_run, guard_run, loop_run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("eco")
    guard_run(root / "fit")
    guard_evaluation_run(root / "evaluation")
    loop_run(root / "loop")
    return root


def test_the_threshold_stands_with_what_it_promises(root: Path) -> None:
    said = words(drawn("eco", root, run="fit")).replace("\\", "")
    assert "flagged above a score of **0.500**, set on n 40 calibration prompts" in said
    assert "at most 10% are flagged on average" in said
    assert "expected at **0.080 [0.030, 0.130]**" in said
    assert "25% of those that may pass are flagged, and 75% of the others" in said


def test_the_search_is_drawn_in_its_order(root: Path) -> None:
    told = [chart.proto.alt for chart in drawn("eco", root, run="fit").get("vega_lite_chart")]
    assert "Strengths of 4 evaluations, in order." in told
    assert "probability of 4 evaluations, in order, target 0.4." in told


def test_flagged_prompts_come_first_and_by_score(root: Path) -> None:
    test = drawn("eco", root, run="fit")
    table = next(frame.value for frame in test.dataframe if "Flagged" in frame.value)
    assert table["Score"].tolist() == [0.9, 0.8, 0.7, 0.6]
    assert table["Flagged"].all()
    test = drawn("eco", root, run="fit", flagged="let through", kind="forget")
    table = next(frame.value for frame in test.dataframe if "Flagged" in frame.value)
    assert table["Prompt"].tolist() == ["forget-0.4"]


@pytest.mark.parametrize("run", ["fit", "evaluation"])
def test_prompts_are_hidden_until_somebody_asks(root: Path, run: str) -> None:
    test = drawn("eco", root, run=run)
    assert "the secret prompt" not in words(test)
    assert "[hidden]" in words(test)
    test.toggle(key="show-texts-eco").set_value(True).run()
    assert "the secret prompt" in words(test)


def test_an_evaluation_shows_recall_by_attack_and_what_was_flagged(root: Path) -> None:
    test = drawn("eco", root, run="evaluation")
    assert "Not measured: 1" in words(test).replace("\\", "")
    table = next(frame.value for frame in test.dataframe if "Flagged" in frame.value)
    assert table["Score"].tolist() == [0.9, 0.6]


def test_the_guard_inside_a_loop_is_shown(root: Path) -> None:
    test = drawn("eco", root, run="loop")
    assert test.selectbox(key="part").options == ["eco"]
    assert "flagged above a score of" in words(test)


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    guard_run(tmp_path / "fit", word=f"{ALL} ")
    guard_evaluation_run(tmp_path / "evaluation", word=f"{ALL} ")
    for run in ("fit", "evaluation"):
        test = drawn("eco", tmp_path, run=run)
        test.toggle(key="show-texts-eco").set_value(True).run()
        assert not test.exception
        assert_inert(test)
