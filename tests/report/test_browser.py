"""Hostile text in a real browser: nothing runs, nothing is loaded, no element comes of it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from audit.report.content import Report
from audit.report.render import render_html
from audit.runs.schema import Findings, RunRecord
from tests.report.hostile import PAYLOADS, hostile_report
from tests.report.test_render import ALLOWED, Page

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium here to show a page in")
def test_no_hostile_text_acts_in_a_browser(tmp_path: Path, record: RunRecord, findings: Findings) -> None:
    payload = "".join(one[:2_000] for one in PAYLOADS)
    report: Report = hostile_report(payload, record, findings)
    # Each payload alone as well, because one may close what another opened.
    sections = [hostile_report(one[:2_000], record, findings).findings.sections[0] for one in PAYLOADS]
    listed = report.findings.model_copy(update={"sections": (*report.findings.sections, *sections)})
    page = tmp_path / "report.html"
    page.write_text(render_html(Report(record=report.record, findings=listed, figures=report.figures,
                                       comparisons=report.comparisons, marked=report.marked, gate=report.gate,
                                       deviations=report.deviations, item_hashes=report.item_hashes)))  # fmt: skip
    done = subprocess.run(
        [BROWSER or "", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom",
         f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr  # scripts, alerts, refused styles and failed loads are told there
    dom = Page(done.stdout)
    assert {tag for tag, _ in dom.tags} <= ALLOWED
    assert not [name for _, attributes in dom.tags for name in attributes if name.startswith("on")]
    assert all((attributes["href"] or "").startswith("#") for attributes in dom.all("a"))
    written = Page(page.read_text(encoding="utf-8"))
    assert [tag for tag, _ in dom.tags] == [tag for tag, _ in written.tags]
    assert dom.text.count("<script>alert(1)</script>") > 50
