"""``palimpsest membership MODEL --suspect TEXTS --validation TEXTS``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .plan_text import model_tables, plan_text

app = typer.Typer(rich_markup_mode=None, add_completion=False)
NAME = Path("membership")  # of the plan that the flags stand for, and of the run's default folder


@app.command()
def membership(
    model: Annotated[str, typer.Argument(help="Folder of a checkpoint, or a Hugging Face id.")],
    suspect: Annotated[
        str,
        typer.Option(
            help="Texts that the model may have been trained on: jsonl, json, csv, tsv, txt (each also .gz), parquet, "
            "a folder of txt, or hf:owner/name."
        ),
    ],
    validation: Annotated[
        str, typer.Option(help="Texts of the same source, kind, time and length that it was not trained on.")
    ],
    reference: Annotated[
        str | None, typer.Option(help="Model that saw neither set; adds the ratio and a check without MODEL.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; default palimpsest-runs/membership-<hash of the plan>.")
    ] = None,
    field: Annotated[str, typer.Option(help="Field or column that holds the text, in both sets.")] = "text",
    id_field: Annotated[
        str | None, typer.Option(help='Field that names each text; default "id" where it exists.')
    ] = None,
    unit: Annotated[str, typer.Option(help="What one text of a .txt file is: file, line or paragraph.")] = "file",
    primary: Annotated[
        str | None,
        typer.Option(
            help="Score of the verdict: ratio, loss, min_k, min_k_plus_plus or zlib. [default: ratio, or loss without "
            "a reference]"
        ),
    ] = None,
    k: Annotated[float, typer.Option(help="Share of the tokens that Min-K% and Min-K%++ average over.")] = 0.2,
    level: Annotated[float, typer.Option(help="Level of the intervals of AUC and TPR.")] = 0.95,
    splits: Annotated[int, typer.Option(help="Random splits that dataset inference puts together.")] = 25,
    checks: Annotated[int, typer.Option(help="Random splits of the validation set against itself.")] = 200,
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Score the first tokens of texts longer than the context.")
    ] = False,
    skip_bad_lines: Annotated[
        bool, typer.Option("--skip-bad-lines", help="Leave malformed records out, and count them in the report.")
    ] = False,
    seed: options.Seed = 0,
    revision: options.Revision = None,
    adapter: options.Adapter = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    trust_remote_code: options.TrustRemoteCode = False,
    resume: Annotated[bool, typer.Option(help="Go on with a run of the same flags that was interrupted.")] = True,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Compare texts that MODEL may have been trained on with texts that it was not. Indicative, never a proof.

    Scores both sets by membership inference and writes scores, findings.json and report.html into a run's folder.
    Beside every score stand checks that never ask MODEL; when they can tell the sets apart as well, the verdict is
    refused. Dataset inference puts all scores together; its p-value holds only if both sets are independent draws from
    one distribution. Only traps that were dealt at random beforehand support a proof (palimpsest audit).
    Exit code: 0 for an indication, 4 when it is inconclusive or confounded, 2 for bad input; never 1.
    """
    from ..runs.plan import parse_plan
    from .audit import execute, tell
    from .audit_plan import AuditPlan

    tables = model_tables(
        model,
        reference,
        revision=revision,
        adapter=adapter,
        dtype=dtype,
        device=device,
        device_map=device_map,
        trust_remote_code=trust_remote_code,
    )
    tables["membership"] = {
        "suspect": suspect,
        "validation": validation,
        "field": field,
        "id_field": id_field,
        "unit": unit,
        "skip_bad_lines": skip_bad_lines,
        "truncate": truncate,
        "primary": primary,
        "k": k,
        "level": level,
        "n_splits": splits,
        "n_checks": checks,
        "seed": seed,
    }
    text = plan_text(tables, made_by="palimpsest membership")
    plan = parse_plan(text, AuditPlan, source="the flags")
    if plan.membership is not None:
        plan.membership.membership().score(has_reference=reference is not None)
    run = execute(plan, text, Path.cwd() / NAME, source=None, out=out, resume=resume, quiet=quiet)
    sys.exit(tell(run, as_json=as_json))
