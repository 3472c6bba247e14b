"""The report's charts in a page: the same marks on the same numbers, readable in both themes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from audit.report.figures import Figure
from audit.report.palette import GRID, SERIES, SHADE, ramp
from audit.report.similarities import coverage_chart
from audit.report.steering_sweep_section import sweep_figures
from dashboards.charts import DARK, definition, plain_figure, recolored
from dashboards.theme import THEMES
from tests.report.test_steering_section import arm_table, points

DARK_GROUND = THEMES["dark"]["backgroundColor"]


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, relative luminance."""

    def luminance(color: str) -> float:
        parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("color", [color for color in DARK if color not in (GRID, SHADE)])
def test_what_is_read_stands_out_on_the_dark_ground(color: str) -> None:
    assert contrast(DARK[color], DARK_GROUND) >= 4.5


@pytest.mark.parametrize("count", [2, 4, 6])
def test_a_ramp_leads_from_dim_to_bright_and_is_seen_everywhere(count: int) -> None:
    spec = {"range": ramp(count)}
    turned = recolored(spec, DARK_GROUND, is_dark=True)["range"]
    seen = [contrast(color, DARK_GROUND) for color in turned]
    assert seen == sorted(seen)
    assert seen[0] >= 3.0  # WCAG's bound for what is drawn


def test_light_charts_keep_their_colours_and_dark_ones_their_data() -> None:
    spec = definition(coverage_chart([{"n": 1, "coverage": 0.1}, {"n": 5, "coverage": 0.3}], interval=(0.2, 0.4)))
    assert recolored(spec, "#ffffff", is_dark=False) == spec
    dark = recolored(spec, DARK_GROUND, is_dark=True)
    assert dark["background"] == DARK_GROUND
    assert SERIES[0] not in json.dumps(dark)
    assert [layer["data"] for layer in dark["layer"]] == [layer["data"] for layer in spec["layer"]]
    data = {"data": {"values": [{"name": SERIES[0]}]}, "scale": {"domain": [SERIES[0]], "range": [SERIES[0]]}}
    turned = recolored(data, DARK_GROUND, is_dark=True)
    assert turned["data"] == data["data"]
    assert turned["scale"] == {"domain": [SERIES[0]], "range": [DARK[SERIES[0]]]}


def every_data(value: Any) -> list[Any]:
    if isinstance(value, dict):
        own = [value["data"]] if "data" in value else []
        return own + [found for inner in value.values() for found in every_data(inner)]
    return [found for inner in value for found in every_data(inner)] if isinstance(value, list) else []


def test_every_chart_carries_its_rows_and_none_at_its_top(figures: list[Figure]) -> None:
    drawn = [*figures, *sweep_figures({"arms": arm_table(None, None)}, points())]
    for figure in drawn:
        for panel in plain_figure(figure).panels:
            assert "data" not in panel.spec  # Streamlit would take it out
            assert "datasets" not in panel.spec
            rows = every_data(panel.spec)
            assert rows
            assert all(isinstance(one["values"], list) for one in rows)
            assert set(panel.spec["padding"]) == {"left", "right", "top", "bottom"}


def test_a_title_that_a_run_named_is_cut_and_holds_no_control_character() -> None:
    told = points()
    told["judge"] = told["judge"].str.replace("words", "\x00\x1b[31m\u202e" + "w" * 500)
    for figure in sweep_figures({"arms": arm_table(None, None)}, told):
        for panel in plain_figure(figure).panels:
            text = json.dumps(panel.spec["layer"], ensure_ascii=True)
            titles = [part.split('"')[0] for part in text.split('"title": "')[1:]]
            assert all(len(title) <= 80 for title in titles)
            assert "\\u0000" not in text
            assert "\\u202e" not in text
