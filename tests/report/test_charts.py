from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from altair.typing import ChartType

from audit.errors import InputError
from audit.report.charts import auc_by_repetition, roc, thinned, tpr_by_repetition
from audit.report.palette import DECOY, INK, QUIET, SERIES, WIDTH, legend_columns, ramp
from audit.report.svg import svg
from audit.stats.auc import roc_curve


def draw(chart: ChartType) -> str:
    return svg(chart, uid="c", title="t", description="d")


def rows(scores: tuple[str, ...] = ("Loss", "Ratio")) -> list[dict[str, Any]]:
    return [
        {"score": score, "n_rep": n, "length": length, "value": 0.7, "low": 0.6, "high": 0.8}
        for score in scores
        for length in (25, "all")
        for n in ("control", 64, 1, 4)
    ]


def texts(drawn: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", drawn)


def interval_lines(drawn: str) -> list[tuple[float, float]]:
    """(x, length) of the vertical strokes that are as thick as an interval."""
    lines = re.findall(r'<line transform="translate\(([\d.]+),[\d.]+\)" x2="0" y2="(-?[\d.]+)"[^>]*"1.8"', drawn)
    return [(float(x), float(y)) for x, y in lines]


def auc_domain(drawn: list[dict[str, Any]]) -> list[float]:
    layers = auc_by_repetition(drawn)["25 tokens"].to_dict()["layer"]
    (domain,) = {tuple(layer["encoding"]["y"]["scale"]["domain"]) for layer in layers}
    return list(domain)


def test_there_is_one_panel_per_length() -> None:
    assert list(auc_by_repetition(rows())) == ["25 tokens", "all lengths"]


def test_repetitions_stand_in_order_with_the_control_first() -> None:
    shown = texts(draw(auc_by_repetition(rows())["25 tokens"]))
    assert [text for text in shown if text in {"control", "1", "4", "64"}] == ["control", "1", "4", "64"]


def test_intervals_of_different_scores_do_not_overlap() -> None:
    scores = ("a", "b", "c", "d", "e")
    lines = interval_lines(draw(auc_by_repetition(rows(scores))["25 tokens"]))
    assert len(lines) == 5 * 4
    at = sorted(x for x, _ in lines)
    assert min(np.diff(at)) >= 4  # pixels between strokes 1.8 wide


def test_many_repetitions_make_a_panel_wider_and_keep_intervals_apart() -> None:
    scores = ("a", "b", "c", "d", "e", "f")
    many = [{**row, "n_rep": n} for row in rows(scores)[::8] for n in (1, 2, 4, 8, 16, 32, 64, 128, 1_000)]
    drawn = draw(auc_by_repetition(many)["25 tokens"])
    at = sorted(x for x, _ in interval_lines(drawn))
    assert len(at) == 6 * 9
    assert min(np.diff(at)) >= 4


@pytest.mark.parametrize("names", [["a"], ["Ratio to reference", "Loss", "Min-K%++"], ["x" * 28] * 6])
def test_the_legend_shows_every_entry(names: list[str]) -> None:
    shown = texts(draw(auc_by_repetition(rows(tuple(f"{at}{name}" for at, name in enumerate(names))))["25 tokens"]))
    for at, name in enumerate(names):
        assert any(text.startswith(f"{at}{name[:8]}") for text in shown)
    assert legend_columns(names) * min(130, 6 * min(map(len, names))) < WIDTH


def test_an_undefined_value_is_not_drawn_and_a_missing_interval_has_no_bar() -> None:
    partly = rows(("Loss",))[:3]
    partly[0].update(value=None, low=None, high=None)
    partly[1].update(low=None, high=None)
    drawn = draw(auc_by_repetition(partly)["25 tokens"])
    assert len(interval_lines(drawn)) == 1
    assert "control" not in texts(drawn)
    assert auc_by_repetition([{**row, "value": None} for row in partly]) == {}


def test_the_axis_reaches_down_to_the_lowest_bound() -> None:
    low = [{**row, "low": 0.13} for row in rows()]
    assert auc_domain(low) == [0.1, 1.0]
    assert auc_domain(rows()) == [0.4, 1.0]


def test_numpy_values_and_frames_draw_like_lists() -> None:
    frame = pd.DataFrame(rows(("Loss",)))
    assert draw(auc_by_repetition(frame)["25 tokens"]) == draw(auc_by_repetition(rows(("Loss",)))["25 tokens"])
    ones = [{**row, "n_rep": np.int64(1)} for row in rows(("Loss",))[:1]]
    assert "1" in texts(draw(tpr_by_repetition(ones)["25 tokens"]))


def test_the_tpr_chart_names_its_false_positive_rate() -> None:
    assert "TPR at 0.1% FPR" in texts(draw(tpr_by_repetition(rows(), fpr=0.001)["25 tokens"]))


def test_a_missing_field_is_named() -> None:
    with pytest.raises(InputError, match="row 0 to draw has no value, low; it has score, n_rep, length, high"):
        auc_by_repetition([{"score": "a", "n_rep": 1, "length": 25, "high": 1}])


def test_different_scores_with_the_same_short_label_stay_apart() -> None:
    long = ("x" * 200 + "1", "x" * 200 + "2")
    shown = texts(draw(auc_by_repetition(rows(long))["25 tokens"]))
    assert sum(text.startswith("xxxx") for text in shown) == 2


def curve(n: int = 400, *, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    members, decoys = rng.normal(1, 1, n), rng.normal(0, 1, 40 * n)
    if ties:
        members, decoys = members.round(1), decoys.round(1)
    found = roc_curve(members, decoys)
    return found.fpr, found.tpr


def roc_rows(fpr: np.ndarray, tpr: np.ndarray) -> list[dict[str, Any]]:
    return [{"fpr": float(f), "tpr": float(t), "group": 64} for f, t in zip(fpr, tpr, strict=True)]


@pytest.mark.parametrize("ties", [False, True])
def test_a_thinned_curve_is_short_and_lies_on_or_below_the_whole_one(ties: bool) -> None:
    fpr, tpr = curve(ties=ties)
    few_fpr, few_tpr = thinned(fpr, tpr)
    assert len(few_fpr) <= 2 * 129 + 1
    assert set(zip(few_fpr, few_tpr, strict=True)) <= set(zip(fpr, tpr, strict=True))
    assert (few_fpr[-1], few_tpr[-1]) == (1.0, 1.0)
    stairs = few_tpr[np.searchsorted(few_fpr, fpr, side="right") - 1]
    highest = tpr[np.searchsorted(fpr, fpr, side="right") - 1]
    assert (stairs <= highest + 1e-12).all()
    assert (highest - stairs).max() < 0.05


def test_a_thinned_curve_keeps_the_rate_at_the_resolution() -> None:
    fpr, tpr = curve()
    few_fpr, few_tpr = thinned(fpr, tpr)
    resolution = fpr[fpr > 0].min()
    assert few_tpr[few_fpr <= resolution * 1.0001].max() == tpr[fpr <= resolution * 1.0001].max()


def test_the_region_below_the_resolution_is_grey_and_the_logarithmic_curve_begins_after_it() -> None:
    fpr, tpr = curve(50)
    drawn = draw(roc(roc_rows(*thinned(fpr, tpr)), resolution=1 / 2_000, log_x=True))
    (left, right) = map(float, re.search(r'd="M([\d.]+),[\d.]+h([\d.]+)v[^"]*" fill="#d0d0d0"', drawn).groups())  # type: ignore[union-attr]
    (start,) = re.findall(r'd="M([\d.]+),[^"]*" stroke="#[0-9a-f]{6}" stroke-width="2"', drawn)
    assert float(start) == pytest.approx(left + right, abs=0.6)


def test_a_logarithmic_axis_without_a_resolution_is_refused() -> None:
    with pytest.raises(InputError, match=r"between 0 and 1; it is None. Pass 1 / \(number of negatives\)"):
        roc(roc_rows(np.array([0.0, 1.0]), np.array([0.0, 1.0])), log_x=True)


def luminance(color: str) -> float:
    channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(first: str, second: str) -> float:
    """WCAG 2.1 contrast ratio: (L1 + 0.05) / (L2 + 0.05); black on white is 21."""
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_chart_colours_contrast_with_white() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert all(contrast(color, "#ffffff") >= 4.5 for color in (*SERIES, DECOY, INK, QUIET))
    assert all(contrast(color, "#ffffff") >= 3.0 for color in ramp(6))  # strokes, WCAG 1.4.11


def test_the_ramp_darkens_from_few_to_many_copies() -> None:
    steps = [luminance(color) for color in ramp(6)]
    assert steps == sorted(steps, reverse=True)
    assert len(ramp(1)) == 1
