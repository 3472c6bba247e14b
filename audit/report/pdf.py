"""The report as a PDF, made by WeasyPrint from the HTML page: offline, nothing is loaded."""

from __future__ import annotations

import logging
from typing import Any, NoReturn

from ..errors import MissingDependencyError
from .content import Report
from .render import render_html


def render_pdf(report: Report) -> bytes:
    """The report as a PDF; the same report gives the same bytes with the same WeasyPrint and fonts.

    Raises:
        MissingDependencyError: WeasyPrint, or a system library that it needs, is not installed.
    """
    HTML = _weasyprint().HTML  # noqa: N806
    logging.getLogger("weasyprint").setLevel(logging.ERROR)
    logging.getLogger("fontTools").setLevel(logging.ERROR)
    page = HTML(string=render_html(report), url_fetcher=_refuse, media_type="print")
    made: bytes = page.write_pdf(pdf_identifier=report.record.id.encode("ascii", "replace")[:64])
    return made


def _weasyprint() -> Any:
    try:
        import weasyprint
    except ImportError as error:
        raise MissingDependencyError(
            "a PDF report needs WeasyPrint, which is not installed. Install it: pip install 'palimpsest-audit[pdf]'. "
            "Or print the HTML report from a browser."
        ) from error
    except OSError as error:  # a system library cannot be loaded
        raise MissingDependencyError(
            "a PDF report needs a system library of WeasyPrint that is not here: "
            f"{str(error).splitlines()[0]}. "
            "Install Pango and its companions (Debian: libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0), or "
            "print the HTML report from a browser."
        ) from error
    return weasyprint


def _refuse(url: str, *_: Any, **__: Any) -> NoReturn:
    """The page holds all that it needs; whatever asks for an address is not answered."""
    raise ValueError("a report loads nothing")
