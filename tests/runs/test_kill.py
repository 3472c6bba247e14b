"""Killed at random moments, a job ends with what the undisturbed one has, and no state file is ever half."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from audit.runs.store import Run
from audit.text.tables import read_parquet

JOB = Path(__file__).parent / "sharded_job.py"
PAUSE = "0.06"  # seconds for each part: 12 parts and a final step


def _started(folder: Path, *more: str) -> subprocess.Popen[bytes]:
    """The job, once its imports are done."""
    command = [sys.executable, str(JOB), str(folder), *(more or (PAUSE,))]
    process = subprocess.Popen(command, cwd=JOB.parents[2], env={"PYTHONPATH": "."}, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"begins\n"
    return process


def _check_state(folder: Path) -> None:
    for path in folder.rglob("*.json"):
        json.loads(path.read_bytes())
    for path in folder.rglob("*.parquet"):
        read_parquet(path)


def _n_files(folder: Path) -> int:
    return sum(path.suffix != ".tmp" for path in folder.rglob("*"))


def _ended(folder: Path) -> bool:
    path = folder / "run.json"
    return path.exists() and json.loads(path.read_bytes())["status"] == "complete"


def test_a_job_killed_ten_times_ends_with_the_same_results(tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert _started(undisturbed).wait() == 0
    moments = random.Random(3)
    n_kills = 0
    for _ in range(10):
        before = _n_files(killed)
        process = _started(killed)
        while process.poll() is None and _n_files(killed) <= before:  # a slow machine gets on as well
            time.sleep(0.005)
        time.sleep(moments.uniform(0.0, 0.1))
        if process.poll() is None:
            process.kill()
            n_kills += 1
        process.wait()
        _check_state(killed)
    assert n_kills >= 3
    if not _ended(killed):
        assert _started(killed).wait() == 0
    _check_state(killed)
    first, second = Run.open(undisturbed), Run.open(killed)
    assert second.complete
    assert second.findings() == first.findings()
    assert second.read_items("scores").equals(first.read_items("scores"))
    assert [stage.name for stage in second.record.stages] == ["score", "judge"]
    assert len(second.attempts()) > 1
    assert not list(killed.rglob("*.tmp"))
    assert not (killed / "parts").exists()


@pytest.mark.slow
def test_a_job_that_dies_before_any_of_its_renames_ends_with_the_same_results(tmp_path: Path) -> None:
    assert _started(tmp_path / "undisturbed", "0").wait() == 0
    expected = Run.open(tmp_path / "undisturbed").findings()
    for n_renames in range(1000):
        folder = tmp_path / str(n_renames)
        if _started(folder, "0", str(n_renames)).wait() == 0:
            break
        _check_state(folder)
        assert _started(folder, "0").wait() == 0
        assert Run.open(folder).findings() == expected
        assert (folder / "plan.toml").exists()
        assert not list(folder.rglob("*.tmp"))
    assert n_renames > 12 + 12  # each part and the time spent after it, and then some


def test_a_file_rewritten_without_pause_is_whole_at_every_kill(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from audit.text.files import write_json\n"
        "number = 0\n"
        "while True:\n"
        "    number += 1\n"
        "    write_json(sys.argv[1], {'number': number, 'bulk': [number] * 20_000})\n"
    )
    target = tmp_path / "state.json"
    moments = random.Random(5)
    last = 0
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-c", script, str(target)])
        while last == 0 and not target.exists():
            time.sleep(0.01)
        time.sleep(0.1 + moments.uniform(0.0, 0.2))
        process.kill()
        process.wait()
        state = json.loads(target.read_bytes())
        assert state["bulk"] == [state["number"]] * 20_000
        last = state["number"]
