"""``palimpsest steer``: one file for each verb."""

from __future__ import annotations

import typer

from . import apply, evaluate, export, fit, fold, inspect, run, sweep

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    help="Steer a model's activations, learnt from sentences that show what is unwanted and what is wanted.",
)
app.command("fit")(fit.fit)
app.command("inspect")(inspect.inspect)
app.command("apply")(apply.apply)
app.command("fold")(fold.fold)
app.command("export")(export.export)
app.command("sweep")(sweep.sweep)
app.command("evaluate")(evaluate.evaluate)
app.command("run")(run.run)


@app.callback()
def main() -> None:
    """Steer a model's activations, learnt from sentences that show what is unwanted and what is wanted.

    An affine map of each neuron stands behind some modules of a frozen model (LinEAS, arXiv:2503.10679), at any
    strength. What the model knows is not taken away: without the maps it is what it was.
    """
