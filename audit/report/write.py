"""Make ``report.html`` of a finished run folder: read, draw, write; the run's other files stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from ..runs.schema import Findings
from ..runs.store import Run
from ..text.files import atomic_writer, sha256_file
from .extraction_section import AUDIT as EXTRACTION
from .extraction_section import extraction_figures
from .figures import Comparison, Figure, MarkedTexts
from .membership_section import membership_figures
from .render import render_html
from .traps_section import AUDIT as TRAPS
from .traps_section import trap_figures

# Audit -> name of its table of items, and what draws its figures.
DRAWN: dict[str, tuple[str, Callable[[pd.DataFrame, Findings], list[Figure]]]] = {
    TRAPS: ("traps", trap_figures),
    "membership": ("membership", membership_figures),
    EXTRACTION: (f"{EXTRACTION}-maxima", extraction_figures),
}


def figures_of(run: Run, findings: Findings) -> dict[str, list[Figure]]:
    """Figures of every audit of the run that has a table of items and a known way to draw it.

    Raises:
        DataError: The items are damaged or lack a column.
    """
    names = dict.fromkeys(section.audit for section in findings.sections)
    return {
        audit: draw(run.read_items(table).to_pandas(), findings)
        for audit, (table, draw) in DRAWN.items()
        if audit in names and run.items_path(table).exists()
    }


def write_report(
    run: Run,
    figures: Mapping[str, Sequence[Figure]] | None = None,
    comparisons: Mapping[str, Sequence[Comparison]] | None = None,
    marked: Mapping[str, MarkedTexts] | None = None,
    *,
    secret: bool = False,
) -> Path:
    """Writes the report into the run's folder, atomically.

    Args:
        run: A run that has findings. One that has not ended gets a report that says so.
        figures: Audit -> its figures; by default those of `figures_of`.
        comparisons: Audit -> texts to quote side by side. A report that quotes any can be read by its owner alone,
            for generations and rows may be what nobody else must see.
        marked: Audit -> texts to quote with marks; likewise.
        secret: Whether the findings may quote one already.

    Returns:
        The path of ``report.html``.

    Raises:
        IncompleteRunError: The run has no findings.
        DataError: Findings or items are damaged.
        StorageError: The file cannot be written; an earlier report is unchanged.
    """
    findings = run.findings()
    drawn = figures_of(run, findings) if figures is None else figures
    rests_on = [*sorted((run.folder / "items").glob("*.parquet")), run.folder / "findings.json"]
    hashes = {path.relative_to(run.folder).as_posix(): sha256_file(path) for path in rests_on}
    page = run.folder / "report.html"
    html = render_html(run.record, findings, drawn, item_hashes=hashes, comparisons=comparisons, marked=marked)
    with atomic_writer(page, secret=secret or any((comparisons or {}).values()) or bool(marked)) as stream:
        stream.write(html.encode())
    return page
