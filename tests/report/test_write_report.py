from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from audit.errors import IncompleteRunError
from audit.report.side_by_side import side_by_side
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


def test_the_extraction_audits_maxima_are_drawn(tmp_path: Path, findings: Findings) -> None:
    section = findings.sections[0].model_copy(update={"audit": "extraction", "tables": ()})
    maxima = {"set": ["generated", "held_out"], "similarity": [0.9, 0.7], "threshold": [0.8] * 2, "n_words": [30] * 2}
    with started(tmp_path / "run") as run:
        run.write_items("extraction-maxima", pa.table(maxima))
        run.write_findings(Findings(sections=(section,)))
        html = write_report(run).read_text(encoding="utf-8")
    assert html.count("<svg ") == 1
    assert "Drawn: 1 generated, 1 held out." in html


@pytest.fixture
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("usual_umask")
def test_a_report_that_quotes_texts_is_for_its_owner_alone(tmp_path: Path, findings: Findings) -> None:
    one = side_by_side("a pair", "", ("Generation", "nine lamps"), ("Row", "nine doors"))
    modes = []
    with started(tmp_path / "run") as run:
        run.write_findings(findings)
        for comparisons in (None, {"traps": [one]}, {"traps": []}):
            path = write_report(run, comparisons=comparisons)
            modes.append(stat.S_IMODE(path.stat().st_mode))
            assert ("<mark>lamps</mark>" in path.read_text(encoding="utf-8")) == bool((comparisons or {}).get("traps"))
    assert modes == [0o644, 0o600, 0o644]
