from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from audit.errors import DataError
from audit.report.extraction_section import extraction_figures
from audit.report.figures import Figure
from audit.runs.schema import AuditSection, EstimateRecord, Finding, Findings, Table

NOTHING = Findings(sections=())


def estimate(value: float | None, half: float = 0.1) -> EstimateRecord:
    low, high = (None, None) if value is None else (value - half, value + half)
    return EstimateRecord(value=value, low=low, high=high, level=0.95, n=50, method="Wilson", why="none compared")


def found(**tables: list[dict[str, Any]]) -> Findings:
    coverage = Finding(
        id="extraction.coverage",
        audit="extraction",
        claim="",
        verdict="information",
        estimates={"coverage_any": estimate(0.3)},
        how_to_read="",
    )
    section = AuditSection(
        audit="extraction",
        title="",
        method="",
        assumptions=(),
        cannot_show=(),
        findings=(coverage,),
        tables=tuple(Table(name=name, title="", columns=(), rows=tuple(rows)) for name, rows in tables.items()),
    )
    return Findings(sections=(section,))


RATES = [
    {"view": "whole", "arm": "Embedding", "rate": estimate(0.4), "fpr": estimate(0.2), "base": estimate(0.15)},
    {"view": "whole", "arm": "Indel", "rate": estimate(0.3), "fpr": estimate(0.2), "base": estimate(None)},
    {"view": "answer", "arm": "Embedding", "rate": estimate(0.25), "fpr": estimate(0.2), "base": "none"},
]
CURVE = [{"n": 1, "coverage": 0.01}, {"n": 50, "coverage": 0.3}]


@pytest.fixture
def items() -> pd.DataFrame:
    """20 generations, of which 2 were not compared, 10 held-out rows, and 4 base generations, one of them compared."""
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"set": ["generated"] * 20 + ["held_out"] * 10 + ["base"] * 4})
    table["similarity"] = rng.uniform(0.6, 0.9, len(table))
    table.loc[[0, 1, 30, 31, 32], "similarity"] = np.nan
    return table.assign(threshold=0.85, n_words=rng.integers(20, 90, len(table)))


def similarity(items: pd.DataFrame) -> Figure:
    return extraction_figures(items, NOTHING)[0]


def test_figures_come_in_reading_order_with_the_numbers_of_the_findings(items: pd.DataFrame) -> None:
    near, coverage, rates = extraction_figures(items, found(rates=RATES, curve=CURVE))
    assert [figure.id for figure in (near, coverage, rates)] == ["similarity", "coverage", "rates"]
    assert "from 0.01 at 1 to 0.3 at 50: 0.30 [0.20, 0.40]." in coverage.panels[0].description
    assert "The bar is the interval of the last point." in coverage.caption
    assert [panel.title for panel in rates.panels] == ["whole", "answer"]
    assert rates.panels[1].description.endswith(
        "answer. Embedding, model 0.25 [0.15, 0.35]; Embedding, false positives 0.20 [0.10, 0.30]."
    )
    assert "Left out: 1 not estimable (see the table)." in rates.caption


def test_what_was_drawn_and_left_out_is_counted_for_each_set(items: pd.DataFrame) -> None:
    caption = similarity(items).caption
    assert "Drawn: 18 generated, 10 held out, 1 base model." in caption
    assert caption.endswith("they were not compared (rejected, too short, or set aside): 2 generated, 3 base model.")
    assert "Left out" not in similarity(items.dropna()).caption


def test_one_threshold_gives_one_panel_and_says_it(items: pd.DataFrame) -> None:
    (panel,) = similarity(items).panels
    assert panel.title == ""
    assert "threshold 0.850. generated: n 18, median 0." in panel.description


def test_thresholds_by_length_give_a_panel_for_each_range_of_words(items: pd.DataFrame) -> None:
    items["n_words"] = [*range(20, 40), *range(20, 30), 20, 21, 22, 39]
    items["threshold"] = np.where(items["n_words"] < 30, 0.9, np.where(items["n_words"] < 39, 0.8, 0.9))
    figure = similarity(items)
    assert [panel.title for panel in figure.panels] == ["20 to 29 words", "30 to 38 words", "39 words"]
    assert ["threshold 0.900." in panel.description for panel in figure.panels] == [True, False, True]
    axes = {str(layer.to_dict()["encoding"]["x"]["scale"]) for p in figure.panels for layer in p.chart.layer}
    assert len(axes) == 1
    assert "a panel for each range" in figure.caption


def test_a_set_that_is_missing_or_was_not_compared_is_not_drawn(items: pd.DataFrame) -> None:
    alone = similarity(items[items["set"] == "held_out"])
    assert "Drawn: 10 held out." in alone.caption
    assert "generated" not in alone.panels[0].description
    rejected = items.assign(similarity=items["similarity"].where(items["set"] != "generated"))
    assert "Held-out rows were not trained on" in alone.caption
    assert "Held-out rows" not in similarity(items[items["set"] == "generated"]).caption
    figure = similarity(rejected)
    assert "Drawn: 0 generated, 10 held out, 1 base model." in figure.caption
    names = {row["set"] for row in json.loads(figure.panels[0].chart.layer[0].data.values)}
    assert names == {"held out, n 10", "base model, n 1"}


def test_a_cosine_of_one_that_was_rounded_up_is_drawn(items: pd.DataFrame) -> None:
    (panel,) = similarity(items.assign(similarity=1.0000001)).panels
    rows = json.loads(panel.chart.layer[0].data.values)
    assert max(row["y"] for row in rows) == 1.0


def test_what_cannot_be_drawn_says_why(items: pd.DataFrame) -> None:
    undefined = [{**row, "rate": estimate(None), "fpr": estimate(None), "base": "none"} for row in RATES]
    for table in (items.assign(similarity=np.nan), items[:0]):
        figures = extraction_figures(table, found(rates=undefined))
        assert [figure.panels for figure in figures] == [(), (), ()]
        assert [figure.caption for figure in figures] == [
            "Not drawn: none of the texts was compared.",
            "Not drawn: the findings hold no coverage curve.",
            "Not drawn: the findings hold no rate.",
        ]


def test_tables_of_other_audits_are_not_read(items: pd.DataFrame) -> None:
    section = found(rates=RATES, curve=CURVE).sections[0].model_copy(update={"audit": "other"})
    assert [f.panels for f in extraction_figures(items, Findings(sections=(section,)))[1:]] == [(), ()]


def test_damaged_items_are_refused(items: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="has no column threshold, n_words; the figures need set, similarity"):
        similarity(items.drop(columns=["threshold", "n_words"]))
    with pytest.raises(DataError, match=r"set is 'x\\x1b'; expected generated, held_out, base"):
        similarity(items.replace({"set": {"base": "x\x1b"}}))
    with pytest.raises(DataError, match="compared has no threshold or no n_words"):
        similarity(items.assign(threshold=np.nan))
    with pytest.raises(DataError, match="texts of 30 words have 2 thresholds; expected one"):
        similarity(items.assign(n_words=30, threshold=np.arange(len(items)) % 2 / 2))
