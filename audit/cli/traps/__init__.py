"""``palimpsest traps``: one file for each verb, or for a few that belong together."""

from __future__ import annotations

import typer

from . import generate, ledger

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    help="Draw copyright traps into a secret ledger, commit to it, check and disclose it.",
)
app.command("generate")(generate.generate)
app.command("export")(ledger.export)
app.command("commit")(ledger.commit)
app.command("verify-ledger")(ledger.verify_ledger)
app.command("disclose")(ledger.disclose)


@app.callback()
def main() -> None:
    """Draw copyright traps into a secret ledger, commit to it, check and disclose it."""
