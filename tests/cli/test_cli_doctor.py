"""``palimpsest doctor``."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

import audit.cli.doctor
from audit.runs.self_test import latest
from audit.selftest.answers import Instrument, Known, left_out, near
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


RIGHT = near("one and one", 2.0, 2.0, "arithmetic")
WRONG = near("one and two", 2.0, 3.0, "arithmetic")


@pytest.fixture
def instruments(monkeypatch: pytest.MonkeyPatch) -> list[Instrument]:
    """Two instruments that answer at once, in place of all."""
    found = [Instrument("sums", lambda work: iter([RIGHT])), Instrument("products", lambda work: iter([RIGHT]))]
    monkeypatch.setattr(audit.cli.doctor, "ROOMS", ("made",))
    monkeypatch.setitem(sys.modules, "made", SimpleNamespace(INSTRUMENTS=found))
    return found


@pytest.mark.usefixtures("instruments")
def test_known_answers_that_are_right_are_told_and_kept(call: Call, tmp_path: Path) -> None:
    code, out, err = call("doctor", "--known-answers", "--cache", tmp_path / "cache")
    assert code == 0, err
    assert "ok      sums      one and one: 2" in out
    assert "All 2 known answers of 2 instruments are right." in out
    kept = latest(tmp_path / "cache")
    assert kept is not None
    assert (kept.passed, kept.instruments) == (True, {"sums": True, "products": True})


def test_a_wrong_answer_is_named_with_what_was_expected_and_kept_as_failed(
    call: Call, instruments: list[Instrument], tmp_path: Path
) -> None:
    instruments.append(Instrument("threes", lambda work: iter([WRONG])))
    code, out, _ = call("doctor", "--known-answers", "--cache", tmp_path / "cache", "--quiet")
    assert code == 5
    assert "FAILED  threes    one and two: 2; expected 3 (to 1e-09) (arithmetic)" in out
    assert "1 of 3 known answers are wrong: threes." in out
    kept = latest(tmp_path / "cache")
    assert kept is not None
    assert (kept.passed, kept.instruments["threes"]) == (False, False)
    code, out, _ = call("doctor", "--known-answers", "--cache", tmp_path / "cache", "--json")
    told = json.loads(out)
    assert (code, told["passed"], told["failed"]) == (5, False, ["threes"])
    assert told["record"]["sha256"] == getattr(latest(tmp_path / "cache"), "sha256", None)


def test_what_cannot_be_asked_is_said_and_not_vouched_for(
    call: Call, instruments: list[Instrument], tmp_path: Path
) -> None:
    instruments.append(Instrument("encoder", lambda work: iter([left_out("the encoder", "its extra is absent")])))
    code, out, _ = call("doctor", "--known-answers", "--cache", tmp_path / "cache")
    assert code == 0
    assert "note    encoder   the encoder: not asked: its extra is absent" in out
    assert "All 2 known answers of 2 instruments are right.\nNot asked, so not vouched for: encoder." in out
    kept = latest(tmp_path / "cache")
    assert kept is not None
    assert kept.instruments.keys() == {"sums", "products"}


@pytest.mark.usefixtures("instruments")
def test_part_of_the_instruments_is_not_kept(call: Call, refused: Callable[..., str], tmp_path: Path) -> None:
    code, out, _ = call("doctor", "--known-answers", "--only", "sums", "--cache", tmp_path / "cache")
    assert code == 0
    assert "is not kept" in out
    assert latest(tmp_path / "cache") is None
    assert "Did you mean 'products'?" in call("doctor", "--known-answers", "--only", "product").err
    assert "give both, or neither" in refused("doctor", "--only", "sums")


@pytest.mark.usefixtures("instruments")
def test_an_environment_that_needs_mending_is_told_beside_right_answers(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**40, 2**40 - 2**30, 2**30))
    assert call("doctor", "--known-answers", "--cache", tmp_path / "cache").code == 2
    assert latest(tmp_path / "cache") is not None
    monkeypatch.setattr(audit.cli.doctor, "PACKAGES", ("no-such-package",))
    code, _, err = call("doctor", "--known-answers", "--cache", tmp_path / "other")
    assert code == 2
    assert "cannot be asked before" in err


def test_an_interrupted_self_test_keeps_nothing(call: Call, instruments: list[Instrument], tmp_path: Path) -> None:
    def interrupt(work: Path) -> Iterator[Known]:
        yield RIGHT
        raise KeyboardInterrupt

    instruments.append(Instrument("slow", interrupt))
    code, _, err = call("doctor", "--known-answers", "--cache", tmp_path / "cache")
    assert code == 3
    assert "begins anew" in err
    assert latest(tmp_path / "cache") is None
