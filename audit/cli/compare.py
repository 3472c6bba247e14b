"""``palimpsest compare RUN RUN ...``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from ..text.files import make_folder, sha256_file, storage_errors, write_json, write_text
from ..text.safe import for_terminal
from . import options

if TYPE_CHECKING:
    from ..runs.compare.make import Comparison

app = typer.Typer(rich_markup_mode=None, add_completion=False)
RECORD, TABLE, REPORT = "compare.json", "compare.csv", "report.html"


@app.command()
def compare(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Folders of two runs or more; differences are from the first.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A setting that may differ although it matters; may be repeated."),
    ] = None,
    tables: Annotated[bool, typer.Option("--tables", help="Print the cells of tables too.")] = False,
    out: Annotated[
        Path | None, typer.Option(help=f"Folder that {RECORD}, {TABLE} and {REPORT} are written into.")
    ] = None,
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Lay finished runs of one kind side by side, every estimate with its difference and an interval.

    Runs whose settings differ in a way that matters are refused, each difference by name.
    """
    from ..progress import progress_bars
    from ..report.compare_section import comparison_text
    from ..runs.compare.make import compare as compared

    folders = runs or []
    if out is not None:
        _check_out(out)
    with progress_bars(quiet=quiet) as progress:
        cells = tables or as_json or out is not None
        found = compared(folders, allow=allow or (), cells=cells, seed=seed, progress=progress)
    if out is not None:
        _write(found, out, folders)
    if as_json:
        print(json.dumps(found.to_record(), indent=2))  # ASCII: nothing in it steers a terminal
        return
    print(comparison_text(found, tables=tables), end="")
    if out is not None:
        print(for_terminal(f"Report: {options.shown(out / REPORT)}"))


def _check_out(out: Path) -> None:
    """Refuses a folder that holds something else, a run's above all: its report would be lost."""
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file. Give the path of a folder.")
    if not out.is_dir():
        return
    with storage_errors(out, kept="nothing was changed", doing="read"):
        names = {path.name for path in out.iterdir()}
    if names and (RECORD not in names or "run.json" in names):
        raise InputError(
            f"--out {out} is not empty and holds no comparison (it has {min(names)!r}). Choose an empty or new folder."
        )


def _write(found: Comparison, out: Path, folders: list[Path]) -> None:
    """The same comparison gives the same three files, to the byte."""
    from ..report.compare_section import comparison_report, comparison_table
    from ..report.render import render_html
    from ..text.tables import write_table

    make_folder(out)
    write_json(out / RECORD, found.to_record())
    write_table(out / TABLE, comparison_table(found))
    hashes = {RECORD: sha256_file(out / RECORD), TABLE: sha256_file(out / TABLE)}
    hashes |= {f"{run.folder}/findings.json": sha256_file(folder / "findings.json")
               for run, folder in zip(found.runs, folders, strict=True)}  # fmt: skip
    write_text(out / REPORT, render_html(comparison_report(found, hashes)))
