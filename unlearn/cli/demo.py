"""``palimpsest demo``: the whole way from an empty folder to a report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from . import options

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def demo(
    size: Annotated[str, typer.Option(help="tiny or small; medium and large want a GPU.")] = "small",
    seed: options.Seed = 0,
    corpus: Annotated[
        Path | None, typer.Option(help="Folder of .txt files that stand in place of the generated stories.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Where testbeds are kept; default $PALIMPSEST_CACHE, else ~/.cache/palimpsest.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; default palimpsest-runs/demo-...")] = None,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Plant copyright traps in small models made here, audit them, and say where the report is.

    The models are built once and kept. Killed at any moment and started again, it goes on where it stopped.
    """
    options.quiet_libraries()  # before torch is imported
    from ..progress import progress_bars
    from ..runs.plan import parse_plan
    from ..testbed.planted import build
    from .audit import execute, tell
    from .audit_plan import AuditPlan

    with progress_bars(quiet=quiet) as progress:
        testbed = build(
            size,
            seed=seed,
            corpus=corpus,
            cache=cache,
            models=("reference", "subject"),
            device=device,
            progress=progress,
        )
    text = _plan_text(testbed.models["subject"], testbed.models["reference"], testbed.traps_path, device=device)
    name = Path(f"demo-{testbed.folder.name}")
    plan = parse_plan(text, AuditPlan, source="the demo's plan")
    folder = out or Path("palimpsest-runs") / name
    run = execute(plan, text, Path.cwd() / name, source=None, out=folder, resume=True, quiet=quiet)
    code = tell(run, as_json=as_json)
    if not as_json:
        print(f"The plan is {options.shown(run.folder / 'plan.toml')}; run it again with: palimpsest audit PLAN")
    sys.exit(code)


def _plan_text(subject: Path, reference: Path, traps: Path, *, device: str) -> str:
    """The demo's plan as a user would write it."""
    import json

    return f"""# What `palimpsest demo` audited; change it and run it with `palimpsest audit`.
[subject]
model = {json.dumps(str(subject))}
device = {json.dumps(device)}

[reference]
model = {json.dumps(str(reference))}
device = {json.dumps(device)}

[traps]
table = {json.dumps(str(traps))}
primary = "ratio"
"""
