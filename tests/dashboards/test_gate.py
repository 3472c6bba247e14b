"""The page judges as the command does, and says of each rule its bound, why, and what would have to change."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from audit.gates.policy import load_policy
from audit.gates.shipped import shipped
from audit.gates.verdict import gate
from audit.report.gate import shown_gate
from audit.runs.schema import Findings
from dashboards.plain import plain
from tests.dashboards.conftest import assert_inert, drawn, words
from tests.dashboards.hostile import ALL, hostile_run
from tests.gates.made import HEAD, estimate, finding, rule, run_of
from tests.gates.made import findings as made

OWN = "your own"


@pytest.mark.parametrize("name", sorted(shipped()))
def test_every_shipped_policy_is_told_as_the_gate_judges(name: str, tmp_path: Path, findings: Findings) -> None:
    folder = run_of(tmp_path / "one", findings)
    result = gate([folder], load_policy(shipped()[name]), today=datetime.now(UTC).date())
    said = words(drawn("gate", tmp_path, run="one", policy=name))
    assert shown_gate(result).label in said
    assert plain(result.summary, 2_000) in said
    for one in result.rules:
        assert plain(one.title, 300) in said
        assert plain(one.reason, 1_500) in said
        if one.outcome not in ("pass", "not assessed"):
            assert f"What would have to change: {plain(one.change, 1_500)}" in said


def test_a_rules_bound_stands_beside_its_verdict(tmp_path: Path) -> None:
    run_of(tmp_path / "one", made(finding("made.rate", estimates={"rate": estimate(0.03, 0.01, 0.05)})))
    policy = HEAD + rule(id="low", estimate="made.rate/rate", direction="at_most", limit=0.04, unit="share")
    test = drawn("gate", tmp_path, run="one", policy=OWN)
    test.text_area[0].set_value(policy).run()
    said = words(test)
    assert plain("made.rate/rate must be at most 0.04, by its confidence bound against the release") in said
    assert ":red-badge[Blocked]" in said or ":orange-badge[Not decided]" in said
    assert "What would have to change" in said


def test_only_rules_in_the_way_when_asked(tmp_path: Path, findings: Findings) -> None:
    folder = run_of(tmp_path / "one", findings)
    result = shown_gate(gate([folder], load_policy(shipped()["strict"]), today=datetime.now(UTC).date()))
    said = words(drawn("gate", tmp_path, run="one", policy="strict", rules="In the way"))
    for one in result.blocking:
        assert plain(one.title) in said
    assert not any(f"**{plain(one.title)}**" in said for one in result.others)


@pytest.mark.parametrize(
    "text", ["", "x", "schema_version = 1\nname = '../x'", ALL.replace("\x00", ""), "[[rules]]\n" * 100]
)
def test_a_policy_that_cannot_be_read_says_why(text: str, tmp_path: Path, findings: Findings) -> None:
    run_of(tmp_path / "one", findings)
    test = drawn("gate", tmp_path, run="one", policy=OWN)
    test.text_area[0].set_value(text).run()
    assert not test.exception
    assert len(test.error) == 1
    assert "/tmp" not in test.error[0].value


def test_runs_of_other_models_are_refused_together(tmp_path: Path, findings: Findings) -> None:
    run_of(tmp_path / "one", findings)
    run_of(tmp_path / "two", findings, model="other")
    test = drawn("gate", tmp_path, run="one", **{"with": "two"})
    assert len(test.error) == 1
    assert "models" in test.error[0].value
    assert str(tmp_path) not in test.error[0].value


def test_a_run_that_has_not_ended_is_not_judged(tmp_path: Path, findings: Findings) -> None:
    run_of(tmp_path / "one", findings, finished=False)
    test = drawn("gate", tmp_path, run="one")
    assert "has not ended" in test.error[0].value


def test_hostile_findings_are_judged_and_told_as_text(tmp_path: Path, findings: Findings) -> None:
    hostile_run(tmp_path / "one", findings)
    assert_inert(drawn("gate", tmp_path, run="one", policy="strict"))
