"""The whole loop on tiny random models: it ends, goes on where it was killed, and outlives a remedy that fails."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit.cli.replay import replayed
from audit.errors import InputError, ModelError
from audit.runs.plan import parse_plan
from audit.runs.store import Run
from unlearn.cli.remediate import execute as loop
from unlearn.cli.remediate.plan import COLUMNS, LoopPlan

from .small_loop import NPO, build_models, disturb, plan_text, write_data

WORDS = {"removed", "suppressed", "not removed", "undecided", "destroyed"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def go(models: dict[str, Path], tmp_path: Path) -> Callable[..., Run]:
    """Runs a loop with some remedies in a folder."""
    write_data(tmp_path)

    def run(out: str, remedies: str = NPO) -> Run:
        text = plan_text(models, remedies)
        plan = parse_plan(text, LoopPlan, source="plan")
        return loop.execute(plan, text, tmp_path / "plan.toml", out=tmp_path / out, quiet=True)

    return run


def told(run: Run) -> dict[str, Any]:
    """The run's record without seconds."""
    record: dict[str, Any] = json.loads((run.folder / "verification.json").read_text())
    for one in record["verdicts"].values():
        if one["cost"] is not None:
            one["cost"].pop("seconds")
    return record


def test_a_killed_loop_goes_on_and_ends_as_an_undisturbed_one(
    go: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = go("whole")
    assert set(told(whole)["verdicts"]) == {"subject", "npo"}
    assert {one["verdict"] for one in told(whole)["verdicts"].values()} <= WORDS
    for name in ("verification.json", "findings.json", "report.html"):
        assert stat.S_IMODE((whole.folder / name).stat().st_mode) == 0o600  # reasons may quote a text
    (section,) = whole.findings().sections
    for table in section.tables:
        assert {column.key for column in table.columns} - {"subject", "gold", "npo"} <= set(COLUMNS)

    intact = next(table for table in section.tables if table.name == "intact").rows
    npo = next(one for one in section.findings if one.id == "remediation.npo").estimates
    kept = {name: one.model_dump() for name, one in npo.items() if name.startswith("kept.")}
    assert set(kept) == {"kept.guessing", "kept.knowledge", "kept.answers"}  # so that a policy can ask for them
    assert list(kept.values()) == [row["estimate"].model_dump() for row in intact if row["system"] == "npo"]  # type: ignore[union-attr]

    again = replayed(whole)
    assert (again.outcome, again.differences) == ("equal", [])
    piece = whole.folder / "measured" / "npo" / "battery.json"
    kept = piece.read_bytes()
    told_piece = json.loads(kept)
    measured = next(iter(told_piece["made"]["direct"]["measured"].values()))
    measured["values"][0] += 0.125
    piece.write_text(json.dumps(told_piece))
    changed = {one.address for one in replayed(whole).differences}
    assert "items/verification.parquet/value" in changed
    assert any(one.startswith("remediation") for one in changed)
    piece.write_bytes(kept)

    measure = loop.measure

    def killed(entry: Any, *arguments: Any) -> Any:
        if entry.name == "npo":
            raise KeyboardInterrupt
        return measure(entry, *arguments)

    monkeypatch.setattr(loop, "measure", killed)
    with pytest.raises(KeyboardInterrupt):
        go("cut")
    monkeypatch.undo()
    (tmp_path / "cut").rename(tmp_path / "moved")
    assert Run.open(tmp_path / "moved").state() == "interrupted"
    monkeypatch.setattr("unlearn.baselines.method.train", lambda *_, **__: pytest.fail("the remedy was made already"))
    assert told(go("moved")) == told(whole)


def test_remedies_that_fail_are_told_and_the_others_go_on(
    go: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = loop.make_remedy

    def made(name: str, *arguments: Any) -> Any:
        if name == "diverges":
            raise ModelError("the loss of step 3 is not finite.")
        found = make(name, *arguments)
        if name == "nan":
            disturb(Path(found.model.model), float("nan"))
        return found

    monkeypatch.setattr(loop, "make_remedy", made)
    run = go("run", "".join(NPO.replace("[remedies.npo]", f"[remedies.{name}]") for name in ("diverges", "nan", "npo")))
    verdicts = told(run)["verdicts"]
    assert verdicts["diverges"]["verdict"] == "failed"
    assert "step 3" in verdicts["diverges"]["why"]
    assert verdicts["nan"]["verdict"] == "destroyed"
    assert verdicts["npo"]["verdict"] in WORDS
    findings = {one.id: one for one in run.findings().sections[0].findings}
    assert findings["remediation.diverges"].verdict == findings["remediation.nan"].verdict == "inconclusive"
    assert loop.tell(run, as_json=True) == 4


def test_what_the_loop_cannot_do_without_must_not_fail(go: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(entry: Any, *_: Any) -> Any:
        raise ModelError(entry.name)

    monkeypatch.setattr(loop, "measure", fails)
    with pytest.raises(ModelError, match="subject"):
        go("run", "")


def test_a_model_that_was_trained_again_is_another_run(go: Callable[..., Run], models: dict[str, Path]) -> None:
    go("run", "")
    disturb(models["gold"], 0.01)
    with pytest.raises(InputError, match="models.gold"):
        go("run", "")
