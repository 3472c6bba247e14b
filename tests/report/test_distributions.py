from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from audit.errors import InputError
from audit.report.distributions import binned, rank_p_histogram, score_distribution
from audit.report.svg import svg


def draw(chart: Any) -> str:
    return svg(chart, uid="c", title="t", description="d")


def layer_data(chart: Any, at: int) -> list[dict[str, Any]]:
    values: list[dict[str, Any]] = json.loads(chart.layer[at].data.values)
    return values


def test_counts_and_expected_counts_by_hand() -> None:
    """4 bins, 9 controls: p is one of 0.1 ... 1.0. The bins (0, .25], (.25, .5], (.5, .75], (.75, 1] can take
    {.1, .2}, {.3, .4, .5}, {.6, .7}, {.8, .9, 1}: of 10 traps, 2, 3, 2 and 3 are expected."""
    p = [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.5, 0.7, 1.0]
    bars = binned(pd.DataFrame({"p": p, "n_controls": 9}), 4)
    assert [bar["count"] for bar in bars] == [7, 1, 1, 1]
    assert [bar["expected"] for bar in bars] == pytest.approx([2, 3, 2, 3])


def test_without_the_number_of_controls_every_bin_expects_the_same() -> None:
    bars = binned(pd.DataFrame({"p": [0.1, 0.2, 0.3], "n_controls": [np.nan] * 3}), 6)
    assert [bar["expected"] for bar in bars] == pytest.approx([0.5] * 6)
    assert bars == binned(pd.DataFrame({"p": [0.1, 0.2, 0.3]}), 6)


@pytest.mark.parametrize("n_controls", [1, 7, 19, 99, 100])
@pytest.mark.parametrize("bins", [2, 7, 20])
def test_uniform_ranks_meet_the_expectation_exactly(n_controls: int, bins: int) -> None:
    p = np.arange(1, n_controls + 2) / (n_controls + 1)
    bars = binned(pd.DataFrame({"p": p, "n_controls": n_controls}), bins)
    assert [bar["count"] for bar in bars] == pytest.approx([bar["expected"] for bar in bars])


def test_a_p_value_on_an_edge_falls_into_the_lower_bin() -> None:
    """0.05, 0.15 and 0.35 are 0.1 * 0.5, 1.5 and 3.5 only up to rounding; with 20 bins they are edges."""
    bars = binned(pd.DataFrame({"p": [0.05, 0.15, 0.35, 1.0]}), 20)
    assert [at for at, bar in enumerate(bars) if bar["count"]] == [0, 2, 6, 19]


def test_panels_go_from_few_to_many_copies() -> None:
    rows = [{"p": 0.5, "n_rep": n} for n in (64, 4, 1, 16)]
    assert list(rank_p_histogram(rows)) == ["1 copy", "4 copies", "16 copies", "64 copies"]
    assert rank_p_histogram([]) == {}


def test_impossible_p_values_are_refused() -> None:
    with pytest.raises(InputError, match=r"2 rank p-values lie outside \(0, 1\], the first is 0.0"):
        rank_p_histogram([{"p": p, "n_rep": 1} for p in (0.0, 0.5, 1.5)])
    with pytest.raises(InputError, match="bins is 1; a histogram needs 2 or more"):
        rank_p_histogram([{"p": 0.5, "n_rep": 1}], bins=1)
    with pytest.raises(InputError, match="the rows to draw have no p; they have n_rep"):
        rank_p_histogram([{"n_rep": 1}])


def test_a_hundred_thousand_scores_become_a_hundred_dots() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"score": rng.normal(size=100_000), "group": np.repeat(["decoy", "1"], 50_000)})
    chart = score_distribution(table)
    dots = layer_data(chart, 0)
    assert len(dots) == 202
    extremes = [dot["score"] for dot in dots if dot["group"] == "1"]
    members = table.loc[table["group"] == "1", "score"]
    assert (min(extremes), max(extremes)) == (members.min(), members.max())
    assert len(draw(chart)) < 100_000


def test_box_and_bar_are_quartiles_and_median() -> None:
    rows = [{"score": float(v), "group": "decoy"} for v in range(101)]
    box = layer_data(score_distribution(rows), 1)
    assert box == [{"group": "decoy", "score": 25.0, "middle": 50.0, "high": 75.0}]


def test_few_scores_are_all_drawn() -> None:
    rows = [{"score": v, "group": "decoy"} for v in (3.0, 1.0, 2.0)]
    dots = layer_data(score_distribution(rows), 0)
    assert sorted(dot["score"] for dot in dots) == [1.0, 2.0, 3.0]


def test_a_score_that_is_not_finite_is_refused() -> None:
    with pytest.raises(InputError, match="1 scores to draw are not finite, the first is nan; leave them out"):
        score_distribution([{"score": float("nan"), "group": "decoy"}, {"score": 1.0, "group": "decoy"}])


def test_hostile_group_names_stay_text() -> None:
    drawn = draw(score_distribution([{"score": 1.0, "group": "<script>\x1b\u202e"}, {"score": 2.0, "group": "b"}]))
    assert "<script" not in drawn
    assert "\x1b" not in drawn
    assert "&lt;script&gt;" in drawn
