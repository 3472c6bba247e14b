"""``palimpsest unlearn``: one file for each verb. It belongs to `unlearn`, because `audit` changes no model."""

from __future__ import annotations

import typer

from . import anchors, whp

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    help="Make a model answer as one that never read a text.",
)
app.command("anchors")(anchors.anchors)
app.command("whp")(whp.whp)


@app.callback()
def main() -> None:
    """Make a model answer as one that never read a text."""
