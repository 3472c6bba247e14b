"""A loop with two audits, and with a guard and a steering that leave the subject's weights alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from audit.cli.replay import replayed
from audit.runs.plan import parse_plan
from tests.cli.conftest import make_traps
from tests.cli.test_cli_membership import nonsense, write
from unlearn.cli.remediate import execute as loop
from unlearn.cli.remediate.plan import LoopPlan

from .small_loop import build_models, people, plan_text

pytestmark = pytest.mark.slow

REMEDIES = """
[remedies.guard]
method = "eco"
settings = { strength = 2.0, alpha = 0.3 }

[remedies.hooks]
method = "lineas"
fold = false
settings = { steps = 2 }

[remedies.folded]
method = "lineas"
settings = { steps = 2 }

[audits.traps]
table = "traps.parquet"
n_draws = 99
primary = "loss"

[audits.membership]
suspect = "mine.jsonl"
validation = "theirs.jsonl"
n_splits = 3
n_checks = 100
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("loop")
    for name in ("forget", "keep", "never"):
        lines = (json.dumps(row) + "\n" for row in people(name, 40))
        (folder / f"{name}.jsonl").write_text("".join(lines))
    make_traps(folder / "traps.parquet")
    write(folder / "mine.jsonl", nonsense(24, seed=1))
    write(folder / "theirs.jsonl", nonsense(24, seed=2))
    text = plan_text(build_models(folder), REMEDIES).replace(
        '["quantisation"]', '["prompts", "quantisation", "evasion"]'
    )
    plan = parse_plan(text, LoopPlan, source="plan")
    return loop.execute(plan, text, folder / "plan.toml", out=folder / "run", quiet=True)


def test_both_audits_stand_before_and_after_and_guards_have_none_of_their_own(run: Any) -> None:
    section, *audits = run.findings().sections
    assert [one.audit for one in audits] == ["traps", "membership"]
    before_and_after = next(table for table in section.tables if table.title == "The audits, before and after")
    assert {str(row["finding"]).split(".")[0] for row in before_and_after.rows} == {"traps", "membership"}
    columns = {column.key for column in before_and_after.columns} - {"finding", "estimate"}
    assert columns == {"subject", "gold", "folded"}  # the guard and the hooks are not seen by whoever has the weights


def test_a_guard_and_hooks_are_judged_as_what_leaves_the_knowledge_in_the_weights(run: Any) -> None:
    verdicts = json.loads((run.folder / "verification.json").read_text())["verdicts"]
    assert set(verdicts) == {"subject", "guard", "hooks", "folded"}
    for name in ("guard", "hooks"):
        assert "quantisation" in verdicts[name]["missing"]
        assert verdicts[name]["verdict"] != "removed"
    assert "quantisation" not in verdicts["folded"]["missing"]
    assert "evasion" in verdicts["folded"]["missing"]
    assert "evasion" not in verdicts["guard"]["missing"]


def test_it_replays(run: Any) -> None:
    again = replayed(run)
    assert (again.outcome, again.differences) == ("equal", [])
