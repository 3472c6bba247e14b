from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from audit.errors import DataError, StorageError
from audit.progress import silent
from audit.testbed import cache


def test_the_cache_is_the_given_one_then_the_variables_then_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_CACHE", "/somewhere")
    assert cache.cache_root("/given") == Path("/given")
    assert cache.cache_root(None) == Path("/somewhere")
    monkeypatch.delenv("PALIMPSEST_CACHE")
    assert cache.cache_root(None) == Path.home() / ".cache" / "palimpsest"


def test_a_stage_is_made_once_and_remembered(tmp_path: Path) -> None:
    calls = []

    def make(folder: Path) -> dict[str, Any]:
        calls.append(folder)
        (folder / "file").write_text("content")
        return {"n": 3}

    first = cache.make_stage(tmp_path / "stage", make)
    assert cache.make_stage(tmp_path / "stage", make) == first
    assert len(calls) == 1
    assert first["detail"] == {"n": 3}
    assert (tmp_path / "stage" / "file").read_text() == "content"


def test_a_stage_that_fails_leaves_nothing_under_its_name_and_is_made_anew(tmp_path: Path) -> None:
    def fail(folder: Path) -> dict[str, Any]:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.make_stage(tmp_path / "stage", fail)
    assert not (tmp_path / "stage").exists()
    cache.make_stage(tmp_path / "stage", lambda folder: {})
    assert sorted(path.name for path in (tmp_path / "stage").iterdir()) == [cache.STAGE]


def test_a_full_disk_is_told_with_what_stays(tmp_path: Path) -> None:
    def full(folder: Path) -> dict[str, Any]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StorageError, match=r"could not build .*stage: the disk is full; finished stages stay\. Free"):
        cache.make_stage(tmp_path / "stage", full)


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(StorageError, match="could not create the folder .*file"),
        cache.only_builder(tmp_path / "file" / "tiny-0", silent),
    ):
        pass


def test_the_second_builder_waits_for_the_first(tmp_path: Path) -> None:
    order: list[str] = []
    inside = threading.Event()

    def first() -> None:
        with cache.only_builder(tmp_path / "bed", silent):
            inside.set()
            time.sleep(0.3)
            order.append("first done")

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(5)
    with cache.only_builder(tmp_path / "bed", lambda stage, done, total: order.append(f"{stage} {done}")):
        order.append("second in")
    thread.join()
    waiting = "waiting for another build of this testbed"
    assert order == [f"{waiting} 0", "first done", f"{waiting} 1", "second in"]


def test_a_killed_builder_frees_the_lock(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from audit.progress import silent; "
        "from audit.testbed.cache import only_builder\n"
        "with only_builder(Path(sys.argv[1]), silent):\n print('in', flush=True)\n time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "bed")], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == "in\n"
        child.kill()
        child.wait()
    with cache.only_builder(tmp_path / "bed", silent):
        assert True


def test_changed_and_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_text("one")
    files = cache.hash_files(tmp_path, ["data"])
    cache.check_files(tmp_path, files)
    (tmp_path / "data" / "a").write_text("two")
    with pytest.raises(DataError, match=r"data/a was changed after it was built; delete the folder"):
        cache.check_files(tmp_path, files)
    (tmp_path / "data" / "a").unlink()
    with pytest.raises(DataError, match="data/a is missing"):
        cache.check_files(tmp_path, files)


def test_the_content_hash_does_not_depend_on_the_order_of_keys() -> None:
    assert cache.content_hash({"a": 1, "b": (2,)}) == cache.content_hash({"b": [2], "a": 1})
    assert cache.content_hash({"a": 1}) != cache.content_hash({"a": 2})
