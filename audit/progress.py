"""Progress of long work: a callback in library use, bars with the remaining time in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total); ``done`` grows to ``total`` within a stage and may start above 0."""


def silent(stage: str, done: int, total: int) -> None:
    """The default: says nothing."""


@contextmanager
def progress_bars(*, quiet: bool = False) -> Iterator[Progress]:
    """A callback that draws one bar for each stage on standard error, with elapsed and remaining time.

    Where standard error is no terminal, each stage is told in two plain lines instead: its start and its end.
    """
    if quiet:
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_lines(console.file.write, console.file.flush)
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


def _plain_lines(write: Callable[[str], object], flush: Callable[[], object]) -> Progress:
    began: set[str] = set()

    def report(stage: str, done: int, total: int) -> None:
        if stage not in began:
            began.add(stage)
            write(f"{stage}: {total:,} to do\n")
            flush()
        if done >= total:
            write(f"{stage}: done\n")
            flush()

    return report
