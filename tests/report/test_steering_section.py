"""The figures of steering: what is drawn, what is not, and what the words beside it say."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

from audit.report.figures import Figure
from audit.report.steering_section import fit_figures, short_names
from audit.report.steering_sweep_section import examples, sweep_figures
from audit.report.svg import svg
from audit.runs.schema import Column, EstimateRecord, Table

HOSTILE = "<script>alert(1)</script>"
SITES = ["model.layers.0.norm", "model.layers.1.norm", f"model.layers.2.{HOSTILE}"]


def cell(value: float | None, half: float | None = 0.05) -> EstimateRecord:
    low, high = (None, None) if value is None or half is None else (value - half, value + half)
    why = "no spread" if low is None else None
    return EstimateRecord(value=value, low=low, high=high, level=0.95, n=3, method="mean", why=why)


def table(name: str, rows: list[dict[str, Any]]) -> Table:
    columns = tuple(Column(key=key, label=key) for key in (rows[0] if rows else {"none": ""}))
    return Table(name=name, title="", columns=columns, rows=tuple(rows))


def distances(*pairs: tuple[Any, Any], name: str = "distances") -> Table:
    rows = [
        {"site": site, "before": before, "after": after}
        for site, (before, after) in zip([*SITES, "all sites"], pairs, strict=True)
    ]
    return table(name, rows)


def drawn(figure: Figure) -> list[str]:
    return [
        svg(panel.chart, uid=f"{figure.id}-{number}", title=panel.title, description=panel.description)
        for number, panel in enumerate(figure.panels)
    ]


def test_names_lose_what_they_share_and_stay_apart() -> None:
    assert list(short_names(["m.l.0.a", "m.l.1.a", "m.l.1.b"]).values()) == ["0.a", "1.a", "1.b"]
    assert list(short_names(["m.norm", "m.norm.norm"]).values()) == ["norm", "norm.norm"]
    assert short_names(["m.l.0.a"]) == {"m.l.0.a": "a"}
    long = [f"{'x' * 40}{end}" for end in "ab"]
    assert len(set(short_names(long).values())) == 2


def test_a_fit_shows_distances_changes_losses_and_its_path() -> None:
    sites = pd.DataFrame({"site": SITES, "neurons": [20, 20, 20], "changed": [10, 2, 0]})
    neurons = pd.DataFrame([
        {"site": SITES[row % 5 == 4], "neuron": row, "scale": 1 + 0.01 * row, "shift": 0.0} for row in range(12)
    ])  # fmt: skip
    losses = pd.DataFrame({"step": range(1, 1001), "loss": [1000 / step for step in range(1, 1001)]})
    tables = {
        "distances": distances((4.0, 1.0), (3.0, 2.0), (2.0, 2.0), (3.0, 5 / 3)),
        "losses": table("losses", [{"step": 1000, "loss": 1.0, "held_out": 2.5}]),
        "path": table("path", [
            {"gamma": gamma, "support": share, "held_out": 2.0 + gamma, "step": 10, "chosen": gamma == 0.1}
            for gamma, share in ((0.0, 1.0), (0.1, 0.2))
        ]),
    }  # fmt: skip
    figures = fit_figures(tables, sites, neurons, losses)
    assert [figure.id for figure in figures] == ["distances", "changes", "losses", "path"]
    assert "a training loss" in figures[0].caption
    assert "(20% of all)" in figures[1].caption
    assert [panel.title for panel in figures[1].panels] == ["Share of neurons", "Largest |scale - 1|"]  # no shifts
    assert "mean of 4 steps" in figures[2].caption
    for figure in figures:
        for picture in drawn(figure):
            assert HOSTILE not in picture
            assert "&lt;script" in picture or figure.id in ("losses", "path")


def test_held_out_distances_are_taken_where_there_are_some_and_what_is_undefined_is_counted() -> None:
    pairs = [(cell(2.0), cell(0.0)), (cell(None), cell(None)), (cell(1.0), cell(0.5)), (cell(1.5), cell(0.25))]
    tables = {"distances": distances(*[(9.0, 9.0)] * 4), "held-out-distances": distances(*pairs)}
    (figure,) = fit_figures(tables, None, None, None)
    assert "held-out" in figure.caption
    assert "not estimable: 1" in figure.caption
    assert "1.5 without maps, 0.25" in figure.panels[0].description
    assert "logarithmic" not in json.dumps(figure.panels[0].chart.to_dict())  # a distance is 0
    assert drawn(figure)


def points() -> pd.DataFrame:
    rows = [("unsteered", 0.0), *((arm, s) for arm in ("A", HOSTILE) for s in (0.0, 0.5, 1.0)), ("prompt", 1.0)]
    return pd.DataFrame([
        {
            "judge": judge, "texts": texts, "arm": arm, "strength": strength, "rate": 0.1 + 0.5 * strength,
            "rate_low": 0.05, "rate_high": 0.8, "change": 3 * strength, "change_low": -0.5,
            "change_high": None if strength else 0.5, "ours": arm == "A",
            "is_compared": arm == "A" and strength == 1, "instructed": arm == "prompt",
        }
        for judge in ("words", "sentences") for texts in ("neutral", "target") for arm, strength in rows
    ])  # fmt: skip


def arm_table(*gammas: float | None) -> Table:
    return table("arms", [
        {"name": name, "gamma": gamma, "support": 0.5} for name, gamma in zip(("A", HOSTILE), gammas, strict=True)
    ])  # fmt: skip


def test_a_sweep_shows_cost_and_effect_of_every_arm_and_marks_ours() -> None:
    matched = [
        {"baseline": HOSTILE, "judge": judge, "texts": "neutral", "difference": cell(gap)}
        for judge, gap in (("words", 0.1), ("sentences", None))
    ]
    tables = {"arms": arm_table(0.1, None), "matched": table("matched", matched)}
    figures = sweep_figures(tables, points())
    assert [figure.id for figure in figures] == ["frontier-neutral", "frontier-target", "strength", "cost", "matched"]
    assert [len(figure.panels) for figure in figures] == [2, 2, 2, 2, 1]
    assert "Not comparable: 1 of 2" in figures[-1].caption
    for figure in figures:
        pictures = drawn(figure)
        assert all(HOSTILE not in picture and "alert(1)" in picture for picture in pictures)
    mark = figures[0].panels[0].chart.layer[-1]
    assert mark.mark.shape == "diamond"
    (ours,) = json.loads(mark.data.values)
    assert (ours["arm"], ours["strength"]) == ("A", 1)


def test_no_comparison_is_said_and_not_drawn() -> None:
    rows = [{"baseline": "B", "judge": "words", "texts": "neutral", "difference": cell(None)}]
    *_, gaps = sweep_figures({"arms": arm_table(None, None), "matched": table("matched", rows)}, points())
    assert gaps.panels == ()
    assert "no other arm could be brought to our perplexity" in gaps.caption


def test_a_broken_arm_leaves_the_others_to_be_seen() -> None:
    told = points()
    told.loc[(told["arm"] == HOSTILE) & (told["strength"] == 1), "change"] = 1e6
    figures = sweep_figures({"arms": arm_table(None, None)}, told)
    assert "symlog" in json.dumps(figures[0].panels[0].chart.to_dict())
    assert all(drawn(figure) for figure in figures)


@pytest.mark.parametrize(("gammas", "there"), [((0.1, 0.2), True), ((0.1, 0.1), False), ((0.1, None), False)])
def test_support_is_drawn_where_gammas_differ(gammas: tuple[Any, ...], there: bool) -> None:
    figures = sweep_figures({"arms": arm_table(*gammas)}, points())
    assert (figures[-1].id == "support") == there
    assert all(drawn(figure) for figure in figures)


def test_examples_take_the_strength_that_is_nearest_to_ours() -> None:
    texts = pd.DataFrame([
        {"arm": arm, "strength": strength, "prompt": f"prompt {number}", "seed": seed, "continuation": HOSTILE,
         "flagged_by": ["words"] if arm == "A" else []}
        for number in range(9) for arm, strength in (("unsteered", 0.0), ("A", 0.5), ("A", 1.0), ("B", 0.7))
        for seed in (1, 2)
    ])  # fmt: skip
    found = examples(texts, points())
    assert len(found.texts) == 8
    pieces = found.texts[0].pieces
    assert [piece.text.strip() for piece in pieces[1::2]] == ["unsteered:", "A at 1:", "B at 0.7:"]
    assert [piece.level for piece in pieces] == [-1, -1, 0, -1, 1, -1, 0]
