"""``palimpsest audit PLAN``."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from ..runs.store import Run
from ..text.safe import for_terminal
from . import options
from .audit_plan import AuditPlan

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def audit(
    plan: Annotated[Path, typer.Argument(help="TOML file: subject, reference, and a table for each audit.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; default palimpsest-runs/<plan>-<hash of the plan>.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with a run of the same plan that was interrupted.")] = True,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Run the audits of a plan; write scores, findings.json and report.html into the run's folder.

    Killed at any moment and started again with the same plan, it goes on and ends with the same findings.
    Exit code: 0 when the audit ended with an answer, 4 when it is inconclusive or confounded, 2 for bad input.
    """
    from ..runs.plan import load_plan

    checked, text = load_plan(plan, AuditPlan)
    run = execute(checked, text, plan, out=out, resume=resume, quiet=quiet)
    sys.exit(tell(run, as_json=as_json))


def execute(plan: AuditPlan, text: str, path: Path, *, out: Path | None, resume: bool, quiet: bool) -> Run:
    """Make or resume the run of a plan, and write its report.

    Args:
        plan: The checked plan.
        text: The plan as it was written.
        path: Where it was read from; paths in it start at its folder.
        out: Folder of the run, or None for the default.
        resume: Whether an interrupted run may be gone on with.
        quiet: Show no progress.
    """
    options.quiet_libraries()  # before torch is imported
    from ..progress import progress_bars
    from ..runs.plan import resolve_path
    from ..runs.records import content_key
    from ..runs.schema import Findings
    from ..text.files import sha256_file
    from ..text.tables import read_parquet
    from ..traps.run import audit_traps, check_inputs

    detection = plan.traps.detection()
    subject = plan.subject.subject(path)
    reference = None if plan.reference is None else plan.reference.subject(path)
    table = resolve_path(plan.traps.table, path)
    traps = read_parquet(table)
    try:
        items = check_inputs(traps, source=str(table), plan=detection, has_reference=reference is not None)
    except InputError as error:  # about the plan; what is wrong with the table is a DataError, which names it
        raise InputError(f"{path}: {error}") from error
    whole = {**plan.to_record(), "inputs": {"traps": sha256_file(table)}}
    folder = out or Path("palimpsest-runs") / f"{path.stem}-{content_key(**whole)[:8]}"
    from ..lm.load import load
    from .checks import check_models

    if not (folder / "run.json").exists():  # so that a run folder is made only for what can be run
        check_models(
            subject,
            reference,
            ids=items["trap_id"].tolist(),
            texts=items["text"].tolist(),
            truncate=plan.traps.truncate,
        )
    with Run.start(
        folder,
        kind="audit",
        plan=whole,
        plan_text=text,
        command=sys.argv,
        resume=resume,
        hardware=options.gpus(),
        plan_folder=path.absolute().parent,
    ) as run:
        if not run.complete:
            run.add_seed("traps", detection.seed)
            with progress_bars(quiet=quiet) as progress:
                section = audit_traps(
                    run,
                    traps,
                    source=str(table),
                    subject=partial(load, subject),
                    reference=None if reference is None else partial(load, reference),
                    plan=detection,
                    truncate=plan.traps.truncate,
                    progress=progress,
                )
            run.write_findings(Findings(sections=(section,), limitations=_limitations(run)))
            run.finish()
    finished = Run.open(folder)
    if not (folder / "report.html").exists():
        draw_report(finished)
    return finished


def _limitations(run: Run) -> tuple[str, ...]:
    """What the models themselves put limits to."""
    cutters = {subject["fingerprint"]["tokenizer"] for subject in run.record.subjects.values()}
    if len(cutters) < 2:
        return ()
    return (
        "The subject and the reference have different tokenizer files. Where they cut a trap into different tokens, "
        "its ratio compares means over different tokens; members and decoys are treated alike, so the tests hold, "
        "but a ratio is not to be compared with 0.",
    )


def draw_report(run: Run) -> None:
    """Draw ``report.html`` from what the run holds."""
    from ..report.traps_section import trap_figures
    from ..report.write import write_report

    items = run.read_items("traps").to_pandas()
    primary = run.record.plan["traps"]["primary"]
    write_report(run, {"traps": trap_figures(items, run.findings(), primary=primary)})


def tell(run: Run, *, as_json: bool) -> int:
    """Print what was found; returns the exit code."""
    from ..report.text import summary_text

    findings = run.findings()
    if as_json:
        print(findings.model_dump_json(indent=2))
    else:
        print(summary_text(findings))
        print(for_terminal(f"Report: {options.shown(run.folder / 'report.html')}"))
    # An audit without a finding has no answer either.
    verdicts = {section.findings[0].verdict if section.findings else "inconclusive" for section in findings.sections}
    return 4 if not verdicts or verdicts & {"inconclusive", "confounded"} else 0
