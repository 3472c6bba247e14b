"""``palimpsest runs list|show``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import AuditError
from ..report.sections import overview
from ..report.text import summary_text
from ..runs.listing import list_runs
from ..runs.schema import Findings, RunRecord
from ..runs.store import Run
from ..text.safe import for_terminal
from . import options, runs_seal
from .replay import replay

app = typer.Typer(
    rich_markup_mode=None, add_completion=False, no_args_is_help=True, help="List, show, seal, verify and replay runs."
)


@app.command("list")
def list_(
    runs: Annotated[Path, typer.Option(help="Folder that holds runs.")] = Path("palimpsest-runs"),
    as_json: options.AsJson = False,
) -> None:
    """One line for each run, the newest first: when, status, model, verdict, folder."""
    found = list_runs(runs)
    unreadable = list(found.unreadable)
    rows = []
    for summary in found.runs:
        try:
            verdict = _verdicts(Run.open(summary.folder).findings()) if summary.has_findings else "-"
            verdict = _by_method(summary.record, verdict)
        except AuditError as error:
            unreadable.append((summary.folder, str(error)))
            continue
        rows.append(
            {
                "created": summary.record.provenance.created,
                "status": summary.state,
                "model": str(summary.record.audited.get("model", "-")),
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
            print(for_terminal(f"no readable runs in {runs}"))
    for folder, reason in unreadable:
        print(for_terminal(f"not readable: {folder}: {reason}"), file=sys.stderr)


def _by_method(record: RunRecord, verdict: str) -> str:
    """With the method of a run of unlearning, whether or not it came to findings."""
    asked = record.plan.get("unlearn")
    return f"{verdict} ({asked['method']})" if isinstance(asked, dict) and "method" in asked else verdict


def _verdicts(findings: Findings) -> str:
    """The gravest verdict of each audit; an audit without findings has none, which is no pass."""
    alone = ((one.audit, findings.model_copy(update={"sections": (one,)})) for one in findings.sections)
    return ", ".join(f"{audit}: {overview(found).verdict or 'no finding'}" for audit, found in alone)


@app.command()
def show(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    as_json: options.AsJson = False,
) -> None:
    """What a run found, in plain text or as its findings.json."""
    opened = Run.open(run)
    findings = opened.findings()
    if not opened.complete:
        print(
            for_terminal(f"note: this run has not ended ({opened.state()}); run its command again to finish it."),
            file=sys.stderr,
        )
    if as_json:
        print(json.dumps(findings.model_dump(mode="json"), indent=2))  # ASCII: nothing in it steers a terminal
        return
    print(summary_text(findings))
    if (run / "report.html").exists():
        print(for_terminal(f"Report: {options.shown(run / 'report.html')}"))


app.command("replay")(replay)


runs_seal.register(app)
