"""Write the report of a finished run: read, lay out, write; the run's other files stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Final, Literal

from ..errors import InputError
from ..gates.result import GateResult
from ..runs.store import Run
from ..text.files import write_bytes
from .content import Report, quotes, read_report, sealed_folder
from .figures import Comparison
from .render import render_html

Format = Literal["html", "md", "json", "pdf"]
PAGE: Final = "report.html"
# Format -> module and function of this room that writes it.
_WRITERS: Final[Mapping[str, tuple[str, str]]] = {
    "html": ("render", "render_html"),
    "md": ("markdown", "render_markdown"),
    "json": ("json_record", "render_json"),
    "pdf": ("pdf", "render_pdf"),
}


def rendered(report: Report, format: Format) -> bytes:
    """The report as the bytes of a file of that format; the same report gives the same bytes.

    Raises:
        MissingDependencyError: What makes a PDF is not installed.
    """
    module, name = _WRITERS[format]
    render: Callable[[Report], str | bytes] = getattr(import_module(f".{module}", __package__), name)
    made = render(report)
    return made if isinstance(made, bytes) else made.encode()


def write_report(
    run: Run,
    *,
    gate: GateResult | None = None,
    show_text: bool | None = None,
    comparisons: Mapping[str, Sequence[Comparison]] | None = None,
) -> Path:
    """Writes the report into the run's folder, atomically.

    Args:
        run: A run that has findings. One that has not ended gets a report that says so.
        gate: A policy's verdict on it.
        show_text: Whether texts that may be sensitive are quoted; None stands for what the run's plan asked. A report
            that quotes any can be read by its owner alone, for generations and rows may be what nobody else must see;
            so can one of a run whose findings are kept so.
        comparisons: Audit -> texts to quote side by side.

    Returns:
        The path of ``report.html``.

    Raises:
        IncompleteRunError: The run has no findings.
        InputError: The run is sealed.
        DataError: Findings or items are damaged.
        StorageError: The file cannot be written; an earlier report is unchanged.
    """
    sealed = sealed_folder(run.folder)
    if sealed is not None:
        raise InputError(f"{sealed} is sealed: drawing {PAGE} in it would break the seal. Give --out a file elsewhere.")
    report = read_report(run, gate=gate, show_text=show_text, comparisons=comparisons)
    page = run.folder / PAGE
    write_bytes(page, render_html(report).encode(), secret=is_secret(run, report))
    return page


def draw_where_missing(run: Run) -> None:
    """Writes the report of a run that has none yet; a sealed run is left as it is. Errors as in `write_report`."""
    if not (run.folder / PAGE).exists() and sealed_folder(run.folder) is None:
        write_report(run)


def is_secret(run: Run, report: Report) -> bool:
    """Whether a report may quote what only the run's owner may read."""
    return quotes(run) or any(report.comparisons.values()) or bool(report.marked)
