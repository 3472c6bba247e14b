from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from audit.errors import DataError
from audit.report.membership_section import membership_figures
from audit.runs.schema import AuditSection, Column, EstimateRecord, Finding, Findings, Table


def auc(value: float | None) -> EstimateRecord:
    bounds = (None, None) if value is None else (value - 0.1, value + 0.1)
    return EstimateRecord(value=value, low=bounds[0], high=bounds[1], level=0.95, n=9, method="AUC", why="few")


FINDINGS = Findings(
    sections=(
        AuditSection(
            audit="membership",
            title="Membership",
            method="",
            assumptions=(),
            cannot_show=(),
            findings=(
                Finding(
                    id="membership.blind",
                    audit="membership",
                    claim="",
                    verdict="information",
                    estimates={"bag_of_words_auc": auc(0.5), "reference_only_auc": auc(None)},
                    how_to_read="",
                ),
            ),
            tables=(
                Table(
                    name="scores",
                    title="",
                    columns=(Column(key="score", label=""), Column(key="auc", label="")),
                    rows=({"score": "Loss", "auc": auc(0.7)},),
                ),
            ),
        ),
    )
)
ITEMS = pd.DataFrame(
    {"side": ["suspect"] * 5 + ["validation"] * 4, "loss_score": np.arange(9.0), "ratio_score": np.ones(9)}
)


def test_scores_and_checks_stand_in_one_figure_and_what_has_no_value_is_left_out() -> None:
    figure, _ = membership_figures(ITEMS, FINDINGS)
    (panel,) = figure.panels
    assert "Loss 0.70 [0.60, 0.80]; bag of words 0.50 [0.40, 0.60]." in panel.description
    assert "reference alone" not in json.dumps(panel.chart.to_dict())


@pytest.mark.parametrize(("primary", "name"), [(None, "Ratio to reference"), ("loss", "Loss")])
def test_the_score_that_was_fixed_beforehand_is_drawn(primary: str | None, name: str) -> None:
    _, figure = membership_figures(ITEMS, FINDINGS, primary=primary)
    assert figure.title == f"Scores of suspect and validation texts: {name}"
    assert "suspect: n 5" in figure.panels[0].description


def test_without_an_auc_or_a_score_the_caption_says_so() -> None:
    one, other = membership_figures(ITEMS.assign(ratio_score=np.nan), Findings(sections=()))
    assert one.caption == "Not drawn: the findings hold no AUC."
    assert other.caption == "Not drawn: a score is missing."


def test_a_missing_column_is_named() -> None:
    with pytest.raises(DataError, match="has no column side"):
        membership_figures(ITEMS.drop(columns="side"), FINDINGS)
