"""Pages drawn without a browser, over runs made without models."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from audit.runs.schema import Findings

pytest.importorskip("streamlit", reason="the dashboard's extra is not installed")

from streamlit.testing.v1 import AppTest

from tests.dashboards.made import make_trap_run
from tests.report.conftest import figures, findings, items, record  # noqa: F401  # fixtures

SECONDS = 60


def _page(name: str, root: str) -> None:
    """The script that is tested: one page over one folder of runs, without the navigation."""
    from importlib import import_module
    from pathlib import Path

    from dashboards.store import Store

    import_module(f"dashboards.pages.{name}").page(Store(Path(root)))


def drawn(name: str, root: Path, **query: Any) -> AppTest:
    """Page ``name`` over the runs in ``root``, with the address's ``query``; run once, without an exception."""
    test = AppTest.from_function(_page, args=(name, str(root)), default_timeout=SECONDS)
    test.query_params.update(query)
    test.run()
    assert not test.exception, test.exception
    return test


_MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
_ACTIVE = {"html_block", "html_inline", "image", "link_open", "fence", "code_block", "table_open", "heading_open", "hr",
           "blockquote_open"}  # fmt: skip
# What Streamlit looks for in the finished text, after Markdown: names between colons, addresses, formulas, controls.
_LATER = re.compile(r":[\w+-][\w+/-]*:|https?://|www\.|[\x00-\x08\x1b\u202a-\u202e\u2066-\u2069]")


def assert_inert(test: AppTest) -> None:
    """No text on the page is read as markup other than the dashboard's own lists, bold words and badges."""
    kinds = ("markdown", "caption", "header", "subheader", "title", "error", "warning", "info", "success")
    for element in (element for kind in kinds for element in test.get(kind)):
        tokens = _MARKDOWN.parse(str(element.value))
        inner = [child for token in tokens for child in token.children or ()]
        assert not _ACTIVE & {token.type for token in (*tokens, *inner)}, element
        shown = "".join(child.content for child in inner)
        assert not _LATER.search(shown), element
        assert "$" not in re.sub(r"\\\$", "", str(element.value)), element
    for frame in test.dataframe:
        assert not re.search(r"[\x00-\x08\x1b\u202e\u2066]", frame.value.to_string()), frame


def words(test: AppTest) -> str:
    """All text on the page, cells of tables too."""
    found = [element.value for kind in ("title", "header", "subheader", "markdown", "caption", "text", "code", "error",
                                        "warning", "info", "success") for element in test.get(kind)]  # fmt: skip
    found += [frame.value.to_csv() for frame in test.dataframe]
    found += [f"{metric.label} {metric.value} {metric.delta}" for metric in test.metric]
    return "\n".join(str(one) for one in found)


@pytest.fixture
def make_run(findings: Findings) -> Callable[..., Path]:  # noqa: F811
    """Makes a finished run of a trap audit, with one small table of items."""

    def make(folder: Path, *, found: Findings | None = None, kind: str = "audit", finish: bool = True) -> Path:
        return make_trap_run(folder, findings if found is None else found, kind=kind, finish=finish)

    return make
