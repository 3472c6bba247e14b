"""No setting of any plan is left undeclared, and what is declared decides what is refused."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from audit.cli.audit_plan import AuditPlan
from audit.errors import InputError
from audit.extraction.finetune import Recipe
from audit.membership.score_names import NAMES
from audit.runs.compare.declared import KINDS, Declared
from audit.runs.compare.items import SCORES
from audit.runs.compare.settings import differing, names, require_same
from audit.runs.schema import RunRecord
from audit.runs.store import Run
from unlearn.cli.plan import UnlearnTable
from unlearn.cli.remediate.plan import LoopPlan
from unlearn.eco.cli.plan import EcoTable, EvaluateTable
from unlearn.lineas.cli.evaluate_plan import EvaluateTable as SteerEvaluateTable
from unlearn.lineas.cli.plan import SteerTable
from unlearn.lineas.cli.sweep_plan import SweepTable


def settings(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        kinds = (field.annotation, *typing.get_args(field.annotation))
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if inner:
            yield from settings(inner[0], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


@pytest.mark.parametrize(
    ("kind", "table", "model"),
    [
        ("unlearning", "unlearn", UnlearnTable),
        ("eco", "eco", EcoTable),
        ("eco-evaluation", "evaluate", EvaluateTable),
        ("steer", "steer", SteerTable),
        ("steer-sweep", "sweep", SweepTable),
        ("steer-evaluation", "evaluate", SteerEvaluateTable),
    ],
)
def test_every_setting_of_a_table_is_declared(kind: str, table: str, model: type[BaseModel]) -> None:
    declared = KINDS[kind].tables[table]
    assert [name for name in settings(model) if declared.standing(name) == "unknown"] == []


def test_every_setting_of_an_audit_is_declared() -> None:
    for name in settings(AuditPlan):
        table, _, rest = name.partition(".")
        assert KINDS["audit"].tables[table].standing(rest) != "unknown", name


def test_every_setting_of_a_loop_is_declared() -> None:
    for name in settings(LoopPlan):
        table, _, rest = name.partition(".")
        assert KINDS["remediation"].tables[table].standing(rest) != "unknown", name


def test_what_is_nested_stands_as_its_table_and_what_matters_comes_first() -> None:
    declared = Declared(matters=("search.level",), free=("search", "ledger of *"))
    assert declared.standing("search.level") == "matters"
    assert declared.standing("search.steps") == "free"
    assert declared.standing("ledger of a.b") == "free"
    assert declared.standing("searching") == "unknown"


def test_the_headings_of_scores_are_those_of_the_membership_room() -> None:
    assert {heading: score for score, heading in NAMES.items()} == SCORES


def audit_record(folder: Path, plan: dict[str, Any], *, weights: str = "a" * 64, kind: str = "audit") -> RunRecord:
    with Run.start(folder, kind=kind, plan=plan, plan_text=None, command=["palimpsest"]) as run:
        run.add_subject("subject", {"model": str(folder), "fingerprint": {"weights": str(folder), "tokenizer": "t"}})
        run.add_subject("reference", {"model": "r", "fingerprint": {"weights": weights, "tokenizer": "t"}})
        run.add_seed("traps", int(plan.get("traps", {}).get("seed", 0)))
        return run.record


def differences(a: RunRecord, b: RunRecord, audits: tuple[str, ...] = ("traps",)) -> dict[str, str]:
    return {one.name: one.standing for one in differing([a, b], audits)}


def test_where_files_lie_may_differ_and_what_is_in_them_may_not(tmp_path: Path) -> None:
    a = audit_record(tmp_path / "a", {"traps": {"table": "x", "k": 1}, "inputs": {"traps": "1"}})
    b = audit_record(tmp_path / "b", {"traps": {"table": "y", "k": 1.0, "masked": None}, "inputs": {"traps": "2"}})
    assert differences(a, b) == {"traps.table": "free", "inputs.traps": "matters"}


def test_a_reference_model_is_known_by_its_weights(tmp_path: Path) -> None:
    a = audit_record(tmp_path / "a", {"reference": {"model": "here", "dtype": "auto"}})
    b = audit_record(tmp_path / "b", {"reference": {"model": "there", "dtype": "float32"}}, weights="b" * 64)
    assert differences(a, b) == {
        "reference.model": "free", "reference.dtype": "told", "reference.fingerprint.weights": "matters",
    }  # fmt: skip


def test_settings_of_an_audit_that_only_one_run_made_are_passed_over(tmp_path: Path) -> None:
    a = audit_record(tmp_path / "a", {"traps": {"k": 0.2}, "inputs": {"traps": "1"}})
    b = audit_record(
        tmp_path / "b", {"traps": {"k": 0.2}, "membership": {"k": 0.1}, "inputs": {"traps": "1", "suspect": "2"}}
    )
    assert differences(a, b) == {}
    assert differences(a, b, ("traps", "membership")) == {"membership.k": "matters", "inputs.suspect": "matters"}


def test_of_a_kind_that_declared_nothing_everything_counts_seeds_too(tmp_path: Path) -> None:
    a = audit_record(tmp_path / "a", {"traps": {"seed": 0}, "out": "x"}, kind="new")
    b = audit_record(tmp_path / "b", {"traps": {"seed": 1}, "out": "y"}, kind="new")
    found = differences(a, b)
    assert found == dict.fromkeys(("traps.seed", "out", "seeds.traps"), "unknown")
    with pytest.raises(InputError, match="nothing is declared of it, so it counts"):
        require_same(differing([a, b], ("x",)), ["a", "b"], allowed=(), known=names([a, b], ("x",)))


def test_a_refusal_names_every_setting_and_how_to_let_it_through(tmp_path: Path) -> None:
    plans = [{"traps": {"k": k, "seed": seed}, "inputs": {"ledger of me": "c" * 64 if seed else "d" * 64}}
             for k, seed in ((0.2, 0), (0.3, 1))]  # fmt: skip
    a, b = (audit_record(tmp_path / name, plan) for name, plan in zip("ab", plans, strict=True))
    found, known = differing([a, b], ("traps",)), names([a, b], ("traps",))
    with pytest.raises(InputError) as refusal:
        require_same(found, ["A", "B"], allowed=("traps.k",), known=known)
    assert str(refusal.value).splitlines() == [
        "these runs cannot be compared: 2 settings differ that matter:",
        "- inputs.ledger of me: dddddddddddd... in A, cccccccccccc... in B; the SHA-256 of what was read",
        "- traps.seed: 0 in A, 1 in B",
        "Make the runs anew with the same settings, or let a difference through by name (--allow 'inputs.ledger of me' "
        "--allow traps.seed); the table then says so.",
    ]
    every = ("traps.k", "traps.seed", "inputs.ledger of me")
    assert {one.name for one in require_same(found, ["A", "B"], allowed=every, known=known)} == set(every)
    with pytest.raises(InputError, match=r"have no such setting. Did you mean 'traps.seed'"):
        require_same(found, ["A", "B"], allowed=("traps.sed",), known=known)


def test_a_recipe_matters_whole() -> None:
    declared = KINDS["retraining"].tables["recipe"]
    assert {declared.standing(name) for name in Recipe.__dataclass_fields__} == {"matters"}
