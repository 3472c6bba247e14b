"""``palimpsest compare``: what it prints, writes and refuses, on runs of real audits."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from audit.testbed.planted import Testbed
from tests.cli.conftest import Call
from tests.runs.compare.made_runs import N, make_run

BEFORE = np.linspace(1, 4, N)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs of unlearning whose means differ by 2."""
    other = BEFORE + np.linspace(1, 3, N)
    return make_run(tmp_path / "a", BEFORE), make_run(tmp_path / "b", other, weights="b" * 64)


def audit_of(testbed: Testbed, call: Call, model: str, *, seed: int = 0) -> Path:
    """The trap audit of one of the testbed's models."""
    folder = Path(f"{model}-{seed}").absolute()
    plan = folder.with_suffix(".toml")
    plan.write_text(
        f"""
[subject]
model = "{testbed.models[model]}"
device = "cpu"
[traps]
table = "{testbed.traps_path}"
primary = "loss"
n_draws = 99
seed = {seed}
""",
        encoding="utf-8",
    )
    assert call("audit", plan, "--out", folder, "--quiet").code in (0, 4)
    return folder


@pytest.mark.slow
def test_traps_of_two_models_of_the_testbed(testbed_tiny: Testbed, call: Call, refused: Callable[..., str]) -> None:
    """The reference never saw the traps that the subject saw; both AUCs rest on the same traps, so they are paired."""
    subject, reference = (audit_of(testbed_tiny, call, name) for name in ("subject", "reference"))
    code, out, err = call("compare", subject, reference, "--json", "--quiet")
    assert code == 0, err
    told = json.loads(out)
    rows = {(row["where"], row["name"]): row for row in told["estimates"]}
    copies = max(int(where.removeprefix("traps.copies_")) for where, _ in rows if where.startswith("traps.copies_"))
    row = rows[f"traps.copies_{copies}", "auc"]
    made = row["differences"][0]
    assert made["how"] == "paired"
    assert made["value"] == pytest.approx(row["runs"][1]["value"] - row["runs"][0]["value"])
    assert made["high"] < 0
    assert rows["traps.all", "auc"]["differences"][0]["how"] == "paired"
    assert all(made["low"] is not None for row in told["estimates"] for made in row["differences"]
               if made["value"] is not None)  # fmt: skip

    message = refused("compare", subject, audit_of(testbed_tiny, call, "subject", seed=1), "--quiet")
    assert "traps.seed: 0 in " in message
    assert "--allow traps.seed" in message


def test_an_audit_and_its_copy_differ_by_nothing(plan: Path, call: Call) -> None:
    run = plan.parent / "run"
    assert call("audit", plan, "--out", run, "--quiet").code in (0, 4)
    shutil.copytree(run, plan.parent / "copy")
    told = json.loads(call("compare", run, plan.parent / "copy", "--json", "--quiet").out)
    made = [made for row in told["estimates"] for made in row["differences"] if made["value"] is not None]
    assert made
    assert all(one["low"] <= 0 == one["value"] <= one["high"] for one in made)


def test_the_table_fits_100_columns_and_says_how_to_read_it(pair: tuple[Path, Path], call: Call) -> None:
    code, out, err = call("compare", *pair, "--quiet")
    assert code == 0, err
    assert max(len(line) for line in out.splitlines() if "/" not in line) <= 100
    assert "difference 2.0" in out
    assert "paired, not 0" in out
    assert "supposing that the runs are independent" in out


def test_what_is_written_is_the_same_to_the_byte_twice(pair: tuple[Path, Path], call: Call, tmp_path: Path) -> None:
    for out in ("one", "two", "two"):  # a comparison may be written over an earlier one
        assert call("compare", *pair, "--out", tmp_path / out, "--quiet").code == 0
    for name in ("compare.json", "compare.csv", "report.html"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    page = (tmp_path / "one" / "report.html").read_text(encoding="utf-8")
    assert "How do these runs differ?" in page
    assert "Run 2 less run 1: 1 difference with an interval, of which 1 leaves out 0" in page
    told = json.loads((tmp_path / "one" / "compare.json").read_text(encoding="utf-8"))
    rows = list(csv.DictReader((tmp_path / "one" / "compare.csv").open(encoding="utf-8")))
    assert float(rows[1]["difference_value"]) == told["estimates"][0]["differences"][0]["value"]
    assert rows[0]["difference_value"] == ""


def test_names_from_files_steer_neither_terminal_nor_spreadsheet_nor_page(call: Call, tmp_path: Path) -> None:
    model = "=1+1\x1b[31m<script>"
    runs = [make_run(tmp_path / name, BEFORE * factor, model=model) for name, factor in (("=a", 1), ("b", 2))]
    code, out, _ = call("compare", *[run.relative_to(tmp_path) for run in runs], "--out", "out", "--quiet")
    assert code == 0
    assert "\x1b" not in out
    assert "<script>" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    with (tmp_path / "out" / "compare.csv").open(encoding="utf-8") as stream:
        assert next(csv.DictReader(stream))["folder"] == "'=a"


def test_a_difference_that_was_let_through_stands_in_the_head(call: Call, tmp_path: Path) -> None:
    runs = [make_run(tmp_path / str(block), BEFORE, plan={"block": block}) for block in (32, 64)]
    out = call("compare", *runs, "--allow", "unlearn.block", "--quiet").out
    assert "Let through by name, though it matters: unlearn.block: 32 in run 1, 64 in run 2" in out


def test_bad_input_is_refused_with_one_message(
    pair: tuple[Path, Path], call: Call, refused: Callable[..., str], tmp_path: Path
) -> None:
    assert "expected two runs or more, got 0" in refused("compare")
    assert "was given twice" in refused("compare", pair[0], pair[0])
    assert "holds no comparison" in refused("compare", *pair, "--out", pair[0])
    (tmp_path / "file").write_text("x", encoding="utf-8")
    assert "is a file" in refused("compare", *pair, "--out", tmp_path / "file")
    unfinished = make_run(tmp_path / "unfinished", BEFORE, finish=False)
    code, _, err = call("compare", pair[0], unfinished, "--quiet")
    assert code == 3
    assert "has not ended" in err
