"""Progress of long work: a callback in library use, bars with the remaining time in a terminal."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total); ``done`` grows to ``total`` within a stage and may start above 0."""

SECONDS_BETWEEN_LINES = 60.0


def silent(stage: str, done: int, total: int) -> None:
    """The default: says nothing."""


@contextmanager
def progress_bars(*, quiet: bool = False) -> Iterator[Progress]:
    """A callback that draws one bar for each stage on standard error, with elapsed and remaining time.

    Where nobody watches, each stage is told in plain lines instead: its start, its end, and once a minute between
    them how far it is, also while a single step takes longer than that. Nobody watches where standard error is no
    terminal, whatever FORCE_COLOR says, or is one that cannot move its cursor (TERM=dumb), and where CI is set.
    """
    if quiet:
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    watched = sys.stderr.isatty() and console.is_terminal and not console.is_dumb_terminal
    if not watched or os.environ.get("CI", "").lower() not in ("", "0", "false"):
        with _once_a_minute(PlainLines(console.file.write, console.file.flush)) as report:
            yield report
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left", markup=False),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console) as bars:
        tasks = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, completed=done)
            bars.update(tasks[stage], completed=done, total=total)

        yield report


class PlainLines:
    """Progress as lines of a log, without control characters.

    `report` is the callback: it writes a line where a stage begins and one where it ends. `tick`, called now and
    then, writes how far the stage is that was reported last, unless a line was written within the last minute.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        flush: Callable[[], object],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write, self._flush, self._clock = write, flush, clock
        self._lock = threading.Lock()
        self._began: dict[str, tuple[float, int]] = {}  # open stage -> when, and how much was done by then
        self._state: dict[str, tuple[int, int]] = {}  # open stage -> done, total; the one reported last stands last
        self._ended: set[str] = set()
        self._last_line = clock()

    def report(self, stage: str, done: int, total: int) -> None:
        """A stage has come so far."""
        with self._lock:
            if stage not in self._began and not (stage in self._ended and done >= total):
                self._ended.discard(stage)
                self._began[stage] = self._clock(), done
                before = f", {done:,} done before" if 0 < done < total else ""
                self._line(f"{_plain(stage)}: {total:,} to do{before}")
            if stage not in self._began:
                return
            self._state.pop(stage, None)
            self._state[stage] = done, total
            if done >= total:
                seconds = self._clock() - self._began.pop(stage)[0]
                del self._state[stage]
                self._ended.add(stage)
                self._line(f"{_plain(stage)}: done in {_span(seconds)}")

    def tick(self) -> None:
        """Time has passed."""
        with self._lock:
            now = self._clock()
            if not self._state or now - self._last_line < SECONDS_BETWEEN_LINES:
                return
            stage = next(reversed(self._state))
            (done, total), (began, before) = self._state[stage], self._began[stage]
            seconds = now - began
            left = "time left not known"
            if done > before:
                left = f"about {_span(seconds / (done - before) * (total - done))} left"
            self._line(f"{_plain(stage)}: {done:,} of {total:,} after {_span(seconds)}, {left}")

    def _line(self, text: str) -> None:
        self._last_line = self._clock()
        self._write(text + "\n")
        self._flush()


@contextmanager
def _once_a_minute(lines: PlainLines) -> Iterator[Progress]:
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(SECONDS_BETWEEN_LINES / 4):  # so that a line is at most a quarter of a minute late
            try:
                lines.tick()
            except (OSError, ValueError):  # nobody reads any more: the work itself finds out and says so
                return

    watcher = threading.Thread(target=watch, name="progress", daemon=True)
    watcher.start()
    try:
        yield lines.report
    finally:
        stop.set()
        watcher.join()


def _plain(stage: str) -> str:
    """A stage's name, which may hold a file's, without line breaks, control and direction characters."""
    return "".join(character if character.isprintable() else " " for character in stage)


def _span(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
