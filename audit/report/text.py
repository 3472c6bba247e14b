"""The findings in plain characters, for a terminal or a log."""

from __future__ import annotations

import textwrap

from ..runs.schema import Findings
from .numbers import NOT_ESTIMABLE, estimate, p_value
from .safe_text import one_line, padded, width
from .sections import VERDICT_WORDS, Judged, judged, overview

_COLUMNS = 100


def summary_text(findings: Findings) -> str:
    """The verdict, then each finding with its numbers and how to read them, at most about 100 columns wide.

    No control character of the findings reaches the terminal. Ends with a newline.
    """
    top = overview(findings)
    lines = [f"{top.label.upper()}: {top.meaning}"]
    for section in findings.sections:
        lines += ["", one_line(section.title)]
        said: set[str] = set()
        for one in judged(section):
            lines += ["", *_finding(one, said)]
        if not section.findings:
            lines += ["", "  no finding: this is not a pass"]
    if findings.limitations:
        lines += ["", "Limitations"]
        for limitation in findings.limitations:
            lines += _wrapped(limitation, first="  - ", rest="    ")
    return "\n".join(lines) + "\n"


def _finding(one: Judged, said: set[str]) -> list[str]:
    """Lines of one finding; notes and readings that were ``said`` before are not said again."""
    finding, label = one.finding, VERDICT_WORDS[one.verdict][0].upper()
    lines = _wrapped(finding.claim, first=f"  {label:<14}", rest=" " * 16)
    rows = [
        (one_line(name, limit=60), estimate(cell), f"n {cell.n:,}", cell.why or "")
        for name, cell in finding.estimates.items()
    ]
    rows += [(one_line(name, limit=60), f"p = {p_value(p)}", f"n {p.n:,}", "") for name, p in finding.p_values.items()]
    names = max((width(name) for name, *_ in rows), default=0)
    values = max((width(value) for _, value, *_ in rows), default=0)
    for name, value, n, why in rows:
        lines.append(" " * 16 + f"{padded(name, names)}  {padded(value, values)}  {n}".rstrip())
        if why and (value == NOT_ESTIMABLE or why not in said):
            said.add(why)
            lines += _wrapped(why, first=" " * 18 + ("why: " if value == NOT_ESTIMABLE else "note: "), rest=" " * 23)
    if one.remark:
        lines += _wrapped(one.remark, first=" " * 16, rest=" " * 16)
    if finding.how_to_read not in said:
        said.add(finding.how_to_read)
        lines += _wrapped(finding.how_to_read, first=" " * 16, rest=" " * 16)
    return lines


def _wrapped(text: str, *, first: str, rest: str) -> list[str]:
    words = one_line(text, limit=2_000) or "-"
    return textwrap.wrap(words, _COLUMNS, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
