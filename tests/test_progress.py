"""Progress in a log: a line where a stage begins and ends, one a minute between them, no control characters."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from audit.progress import PlainLines


class Clock:
    """A clock that stands still until it is set forward."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def written() -> list[str]:
    return []


@pytest.fixture
def lines(clock: Clock, written: list[str]) -> PlainLines:
    return PlainLines(written.append, lambda: None, clock=clock)


def test_an_hour_of_work_is_told_once_a_minute_however_often_it_is_reported(
    lines: PlainLines, clock: Clock, written: list[str]
) -> None:
    lines.report("Scoring", 0, 36_000)
    for step in range(1, 36_000):
        clock.now += 0.1
        lines.report("Scoring", step, 36_000)
        lines.tick()
    clock.now += 0.1
    lines.report("Scoring", 36_000, 36_000)
    assert written[0] == "Scoring: 36,000 to do\n"
    assert written[-1] == "Scoring: done in 1 h 00 min\n"
    assert 58 <= len(written) - 2 <= 60
    assert written[30].startswith("Scoring: 18,0")
    assert written[30].endswith("of 36,000 after 30 min, about 30 min left\n")


def test_a_step_that_takes_minutes_is_told_while_it_lasts(lines: PlainLines, clock: Clock, written: list[str]) -> None:
    lines.report("classifier", 0, 1)
    for _ in range(12):
        clock.now += 15
        lines.tick()
    assert written[1:] == [f"classifier: 0 of 1 after {minutes} min, time left not known\n" for minutes in (1, 2, 3)]


def test_what_was_done_by_an_earlier_attempt_makes_the_rest_look_no_shorter(
    lines: PlainLines, clock: Clock, written: list[str]
) -> None:
    lines.report("Scoring", 900, 1_000)
    clock.now += 60
    lines.report("Scoring", 910, 1_000)  # 10 a minute, 90 to do: 9 minutes
    lines.tick()
    assert written == [
        "Scoring: 1,000 to do, 900 done before\n",
        "Scoring: 910 of 1,000 after 1 min, about 9 min left\n",
    ]


def test_an_end_that_is_reported_twice_is_told_once_and_a_stage_that_comes_again_anew(
    lines: PlainLines, written: list[str]
) -> None:
    for done in (0, 2, 2, 2):
        lines.report("traps", done, 2)
    assert len(written) == 2
    for done in (0, 2):
        lines.report("traps", done, 2)
    assert len(written) == 4


def test_of_stages_in_each_other_the_one_that_was_reported_last_is_told(
    lines: PlainLines, clock: Clock, written: list[str]
) -> None:
    lines.report("remedies", 0, 3)
    lines.report("training", 0, 10)
    clock.now += 30
    lines.report("training", 10, 10)
    clock.now += 59
    lines.tick()
    assert "after" not in "".join(written)
    clock.now += 1
    lines.tick()
    assert written[-1] == "remedies: 0 of 3 after 2 min, time left not known\n"
    lines.report("remedies", 3, 3)
    clock.now += 600
    lines.tick()
    assert written[-1] == "remedies: done in 2 min\n"


def test_a_stage_named_by_a_file_cannot_steer_the_log(lines: PlainLines, written: list[str]) -> None:
    lines.report("a\x1b[2J\r\n::error::b\u202e\x9b", 0, 1)
    assert written == ["a [2J  ::error::b  : 1 to do\n"]


WORK = """
from audit.progress import progress_bars
import audit.progress, sys, time
audit.progress.SECONDS_BETWEEN_LINES = 0.2
with progress_bars() as progress:
    for done in range(5):
        progress("Scoring", done, 5)
        time.sleep(0.15)
    progress("Scoring", 5, 5)
"""


def _environment(**extra: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if name not in ("CI", "NO_COLOR", "FORCE_COLOR", "TERM")}
    return {**own, "PYTHONPATH": str(Path(__file__).parents[1]), "TERM": "xterm-256color", **extra}


def _through_a_pipe(environment: dict[str, str]) -> bytes:
    return subprocess.run([sys.executable, "-c", WORK], capture_output=True, env=environment, check=True).stderr


def _through_a_terminal(environment: dict[str, str]) -> bytes:
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", WORK], stderr=theirs, env=environment)
    os.close(theirs)
    read = b""
    while True:
        try:
            part = os.read(ours, 65_536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        read += part
    os.close(ours)
    assert process.wait() == 0
    return read.replace(b"\r\n", b"\n")  # which the terminal makes of a line feed


@pytest.mark.parametrize(
    ("through", "extra"),
    [
        (_through_a_pipe, {}),
        (_through_a_pipe, {"FORCE_COLOR": "1", "CI": "true"}),
        (_through_a_pipe, {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}),
        (_through_a_pipe, {"NO_COLOR": "1"}),
        (_through_a_pipe, {"TERM": "dumb"}),
        (_through_a_terminal, {"TERM": "dumb"}),
        (_through_a_terminal, {"CI": "true"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else value.__name__,
)
def test_no_control_character_comes_out_where_nobody_watches(
    through: Callable[[dict[str, str]], bytes], extra: dict[str, str]
) -> None:
    told = through(_environment(**extra))
    assert {byte for byte in told if byte < 0x20 or byte == 0x7F} == {ord("\n")}
    lines = told.decode().splitlines()
    assert lines[0] == "Scoring: 5 to do"
    assert lines[-1].startswith("Scoring: done in")
    assert any("of 5 after" in line for line in lines)


def test_a_terminal_that_is_watched_gets_bars() -> None:
    assert b"\x1b[" in _through_a_terminal(_environment())
