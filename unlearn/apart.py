"""Texts that must not be one another: what is forgotten, what is kept, and what is only measured."""

from __future__ import annotations

from audit.errors import DataError
from audit.text.safe import counted

SHORTEST_LINE = 20  # characters; shorter lines are headings and the like, which any two texts may share


def shared_lines(text: str, other: str) -> tuple[int, int]:
    """How many lines of ``text`` stand in ``other`` too, and of how many; short ones do not count."""
    known = {line.strip() for line in other.splitlines()}
    lines = [bare for line in text.splitlines() if len(bare := line.strip()) >= SHORTEST_LINE]
    return sum(line in known for line in lines), len(lines)


def check_apart(text: str, other: str, *, names: tuple[str, str], why: str) -> None:
    """Refuses a text that is another, in the main.

    Args:
        text: The text.
        other: The other.
        names: What the two are called.
        why: What would come of it, as a clause.

    Raises:
        DataError: The two are the same, or more than half of its lines stand in the other.
    """
    n_shared, n = shared_lines(text, other)
    if text.split() == other.split():
        raise DataError(f"the {names[0]} text is the {names[1]} text, word for word, so {why}. Give other text.")
    if 2 * n_shared > n:
        lines = f"{n_shared:,} of {counted(n, 'line')}"
        raise DataError(f"{lines} of the {names[0]} text stand in the {names[1]} text, so {why}. Give other text.")
