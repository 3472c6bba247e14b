"""``palimpsest unlearn``: one file for each verb. It belongs to `unlearn`, because `audit` changes no model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from typer import main as typer_main
from typer.core import TyperGroup

from . import anchors, baseline, run, whp

if TYPE_CHECKING:
    from typer._click.core import Command, Context
    from typer._click.formatting import HelpFormatter


class MethodGroup(TyperGroup):
    """A group whose baseline methods are made when they are used, so that ``--help`` needs no torch."""

    def list_commands(self, ctx: Context) -> list[str]:
        return [*super().list_commands(ctx), *baseline.VERBS]

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        if cmd_name not in baseline.VERBS:
            return super().get_command(ctx, cmd_name)
        single = typer.Typer(rich_markup_mode=None, add_completion=False)
        single.command(cmd_name)(baseline.command(cmd_name))
        return typer_main.get_command(single)

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        rows = [(name, self.commands[name].get_short_help_str(limit=100)) for name in super().list_commands(ctx)]
        with formatter.section("Verbs"):
            formatter.write_dl(rows)
        with formatter.section("Methods to compare with"):
            formatter.write_dl(list(baseline.VERBS.items()))


app = typer.Typer(
    cls=MethodGroup,
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    help="Make a model answer as one that never read a text.",
)
app.command("anchors")(anchors.anchors)
app.command("whp")(whp.whp)
app.command("run")(run.run)


@app.callback()
def main() -> None:
    """Make a model answer as one that never read a text."""
