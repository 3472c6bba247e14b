"""Put what a report says into one HTML file that needs nothing else: no script, no font, no address.

Every string that reaches the page passes `audit.report.safe_text.clean` and jinja2's escaping, because the
template's environment does both to each expression; only drawings made by `audit.report.svg`, and the quoted texts
that `_quoted` has cleaned and escaped because they are longer, are taken as markup. The page's content security
policy lets nothing be loaded or run, and no style act but the page's own, which it names by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from .content import Report
from .figures import Comparison, Figure, Panel
from .layout import laid_out, n_cells
from .limits import Limits, fitted
from .palette import WIDTH
from .safe_text import clean
from .sections import VERDICT_WORDS
from .svg import svg

_MOST_QUOTED: Final = 10_000  # characters of one piece of a quoted text


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


def render_html(report: Report) -> str:
    """The report as a whole HTML document below 5 MB; the same report gives the same text.

    Raises:
        InputError: A chart cannot be drawn.
        DataError: It cannot be made small enough.
    """
    drawings: dict[str, tuple[str, Markup, bool]] = {}  # drawn once, however often the page is cut
    return fitted(lambda limits: _page(report, limits, drawings), cells=partial(n_cells, report))


def _page(report: Report, limits: Limits, drawings: dict[str, tuple[str, Markup, bool]]) -> str:
    page = laid_out(report, limits)
    style = files("audit.report").joinpath("templates/report.css").read_text(encoding="utf-8")
    style = f"\n{style}"
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()

    def figures(anchor: str, listed: Sequence[Figure]) -> list[_ShownFigure]:
        return [_figure(f"{anchor}-f{at}", one, limits, drawings) for at, one in enumerate(listed, start=1)]

    def comparisons(anchor: str, listed: Sequence[Comparison]) -> list[_ShownComparison]:
        return [_comparison(f"{anchor}-m{at}", one) for at, one in enumerate(listed, start=1)]

    template = _environment(limits).get_template("report.html.j2")
    return template.render(
        page=page,
        record=page.record,
        plain_words=_quoted(page.plain_words),
        style=Markup(style),  # the project's own file
        style_hash=Markup(digest),
        css=_css,
        words=VERDICT_WORDS,
        figures=figures,
        comparisons=comparisons,
    )


def _environment(limits: Limits) -> Environment:
    return Environment(
        loader=PackageLoader("audit.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized(limits.text),
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _finalized(most: int) -> Callable[[Any], Any]:
    """Called by jinja2 on every expression of the template, before it escapes the result."""

    def finalized(value: Any) -> Any:
        return clean(value, limit=most) if isinstance(value, str) and not isinstance(value, Markup) else value

    return finalized


def _css(verdict: str | None) -> str:
    return "none" if verdict is None else verdict.replace(" ", "-")


def _figure(uid: str, figure: Figure, limits: Limits, drawings: dict[str, tuple[str, Markup, bool]]) -> _ShownFigure:
    panels = []
    for at, panel in enumerate(figure.panels[: limits.panels], start=1):
        key = f"{uid}-p{at}"
        if key not in drawings:
            drawings[key] = _panel(key, figure.title, panel)
        panels.append(drawings[key])
    rest = len(figure.panels) - len(panels)
    caption = f"{figure.caption} Not shown here: {rest:,} more panels." if rest else figure.caption
    return _ShownFigure(figure.title, caption, tuple(panels))


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
    """Text cleaned and escaped here, because it may be longer than what `_finalized` lets through."""
    return escape(clean(text, limit=_MOST_QUOTED))
