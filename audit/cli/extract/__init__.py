"""``palimpsest extract``: one file for each verb, or for a few that belong together."""

from __future__ import annotations

import typer

from . import match, retrain, run, sample

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    help="Alignment-data extraction: what of its post-training data a model gives away.",
)
app.command("sample")(sample.sample)
app.command("match")(match.match)
app.command("run")(run.run)
app.command("retrain")(retrain.retrain)


@app.callback()
def main() -> None:
    """Alignment-data extraction: what of its post-training data a model gives away."""
