"""Put a run's findings into one HTML file that needs nothing else: no script, no font, no address.

Every string that reaches the page passes `audit.report.safe_text.clean` and jinja2's escaping, because the
template's environment does both to each expression; only drawings made by `audit.report.svg`, and the quoted texts
that `_quoted` has cleaned and escaped because they are longer, are taken as markup.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from ..errors import InputError
from ..runs.schema import AuditSection, Finding, Findings, RunRecord, StageRecord
from .figures import Comparison, Figure, MarkedTexts, Panel
from .numbers import estimate, method_note, p_value, plain
from .palette import WIDTH
from .safe_text import clean, one_line
from .sections import GRAVITY, VERDICT_WORDS, Judged, all_judged, in_plain_words, overview
from .svg import svg
from .tables import ShownTable, shown

_MOST_SETTINGS = 400  # of one mapping; what lies beyond is counted and stands in run.json
_MOST_QUOTED = 10_000  # characters of one piece of a quoted text
# Kind of a run -> the report's heading, and the command that runs its plan again.
_KINDS = {
    "unlearning": ("What was done to make this model forget a text?", "unlearn run"),
    "eco": ("What does the guard before this model hold back?", "eco run"),
    "eco-evaluation": ("What does the guard before this model hold back?", "eco run"),
    "steer": ("What was learnt to steer this model?", "steer run"),
    "steer-sweep": ("What does steering this model do, and what does it cost?", "steer run"),
    "compare": ("How do these runs differ?", "compare"),
    "remediation": ("Did the remedies work?", "remediate"),
    "steer-evaluation": ("What does steering this model do to its answers, and to what it writes?", "steer run"),
}
_AUDIT = ("What does this model still carry of its training data?", "audit")


@dataclass(frozen=True, slots=True)
class _Number:
    """A line of a finding's table of numbers."""

    name: str
    value: str
    n: int
    method: str
    why: str


@dataclass(frozen=True, slots=True)
class _ShownFinding:
    anchor: str
    finding: Finding
    label: str
    css: str
    remark: str
    numbers: tuple[_Number, ...]


@dataclass(frozen=True, slots=True)
class _ShownFigure:
    title: str
    caption: str
    panels: tuple[tuple[str, Markup, bool], ...]  # title, drawing, whether it is wider than usual


@dataclass(frozen=True, slots=True)
class _ShownComparison:
    anchor: str
    title: str
    note: str
    sides: tuple[tuple[str, tuple[tuple[Markup, bool], ...]], ...]  # name; text, whether it differs
    is_same: bool


@dataclass(frozen=True, slots=True)
class _ShownSection:
    anchor: str
    section: AuditSection
    figures: tuple[_ShownFigure, ...]
    comparisons: tuple[_ShownComparison, ...]
    marked: MarkedTexts | None
    tables: tuple[tuple[str, ShownTable], ...]  # anchor, table


