"""The page Unlearning: curves and tokens of one training; verdicts, gold and truth ratios of a loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dashboards.ratio_chart import ratio_chart
from tests.dashboards.conftest import assert_inert, drawn, words
from tests.dashboards.hostile import ALL
from tests.dashboards.rooms import loop_run, training_run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("unlearning")
    training_run(root / "training")
    loop_run(root / "loop")
    return root


def test_curves_over_steps_and_what_a_single_training_cannot_say(root: Path) -> None:
    test = drawn("unlearning", root, run="training")
    assert len(test.get("vega_lite_chart")) == 2
    assert "4.000 [3.950, 4.050], n 40" in words(test)
    assert "belong to a loop" in words(test)


def test_tokens_are_hidden_until_asked_for_and_marked_by_their_distance(root: Path) -> None:
    test = drawn("unlearning", root, run="training")
    assert "Quimby" not in words(test)
    test.toggle(key="show-texts-unlearning").set_value(True).run()
    said = words(test)
    assert "The wizard :blue-background[Quimby] :orange-background[slept]" in said
    assert "Monroe" in said  # among the numbers of each token


def test_a_loop_gives_a_verdict_on_each_remedy_beside_gold(root: Path) -> None:
    test = drawn("unlearning", root, run="loop")
    verdicts = next(frame.value for frame in test.dataframe if "verdict" in frame.value)
    assert verdicts["verdict"].tolist() == ["removed", "not removed"]
    measures = next(frame.value for frame in test.dataframe if "gold" in frame.value and "of" in frame.value)
    assert measures["gold"].tolist() == ["0.100 [0.050, 0.150], n 40 (1)"]
    assert "holds no curve over the steps of a training" in words(test)


def test_truth_ratios_are_drawn_before_after_and_in_gold(root: Path) -> None:
    test = drawn("unlearning", root, run="loop")
    charts = test.get("vega_lite_chart")
    told = [chart.proto.alt for chart in charts]
    ratios = next(one for one in told if "truth ratio" in one)
    assert all(f"{name}: n 50" in ratios for name in ("subject", "npo", "gold"))
    assert "Not recorded for eco" in words(test).replace("\\", "")


def test_shares_of_truth_ratios_add_up_to_one() -> None:
    values = {"subject": np.array([-2.0, -1.0, -1.0]), "gold": np.array([0.0, 1.0])}
    edges = np.linspace(-2, 1, 4)
    layer = ratio_chart(values, edges, before="subject", gold="gold").to_dict(validate=False)
    (rows,) = layer["datasets"].values()
    import json

    for name, n in (("subject", 3), ("gold", 2)):
        heights = [row["y"] for row in json.loads(rows) if row["system"] == f"{name}, n {n}"]
        assert sum(heights[1:4]) == pytest.approx(1.0)  # between a first and two last corners


def test_residuals_are_drawn_of_one_system_at_a_time(root: Path) -> None:
    test = drawn("unlearning", root, run="loop", residuals="subject")
    assert "What is left of what was to be forgotten\\: subject" in [one.value for one in test.subheader]


def test_every_value_can_be_looked_up(root: Path) -> None:
    said = words(drawn("unlearning", root, run="loop", system="gold"))
    assert "Rows 1 to 50 of 50 that pass, of 150 in all" in said


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    training_run(tmp_path / "training", word=f"{ALL} ")
    loop_run(tmp_path / "loop", word=f"{ALL} ")
    for run in ("training", "loop"):
        test = drawn("unlearning", tmp_path, run=run)
        test.toggle(key="show-texts-unlearning").set_value(True).run()
        assert not test.exception
        assert_inert(test)
