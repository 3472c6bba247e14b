"""Ledgers, disclosures and their tables on disk: secret, never overwritten, read only byte for byte as written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ... import __version__
from ...errors import DataError, InputError
from ...runs.problems import plain_problems
from ...text.files import atomic_writer
from ...text.safe import quoted
from ...text.sources import require_exists
from .checks import listed
from .make import audit_table
from .records import DISCLOSURE_FORMAT, LEDGER_FORMAT, LEDGER_VERSION, Disclosure, Ledger


def write_ledger(path: str | Path, ledger: Ledger) -> None:
    """Writes a ledger atomically, readable by its owner alone (mode 0600).

    Raises:
        InputError: Something stands there already: a ledger is never overwritten.
        StorageError: The file cannot be written.
    """
    refuse_taken(Path(path), "a ledger is never overwritten")
    with atomic_writer(path, secret=True) as stream:
        stream.write(_serialised(ledger))


def write_disclosure(path: str | Path, disclosure: Disclosure) -> None:
    """Writes a disclosure atomically.

    Raises:
        InputError: Something stands there already.
        StorageError: The file cannot be written.
    """
    refuse_taken(Path(path), "nothing is overwritten")
    with atomic_writer(path) as stream:
        stream.write(_serialised(disclosure))


def write_audit_table(path: str | Path, ledger: Ledger) -> None:
    """Writes the parquet table that ``palimpsest audit`` reads, decoys included: secret like the ledger, mode 0600.

    Raises:
        InputError: Something stands there already.
        StorageError: The file cannot be written.
    """
    from ...text.tables import write_parquet

    refuse_taken(Path(path), "nothing is overwritten")
    write_parquet(path, audit_table(ledger), secret=True)


def refuse_taken(path: Path, why: str) -> None:
    """Refuses a path at which something stands.

    Raises:
        InputError: ``why`` and the path are named.
    """
    if os.path.lexists(path):
        raise InputError(f"{path} is there already, and {why}. Choose another name, or move it away.")


def read_ledger(path: str | Path) -> Ledger:
    """Reads a ledger; see `read_file`.

    Raises:
        InputError: There is no such file, or it is a disclosure.
        DataError: It cannot be read, is no ledger, is of another version, or was changed.
    """
    found = read_file(path)
    if isinstance(found, Disclosure):
        raise InputError(f"{path} is a disclosure, which holds some traps only; give the ledger it was made from.")
    return found


def read_file(path: str | Path) -> Ledger | Disclosure:
    """Reads a ledger or a disclosure, whichever it is, and refuses a file that is not byte for byte as written.

    Raises:
        InputError: There is no such file, or it is a folder.
        DataError: It cannot be read, is not JSON, is neither of the two, has another schema version, a field is
            missing, unknown or wrong, or the bytes differ from those that its content is written as.
    """
    path = Path(path)
    require_exists(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected a ledger or a disclosure of traps.")
    try:
        raw = path.read_bytes()
        value = json.loads(raw)
    except OSError as error:
        raise DataError(f"could not read {path}: {error.strerror}. Check its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}. It was changed or damaged; restore it from a copy.") from error
    form = value.get("format") if isinstance(value, dict) else None
    kinds: dict[Any, type[Ledger] | type[Disclosure]] = {LEDGER_FORMAT: Ledger, DISCLOSURE_FORMAT: Disclosure}
    kind = kinds.get(form) if isinstance(form, str) else None
    if kind is None:
        raise DataError(f"{path} is no ledger and no disclosure of traps: its format is {quoted(form)}.")
    version = value.get("schema_version")
    if type(version) is int and version > LEDGER_VERSION:
        writer = value.get("palimpsest")
        by = f" It was written by Palimpsest {quoted(writer)}." if isinstance(writer, str) else ""
        raise DataError(
            f"{path} has schema version {version}; Palimpsest {__version__} reads version {LEDGER_VERSION}.{by} Read "
            "it with the Palimpsest that wrote it or a newer one."
        )
    return _validated(path, raw, kind)


def _validated(path: Path, raw: bytes, kind: type[Ledger] | type[Disclosure]) -> Ledger | Disclosure:
    try:
        record = kind.model_validate_json(raw, strict=True)
    except ValidationError as error:
        problems = listed(plain_problems(error, kind))
        raise DataError(
            f"{path} was changed or damaged after it was written: {problems} Restore it from a copy."
        ) from error
    written = _serialised(record)
    if written != raw:
        place = next((at for at, (a, b) in enumerate(zip(raw, written, strict=False)) if a != b), None)
        place = min(len(raw), len(written)) if place is None else place
        raise DataError(
            f"{path} was changed after it was written: from byte {place + 1} on it is not as Palimpsest writes the "
            "same content. Restore it from a copy."
        )
    return record


def _serialised(record: Ledger | Disclosure) -> bytes:
    """The file's bytes: one line for each field, and one for each trap."""
    fields = record.model_dump(mode="json")
    rows = ",\n".join(f"    {_line(trap)}" for trap in fields.pop("traps"))
    head = "".join(f"  {_line(name)}: {_line(value)},\n" for name, value in fields.items())
    return f'{{\n{head}  "traps": [\n{rows}\n  ]\n}}\n'.encode()


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