def render_html(
    record: RunRecord,
    findings: Findings,
    charts: Mapping[str, Sequence[Figure]],
    *,
    item_hashes: Mapping[str, str] | None = None,
    comparisons: Mapping[str, Sequence[Comparison]] | None = None,
    marked: Mapping[str, MarkedTexts] | None = None,
) -> str:
    """The report of a run.

    Args:
        record: The run's ``run.json``.
        findings: The run's ``findings.json``.
        charts: Audit's name (``AuditSection.audit``) -> its figures, in reading order.
        item_hashes: Path inside the run -> SHA-256 in hex, of ``items/*.parquet`` and other files that the
            findings rest on.
        comparisons: Audit's name -> texts to quote side by side, the strongest match first.
        marked: Audit's name -> texts to quote with marks.

    Returns:
        A whole HTML document. The same arguments give the same text.

    Raises:
        InputError: ``charts``, ``comparisons`` or ``marked`` names an audit that has no section, or a chart cannot be
            drawn.
    """
    names = [section.audit for section in findings.sections]
    quoted = comparisons or {}
    for what, given in (("figures", charts), ("comparisons", quoted), ("marked texts", marked or {})):
        strangers = [name for name in given if name not in names]
        if strangers:
            raise InputError(
                f"there are {what} for the audit {strangers[0]!r}, which has no section in the findings; the sections "
                f"are {', '.join(names) or 'none'}. Name {what} after AuditSection.audit."
            )
    sections = tuple(
        _section(
            number,
            section,
            charts.get(section.audit, ()),
            quoted.get(section.audit, ()),
            (marked or {}).get(section.audit),
        )
        if names.index(section.audit) == number
        else _section(number, section, (), (), None)
        for number, section in enumerate(findings.sections)
    )
    heading, verb = _KINDS.get(record.kind, _AUDIT)
    return _environment().get_template("report.html.j2").render(
        record=record,
        heading=heading,
        verb=verb,
        findings=findings,
        overview=overview(findings),
        verdicts=[(*VERDICT_WORDS[verdict], _css(verdict)) for verdict in GRAVITY],
        css=_css,
        words=VERDICT_WORDS,
        plain_words=in_plain_words(record, findings),
        shown_findings=[_finding(at, one) for at, one in enumerate(all_judged(findings), start=1)],
        sections=sections,
        subjects={role: _settings(subject) for role, subject in record.subjects.items()},
        plan=_settings(record.plan),
        hardware=_settings(record.provenance.hardware),
        stages=[(stage, _duration(stage.seconds), _detail(stage)) for stage in record.stages],
        total=_duration(sum(stage.seconds for stage in record.stages)),
        command=shlex.join(record.provenance.command),
        item_hashes=dict(item_hashes or {}),
    )  # fmt: skip


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("audit.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _finalized(value: Any) -> Any:
    """Called by jinja2 on every expression of the template, before it escapes the result."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _css(verdict: str | None) -> str:
    return "none" if verdict is None else verdict.replace(" ", "-")


def _finding(number: int, one: Judged) -> _ShownFinding:
    finding = one.finding
    numbers = [
        _Number(name, estimate(cell), cell.n, method_note(cell), cell.why or "")
        for name, cell in finding.estimates.items()
    ]
    numbers += [_Number(name, f"p = {p_value(p)}", p.n, p.method, "") for name, p in finding.p_values.items()]
    label = VERDICT_WORDS[one.verdict][0]
    return _ShownFinding(f"finding-{number}", finding, label, _css(one.verdict), one.remark, tuple(numbers))


def _section(
    number: int,
    section: AuditSection,
    figures: Sequence[Figure],
    comparisons: Sequence[Comparison],
    marked: MarkedTexts | None,
) -> _ShownSection:
    return _ShownSection(
        anchor=f"audit-{number + 1}",
        section=section,
        figures=tuple(_figure(f"a{number + 1}-f{at}", figure) for at, figure in enumerate(figures, start=1)),
        comparisons=tuple(_comparison(f"a{number + 1}-m{at}", one) for at, one in enumerate(comparisons, start=1)),
        marked=marked if marked is not None and marked.texts else None,
        tables=tuple((f"a{number + 1}-t{at}", shown(table)) for at, table in enumerate(section.tables, start=1)),
    )


def _figure(uid: str, figure: Figure) -> _ShownFigure:
    panels = tuple(_panel(f"{uid}-p{at}", figure.title, panel) for at, panel in enumerate(figure.panels, start=1))
    return _ShownFigure(figure.title, figure.caption, panels)


def _panel(uid: str, figure_title: str, panel: Panel) -> tuple[str, Markup, bool]:
    title = f"{figure_title}: {panel.title}" if panel.title else figure_title
    drawn = svg(panel.chart, uid=uid, title=title, description=panel.description)
    width = re.match(r'<svg width="(\d+)', drawn)
    return panel.title, Markup(drawn), width is not None and int(width[1]) > WIDTH


def _comparison(anchor: str, one: Comparison) -> _ShownComparison:
    sides = tuple((name, tuple((_quoted(text), differs) for text, differs in pieces)) for name, pieces in one.sides)
    pieces = [differs for _, side in one.sides for _, differs in side]
    return _ShownComparison(anchor, one.title, one.note, sides, is_same=bool(pieces) and not any(pieces))


def _quoted(text: str) -> Markup:
    """Text of a pair, cleaned and escaped here: it may be longer than what `_finalized` lets through."""
    return escape(clean(text, limit=_MOST_QUOTED))


def _settings(mapping: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A nested mapping as (dotted key, value) in its own order, cut at a fixed length with a remark."""
    flat = list(_flattened(mapping)) if mapping else []
    rest = len(flat) - _MOST_SETTINGS
    return flat if rest <= 0 else [*flat[:_MOST_SETTINGS], ("...", f"{rest:,} more stand in run.json")]


def _flattened(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flattened(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(inner, Mapping | list | tuple) for inner in value):
        for at, inner in enumerate(value):
            yield from _flattened(inner, f"{path}[{at}]")
    else:
        yield path, _setting(value)


def _setting(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_setting(inner) for inner in value) or "(empty)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "(none)" if value is None or value == {} else str(value)


def _detail(stage: StageRecord) -> str:
    return "; ".join(f"{one_line(key)} {one_line(value)}" for key, value in _settings(stage.detail))


def _duration(seconds: float) -> str:
    """ "0.42 s", "3 min 05 s", "2 h 10 min"."""
    if seconds < 60:
        return f"{plain(round(seconds, 2))} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60:,} h {minutes % 60:02d} min"
