"""``palimpsest eco run PLAN``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audit.cli import options


def run(
    plan: Annotated[
        Path, typer.Argument(help="TOML file: [eco], and [eco.evaluate] where it is to be evaluated; or [evaluate].")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; default palimpsest-runs/<plan>-<hash of the plan>.")
    ] = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Fit a guard as a plan says, and evaluate it where the plan says so; the verbs write such a plan into their run.

    Killed at any moment and started again with the same plan, it goes on.
    """
    from audit.runs.plan import load_plan

    from .plan import EcoPlan

    checked, text = load_plan(plan, EcoPlan)
    options.quiet_libraries()  # before torch is imported
    from .execute import execute, tell

    tell(execute(checked, text, plan, out=out, quiet=quiet), as_json=as_json)
