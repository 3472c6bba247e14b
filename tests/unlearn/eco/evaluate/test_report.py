"""The tables of a whole evaluation, on a tiny model before, behind and without a guard."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from audit.answers.qa import Part
from audit.answers.rows import ChoiceRow, QaRow
from audit.answers.systems import System
from audit.forgetting.measured import Measured
from tests.unlearn.eco.evaluate.small_systems import bare_and_guard, judge, qa_rows
from unlearn.eco.baselines import FilterRefuse, PromptPrefix
from unlearn.eco.evaluate.report import Evaluation, apart_from, evaluate_choices, evaluate_qa


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """One of four retain rows names Zorbla, as all forget rows do; gold is the bare model itself."""
    bare, guard = bare_and_guard(tmp_path_factory.mktemp("model"))
    rows: dict[Part, list[QaRow]] = {
        "forget": qa_rows(4, "Zorbla {}"),
        "retain": [*qa_rows(3), replace(qa_rows(1, "old Zorbla {}")[0], cluster="author 3")],
        "real authors": qa_rows(3, "the dog {}"),
        "world facts": qa_rows(3, "the hill {}"),
    }
    systems: dict[str, System] = {
        "before": bare, "guard": guard, "gold": bare, "filter": FilterRefuse(bare, judge()),
        "prefix": PromptPrefix(bare, "Zorbla", instruction="Forget {target}."),
    }  # fmt: skip
    choices = [ChoiceRow(str(place), str(place), f"is Zorbla {place}?", ("a", "b"), 0) for place in range(3)]
    flagged = {
        part: tuple(row.id for row, no in zip(own, guard.flagged([row.prompt for row in own]), strict=True) if no)
        for part, own in rows.items()
    }
    return Evaluation(
        "Zorbla",
        qa=evaluate_qa(systems, rows, max_new_tokens=6),
        flagged=flagged,
        choices=evaluate_choices(systems, {"names": choices}),
    )


@pytest.fixture(scope="module")
def tables(evaluation: Evaluation) -> dict[str, list[dict[str, Any]]]:
    return evaluation.tables()


def of(rows: list[dict[str, Any]], **wanted: str) -> list[dict[str, Any]]:
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def test_only_flagged_rows_change_to_the_bit(tables: dict[str, list[dict[str, Any]]]) -> None:
    rows = tables["changed rows"]
    assert len(rows) == 8
    assert all(row["changed, not flagged"] == [] for row in rows)
    (retain,) = of(rows, part="retain", scope="prompt")
    assert retain["changed"] == retain["flagged"] == ["old Zorbla 0"]
    (facts,) = of(rows, part="world facts", scope="prompt")
    assert facts["changed"] == facts["flagged"] == []


def test_the_bare_model_against_itself_differs_in_nothing(tables: dict[str, list[dict[str, Any]]]) -> None:
    for row in of(tables["questions and answers"], system="gold") + of(tables["multiple choice"], system="gold"):
        assert (row["less before"]["value"], row["less before"]["low"], row["less before"]["high"]) == (0, 0, 0)
        assert row["less gold"] is None
    for row in of(tables["forget quality"], system="before"):
        assert row["p_value"]["value"] == 1.0
    for row in of(tables["model utility"], system="gold"):
        assert row["less before"]["value"] == 0.0


def test_each_system_stands_beside_the_others_in_both_scopes(tables: dict[str, list[dict[str, Any]]]) -> None:
    rows = tables["questions and answers"]
    assert len(rows) == 5 * 4 * 2 * 4  # systems, parts, scopes, measures
    assert {row["n_refused"] for row in of(rows, system="filter", part="forget")} == {4}
    assert {row["n_refused"] for row in of(rows, system="filter", part="retain")} == {1}
    (quality,) = of(tables["forget quality"], system="filter", scope="prompt", test="raw")
    assert quality["p_value"] is None
    assert "refuses 4 rows" in quality["distance"]["why"]
    (choice,) = of(tables["multiple choice"], system="filter")
    assert (choice["n_unanswered"], choice["estimate"]["value"], choice["chance"]) == (3, 0.0, 0.5)
    guard = {row["scope"]: row for row in of(rows, system="guard", part="forget") if "probability" in row["measure"]}
    assert guard["prompt"]["estimate"]["value"] != guard["prompt+answer"]["estimate"]["value"]


def test_the_record_is_json_and_an_empty_evaluation_has_empty_tables(
    evaluation: Evaluation, tables: dict[str, list[dict[str, Any]]]
) -> None:
    record = evaluation.to_record()
    assert record["tables"] == tables
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert all(rows == [] for rows in Evaluation("Zorbla").tables().values())


def test_a_difference_without_a_common_row_is_undefined() -> None:
    one, other = (Measured("x", (name,), (name,), np.array([0.5])) for name in ("1", "2"))
    assert apart_from(one, other, seed=0).why == "no row has a number from both systems"
