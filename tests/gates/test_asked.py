"""Of what code and which instruments the self-test has to be that a policy asks for."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from audit.cli.replay import KINDS
from audit.gates import asked
from audit.gates.verdict import gate
from audit.matching.encoder_files import EMBEDDED
from audit.runs.records import write_record
from audit.runs.schema import SelfTestRecord
from audit.runs.store import Run
from audit.selftest.instruments import INSTRUMENTS
from tests.gates.made import estimate, finding, findings, policy_of, rule, run_of
from unlearn.selftest.instruments import INSTRUMENTS as CHANGING

AUC = {"estimate": "traps.copies_*/auc", "direction": "at_most", "limit": 0.6, "unit": "auc"}


def told(
    tmp_path: Path, *, lacking: str = "", later: dict[str, Any] | None = None, encoder: str | None = None
) -> tuple[int, str]:
    """Exit code of a gate that asks for a self-test, and what it says of it."""
    clear = findings(finding("traps.copies_1", "not found", estimates={"auc": estimate(0.5, 0.45, 0.55)}))
    folder = run_of(tmp_path / "run", clear)
    record = Run.open(folder).record
    made = record.provenance.model_copy(update={"commit": "a" * 40, "dirty": False})
    known = SelfTestRecord(
        moment=made.created, palimpsest=made.palimpsest, commit=made.commit, passed=True, sha256="0" * 64,
        instruments={name: True for name in asked.instruments_of("traps") if name != lacking},
    )  # fmt: skip
    subjects = record.subjects | ({} if encoder is None else {"encoder": {"name": encoder}})
    changed = {"provenance": made, "self_test": known, "subjects": subjects}
    write_record(folder / "run.json", record.model_copy(update=changed))
    if later is not None:
        (folder / "attempts").mkdir()
        write_record(folder / "attempts" / "000002.json", made.model_copy(update=later))
    policy = policy_of(tmp_path, "[self_test]\nrequired = true\n" + rule(**AUC))
    result = gate([folder], policy, today=date(2026, 11, 28))
    return result.exit_code, next(one.reason for one in result.rules if one.id == "policy.self-test")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"later": {}}, None),
        ({"encoder": "/models/own"}, None),
        ({"later": {"commit": "f" * 40}}, "attempt 2 ran other code"),
        ({"later": {"palimpsest": "9.9"}}, "attempt 2 ran other code (9.9, "),
        ({"later": {"dirty": True}}, "attempt 2 ran code with changes that no commit holds"),
        ({"lacking": "traps"}, "did not ask traps, on which"),
        ({"lacking": "statistics"}, "did not ask statistics, on which"),
        ({"encoder": EMBEDDED}, "did not ask encoder, on which"),
    ],
)
def test_the_self_test_is_of_every_attempts_code_and_of_what_was_used(
    tmp_path: Path, given: dict[str, Any], said: str | None
) -> None:
    code, reason = told(tmp_path, **given)
    assert code == (0 if said is None else 5)
    assert said is None or said in reason


def test_what_is_asked_for_is_what_the_self_test_has() -> None:
    names = {one.name for one in (*INSTRUMENTS, *CHANGING)}
    needed = {name for instruments in asked.INSTRUMENTS.values() for name in instruments}
    assert needed | {*asked.instruments_of("unheard of"), asked._ENCODER} <= names
    assert asked._EMBEDDED == EMBEDDED
    of_kinds = KINDS.keys() - {"audit", "steer-evaluation", "steer-sweep"}  # these are sections of steer
    assert of_kinds <= asked.INSTRUMENTS.keys()
