"""One dashboard and one browser for all tests here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from audit.runs.schema import Findings
from audit.runs.seal.make import seal_run
from tests.browser.served import BROWSER, Visitor, browser, served
from tests.dashboards.hostile import FOLDER, hostile_run
from tests.dashboards.made import make_trap_run
from tests.report.conftest import figures, findings, items, record  # noqa: F401  # fixtures

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytest.importorskip("streamlit", reason="the dashboard's extra is not installed")
pytest.importorskip("playwright", reason="playwright, which drives a browser, is not installed")
if BROWSER is None:
    pytest.skip("there is no chromium here to show pages in", allow_module_level=True)

HOSTILE = FOLDER.replace("/", "|")


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, findings: Findings) -> Path:  # noqa: F811
    """Runs made by hand: a sound one, its twin, a sealed one, one changed after sealing, hostile and damaged ones."""
    root = tmp_path_factory.mktemp("browser") / "runs"
    root.mkdir()
    for name in ("one", "twin", "sealed", "changed"):
        make_trap_run(root / name, findings)
    seal_run(root / "sealed")
    seal_run(root / "changed")
    (root / "changed" / "findings.json").write_bytes((root / "one" / "findings.json").read_bytes() + b"\n")
    hostile_run(root / HOSTILE, findings)
    (make_trap_run(root / "damaged", findings) / "run.json").write_text("{")
    return root


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="session")
def address(runs: Path) -> Iterator[str]:
    with served(runs) as found:
        yield found


@pytest.fixture
def visit(chromium: Browser, address: str) -> Iterator[Callable[..., Visitor]]:
    """Opens a tab; at the end nothing may have gone wrong in it."""
    opened: list[Visitor] = []

    def new(**more: object) -> Visitor:
        opened.append(Visitor(chromium, address, **more))  # type: ignore[arg-type]
        return opened[-1]

    yield new
    for visitor in opened:
        visitor.close()
    for visitor in opened:
        assert visitor.errors == []
        assert visitor.strangers == []
