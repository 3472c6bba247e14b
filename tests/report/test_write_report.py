from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from audit.errors import IncompleteRunError
from audit.report.write import write_report
from audit.runs.schema import Findings
from audit.runs.store import Run


def started(folder: Path) -> Run:
    return Run.start(folder, kind="traps", plan={"traps": {"seed": 0}}, plan_text=None, command=("palimpsest", "traps"))


def test_a_run_gets_its_report_with_charts_and_the_hashes_of_its_files(
    tmp_path: Path, items: pd.DataFrame, findings: Findings
) -> None:
    with started(tmp_path / "run") as run:
        run.write_items("traps", pa.Table.from_pandas(items, preserve_index=False))
        run.write_findings(findings)
        path = write_report(run)
    html = path.read_text(encoding="utf-8")
    assert path == tmp_path / "run" / "report.html"
    assert html.count("<svg ") == 14
    for name in ("items/traps.parquet", "findings.json"):
        assert hashlib.sha256((tmp_path / "run" / name).read_bytes()).hexdigest() in html


def test_a_run_without_items_gets_a_report_without_charts(tmp_path: Path, findings: Findings) -> None:
    with started(tmp_path / "run") as run:
        run.write_findings(findings)
        assert "<svg " not in write_report(run).read_text(encoding="utf-8")


def test_a_run_without_findings_has_no_report(tmp_path: Path) -> None:
    with started(tmp_path / "run") as run, pytest.raises(IncompleteRunError, match="has no findings"):
        write_report(run)
    assert not (tmp_path / "run" / "report.html").exists()
