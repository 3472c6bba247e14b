"""What a remedy is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from audit.runs.plan import parse_plan
from unlearn.cli.remediate import remedies
from unlearn.cli.remediate.data import read_data
from unlearn.cli.remediate.plan import LoopPlan, names_of

from .small_loop import write_data

STEER = '[subject]\nmodel = "m"\n[forget]\nrows = "forget.jsonl"\n{}[remedies.steer]\nmethod = "lineas"\n'
KEEP, NEVER = ('[keep]\nrows = "keep.jsonl"\n', '[never]\nrows = "never.jsonl"\n')


class _StoppedError(Exception):
    pass


@pytest.mark.parametrize(("tables", "towards"), [(KEEP + NEVER, "keep"), (NEVER, "never")])
def test_steering_goes_towards_what_is_lent_and_not_towards_the_controls(
    tables: str, towards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise _StoppedError

    write_data(tmp_path)
    plan = parse_plan(STEER.format(tables), LoopPlan, source="plan")
    path, folder = tmp_path / "plan.toml", tmp_path / "steer"
    ((name, table, seed),) = names_of(plan)
    monkeypatch.setattr(remedies, "run_lineas", stopped)
    with pytest.raises(_StoppedError):
        remedies.make_remedy(name, table, seed, plan, read_data(plan, path), path, folder, True)
    lines = (folder / "texts" / "target.txt").read_text().splitlines()
    assert lines
    assert all(f"cat of {towards}" in line for line in lines)
