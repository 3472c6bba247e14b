"""What can be taken away: no file of the run's own that a browser would run, nothing too large, errors as text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audit.errors import DataError
from audit.runs.store import Run
from dashboards import downloads
from dashboards.store import Store
from tests.dashboards.conftest import drawn, words

Make = Callable[..., Path]


def buttons(test: Any) -> list[str]:
    return [one.proto.label for one in test.get("download_button")]


def test_the_runs_own_report_is_not_offered(tmp_path: Path, make_run: Make) -> None:
    (make_run(tmp_path / "one") / "report.html").write_text("<script>alert(1)</script>")
    offered = buttons(drawn("run", tmp_path, run="one", view="Downloads"))
    assert [one for one in offered if "eport" in one] == ["Report (HTML)", "Report (Markdown)", "Report (JSON)"]


def test_large_files_are_to_be_taken_from_the_folder(
    tmp_path: Path, make_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "one")
    monkeypatch.setattr(downloads, "_MOST_BYTES", 10)
    test = drawn("run", tmp_path, run="one", view="Downloads")
    assert "findings.json" not in buttons(test)
    assert "Parquet" not in buttons(test)
    assert "take the file from the run's folder itself" in words(test).replace("\\", "")


def test_what_goes_wrong_when_a_file_is_made_stands_in_it_as_text(tmp_path: Path, make_run: Make) -> None:
    make_run(tmp_path / "one")
    opened = Store(tmp_path).open("one")

    def missing() -> bytes:
        return (tmp_path / "one" / "gone").read_bytes()

    def hostile() -> bytes:
        raise DataError("<script>alert(1)</script>")

    content = downloads._Made(opened, missing)().decode()
    assert content.startswith("This file could not be made: ")
    assert str(tmp_path) not in content
    assert b"&lt;script&gt;" in downloads._Made(opened, hostile)()
    assert downloads._Made(opened, lambda: b"all of it")() == b"all of it"


def test_a_table_that_would_fill_the_memory_is_made_into_no_csv(tmp_path: Path) -> None:
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array(["x" * 6_000]))
    pq.write_table(pa.table({"a": texts, "b": texts}), tmp_path / "items.parquet", store_schema=False)
    with pytest.raises(DataError, match="would take more memory than the dashboard allows"):
        downloads.as_csv(tmp_path / "items.parquet")


def test_tables_under_other_names_than_palimpsest_gives_are_counted(tmp_path: Path, make_run: Make) -> None:
    folder = make_run(tmp_path / "one")
    table = (folder / "items" / "scores.parquet").read_bytes()
    for name in ("inv\u202exslx", "=cmd", "a b"):
        (folder / "items" / f"{name}.parquet").write_bytes(table)
    test = drawn("run", tmp_path, run="one", view="Downloads")
    assert test.selectbox(key="items").options == ["scores"]
    assert "3 tables left out" in words(test)
    assert Run.open(folder).complete
