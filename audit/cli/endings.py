"""How a command ends other than well: one message and its exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from ..errors import IncompleteRunError

# What a user can mend. Any other error of the system that escapes is a mistake of ours.
_MENDABLE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENAMETOOLONG,
    errno.EMFILE,
)


def complain(message: str) -> None:
    """Print one message to standard error."""
    from ..text.safe import for_terminal

    print(f"palimpsest: {for_terminal(message)}", file=sys.stderr)


def crash() -> NoReturn:
    """A mistake of ours keeps its traceback, and never looks like a breached gate (Python's own exit code is 1)."""
    import traceback

    traceback.print_exc()
    print("palimpsest: this is a mistake in Palimpsest; please report it with the lines above.", file=sys.stderr)
    sys.exit(3)


def system_error(error: OSError) -> NoReturn:
    """An error of the operating system that no room has turned into a message."""
    from ..text.files import why_and_remedy
    from ..text.safe import quoted

    if error.errno not in _MENDABLE:
        crash()
    what = quoted(error.filename, limit=200) if error.filename else "a file"
    why, remedy = why_and_remedy(error)
    if error.errno == errno.ENAMETOOLONG:  # found by looking for the file, so nothing was begun
        complain(f"could not look for {what}: {why}. {remedy}.")
        sys.exit(2)
    complain(f"could not read or write {what}: {why}. {remedy}; then run the same command again.")
    sys.exit(2)


@contextmanager
def interrupted(then: str) -> Iterator[None]:
    """Ctrl-C in the block ends with what is true of that work, where `interruptions` would promise that it goes on.

    Args:
        then: What was kept or not, and what the next call does; follows "interrupted; ".

    Raises:
        IncompleteRunError: In place of KeyboardInterrupt.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise IncompleteRunError(f"interrupted; {then}") from None


@contextmanager
def interruptions() -> Iterator[None]:
    """Ctrl-C and a reader that goes away end with code 3: neither is a breached gate, whose code is 1.

    The message is that of commands that keep finished work; others use `interrupted`.
    """
    try:
        yield
    except KeyboardInterrupt:
        complain("interrupted; what was finished is kept, and the same command goes on from there.")
        sys.exit(3)
    except BrokenPipeError:  # the reader is head, say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(3)


@contextmanager
def termination_interrupts() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that locks are freed and a message is printed.

    Does nothing where another handler stands, or outside the main thread, where Python sets none.
    """

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    try:
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, interrupt)
    except ValueError:
        pass
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is interrupt:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
