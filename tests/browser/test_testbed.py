"""The dashboard on a run of real models: the demo's audit of the tiny testbed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from audit.report.numbers import estimate, limits_of, p_value
from audit.runs.store import Run
from audit.testbed.planted import Testbed
from tests.browser.served import NARROW, PAGES, ROOT, WIDE, Visitor, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.mark.slow
def test_every_page_of_a_run_of_the_tiny_testbed(
    testbed_tiny: Testbed, testbed_cache: Path, tmp_path: Path, chromium: Browser
) -> None:
    folder = tmp_path / "runs" / "demo"
    command = [sys.executable, "-m", "audit", "demo", "--audit-only", "--size", "tiny", "--quiet"]
    done = subprocess.run(
        [*command, "--cache", str(testbed_cache), "--out", str(folder)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (folder / "findings.json").exists(), done.stderr
    run = Run.open(folder)
    findings, landmarks = run.findings(), limits_of(run.record.plan)
    with served(folder.parent) as address:
        for theme in ("light", "dark"):
            visitor = Visitor(chromium, address, theme=theme)
            visitor.open("overview")
            for name in PAGES:
                visitor.go(name)
                for size in (WIDE, NARROW):
                    visitor.page.set_viewport_size(size)  # type: ignore[arg-type]
                    visitor.page.wait_for_timeout(400)
                    assert visitor.exceptions() == [], name
                    assert visitor.overflow() <= 0, name
                visitor.page.set_viewport_size(WIDE)  # type: ignore[arg-type]
                assert visitor.faint() == [], name
            visitor.go("run")
            said = visitor.text()
            for one in (one for section in findings.sections for one in section.findings):
                assert one.claim in said
                for name, record in one.estimates.items():
                    assert f"{name}: {estimate(record, landmarks)}, n {record.n:,}" in said
                for name, p in one.p_values.items():
                    assert f"{name}: p = {p_value(p, landmarks)}, n {p.n:,}" in said
            visitor.go("traps")
            on_traps = visitor.text()
            for one in (one for section in findings.sections for one in section.findings):
                if one.verdict != "information":  # those without a verdict stand in a box that is shut
                    assert re.sub(r"\s+", " ", one.claim) in re.sub(r"\s+", " ", on_traps)
            assert (visitor.errors, visitor.strangers) == ([], [])
            visitor.close()
