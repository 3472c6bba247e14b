"""Records to and from JSON files: nothing is changed on the way, nothing unknown is half read."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from .. import __version__
from ..errors import DataError, IncompleteRunError, InputError
from ..text.files import write_json
from ..text.safe import quoted
from .problems import plain_problems
from .schema import SCHEMA_VERSION, Record

AnyRecord = TypeVar("AnyRecord", bound=Record)


def plain(value: Any, where: str) -> Any:
    """``value`` as it will be after a trip through JSON: tuples become lists.

    Raises:
        InputError: ``value`` holds something that JSON would change or cannot hold (a NaN, an infinity, a key that
            is no string, any other type); ``where`` and the path to it are named.
    """
    if isinstance(value, float):  # also numpy's float64
        if not math.isfinite(value):
            raise InputError(f"{where} is {value}, which JSON cannot hold. Give None and say why it is undefined.")
        return float(value)
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, Mapping):
        for key in value:
            if type(key) is not str:
                raise InputError(f"{where} has the key {quoted(key)}, which is no text. Use text keys.")
        return {key: plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{number}]") for number, item in enumerate(value)]
    raise InputError(
        f"{where} is a {type(value).__module__}.{type(value).__name__} ({quoted(value)}), which JSON cannot hold. "
        "Give a text, number, truth value, list or dict."
    )


def content_key(**parts: Any) -> str:
    """SHA-256 (64 hexadecimal digits) of named JSON values; the same whatever their order.

    For `ShardedTable`: name everything that determines the content, such as ``plan``, ``model`` and ``data``.

    Raises:
        InputError: A value is not plain JSON.
    """
    return plan_hash(plain(parts, "key"))


def plan_hash(plan: dict[str, Any]) -> str:
    """SHA-256 of the plan's canonical JSON: sorted keys, no spaces, UTF-8 escapes."""
    text = json.dumps(plan, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def first_difference(old: Any, new: Any, path: str = "") -> tuple[str, str, str] | None:
    """Where two plain values first differ, keys in alphabetical order.

    Returns:
        (dotted path, old value, new value), values as JSON cut to 60 characters or "absent"; None when equal. 1, 1.0
        and true count as different.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            inner = f"{path}.{key}" if path else key
            if key not in old or key not in new:
                return inner, _json(old[key]) if key in old else "absent", _json(new[key]) if key in new else "absent"
            if found := first_difference(old[key], new[key], inner):
                return found
        return None
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (before, after) in enumerate(zip(old, new, strict=True)):
            if found := first_difference(before, after, f"{path}[{number}]"):
                return found
        return None
    return None if type(old) is type(new) and old == new else (path, _json(old), _json(new))


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 60 else text[:57] + "..."


def write_record(path: Path, record: Record, *, secret: bool = False) -> None:
    """Writes a record atomically; ``secret`` as in `atomic_writer`.

    Raises:
        InputError: It holds a NaN, an infinity or something else that JSON would change.
        StorageError: The file cannot be written.
    """
    write_json(path, plain(record.model_dump(mode="python"), path.name), secret=secret)


def read_record(path: Path, kind: type[AnyRecord], *, missing: str) -> AnyRecord:
    """Reads a record that `write_record` wrote.

    Args:
        path: The JSON file.
        kind: Class of the record; when it has a ``schema_version``, the file must name a known one.
        missing: The whole message when there is no such file.

    Raises:
        IncompleteRunError: The file is absent.
        DataError: It cannot be read, is not JSON, has another schema version, or a field is wrong or unknown.
    """
    value = read_json(path, missing=missing)
    if "schema_version" in kind.model_fields:
        version = value.get("schema_version") if isinstance(value, dict) else None
        if type(version) is not int or version != SCHEMA_VERSION:
            raise DataError(
                f"{path} has schema version {quoted(version)}; Palimpsest {__version__} reads version "
                f"{SCHEMA_VERSION}. Read it with the Palimpsest that wrote it (run.json names it: "
                "provenance.palimpsest)."
            )
    try:
        return kind.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        problems = "\n".join(f"- {problem}" for problem in plain_problems(error, kind))
        raise DataError(
            f"{path} was changed or damaged after it was written:\n{problems}\nRestore it from a copy."
        ) from error


def read_json(path: Path, *, missing: str) -> Any:
    """The content of a JSON file.

    Raises:
        IncompleteRunError: It is absent; the message is ``missing``.
        DataError: It cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except FileNotFoundError as error:
        raise IncompleteRunError(missing) from error
    except OSError as error:
        raise DataError(f"could not read {path}: {error.strerror}. Check its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}. It was changed or damaged; restore it from a copy.") from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
