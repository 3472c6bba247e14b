"""The verbs, each imported only when it is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, cast

from typer import main as typer_main
from typer.core import TyperGroup

from .endings import interruptions

if TYPE_CHECKING:
    from typer._click.core import Command, Context
    from typer._click.formatting import HelpFormatter

VERBS: dict[str, tuple[str, str]] = {
    "audit": ("audit.cli.audit", "Run the audits of a plan and write findings and a report."),
    "demo": ("unlearn.cli.demo", "Audit a small model made here, remedy it, audit again, and write a report."),
    "membership": ("audit.cli.membership", "Compare texts that may have been trained on with texts that were not."),
    "score": ("audit.cli.score", "Score texts by membership inference: one row of scores for each text."),
    "extract": ("audit.cli.extract", "Alignment-data extraction: what of its post-training data a model gives away."),
    "traps": ("audit.cli.traps", "Copyright traps: draw, commit, plant, scan for, detect and disclose them."),
    "unlearn": ("unlearn.cli", "Make a model answer as one that never read a text."),
    "eco": ("unlearn.eco.cli", "A guard before a model that answers as if it had never learnt something."),
    "steer": ("unlearn.lineas.cli", "Steer a model's activations, learnt from what is unwanted and what is wanted."),
    "remediate": ("unlearn.cli.remediate", "Audit, apply remedies, audit again, and say whether they worked."),
    "testbed": ("audit.cli.testbed", "Build small models whose truth is known because it was planted."),
    "runs": ("audit.cli.runs", "List, show, seal, verify and replay runs."),
    "compare": ("audit.cli.compare", "Lay finished runs side by side, with the differences and how sure they are."),
    "gate": ("audit.cli.gate", "Judge finished runs by a written policy, and check policies."),
    "report": ("audit.cli.report", "Write what a run found for people who decide: HTML, Markdown, JSON or PDF."),
    "dashboard": ("audit.cli.dashboard", "Show runs in a browser: what was found, how sure it is, what it means."),
    "card": ("audit.cli.card", "Write an audit's results into a Hugging Face model card."),
    "doctor": ("audit.cli.doctor", "Check the environment and, with --known-answers, the instruments themselves."),
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

    def make_context(self, *arguments: Any, **named: Any) -> Context:
        with interruptions():  # here and in invoke, because typer would end with codes of its own
            return super().make_context(*arguments, **named)

    def invoke(self, ctx: Context) -> Any:
        with interruptions():
            return super().invoke(ctx)

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, help_) for name, (_, help_) in VERBS.items()])


def make_group() -> LazyGroup:
    """The whole command ``palimpsest``."""
    return LazyGroup(
        name="palimpsest",
        commands=cast(Any, dict.fromkeys(VERBS)),  # the names are for "did you mean"; get_command makes the rest
        help="Audit what a language model still carries of its training data.",
        epilog="palimpsest VERB --help tells more. palimpsest --version prints the version.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
