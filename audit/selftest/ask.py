"""Ask every instrument what is known of it; one that raises an error has given a wrong answer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..progress import Progress, silent
from .answers import Instrument, Known


def ask(
    instruments: Sequence[Instrument],
    *,
    progress: Progress = silent,
    on_answer: Callable[[str, Known], None] = lambda instrument, known: None,
) -> list[tuple[str, Known]]:
    """Instrument and known answer of every check, in order.

    Args:
        instruments: Those that are tested.
        progress: Called with the number of instruments done.
        on_answer: Called with each answer as it comes.
    """
    found = []
    for place, instrument in enumerate(instruments):
        progress("Known answers (instruments)", place, len(instruments))
        for known in _answers(instrument):
            found.append((instrument.name, known))
            on_answer(instrument.name, known)
    progress("Known answers (instruments)", len(instruments), len(instruments))
    return found


def _answers(instrument: Instrument) -> Iterator[Known]:
    n = 0
    with tempfile.TemporaryDirectory(prefix="palimpsest-selftest-") as folder:
        try:
            for known in instrument.ask(Path(folder)):
                n += 1
                yield known
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
            yield Known(f"check {n + 1}", "an answer", words[:500], passed=False, why="a check must end")
            return
    if not n:
        yield Known(
            "any check", "an answer", "none", passed=False, why="an instrument that was not asked has not passed"
        )
