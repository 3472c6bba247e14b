from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from audit.errors import InputError, StorageError
from audit.text.files import (
    atomic_writer,
    make_folder,
    remove_leftovers,
    sha256_file,
    write_bytes,
    write_json,
    write_text,
)


def test_a_write_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "one\r\n")
    write_text(target, "two\u2028é")
    assert target.read_bytes() == "two\u2028é".encode()
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_exception_in_the_block_keeps_the_earlier_version(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")

    def fail_half_way() -> None:
        with atomic_writer(target) as stream:
            stream.write(b"half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_half_way()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full; the earlier version is unchanged. Free some space there"),
        (errno.EDQUOT, "the disk quota is used up; the earlier version is unchanged. Free some space"),
        (errno.EACCES, "permission denied; the earlier version is unchanged. Change its permissions"),
        (errno.EROFS, "the file system is read-only; the earlier version is unchanged. Choose a folder"),
        (errno.EIO, "Input/output error; the earlier version is unchanged. Check the disk"),
    ],
)
@pytest.mark.parametrize("step", ["fsync", "replace", "open"])
def test_a_failing_disk_is_told_and_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str, step: str
) -> None:
    target = tmp_path / "a.json"
    write_json(target, {"a": 1})

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(StorageError) as caught:
            write_json(target, {"a": 2})
    assert words in str(caught.value)
    assert str(target) in str(caught.value)
    assert str(caught.value).endswith("then run the same command again.")
    assert target.read_text() == '{\n  "a": 1\n}\n'
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_real_limit_on_size_is_told(tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys\n"
        "from audit.text.files import write_bytes\n"
        "from audit.errors import StorageError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_bytes(sys.argv[1], b'x' * 5000)\n"
        "except StorageError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "big")], capture_output=True, text=True, check=True
    )
    assert "larger than the system allows; nothing was left behind. Raise the limit" in done.stdout
    assert os.listdir(tmp_path) == []


def test_wrong_targets_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for name, words in {
        "folder": "it is a folder, not a file",
        "absent/a": "its folder does not exist; nothing was left behind. Create the folder first",
        "file/a": "a part of the path is a file",
        "pipe": "it is a device or a pipe",
        "n" * 300: "the name is too long",
    }.items():
        with pytest.raises(StorageError, match=words):
            write_bytes(tmp_path / name, b"x")
    with pytest.raises(StorageError, match="could not create the folder .*a part of the path is a file"):
        make_folder(tmp_path / "file")


def test_a_folder_without_permission_is_told(tmp_path: Path) -> None:
    """In a process of its own, which gives up root's right to write everywhere."""
    (tmp_path / "locked").mkdir(mode=0o500)
    script = (
        "import os, sys\n"
        "from audit.text.files import write_bytes\n"
        "from audit.errors import StorageError\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "try: write_bytes(sys.argv[1], b'x')\n"
        "except StorageError as error: print(error)\n"
    )
    target = str(tmp_path / "locked" / "a")
    done = subprocess.run([sys.executable, "-c", script, target], capture_output=True, text=True, check=True)
    assert f"could not write {target}: permission denied; nothing was left behind." in done.stdout


def test_a_link_is_followed_and_permissions_follow_the_umask(tmp_path: Path) -> None:
    write_bytes(tmp_path / "real", b"old")
    (tmp_path / "link").symlink_to("real")
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "link", b"new")
    finally:
        os.umask(before)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o640


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": object()}, {"s": "\ud800"}])
def test_json_refuses_what_it_would_change(tmp_path: Path, value: object) -> None:
    with pytest.raises(InputError, match="cannot hold"):
        write_json(tmp_path / "a.json", value)
    assert os.listdir(tmp_path) == []


def test_leftovers_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    gone = tmp_path / f".palimpsest-{int(dead.stdout)}-{'0' * 16}.tmp"
    living = tmp_path / f".palimpsest-{os.getppid()}-{'0' * 16}.tmp"
    own = tmp_path / f".palimpsest-{os.getpid()}-{'0' * 16}.tmp"
    stranger = tmp_path / ".palimpsest-notes.tmp"
    for path in (gone, living, own, stranger):
        path.touch()
    assert remove_leftovers(tmp_path) == 2
    assert sorted(tmp_path.iterdir()) == sorted([living, stranger])


def test_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    content = b"palimpsest\n" * 100_000
    write_bytes(tmp_path / "a", content)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(content).hexdigest()
    with pytest.raises(StorageError, match="could not read .*absent"):
        sha256_file(tmp_path / "absent")
