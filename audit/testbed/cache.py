"""Where testbeds are kept, one builder at a time, each stage whole or absent."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..progress import Progress
from ..text.files import expanded, make_folder, sha256_file, storage_errors, write_json

STAGE = "stage.json"
_PACKAGE = Path(__file__).parents[1]
#: Files whose text decides what a testbed holds, as paths inside the package.
_SOURCES = (
    "testbed/*.py",
    "traps/config.py",
    "traps/generate.py",
    "traps/likeness.py",
    "traps/planting/inject.py",
    "lm/generate.py",
    "lm/head.py",
    "lm/logprobs.py",
    "lm/sharing.py",
    "lm/tokens.py",
    "text/readers.py",
    "text/plain_files.py",
)
#: Packages whose version can change a weight or a token.
PACKAGES = ("numpy", "tokenizers", "torch", "transformers")


def cache_root(cache: str | Path | None) -> Path:
    """``cache``, else ``$PALIMPSEST_CACHE``, else ``~/.cache/palimpsest``."""
    return expanded(str(cache or os.environ.get("PALIMPSEST_CACHE") or "~/.cache/palimpsest"))


def source_version() -> str:
    """SHA-256 of the generator's source files and packages: another generator makes another testbed."""
    digest = hashlib.sha256(repr([(name, version(name)) for name in PACKAGES]).encode())
    for pattern in _SOURCES:
        for path in sorted(_PACKAGE.glob(pattern)):
            digest.update(f"{path.relative_to(_PACKAGE).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def content_hash(record: dict[str, Any]) -> str:
    """SHA-256 of plain JSON values, independent of the order of keys."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


@contextmanager
def only_builder(folder: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock beside ``folder``; a second builder waits here until the first is done or dead.

    Raises:
        StorageError: The cache cannot be written.
    """
    make_folder(folder.parent)
    path = folder.with_name(f"{folder.name}.lock")
    with storage_errors(path, kept="nothing was changed", doing="lock"):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress("waiting for another build of this testbed", 0, 1)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                progress("waiting for another build of this testbed", 1, 1)
        except BaseException:
            os.close(descriptor)
            raise
    try:
        yield
    finally:
        os.close(descriptor)


def make_stage(folder: Path, make: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Make a stage's folder unless it exists; it appears under its name only when it is whole.

    Args:
        folder: Where the stage's files go.
        make: Writes them into the folder it is given and returns what to remember about the stage.

    Returns:
        What ``stage.json`` in the folder holds: ``seconds`` and ``detail``.

    Raises:
        StorageError: Disk full or not writable; finished stages stay.
    """
    if not (folder / STAGE).is_file():
        make_folder(folder.parent)
        temporary = folder.with_name(f".{folder.name}.part")
        with storage_errors(folder, kept="finished stages stay", doing="build"):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            start = time.monotonic()
            detail = make(temporary)
            write_json(temporary / STAGE, {"seconds": round(time.monotonic() - start, 3), "detail": detail})
            os.rename(temporary, folder)
    stage: dict[str, Any] = json.loads((folder / STAGE).read_text(encoding="utf-8"))
    return stage


def hash_files(folder: Path, names: list[str]) -> dict[str, str]:
    """Relative path -> SHA-256 of every file below the named folders inside ``folder``."""
    paths = [path for name in names for path in sorted((folder / name).rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in paths}


def check_files(folder: Path, files: dict[str, str]) -> None:
    """Compare a testbed's files with the hashes in its manifest.

    Raises:
        DataError: A file is missing or was changed.
    """
    for name, digest in files.items():
        path = folder / name
        if not path.is_file() or sha256_file(path) != digest:
            what = "was changed after it was built" if path.is_file() else "is missing"
            raise DataError(f"{path} {what}; delete the folder {folder} and build the testbed again.")
