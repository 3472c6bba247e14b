"""``palimpsest eco``: one file for each verb."""

from __future__ import annotations

import typer

from . import apply, evaluate, fit, run, serve

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    help="A guard before a model that answers as if it had never learnt something.",
)
app.command("fit")(fit.fit)
app.command("apply")(apply.apply)
app.command("evaluate")(evaluate.evaluate)
app.command("serve")(serve.serve)
app.command("run")(run.run)


@app.callback()
def main() -> None:
    """A guard before a model that answers as if it had never learnt something.

    Prompts about what is to be forgotten reach the model with corrupted embeddings (arXiv:2406.07933). The weights are
    never changed and keep what they know: what is protected is the door.
    """
