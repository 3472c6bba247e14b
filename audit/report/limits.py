"""How much of a run one page shows, so that its size has a bound whatever the run's.

A page is made with the first of `LEVELS`; if it is too large, with the next. What is left out is counted on the page
and stands in the run's files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..errors import DataError

MOST_BYTES: Final = 5_000_000  # of one page
MOST_CELLS: Final = 60_000  # of all its tables: each takes 36 bytes of HTML at least, and time


@dataclass(frozen=True, slots=True)
class Limits:
    """The most of each thing that is shown.

    Attributes:
        findings: Findings of the whole run.
        numbers: Numbers shown with a finding; the further ones stand in its audit's section.
        sections: Audits.
        tables: Tables of one audit.
        rows: Rows of one table.
        columns: Columns of one table.
        panels: Drawings of one figure.
        figures: Figures of one audit.
        lines: Lines of one list: assumptions, deviations, rules.
        text: Characters of one text.
    """

    findings: int
    numbers: int
    sections: int
    tables: int
    rows: int
    columns: int
    panels: int
    figures: int
    lines: int
    text: int


LEVELS: Final = (
    Limits(
        findings=200, numbers=12, sections=40, tables=40, rows=200, columns=40, panels=16, figures=24, lines=100,
        text=2_000,
    ),
    Limits(
        findings=100, numbers=8, sections=20, tables=20, rows=60, columns=24, panels=8, figures=12, lines=40,
        text=600,
    ),
    Limits(
        findings=40, numbers=6, sections=12, tables=12, rows=12, columns=12, panels=3, figures=6, lines=15, text=300,
    ),
    Limits(findings=10, numbers=3, sections=5, tables=3, rows=4, columns=6, panels=1, figures=2, lines=5, text=200),
)  # fmt: skip


def fitted(
    render: Callable[[Limits], str], *, cells: Callable[[Limits], int] = lambda _: 0, most: int = MOST_BYTES
) -> str:
    """What ``render`` makes with the first limits that keep it below ``most`` bytes.

    Args:
        render: Makes the page.
        cells: How many cells its tables would have; limits that leave more than `MOST_CELLS` are not tried.
        most: Bytes.

    Raises:
        DataError: It is too large even with the last.
    """
    for limits in LEVELS:
        if limits != LEVELS[-1] and cells(limits) > MOST_CELLS:
            continue
        text = render(limits)
        if len(text.encode()) < most:
            return text
    raise DataError(
        f"the report would be {len(text.encode()):,} bytes large; {most:,} is the most. Read the findings with "
        "palimpsest report RUN --format json."
    )
