"""``palimpsest steer run PLAN``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audit.cli import options


def run(
    plan: Annotated[Path, typer.Argument(help="TOML file with the table [steer], [sweep] or [evaluate].")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; default palimpsest-runs/<plan>-<hash of the plan>.")
    ] = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Do what a plan says; the verbs write such a plan into their run.

    Killed at any moment and started again with the same plan, it goes on.
    """
    from audit.runs.plan import load_plan

    from .plan import SteerPlan

    checked, text = load_plan(plan, SteerPlan)
    options.quiet_libraries()  # before torch is imported
    from .execute import execute, tell

    tell(execute(checked, text, plan, out=out, quiet=quiet), as_json=as_json)
