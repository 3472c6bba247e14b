"""``palimpsest audit PLAN``."""

from __future__ import annotations

import glob
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from ..runs.store import Run
from ..text.safe import for_terminal
from . import options
from .audit_plan import AuditPlan
from .audit_work import Models, Work

if TYPE_CHECKING:
    pass

app = typer.Typer(rich_markup_mode=None, add_completion=False)
# What reads a table of the plan, if it is there; each is imported when a plan is run.
_READERS = ("audit_traps", "audit_membership", "audit_extraction")


@app.command()
def audit(
    plan: Annotated[Path, typer.Argument(help="TOML file: subject, reference, and a table for each audit.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; default palimpsest-runs/<plan>-<hash of the plan>.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with a run of the same plan that was interrupted.")] = True,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|NAME",
            help="Policy that the release will be judged by, in place of the plan's; its hash is recorded.",
        ),
    ] = None,
    show_text: Annotated[
        bool, typer.Option("--show-text", help="Show the strongest matches side by side in the report.")
    ] = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Run the audits of a plan; write scores, findings.json and report.html into the run's folder.

    Killed at any moment and started again with the same plan, it goes on and ends with the same findings.
    Exit code: 0 when the audit ended with an answer, 4 when it is inconclusive or confounded, 2 for bad input.
    """
    from ..gates.shipped import find_policy, shipped
    from ..runs.plan import load_plan

    checked, text = load_plan(plan, AuditPlan)
    if policy is not None:
        checked = checked.model_copy(
            update={"policy": policy if policy in shipped() else str(find_policy(policy).absolute())}
        )
    run = execute(checked, text, plan, source=str(plan), out=out, resume=resume, quiet=quiet, show_text=show_text)
    sys.exit(tell(run, as_json=as_json))


def execute(
    plan: AuditPlan,
    text: str,
    path: Path,
    *,
    source: str | None,
    out: Path | None,
    resume: bool,
    quiet: bool,
    show_text: bool = False,
) -> Run:
    """Make or resume the run of a plan, and write its report.

    Args:
        plan: The checked plan.
        text: The plan as it was written.
        path: Where it was read from, or would stand; paths in it start at its folder.
        source: What messages call it; None where it stands for flags, which they name themselves.
        out: Folder of the run, or None for the default.
        resume: Whether an interrupted run may be gone on with.
        quiet: Show no progress.
        show_text: Show training text in the report, where an audit compares it.
    """
    options.quiet_libraries()  # before torch is imported
    from ..gates.preregistered import preregistered
    from ..progress import progress_bars
    from ..report.write import draw_where_missing, write_report
    from ..runs.records import content_key
    from ..runs.schema import Findings
    from ..runs.seal.record import is_sealed

    policy = preregistered(plan.policy, path)
    if not _may_be_made(out, path):
        _find_models(plan, path, source)
    works = _works(plan, path, source)
    whole = plan.to_record()
    for work in works:
        whole[work.name] |= work.settled
    whole["inputs"] = {name: sha256 for work in works for name, sha256 in work.inputs.items()}
    if policy is not None:
        whole["inputs"]["policy"] = policy
    folder = out or Path("palimpsest-runs") / f"{path.stem}-{content_key(**whole)[:8]}"
    if not (folder / "run.json").exists():  # so that a run folder is made only for what can be run
        for work in works:
            work.check()
    with Run.start(
        folder,
        kind="audit",
        plan=whole,
        plan_text=text,
        command=sys.argv,
        resume=resume,
        hardware=options.gpus(),
        plan_folder=path.absolute().parent,
        policy_sha256=policy,
    ) as run:
        if not run.complete:
            with progress_bars(quiet=quiet) as progress:
                sections = []
                for work in works:
                    run.add_seed(work.name, work.seed)
                    sections.append(work.audit(run, progress))
            run.write_findings(Findings(sections=tuple(sections), limitations=limitations(run)))
            run.finish()
    finished = Run.open(folder)
    if any(work.compare is not None for work in works) and not is_sealed(folder):
        shown = {work.name: work.compare(finished) for work in works if show_text and work.compare is not None}
        write_report(finished, comparisons=shown)  # anew: the last one may have shown texts, or may not
    else:
        draw_where_missing(finished)
    return finished


def inputs_of(plan: AuditPlan, path: Path, *, source: str) -> dict[str, str]:
    """SHA-256 of every file that the audits of a plan rest on; what can be refused without weights is refused.

    Args:
        plan: The checked plan.
        path: As `execute`.
        source: What messages call it.
    """
    works = _works(plan, path, source)
    for work in works:
        work.check()
    return {f"{work.name}.{name}": sha256 for work in works for name, sha256 in work.inputs.items()}


def _may_be_made(out: Path | None, path: Path) -> bool:
    """Whether the run may be there already, and its models gone by now."""
    if out is not None:
        return (out / "run.json").exists()
    return any(Path("palimpsest-runs").glob(f"{glob.escape(path.stem)}-*/run.json"))


def _find_models(plan: AuditPlan, path: Path, source: str | None) -> None:
    """Refuses a model that is not there before anything else is read."""
    from ..lm.checkpoint import find_checkpoint

    with _about(source):
        for table in (plan.subject, plan.reference):
            if table is not None:
                find_checkpoint(table.subject(path))


def _works(plan: AuditPlan, path: Path, source: str | None) -> list[Work]:
    from ..lm.load import load

    subject = None if plan.subject is None else plan.subject.subject(path)
    reference = None if plan.reference is None else plan.reference.subject(path)
    models = Models(
        subject,
        reference,
        None if subject is None else partial(load, subject),
        None if reference is None else partial(load, reference),
    )
    with _about(source):
        return [work for read in _READERS if (work := _reader(read)(plan, path, models)) is not None]


def _reader(name: str) -> Callable[[AuditPlan, Path, Models], Work | None]:
    read: Callable[[AuditPlan, Path, Models], Work | None] = import_module(f"audit.cli.{name}").work_of
    return read


@contextmanager
def _about(source: str | None) -> Iterator[None]:
    """Names the plan in what is wrong with it; what is wrong with a file is a DataError, which names that."""
    try:
        yield
    except InputError as error:
        if source is None:
            raise
        raise InputError(f"{source}: {error}") from error


def limitations(run: Run) -> tuple[str, ...]:
    """What the models themselves put limits to."""
    subjects = run.record.subjects
    prints = [subjects[role]["fingerprint"] for role in ("subject", "reference") if role in subjects]
    # tokenizer.json, where there is one, decides how text is cut; tokenizer_config.json may differ in other things.
    cutters = {one["files"].get("tokenizer.json", one["tokenizer"]) for one in prints}
    if len(cutters) < 2:
        return ()
    told = {
        "traps": (
            "The subject and the reference have different tokenizer files. Where they cut a trap into different "
            "tokens, its ratio compares means over different tokens; members and decoys are treated alike, so the "
            "tests hold, but a ratio is not to be compared with 0."
        ),
        "membership": (
            "The subject and the reference have different tokenizer files. Where they cut a found text into different "
            "tokens, its ratio compares means over different tokens: suspect and validation texts are treated alike, "
            "but a ratio is not to be compared with 0."
        ),
    }
    return tuple(words for audit, words in told.items() if audit in run.record.plan)


def tell(run: Run, *, as_json: bool) -> int:
    """Print what was found; returns the exit code."""
    from ..report.text import summary_text

    findings = run.findings()
    if as_json:
        print(json.dumps(findings.model_dump(mode="json"), indent=2))  # ASCII: nothing in it steers a terminal
    else:
        print(summary_text(findings))
        print(for_terminal(f"Report: {options.shown(run.folder / 'report.html')}"))
    # An audit without a finding has no answer either.
    verdicts = {section.findings[0].verdict if section.findings else "inconclusive" for section in findings.sections}
    return 4 if not verdicts or verdicts & {"inconclusive", "confounded"} else 0
