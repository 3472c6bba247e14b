"""The record of a self-test: kept with the code it is of, taken by runs, and never believed where it is damaged."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.errors import InputError, MissingDependencyError
from audit.runs import self_test
from audit.runs.store import Run
from audit.selftest import matching
from audit.selftest.answers import Instrument, Known, left_out, near, refused, same, within
from audit.selftest.ask import ask
from audit.selftest.instruments import INSTRUMENTS
from audit.testbed.cache import cache_root
from unlearn.selftest.instruments import INSTRUMENTS as CHANGING

RIGHT = near("two", 2.0, 2.0, "arithmetic")
WRONG = near("three", 2.0, 3.0, "arithmetic")


def checks(*known: tuple[str, Known]) -> list[tuple[str, dict[str, object]]]:
    return [(instrument, one.to_record()) for instrument, one in known]


def test_a_result_is_kept_and_read_back_for_the_same_code_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert self_test.latest(tmp_path) is None
    kept = self_test.keep(checks(("sums", RIGHT), ("products", RIGHT), ("sums", WRONG)), cache=tmp_path)
    assert (kept.passed, kept.instruments) == (False, {"sums": False, "products": True})
    assert self_test.latest(tmp_path) == kept
    again = self_test.keep(checks(("sums", RIGHT)), cache=tmp_path)
    assert (again.passed, self_test.latest(tmp_path)) == (True, again)
    assert not self_test.keep([], cache=tmp_path).passed
    for name in ("_source", "package_versions"):
        with monkeypatch.context() as other:
            other.setattr(self_test, name, lambda *_: "another")
            assert self_test.latest(tmp_path) is None
    assert self_test.latest(tmp_path) is not None


def test_a_damaged_result_is_no_result(tmp_path: Path) -> None:
    self_test.keep(checks(("sums", WRONG)), cache=tmp_path)
    (path,) = (tmp_path / "selftest").iterdir()
    whole = path.read_text()
    for text in ("", "{", "[]", "null", whole.replace("false", "true"), whole.replace('"three"', '"four"'), whole[:-9]):
        path.write_text(text)
        assert self_test.latest(tmp_path) is None
    path.write_bytes(b"\xff\xfe")
    assert self_test.latest(tmp_path) is None
    path.unlink()
    path.mkdir()
    assert self_test.latest(tmp_path) is None


def test_a_run_takes_the_result_and_finds_it_where_testbeds_are_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path / "cache"))
    kept = self_test.keep(checks(("sums", RIGHT)))
    assert self_test.path_of(self_test.tested_code()).is_relative_to(cache_root(None))
    with Run.start(tmp_path / "run", kind="traps", plan={}, plan_text="", command=[]) as run:
        assert run.record.self_test == kept


def test_what_was_not_asked_has_not_passed(tmp_path: Path) -> None:
    """An instrument without its extra is left out of the record, so that a policy that needs it sees that."""
    absent = left_out("an encoder", "its extra is not installed")
    kept = self_test.keep(checks(("sums", RIGHT), ("encoder", absent)), cache=tmp_path)
    assert (kept.passed, kept.instruments) == (True, {"sums": True})
    kept = self_test.keep(checks(("encoder", WRONG), ("encoder", absent)), cache=tmp_path)
    assert (kept.passed, kept.instruments) == (False, {"encoder": False})
    assert not self_test.keep(checks(("encoder", absent)), cache=tmp_path).passed


def test_an_encoder_without_its_extra_is_not_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(**_: object) -> None:
        raise MissingDependencyError("install it with: pip install")

    monkeypatch.setattr(matching.encode, "load_encoder", absent)
    assert [(one.asked, one.why) for one in matching.ask_encoder(tmp_path)] == [(False, "install it with: pip install")]


def test_looking_for_a_result_needs_no_torch() -> None:
    code = "import sys; from audit.runs.self_test import latest; latest(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 0


def test_what_lies_nowhere_has_not_passed() -> None:
    assert not within("none", None, 0, 1, "").passed
    assert not within("not a number", float("nan"), 0, 1, "").passed
    assert not near("none", None, 0, "").passed
    assert not same("a list", [1], [2], "").passed

    def refuse() -> None:
        raise InputError("no such thing")

    assert refused("an error", refuse, "no such", "").passed
    assert not refused("another error", refuse, "elsewhere", "").passed
    assert not refused("no error", lambda: 1, "no such", "").passed


def test_an_instrument_that_breaks_or_says_nothing_has_failed() -> None:
    def broken(work: Path) -> Iterator[Known]:
        yield RIGHT
        raise ZeroDivisionError("by hand")

    found = ask(
        [
            Instrument("broken", broken),
            Instrument("silent", lambda work: iter(())),
            Instrument("right", lambda work: iter([RIGHT])),
        ]
    )
    assert [(name, one.passed) for name, one in found] == [
        ("broken", True),
        ("broken", False),
        ("silent", False),
        ("right", True),
    ]
    assert "ZeroDivisionError: by hand" in found[1][1].got


@pytest.mark.slow
def test_every_known_answer_is_right_and_luck_is_at_most_one_in_a_thousand() -> None:
    found = ask([*INSTRUMENTS, *CHANGING])
    assert [(name, one.name, one.got) for name, one in found if not one.passed] == []
    assert sum(one.luck for _, one in found) <= 1e-3
    names = [(name, one.name) for name, one in found]
    assert len(set(names)) == len(names)
    json.dumps([one.to_record() for _, one in found], allow_nan=False)
