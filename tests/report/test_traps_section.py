from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from audit.errors import DataError
from audit.report.figures import Figure
from audit.report.traps_section import trap_figures
from audit.runs.schema import AuditSection, EstimateRecord, Findings, Table
from audit.stats.auc import roc_auc

NOTHING = Findings(sections=())
KEPT = ["trap_id", "arm", "n_rep", "length", "stratum", "rank_p", "ratio_score"]


def data(chart: Any, layer: int) -> list[dict[str, Any]]:
    values: list[dict[str, Any]] = json.loads(chart.layer[layer].data.values)
    return values


def test_figures_come_in_reading_order_with_a_panel_per_length(figures: list[Figure]) -> None:
    assert [figure.id for figure in figures] == ["auc", "tpr", "scores", "roc", "roc_log", "ranks"]
    assert [[panel.title for panel in figure.panels] for figure in figures] == [
        *[["25 tokens", "50 tokens"]] * 5,
        ["1 copy", "4 copies", "16 copies", "64 copies"],
    ]


def test_what_is_not_estimable_is_counted_in_the_caption(figures: list[Figure]) -> None:
    captions = {figure.id: figure.caption for figure in figures}
    assert "Left out: 10 not estimable (see the table)." in captions["tpr"]
    assert "Left out" not in captions["auc"]


def test_the_area_under_the_drawn_curve_is_the_auc(items: pd.DataFrame, figures: list[Figure]) -> None:
    (roc,) = (figure for figure in figures if figure.id == "roc")
    rows = pd.DataFrame(data(roc.panels[0].chart, 2))
    part = items[items["length"] == 25]
    decoys = part.loc[part["arm"] == "decoy", "ratio_score"]
    assert list(rows["group"].unique()) == ["1", "4", "16", "64"]
    for group, points in rows.groupby("group"):
        stairs = float((np.diff(points["fpr"]) * points["tpr"].to_numpy()[:-1]).sum())
        expected = roc_auc(part.loc[part["n_rep"] == int(group), "ratio_score"], decoys).value
        assert expected is not None
        assert expected - 0.02 <= stairs <= expected + 1e-9


def test_the_drawn_score_is_fixed_in_advance_and_never_the_best(items: pd.DataFrame) -> None:
    def title(table: pd.DataFrame, primary: str | None = None) -> str:
        return trap_figures(table[table["length"] == 25], NOTHING, primary=primary)[2].title

    assert title(items.assign(ratio_score=np.nan)) == "Scores of members and decoys: Loss"
    assert title(items, "zlib") == "Scores of members and decoys: zlib"


def test_traps_without_a_score_are_counted_and_left_out(items: pd.DataFrame) -> None:
    holed = items.copy()
    holed.loc[holed.index[:7], "ratio_score"] = np.nan
    captions = {figure.id: figure.caption for figure in trap_figures(holed, NOTHING)}
    assert all("Left out: 7 traps without a Ratio to reference score." in captions[id] for id in ("scores", "roc"))


def test_a_run_without_scores_or_ranks_says_why_there_is_no_chart(items: pd.DataFrame) -> None:
    scores = [name for name in items if name.endswith("_score")]
    figures = trap_figures(items.assign(**dict.fromkeys(scores, None), rank_p=np.nan), NOTHING)
    assert [figure.panels for figure in figures] == [()] * 4
    assert [figure.caption for figure in figures] == [
        "Not drawn: the findings hold no such estimate.",
        "Not drawn: the findings hold no such estimate.",
        "Not drawn: the items hold no value of any score.",
        "Not drawn: the items hold no rank p-value.",
    ]


def test_a_length_without_decoys_is_named(items: pd.DataFrame) -> None:
    bare = items[(items["length"] == 25) | (items["arm"] == "member")]
    figures = {figure.id: figure for figure in trap_figures(bare, NOTHING)}
    assert "Not drawn for 50 tokens: members or decoys are missing." in figures["roc"].caption
    assert [panel.title for panel in figures["roc"].panels] == ["25 tokens"]


def test_the_reason_of_an_undefined_estimate_stands_in_place_of_the_chart(items: pd.DataFrame) -> None:
    missing = EstimateRecord(value=None, low=None, high=None, level=0.95, n=9, method="AUC", why="one decoy is too few")
    row = {"score": "loss", "length": 25, "n_rep": 1, "auc": missing, "tpr_at_1pct_fpr": missing}
    table = Table(name="auc", title="t", columns=(), rows=(row,))
    section = AuditSection(
        audit="traps", title="t", method="m", assumptions=(), cannot_show=(), findings=(), tables=(table,)
    )
    assert trap_figures(items, Findings(sections=(section,)))[0].caption == "Not drawn: one decoy is too few."


def test_ranks_among_other_controls_get_no_exact_expectation(items: pd.DataFrame) -> None:
    def expected(table: pd.DataFrame) -> list[float]:
        figure = trap_figures(table.assign(ratio_score=np.nan)[KEPT], NOTHING)[-1]
        return [bar["expected"] for bar in data(figure.panels[0].chart, 0)]

    assert expected(items) == pytest.approx([3.0] * 20)  # 60 traps, 99 controls: 5 of 100 ranks in each bin
    coarse = items.assign(rank_p=items["rank_p"].where(items["rank_p"].isna(), 1 / 7))
    assert expected(coarse) == pytest.approx([3.0] * 20)
    few = items[(items["arm"] == "member") | (items.groupby("stratum").cumcount() < 9)]
    ten = few.assign(rank_p=few["rank_p"].where(few["rank_p"].isna(), 0.1))
    assert expected(ten) == pytest.approx([0.0, 6.0] * 10)  # 9 controls: p is one of 0.1, 0.2, ..., 1


def test_missing_columns_and_strange_arms_are_named(items: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="has no column length, rank_p; the figures need arm, n_rep"):
        trap_figures(items.drop(columns=["length", "rank_p"]), NOTHING)
    with pytest.raises(DataError, match='arm is \'control\'; expected "member" or "decoy"'):
        trap_figures(items.replace({"arm": {"decoy": "control"}}), NOTHING)
    with pytest.raises(DataError, match="has no lowercase_score, the primary score; it has ratio, loss"):
        trap_figures(items, NOTHING, primary="lowercase")


def test_descriptions_carry_the_numbers_for_those_who_cannot_see_the_chart(
    figures: list[Figure], findings: Findings
) -> None:
    panels = {figure.id: figure.panels for figure in figures}
    table = findings.sections[0].tables[0]
    cell = next(row["auc"] for row in table.rows if row["length"] == 25 and row["n_rep"] == 1)
    assert isinstance(cell, EstimateRecord)
    assert f"Ratio to reference, 1 copies: {cell.value:.2f} [" in panels["auc"][0].description
    assert "decoy: n 297, median" in panels["scores"][0].description
