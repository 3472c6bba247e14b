"""``palimpsest``: finds the verb's file, runs it, and turns errors into messages and exit codes.

Exit codes: 0 pass; 1 a gate is breached; 2 the user can mend it; 3 incomplete (Ctrl-C too) or crashed; 4 inconclusive;
5 the instrument failed its own known-answer test.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from typer import main as typer_main
from typer.core import TyperGroup

from .. import __version__
from ..errors import AuditError

if TYPE_CHECKING:
    from typer._click.core import Command, Context
    from typer._click.formatting import HelpFormatter

VERBS: dict[str, tuple[str, str]] = {
    "audit": ("audit.cli.audit", "Run the audits of a plan and write findings and a report."),
    "demo": ("audit.cli.demo", "Plant traps in small models made here, audit them, and write a report."),
    "score": ("audit.cli.score", "Score texts by membership inference: one row of scores for each text."),
    "testbed": ("audit.cli.testbed", "Build small models whose truth is known because it was planted."),
    "runs": ("audit.cli.runs", "List runs, and show what one found."),
    "doctor": ("audit.cli.doctor", "Check the environment: versions, devices, disk, who owns the import names."),
}


class LazyGroup(TyperGroup):
    """A group whose verbs are imported when they are used, so that ``--help`` needs no torch."""

    def list_commands(self, ctx: Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(VERBS[cmd_name][0])
        command = typer_main.get_command(module.app)
        command.name = cmd_name
        return command

    def invoke(self, ctx: Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _complain("interrupted; what was finished is kept, and the same command goes on from there.")
            sys.exit(3)
        except BrokenPipeError:  # the reader, head say, has gone: not a breached gate, whose code is 1
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(3)

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, help_) for name, (_, help_) in VERBS.items()])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments == ["--version"]:
        print(f"palimpsest {__version__}")
        sys.exit(0)
    group = LazyGroup(
        name="palimpsest",
        commands=cast(Any, dict.fromkeys(VERBS)),  # the names are for "did you mean"; get_command makes the rest
        help="Audit what a language model still carries of its training data.",
        epilog="palimpsest VERB --help tells more. palimpsest --version prints the version.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    try:
        group.main(args=arguments, prog_name="palimpsest")
    except AuditError as error:
        _complain(str(error))
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
            _crash()
        _complain(
            f"{error.strerror}: {error.filename or 'a file'} could not be written or read. Free some space or choose a "
            "folder that you may write to; what was finished is kept, and the same command goes on from there."
        )
        sys.exit(2)
    except Exception:
        _crash()


def _complain(message: str) -> None:
    from ..text.safe import for_terminal

    print(f"palimpsest: {for_terminal(message)}", file=sys.stderr)


def _crash() -> None:
    """A mistake of ours keeps its traceback, and never looks like a breached gate (Python's own exit code is 1)."""
    traceback.print_exc()
    print("palimpsest: this is a mistake in Palimpsest; please report it with the lines above.", file=sys.stderr)
    sys.exit(3)


if __name__ == "__main__":
    main()
