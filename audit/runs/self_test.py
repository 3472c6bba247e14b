"""The last self-test of this code on this machine: where it is kept, and what a run takes of it.

A result belongs to the code that was tested: Palimpsest's version, its commit, the SHA-256 of its source files (a
working tree can differ from its commit), and the versions of the packages that can change a number. Another code has
another file, so it never stands behind a result that is not its own. No torch is imported.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from .. import __version__
from ..text.files import expanded, make_folder, write_json
from .moments import now
from .provenance import PACKAGES, package_versions, source_state
from .schema import SelfTestRecord

_LAYOUT = 1
_PACKAGE = Path(__file__).resolve().parents[1]


def latest(cache: str | Path | None = None) -> SelfTestRecord | None:
    """The newest result of the same code; None where there is none, or it is damaged. Never an exception.

    Args:
        cache: As for `keep`.
    """
    try:
        path = path_of(tested_code(), cache)
        if not path.is_file():
            return None
        kept = json.loads(path.read_text(encoding="utf-8"))
        record = _record(kept)
        datetime.fromisoformat(record.moment)
        return record if kept["code"] == tested_code() and kept["sha256"] == _sha256(kept) else None
    except Exception:  # whatever stands in that file, a run begins without it
        return None


def keep(checks: Iterable[tuple[str, dict[str, Any]]], *, cache: str | Path | None = None) -> SelfTestRecord:
    """Write a result whole or not at all, in place of the one before.

    An instrument of which something was not asked is not among ``instruments``, unless it failed elsewhere: it has not
    passed.

    Args:
        checks: Instrument and known answer (name, expected, got, passed, ...) of every check, in order.
        cache: Folder; default ``$PALIMPSEST_CACHE``, else ``~/.cache/palimpsest``.

    Raises:
        StorageError: The folder cannot be written.
    """
    listed = [{"instrument": instrument, **answer} for instrument, answer in checks]
    passed = {one["instrument"]: True for one in listed}
    for one in listed:
        passed[one["instrument"]] &= bool(one["passed"])
    not_asked = {one["instrument"] for one in listed if not one["asked"]}
    passed = {name: right for name, right in passed.items() if not right or name not in not_asked}
    kept: dict[str, Any] = {
        "layout": _LAYOUT,
        "code": tested_code(),
        "moment": now(),
        "passed": bool(passed) and all(passed.values()),
        "instruments": passed,
        "checks": listed,
    }
    kept["sha256"] = _sha256(kept)
    path = path_of(kept["code"], cache)
    make_folder(path.parent)
    write_json(path, kept)
    return _record(kept)


def path_of(code: dict[str, Any], cache: str | Path | None = None) -> Path:
    """Where the result of this code lies, if there is one."""
    root = expanded(str(cache or os.environ.get("PALIMPSEST_CACHE") or "~/.cache/palimpsest"))
    return root / "selftest" / f"{hashlib.sha256(_plain(code)).hexdigest()[:16]}.json"


def tested_code() -> dict[str, Any]:
    """What a result is true of."""
    return {
        "palimpsest": __version__,
        "commit": source_state(_PACKAGE.parent)[0],
        "source": _source(),
        "packages": package_versions(PACKAGES),
    }


def _source() -> str:
    """SHA-256 of the Python files of ``audit``, and of ``unlearn`` beside it."""
    digest = hashlib.sha256()
    for package in (_PACKAGE, _PACKAGE.parent / "unlearn"):
        for path in sorted(package.rglob("*.py")):
            name = path.relative_to(package.parent).as_posix()
            digest.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _record(kept: dict[str, Any]) -> SelfTestRecord:
    return SelfTestRecord(
        moment=kept["moment"],
        palimpsest=kept["code"]["palimpsest"],
        commit=kept["code"]["commit"],
        passed=kept["passed"],
        instruments=kept["instruments"],
        sha256=kept["sha256"],
    )


def _sha256(kept: dict[str, Any]) -> str:
    """Of everything but itself."""
    return hashlib.sha256(_plain({name: value for name, value in kept.items() if name != "sha256"})).hexdigest()


def _plain(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, allow_nan=False).encode()
