"""``palimpsest doctor``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

import audit.cli.doctor
from tests.cli.conftest import Call


def checks(out: str) -> dict[str, tuple[str, str]]:
    return {check["name"]: (check["state"], check["detail"]) for check in json.loads(out)}


def test_every_part_of_the_instrument_is_looked_at(call: Call) -> None:
    code, out, err = call("doctor", "--json")
    found = checks(out)
    for name in ("python", "torch", "transformers", "import audit", "cpu", "disk here", "disk cache"):
        assert found[name][0] == "ok"
    assert found["import audit"][1] == "owned by palimpsest-audit alone"
    assert (code, err) == (0, "")
    assert {state for state, _ in found.values()} <= {"ok", "note"}


def test_a_stranger_that_owns_the_import_name_is_a_problem(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A distribution of another name whose metadata claims the package ``audit``, as libaudit's binding would."""
    metadata = tmp_path / "site" / "auditd_binding-4.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: auditd-binding\nVersion: 4.0\n")
    (metadata / "top_level.txt").write_text("audit\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    code, out, _ = call("doctor", "--json")
    assert code == 2
    assert checks(out)["import audit"] == ("problem", "also installed by auditd-binding; use an environment apart")


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_too_little_disk_is_a_problem_with_a_remedy(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**40, 2**40 - 2**30, 2**30))
    code, out, _ = call("doctor")
    assert code == 2
    assert "1.0 GiB free" in out
    assert "free at least 2 GiB" in out


def test_a_missing_package_is_a_problem_with_the_command_that_mends_it(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit.cli.doctor, "PACKAGES", ("no-such-package",))
    code, out, _ = call("doctor")
    assert code == 2
    assert "problem no-such-package" in out
    assert "pip install palimpsest-audit" in out
