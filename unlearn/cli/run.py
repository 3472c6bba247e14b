"""``palimpsest unlearn run PLAN``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audit.cli import options


def run(
    plan: Annotated[Path, typer.Argument(help="TOML file: [unlearn], and a table of the method's own settings.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; default palimpsest-runs/<plan>-<hash of the plan>.")
    ] = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Unlearn a text as a plan says, with any method; every other verb here writes such a plan into its run.

    The model itself is never changed. Killed at any moment and started again with the same plan, it goes on. Nothing is
    verified here: audit the result.
    """
    options.quiet_libraries()  # before torch is imported
    from audit.runs.plan import load_plan

    from .execute import execute, tell
    from .plan import UnlearnPlan

    checked, text = load_plan(plan, UnlearnPlan)
    tell(execute(checked, text, plan, out=out, quiet=quiet), as_json=as_json)
