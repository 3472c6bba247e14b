"""``palimpsest audit PLAN``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ..errors import InputError
from ..runs.store import Run
from ..text.safe import for_terminal
from . import options
from .audit_plan import AuditPlan

if TYPE_CHECKING:
    from ..lm.load import LanguageModel
    from ..lm.subject import Subject
    from ..progress import Progress
    from ..runs.schema import AuditSection

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
    run = execute(checked, text, plan, source=str(plan), out=out, resume=resume, quiet=quiet)
    sys.exit(tell(run, as_json=as_json))


def execute(
    plan: AuditPlan, text: str, path: Path, *, source: str | None, out: Path | None, resume: bool, quiet: bool
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
    """
    options.quiet_libraries()  # before torch is imported
    from ..lm.load import load
    from ..progress import progress_bars
    from ..runs.records import content_key
    from ..runs.schema import Findings
    from .checks import check_models

    subject = plan.subject.subject(path)
    reference = None if plan.reference is None else plan.reference.subject(path)
    loaders = _Loaders(partial(load, subject), None if reference is None else partial(load, reference))
    with _about(source):
        works = [*_traps(plan, path, loaders, reference), *_membership(plan, path, loaders)]
    whole = plan.to_record()
    for work in works:
        whole[work.name] |= work.settled
    whole["inputs"] = {name: sha256 for work in works for name, sha256 in work.inputs.items()}
    folder = out or Path("palimpsest-runs") / f"{path.stem}-{content_key(**whole)[:8]}"
    if not (folder / "run.json").exists():  # so that a run folder is made only for what can be run
        for work in works:
            work.check_reference()
            check_models(subject, reference, ids=work.ids, texts=work.texts, truncate=work.truncate)
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
            with progress_bars(quiet=quiet) as progress:
                sections = []
                for work in works:
                    run.add_seed(work.name, work.seed)
                    sections.append(work.audit(run, progress))
            run.write_findings(Findings(sections=tuple(sections), limitations=_limitations(run)))
            run.finish()
    finished = Run.open(folder)
    if not (folder / "report.html").exists():
        draw_report(finished)
    return finished


class _Loaders(NamedTuple):
    """Load the models, each when something is left to score."""

    subject: Callable[[], LanguageModel]
    reference: Callable[[], LanguageModel] | None


class _Work(NamedTuple):
    """One audit of a plan, read and checked: what it rests on, the texts it will score, and how it is made."""

    name: str
    inputs: dict[str, str]  # name -> SHA-256
    settled: dict[str, Any]  # settings that a file brought, for the run's record
    ids: list[str]
    texts: list[str]
    truncate: bool
    seed: int
    audit: Callable[[Run, Progress], AuditSection]
    check_reference: Callable[[], None] = lambda: None


def _traps(plan: AuditPlan, path: Path, loaders: _Loaders, reference: Subject | None) -> Iterator[_Work]:
    if plan.traps is None:
        return
    from ..traps.run import audit_traps, check_inputs
    from .audit_traps import load_fixed, read_traps, refuse_other

    read = read_traps(plan.traps, path)
    if loaders.reference is not None:
        loaders = loaders._replace(reference=partial(load_fixed, loaders.reference, read.reference))
    items = check_inputs(
        read.table,
        source=read.source,
        plan=read.plan,
        has_reference=loaders.reference is not None,
        asked=read.asked,
    )
    settings: dict[str, Any] = {"source": read.source, "plan": read.plan, "asked": read.asked}
    settings |= {"truncate": plan.traps.truncate, **loaders._asdict()}
    yield _Work(
        "traps",
        read.inputs,
        read.plan.to_record() | ({} if read.reference is None else {"fixed_reference": read.reference}),
        items["trap_id"].tolist(),
        items["text"].tolist(),
        plan.traps.truncate,
        read.plan.seed,
        lambda run, progress: audit_traps(run, read.table, **settings, progress=progress),
        partial(refuse_other, reference, read.reference),
    )


def _membership(plan: AuditPlan, path: Path, loaders: _Loaders) -> Iterator[_Work]:
    asked = plan.membership
    if asked is None:
        return
    from ..membership.run import audit_membership, check_inputs
    from ..text.readers import read_texts
    from .audit_extras import extras_of
    from .left_out import tell_left_out

    read = partial(
        read_texts,
        field=asked.field,
        id_field=asked.id_field,
        unit=asked.unit,
        skip_bad_lines=asked.skip_bad_lines,
    )
    suspect, validation = read(asked.source("suspect", path)), read(asked.source("validation", path))
    tell_left_out(suspect.left_out + validation.left_out)
    comparison = asked.membership()
    items = check_inputs(
        suspect,
        validation,
        plan=comparison,
        has_reference=loaders.reference is not None,
        further=asked.scores,
    )
    extras, shots = extras_of(asked, path, seed=asked.seed)
    settings: dict[str, Any] = {"plan": comparison, "truncate": asked.truncate, **loaders._asdict()}
    settings |= {"further": asked.scores, "extras": extras}
    yield _Work(
        "membership",
        {"suspect": suspect.sha256, "validation": validation.sha256, **shots},
        {},
        items["text_id"].tolist(),
        items["text"].tolist(),
        asked.truncate,
        comparison.seed,
        lambda run, progress: audit_membership(run, suspect, validation, **settings, progress=progress),
    )


@contextmanager
def _about(source: str | None) -> Iterator[None]:
    """Names the plan in what is wrong with it; what is wrong with a file is a DataError, which names that."""
    try:
        yield
    except InputError as error:
        if source is None:
            raise
        raise InputError(f"{source}: {error}") from error


def _limitations(run: Run) -> tuple[str, ...]:
    """What the models themselves put limits to."""
    prints = [subject["fingerprint"] for subject in run.record.subjects.values()]
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


def draw_report(run: Run) -> None:
    """Draw ``report.html`` from what the run holds."""
    from ..report.membership_section import membership_figures
    from ..report.traps_section import trap_figures
    from ..report.write import write_report

    plan, findings, figures = run.record.plan, run.findings(), {}
    if "traps" in plan:
        items = run.read_items("traps").to_pandas()
        figures["traps"] = trap_figures(items, findings, primary=plan["traps"]["primary"])
    if "membership" in plan:
        items = run.read_items("membership").to_pandas()
        figures["membership"] = membership_figures(items, findings, primary=plan["membership"]["primary"])
    write_report(run, figures)


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
