"""``palimpsest demo``: the whole way from an empty folder to verdicts on remedies."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from audit.cli import options

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def demo(
    size: Annotated[str, typer.Option(help="tiny or small; medium and large want a GPU.")] = "small",
    seed: options.Seed = 0,
    audit_only: Annotated[
        bool, typer.Option("--audit-only", help="Stop after the audit of the copyright traps; no remedy is applied.")
    ] = False,
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
    """Audit a small model that is made here, remedy it in five ways, audit again, and say whether they worked.

    The truth is known, because it was planted: traps, people and a book. A model that never saw the people and the book
    is trained beside it, as the remedies should be judged. The models are built once and kept. Killed at any moment and
    started again, it goes on where it stopped.
    """
    options.quiet_libraries()  # before torch is imported
    from audit.progress import progress_bars
    from audit.testbed.planted import build

    models = ("reference", "subject") if audit_only else ("reference", "subject", "retrained", "retrained_2")
    with progress_bars(quiet=quiet) as progress:
        testbed = build(size, seed=seed, corpus=corpus, cache=cache, models=models, device=device, progress=progress)
    name = Path(f"demo-{'audit-' if audit_only else ''}{testbed.folder.name}")
    folder = out or Path("palimpsest-runs") / name
    if audit_only:
        _audit(testbed, Path.cwd() / name, folder, device=device, quiet=quiet, as_json=as_json)
    else:
        _loop(testbed, Path.cwd() / name, folder, device=device, quiet=quiet, as_json=as_json)


def _audit(testbed: Any, path: Path, folder: Path, *, device: str, quiet: bool, as_json: bool) -> None:
    from audit.cli.audit import execute, tell
    from audit.cli.audit_plan import AuditPlan
    from audit.runs.plan import parse_plan

    text = _audit_plan(testbed, device=device)
    plan = parse_plan(text, AuditPlan, source="the demo's plan")
    run = execute(plan, text, path, source=None, out=folder, resume=True, quiet=quiet)
    code = tell(run, as_json=as_json)
    if not as_json:
        print(f"The plan is {options.shown(run.folder / 'plan.toml')}; run it again with: palimpsest audit PLAN")
    sys.exit(code)


def _loop(testbed: Any, path: Path, folder: Path, *, device: str, quiet: bool, as_json: bool) -> None:
    from audit.runs.plan import parse_plan

    from .demo_files import write_loop_files
    from .remediate.execute import execute, tell
    from .remediate.plan import LoopPlan

    files = write_loop_files(testbed.world, testbed.folder.parent / f"{testbed.folder.name}-loop")
    text = _loop_plan(testbed, files, device=device)
    plan = parse_plan(text, LoopPlan, source="the demo's plan")
    run = execute(plan, text, path, out=folder, quiet=quiet)
    tell(run, as_json=as_json)
    if not as_json:
        print(f"The plan is {options.shown(run.folder / 'plan.toml')}; run it again with: palimpsest remediate PLAN")


def _audit_plan(testbed: Any, *, device: str) -> str:
    """The plan of the audit as a user would write it."""
    return f"""# What `palimpsest demo --audit-only` audited; change it and run it with `palimpsest audit`.
[subject]
model = {json.dumps(str(testbed.models["subject"]))}
device = {json.dumps(device)}

[reference]
model = {json.dumps(str(testbed.models["reference"]))}
device = {json.dumps(device)}

[traps]
table = {json.dumps(str(testbed.traps_path))}
primary = "ratio"
"""


def _loop_plan(testbed: Any, files: Any, *, device: str) -> str:
    """The plan of the loop as a user would write it. Steps and rates are those of the testbed's size, not tuned."""

    def model(name: str) -> str:
        return f"model = {json.dumps(str(testbed.models[name]))}\ndevice = {json.dumps(device)}"

    def file(name: str) -> str:
        return json.dumps(str(getattr(files, name).absolute()))

    return f"""# What `palimpsest demo` ran; change it and run it with `palimpsest remediate`.
[subject]
{model("subject")}

[gold]  # trained on everything but the forget set
{model("retrained")}

[gold_2]  # the same with another seed
{model("retrained_2")}

[forget]
rows = {file("forget_rows")}
texts = {file("forget_texts")}
names = {file("names")}
target = "the forget people and their book"

[keep]
rows = {file("keep_rows")}
texts = {file("keep_texts")}

[never]
rows = {file("never_rows")}
texts = {file("never_texts")}

[general]
texts = {file("general_texts")}

[audits.reference]
{model("reference")}

[audits.traps]
table = {json.dumps(str(testbed.traps_path))}
primary = "ratio"

[verify]  # smaller than usual, so that it takes minutes
max_rows = 120
max_controls = 96
max_new_tokens = 32
relearn_rate = 5e-4
relearn_unrelated = false
evasion_rows = 24
relearn_seeds = 3
relearn_steps = 10
soft_rows = 24
soft_steps = 10

[remedies.npo]
method = "npo"
settings = {{ steps = 60, rate = 5e-4, batch_size = 8, block = 128 }}

[remedies.gradient-ascent]
method = "gradient_ascent"
settings = {{ steps = 60, rate = 5e-4, batch_size = 8, block = 128 }}

[remedies.whp]
method = "whp"
settings = {{ steps = 40, rate = 5e-4, batch_size = 8, block = 128 }}

[remedies.eco]
method = "eco"
settings = {{ alpha = 0.05 }}

[remedies.lineas]
method = "lineas"
settings = {{ steps = 100, max_tokens = 64 }}
"""
