"""Runs side by side: known differences, copies, refusals."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from audit.errors import DataError, IncompleteRunError, InputError
from audit.runs.compare.make import compare
from audit.runs.schema import EstimateRecord, Finding
from tests.runs.compare.made_runs import IDS, N, make_run

BEFORE = np.linspace(1, 4, N)


def finding(identifier: str, *, method: str = "m") -> Finding:
    estimate = EstimateRecord(value=0.5, low=0.4, high=0.6, level=0.95, n=9, method=method)
    return Finding(
        id=identifier, audit="unlearning", claim="A claim.", verdict="information", estimates={"share": estimate},
        how_to_read="As it stands.",
    )  # fmt: skip


def test_a_known_difference_is_found_with_its_passages_paired(tmp_path: Path) -> None:
    """Every passage rises by 1 or by 3 by turns: the mean difference is 2, though losses range over 3."""
    first = make_run(tmp_path / "a", BEFORE)
    other = make_run(tmp_path / "b", BEFORE + np.where(np.arange(N) % 2, 1.0, 3.0), weights="b" * 64)
    row, *others = compare([first, other]).rows
    assert not others
    made = row.differences[0]
    assert made.how == "paired"
    assert made.estimate.value == pytest.approx(2.0)
    assert made.estimate.low is not None
    assert made.estimate.high is not None
    assert 1.5 < made.estimate.low < 2 < made.estimate.high < 2.5
    assert made.estimate.n == N


def test_turning_two_runs_round_turns_the_difference_round(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a", BEFORE)
    other = make_run(tmp_path / "b", BEFORE**2)
    there, back = (compare(pair).rows[0].differences[0].estimate for pair in ([first, other], [other, first]))
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))  # type: ignore[operator]


def test_a_copy_differs_by_nothing_and_the_interval_holds_nothing(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a", BEFORE)
    shutil.copytree(first, tmp_path / "copy")
    found = compare([first, tmp_path / "copy"])
    estimate = found.rows[0].differences[0].estimate
    assert estimate.value == 0
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low < 0 < estimate.high
    assert "every draw gave the same value" in str(estimate.why)
    assert any("run 2 is a copy of run 1" in line for line in found.told)


def test_runs_on_other_passages_are_not_paired(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a", BEFORE)
    other = make_run(tmp_path / "b", BEFORE, ids=[*IDS[1:], "another"])
    made = compare([first, other]).rows[0].differences[0]
    assert made.how == "unpaired"
    assert "only 29 of 31 items are in both" in str(made.estimate.why)


def test_findings_that_were_numbered_in_the_order_of_their_run_are_not_compared(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, BEFORE, findings=[finding("unlearning.alarm-1")]) for name in "ab"]
    found = compare(runs)
    assert [row.place.finding for row in found.rows] == ["unlearning.forget_loss"]
    assert any("unlearning.alarm-1" in line for line in found.left_out)


def test_what_only_one_run_measured_is_counted_and_not_compared(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a", BEFORE)
    other = make_run(tmp_path / "b", BEFORE + 1, findings=[finding("unlearning.more")])
    found = compare([first, other])
    assert [row.place.finding for row in found.rows] == ["unlearning.forget_loss"]
    assert any("1 estimate that only run 2 has" in line for line in found.left_out)


def test_every_run_is_compared_with_the_first(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / str(step), BEFORE + step * np.linspace(0.9, 1.1, N)) for step in range(3)]
    assert [made.estimate.value for made in compare(runs).rows[0].differences] == pytest.approx([1.0, 2.0])


def test_methods_may_differ_and_what_they_are_measured_on_may_not(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a", BEFORE)
    assert compare([first, make_run(tmp_path / "b", BEFORE, plan={"method": "rmu", "rate": 1e-4})]).allowed == ()
    other = make_run(tmp_path / "c", BEFORE, plan={"block": 32})
    with pytest.raises(InputError, match="unlearn.block: 64 in .*, 32 in "):
        compare([first, other])
    assert [one.name for one in compare([first, other], allow=["unlearn.block"]).allowed] == ["unlearn.block"]


def test_a_dtype_may_differ_but_is_told(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, BEFORE, plan={"dtype": name}) for name in ("auto", "float32")]
    assert any("unlearn.dtype" in line for line in compare(runs).told)


def test_what_cannot_be_compared_is_refused_with_one_message(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a", BEFORE)
    with pytest.raises(InputError, match="expected two runs or more, got 1"):
        compare([first])
    with pytest.raises(InputError, match="was given twice"):
        compare([first, tmp_path / "." / "a"])
    with pytest.raises(InputError, match="no run folder"):
        compare([first, tmp_path / "nowhere"])
    with pytest.raises(InputError, match="is of kind 'steer'"):
        compare([first, make_run(tmp_path / "kind", BEFORE, kind="steer")])
    with pytest.raises(IncompleteRunError, match="has not ended"):
        compare([first, make_run(tmp_path / "unfinished", BEFORE, finish=False)])
    other = make_run(tmp_path / "version", BEFORE)
    path = other / "run.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"schema_version": 1', '"schema_version": 2'))
    with pytest.raises(DataError, match="schema version 2"):
        compare([first, other])


def test_runs_without_an_estimate_in_common_are_refused(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a", BEFORE)
    other = make_run(tmp_path / "b", BEFORE)
    path = other / "findings.json"
    path.write_text(path.read_text(encoding="utf-8").replace("unlearning.forget_loss", "unlearning.retain_loss"))
    with pytest.raises(InputError, match="have no estimate in common"):
        compare([first, other])
