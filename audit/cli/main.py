"""``palimpsest``: finds the verb's file, runs it, and turns errors into messages and exit codes.

Exit codes: 0 pass; 1 a gate is breached; 2 the user can mend it; 3 incomplete (Ctrl-C, SIGTERM) or crashed;
4 inconclusive; 5 the instrument failed its own known-answer test.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .. import __version__
from ..errors import AuditError
from .endings import complain, crash, interruptions, system_error, termination_interrupts


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with interruptions(), termination_interrupts():
        _run(arguments)


def _run(arguments: list[str]) -> None:
    if arguments == ["--version"]:
        print(f"palimpsest {__version__}")
        sys.exit(0)
    from .group import make_group  # typer, which takes a while to import: Ctrl-C must be heard by then

    try:
        make_group().main(args=arguments, prog_name="palimpsest")
    except AuditError as error:
        complain(str(error))
        sys.exit(error.exit_code)
    except BrokenPipeError:
        raise
    except OSError as error:
        system_error(error)
    except Exception:
        crash()


if __name__ == "__main__":
    main()
