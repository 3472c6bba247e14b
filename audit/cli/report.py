"""``palimpsest report RUN``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import AuditError, InputError
from ..text.safe import for_terminal
from . import options
from .endings import interrupted

if TYPE_CHECKING:
    from ..report.content import Report
    from ..report.figures import Comparison
    from ..runs.store import Run

app = typer.Typer(rich_markup_mode=None, add_completion=False)
Format = Literal["html", "md", "json", "pdf"]
_ENDINGS: dict[str, Format] = {".html": "html", ".htm": "html", ".md": "md", ".json": "json", ".pdf": "pdf"}
_PRINTED = ("md", "json")
_COMPARISON = "compare.json"


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or of a comparison.")],
    format: Annotated[
        Format | None, typer.Option(help="What to write; by default what --out ends in, else html.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write. Without it html is drawn into the run's folder, unless the run is sealed, and md and "
            "json are printed."
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(metavar="FILE|NAME", help="Policy by which the run is judged; the verdict stands first."),
    ] = None,
    today: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="Day on which waivers are read; default today, in UTC.")
    ] = None,
    show_text: Annotated[
        bool, typer.Option("--show-text", help="Quote the texts that the run holds; the file is for its owner alone.")
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Write what a run found for people who decide: as HTML, Markdown, JSON or PDF.

    The run is only read, but for its report.html. The exit code says nothing of a policy's verdict: ask
    `palimpsest gate` for that.
    """
    from ..report.write import rendered
    from ..text.files import write_bytes

    kind = format or _kind_of(out)
    target = _target(run, out, kind)
    with interrupted("nothing was written, and the same command begins anew."):
        said, secret = _said(run, policy, today, show_text=show_text, quiet=quiet)
        content = rendered(said, kind)
    if target is None:
        sys.stdout.write(content.decode())
        return
    write_bytes(target, content, secret=secret)
    print(for_terminal(f"Report: {options.shown(target)}"))


def _kind_of(out: Path | None) -> Format:
    """The format that a file's ending asks for."""
    if out is None:
        return "html"
    ending = out.suffix.lower()
    if ending not in _ENDINGS:
        raise InputError(
            f"--out {out} has none of the endings {', '.join(_ENDINGS)}, so that nothing says what to write. Give one, "
            "or --format."
        )
    return _ENDINGS[ending]


def _target(run: Path, out: Path | None, kind: Format) -> Path | None:
    """The file to write, or None for standard output; refuses a place that holds evidence."""
    from ..report.content import sealed_folder
    from ..report.write import PAGE

    if out is None:
        if kind in _PRINTED:
            return None
        if kind == "pdf":
            raise InputError("a PDF cannot be printed here. Give --out FILE.pdf.")
        sealed = sealed_folder(run)
        if sealed is not None:
            raise InputError(
                f"{sealed} is sealed: a report drawn into it would break the seal. Give --out FILE elsewhere."
            )
        return run / PAGE
    is_own_page = out.resolve() == (run / PAGE).resolve() and kind == "html" and sealed_folder(run) is None
    if not is_own_page:
        options.refuse_inside_run(out)
    return out


def _said(folder: Path, policy: str | None, today: str | None, *, show_text: bool, quiet: bool) -> tuple[Report, bool]:
    """What the report says, and whether it is for its owner alone."""
    from ..report.content import read_report
    from ..report.write import is_secret
    from ..runs.store import Run
    from ..statements.judged import judge_now

    if (folder / _COMPARISON).is_file() and not (folder / "run.json").exists():
        if policy is not None:
            raise InputError(
                "a comparison cannot be judged by a policy. Give the folders of its runs to palimpsest gate."
            )
        return _comparison(folder, quiet=quiet), False
    opened = Run.open(folder)
    opened.findings()  # before a policy is read: without findings there is nothing to report
    gate = None if policy is None else judge_now(folder, policy, None, today)
    comparisons = {"extraction": _matches(opened)} if show_text and "extraction" in opened.record.plan else {}
    said = read_report(opened, gate=gate, show_text=show_text, comparisons=comparisons)
    return said, is_secret(opened, said)


def _matches(run: Run) -> Sequence[Comparison]:
    """The strongest matches of an extraction audit; none, with a note, where the training rows are out of reach."""
    from ..extraction.rows import read_rows
    from .audit_extraction import matched_texts
    from .extraction_table import ExtractionTable

    plan = run.record.plan["extraction"]
    known = {name: value for name, value in plan.items() if name in ExtractionTable.model_fields and value is not None}
    try:
        table = ExtractionTable.model_construct(**known)
        trained = read_rows(
            table.source("train", Path(run.record.plan_folder or ".") / "plan.toml"),
            question_field=table.question_field,
            answer_field=table.answer_field,
            id_field=table.id_field,
            skip_bad_lines=table.skip_bad_lines,
        )
        recorded = run.record.plan.get("inputs", {}).get("train")
        if trained.sha256 != recorded:
            raise InputError(f"{known.get('train')} is not the file that was compared: its SHA-256 is {trained.sha256}")
        return matched_texts(run, trained, table.primary)
    except AuditError as error:
        print(
            for_terminal(f"note: matches are not quoted, for the training rows cannot be read: {error}"),
            file=sys.stderr,
        )
        return ()


def _comparison(folder: Path, *, quiet: bool) -> Report:
    """The comparison made again from its runs, refused unless it is the same."""
    from ..progress import progress_bars
    from ..report.compare_section import comparison_report
    from ..runs.compare.make import compare
    from ..runs.records import read_json
    from ..text.files import sha256_file

    path = folder / _COMPARISON
    record = read_json(path, missing=f"there is no {path}")
    try:
        folders = [Path(one["folder"]) for one in record["runs"]]
        allowed = [one["setting"] for one in record["allowed"]]
        seed, told = int(record["seed"]), str(record["id"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is no comparison: it lacks {error}. Give the folder that compare --out named."
        ) from None
    with progress_bars(quiet=quiet) as progress:
        found = compare(folders, allow=allowed, cells=True, seed=seed, progress=progress)
    if found.id != told:
        raise InputError(
            f"the runs that {path} names are not those it compared (it is {told}, they give {found.id}). Compare them "
            "again: palimpsest compare RUN RUN --out NEW."
        )
    hashes = {_COMPARISON: sha256_file(path)}
    if (folder / "compare.csv").is_file():
        hashes["compare.csv"] = sha256_file(folder / "compare.csv")
    hashes |= {
        f"{run.folder}/findings.json": sha256_file(where / "findings.json")
        for run, where in zip(found.runs, folders, strict=True)
    }
    return comparison_report(found, hashes)
