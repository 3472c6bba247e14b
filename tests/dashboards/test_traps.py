"""The page Traps: the report's figures, rank p-values counted by copies and length, every trap a page at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from audit.runs.schema import Findings
from tests.dashboards.conftest import assert_inert, drawn, words
from tests.dashboards.hostile import ALL
from tests.dashboards.rooms import run_of, section, trap_run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, items: pd.DataFrame, findings: Findings) -> Path:
    root = tmp_path_factory.mktemp("traps")
    trap_run(root / "run", items, findings)
    return root


def test_the_figures_are_the_reports(root: Path) -> None:
    test = drawn("traps", root, run="run")
    titles = [one.value for one in test.subheader]
    assert titles[:3] == [
        "AUC by number of copies",
        "Members found at 1\\% false positives",
        "Scores of members and decoys\\: Ratio to reference",
    ]
    assert "Rank p\\-values of single traps" in titles
    assert len(test.get("vega_lite_chart")) == 2 + 2 + 2 + 2 + 2 + 4  # two lengths; four numbers of copies


@pytest.mark.parametrize("level", [0.01, 0.05])
def test_small_rank_p_values_are_counted_by_copies_and_length(root: Path, items: pd.DataFrame, level: float) -> None:
    test = drawn("traps", root, run="run", **{"rank-level": str(level)})
    heading = f"Rank p up to {level:g}"
    table = next(frame.value for frame in test.dataframe if heading in frame.value)
    members = items[items["arm"] == "member"]
    expected = members.groupby(["n_rep", "length"])["rank_p"].apply(lambda p: int((p <= level + 1e-12).sum()))
    assert table[heading].tolist() == expected.tolist()
    assert table["Traps"].tolist() == [30] * 8
    assert "without an interval" in words(test)


def test_one_length_can_be_looked_at_alone(root: Path) -> None:
    test = drawn("traps", root, run="run", length="50")
    assert "Rank p\\-values of single traps\\, 50 tokens" in [one.value for one in test.subheader]
    assert "traps drawn: 30 with 1 copy" in words(test).replace("\\", "")


def test_p_values_stand_with_what_the_design_could_have_given(root: Path) -> None:
    assert "0.001 (smallest possible 0.0001), n 9,999" in words(drawn("traps", root, run="run"))


def test_traps_are_sorted_and_filtered_without_their_texts(root: Path, items: pd.DataFrame) -> None:
    test = drawn("traps", root, run="run", copies="64")
    table = next(frame.value for frame in test.dataframe if "Trap" in frame.value)
    assert "Text" not in table
    assert set(table["Copies"]) == {64}
    assert table["Rank p"].is_monotonic_increasing
    assert "Rows 1 to 60 of 60 that pass, of 834 in all" in words(test)
    assert "quiet harbour" not in words(test)
    test.toggle(key="show-texts-traps").set_value(True).run()
    assert "quiet harbour" in words(test)


def test_a_run_without_documents_says_so(root: Path) -> None:
    assert "holds no table by document" in words(drawn("traps", root, run="run"))


def test_found_texts_stand_beside(tmp_path: Path) -> None:
    import pyarrow as pa

    texts = pa.table(
        {"text_id": [f"t{n}" for n in range(40)], "side": ["suspect", "validation"] * 20,
         "ratio_score": np.linspace(0, 1, 40), "text": ["secret words"] * 40}
    )  # fmt: skip
    run_of(
        tmp_path / "run", "audit", [section("membership")], {"membership": texts}, {"membership": {"primary": "ratio"}}
    )
    test = drawn("traps", tmp_path, run="run", side="suspect")
    assert "Rows 1 to 20 of 20 that pass, of 40 in all" in words(test)
    assert "secret words" not in words(test)


def test_hostile_texts_stay_texts(tmp_path: Path, items: pd.DataFrame, findings: Findings) -> None:
    trap_run(tmp_path / "run", items, findings, word=f"{ALL} ")
    test = drawn("traps", tmp_path, run="run")
    test.toggle(key="show-texts-traps").set_value(True).run()
    assert not test.exception
    assert not test.warning
    assert_inert(test)


def test_a_run_of_another_kind_says_what_it_lacks(tmp_path: Path) -> None:
    run_of(tmp_path / "run", "audit", [section("extraction")], {})
    assert "This run has no audit of traps or of found texts." in words(drawn("traps", tmp_path, run="run"))


def test_findings_that_were_changed_by_hand_are_told(tmp_path: Path, items: pd.DataFrame) -> None:
    import pyarrow as pa

    broken = items.assign(arm="stranger")
    run_of(tmp_path / "run", "audit", [section("traps")], {"traps": pa.Table.from_pandas(broken, preserve_index=False)})
    test = drawn("traps", tmp_path, run="run")
    assert any("stranger" in one.value for one in test.warning)
