"""``palimpsest runs list|show``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..report.text import summary_text
from ..runs.listing import list_runs
from ..runs.store import Run
from ..text.safe import for_terminal
from . import options

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True, help="List runs, and show one.")


@app.command("list")
def list_(
    runs: Annotated[Path, typer.Option(help="Folder that holds runs.")] = Path("palimpsest-runs"),
    as_json: options.AsJson = False,
) -> None:
    """One line for each run, the newest first: when, status, model, verdict, folder."""
    found = list_runs(runs)
    rows = []
    for summary in found.runs:
        verdict = "-"
        if summary.has_findings:
            sections = Run.open(summary.folder).findings().sections
            verdict = ", ".join(f"{section.audit}: {section.findings[0].verdict}" for section in sections)
        rows.append(
            {
                "created": summary.record.provenance.created,
                "status": summary.record.status,
                "model": str(summary.record.subjects.get("subject", {}).get("model", "-")),
                "verdict": verdict,
                "folder": str(summary.folder),
            }
        )
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            print(for_terminal("  ".join(row.values())).replace("\n", " "))
        if not rows:
            print(f"no runs in {runs}")
    for folder, reason in found.unreadable:
        print(for_terminal(f"not readable: {folder}: {reason}"), file=sys.stderr)


@app.command()
def show(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    as_json: options.AsJson = False,
) -> None:
    """What a run found, in plain text or as its findings.json."""
    findings = Run.open(run).findings()
    if as_json:
        print(findings.model_dump_json(indent=2))
        return
    print(summary_text(findings))
    if (run / "report.html").exists():
        print(f"Report: {options.shown(run / 'report.html')}")
