from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from altair.typing import ChartType

from audit.errors import InputError
from audit.report.similarities import (
    BINS,
    coverage_chart,
    rate_charts,
    similarity_edges,
    similarity_histogram,
)
from audit.report.svg import svg

EDGES = np.linspace(0.0, 1.0, BINS + 1)


def layer_data(chart: Any, at: int) -> list[dict[str, Any]]:
    values: list[dict[str, Any]] = json.loads(chart.layer[at].data.values)
    return values


def texts(chart: ChartType) -> list[str]:
    drawn = svg(chart, uid="c", title="t", description="d")
    return re.findall(r"<text[^>]*>([^<]*)</text>", drawn)


def test_the_axis_holds_every_similarity_and_threshold() -> None:
    edges = similarity_edges(np.array([0.62, 0.97]), np.array([0.58, 0.9]))
    assert (edges[0], edges[-1], len(edges)) == (pytest.approx(0.55), 1.0, BINS + 1)
    alone = similarity_edges(np.array([1.0]), np.array([1.0]))
    assert (alone[0], alone[-1]) == (pytest.approx(0.95), 1.0)


def test_steps_are_shares_of_each_set_whatever_its_size() -> None:
    """30 bins of 1/30: of four generations two lie in the last bin and one each in bins 0 and 15."""
    chart = similarity_histogram(
        {"generated": np.array([0.01, 0.51, 0.99, 1.0]), "held_out": np.array([0.51])}, threshold=0.8, edges=EDGES
    )
    rows = layer_data(chart, 0)
    ours = {round(row["x"] * BINS): row["y"] for row in rows[:-1] if row["set"] == "generated, n 4" and row["at"] > 0}
    assert [at for at, share in ours.items() if share and at < BINS] == [0, 15, 29]
    assert (ours[0], ours[15], ours[29]) == (0.25, 0.25, 0.5)
    assert max(row["y"] for row in rows if row["set"] == "held out, n 1") == 1.0


def test_the_threshold_is_named_and_so_is_each_set_with_its_number() -> None:
    sets = {"base": np.full(3, 0.2), "generated": np.full(1_200, 0.9), "held_out": np.empty(0)}
    shown = texts(similarity_histogram(sets, threshold=0.8934, edges=EDGES))
    assert "threshold 0.893" in shown
    assert [text for text in shown if ", n " in text] == ["generated, n 1,200", "base model, n 3"]


def test_nothing_and_unknown_sets_are_refused() -> None:
    with pytest.raises(InputError, match="nothing to draw of 'empty sets'"):
        similarity_histogram({"generated": np.empty(0)}, threshold=0.5, edges=EDGES)
    with pytest.raises(InputError, match="nothing to draw of 'other'; expected generated, held_out, base"):
        similarity_histogram({"other": np.ones(1)}, threshold=0.5, edges=EDGES)


def test_coverage_starts_at_zero_and_its_bar_stands_at_the_last_point() -> None:
    rows = [{"n": 1, "coverage": 0.1}, {"n": 40, "coverage": 0.2}]
    chart = coverage_chart(rows, interval=(0.15, 0.3))
    assert layer_data(chart, 2) == [{"n": 40, "coverage": 0.15, "high": 0.3}]
    (domain,) = {tuple(layer["encoding"]["y"]["scale"]["domain"]) for layer in chart.to_dict()["layer"]}
    assert domain[0] == 0
    assert 0.3 < domain[1] < 0.4
    assert len(coverage_chart(rows).layer) == 2
    with pytest.raises(InputError, match="no points of a coverage curve"):
        coverage_chart([])


def test_a_curve_that_stays_at_zero_can_be_drawn() -> None:
    assert "100%" in texts(coverage_chart([{"n": 1, "coverage": 0.0}]))


def test_rates_have_a_panel_for_each_view_on_one_axis_and_a_legend_of_what_there_is() -> None:
    numbers = {"value": 0.1, "low": 0.05, "high": 0.2}
    rows = [
        {"view": view, "arm": arm, "kind": kind, **numbers}
        for view in ("whole", "<b>")
        for arm in ("Embedding", "Indel")
        for kind in ("model", "false positives")
    ]
    rows[0]["high"] = 0.7
    charts = rate_charts(rows)
    assert list(charts) == ["whole", "<b>"]
    domains = {str(layer["encoding"]["x"]["scale"]) for one in charts.values() for layer in one.to_dict()["layer"]}
    assert domains == {"{'domain': [0, 0.7], 'nice': True}"}
    shown = texts(charts["<b>"])
    assert [text for text in shown if text in {"model", "base model", "false positives"}] == [
        "model",
        "false positives",
    ]
    assert [text for text in shown if text in {"Embedding", "Indel"}] == ["Embedding", "Indel"]
