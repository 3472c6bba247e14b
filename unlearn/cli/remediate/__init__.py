"""``palimpsest remediate PLAN``: detect, remedy, audit again, decide."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from audit.cli import options

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def remediate(
    plan: Annotated[Path, typer.Argument(help="TOML file with [subject], [forget] and [remedies.NAME].")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; default palimpsest-runs/<plan>-<hash of the plan>.")
    ] = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Audit a model, apply remedies, audit again under the same settings, and say of each whether it worked.

    Without remedies it judges the subject alone. Killed at any moment, the same command goes on.
    Exit code: 0 when every remedy got an answer (removed, suppressed, not removed), 4 when one of them is undecided,
    destroyed or failed; without remedies the subject's counts; 2 for bad input.
    """
    from audit.runs.plan import load_plan

    from .plan import LoopPlan

    checked, text = load_plan(plan, LoopPlan)
    options.quiet_libraries()  # before torch is imported
    from .execute import execute, tell

    sys.exit(tell(execute(checked, text, plan, out=out, quiet=quiet), as_json=as_json))
