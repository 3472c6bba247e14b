"""Anchor terms in files that people edit: TOML or JSON, one line for each key.

    [anchors]
    "Tars Tarkas" = { substitutes = ["Paul Miller", "Mark Stone"], kind = "person", source = "user" }
    Barsoom = "Norland"                      # short for { substitutes = ["Norland"] }

JSON holds the same: ``{"anchors": {"Barsoom": "Norland"}}``. Reading keeps the order of the file, writing sorts it.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from audit.errors import DataError, InputError
from audit.text.files import write_text
from audit.text.safe import counted, did_you_mean, quoted

from .anchors import Anchor, Anchors

MAX_BYTES = 64 * 2**20
_FIELDS = ("substitutes", "kind", "source")
_HEAD = (
    "# Anchor terms: expressions of the forget text, each with generic words that could stand in its place.\n"
    "# Edit freely; a key with no good substitute is best deleted.\n\n[anchors]\n"
)


def read_anchors(path: str | Path, *, fold_case: bool = False) -> Anchors:
    """A checked dictionary from a .toml or .json file, in the order of the file.

    Args:
        path: The file, UTF-8.
        fold_case: Whether keys will be found whatever their case; see `Anchors.problems`.

    Raises:
        InputError: No such file, it cannot be read, or its name ends otherwise.
        DataError: It is malformed (the line is named), or an anchor has a problem (the key is named).
    """
    path = Path(path)
    parse = _parser(path)
    text = _read(path)
    try:
        data = parse(text)
    except DataError:
        raise
    except RecursionError as error:
        raise DataError(f"{path} is nested too deeply to be a file of anchor terms.") from error
    except ValueError as error:  # TOMLDecodeError, JSONDecodeError, or a number of more digits than Python reads
        kind = path.suffix.lower().removeprefix(".").upper()
        raise DataError(f"{path} is not {kind}: {' '.join(str(error).split())}. Mend that line.") from error
    anchors = _anchors(data, str(path))
    anchors.check(fold_case=fold_case, source=str(path))
    return anchors


def write_anchors(path: str | Path, anchors: Anchors) -> None:
    """Writes a dictionary, sorted by key; what is written reads back as ``anchors.sorted()``.

    Args:
        path: A .toml or .json file, replaced atomically.
        anchors: A dictionary that passes `Anchors.check`.

    Raises:
        InputError: Its name ends otherwise.
        DataError: The anchors have a problem.
        StorageError: It cannot be written; an earlier version stays.
    """
    path = Path(path)
    _parser(path)
    anchors.check(source="the anchors to be written")
    in_order = anchors.sorted()
    if path.suffix.lower() == ".toml":
        write_text(path, _HEAD + "".join(_toml_line(anchor) for anchor in in_order))
        return
    lines = ",\n".join(f"    {_json(anchor.key)}: {_json(_record(anchor))}" for anchor in in_order)
    write_text(path, f'{{\n  "anchors": {{\n{lines}\n  }}\n}}\n')


def _parser(path: Path) -> Callable[[str], Any]:
    known: dict[str, Callable[[str], Any]] = {
        ".toml": tomllib.loads,
        ".json": lambda text: json.loads(text, object_pairs_hook=lambda pairs: _once(pairs, path)),
    }
    if path.suffix.lower() not in known:
        raise InputError(f"{path}: anchor terms stand in a .toml or .json file; give a name that ends so.")
    return known[path.suffix.lower()]


def _read(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        hint = did_you_mean(path.name, (one.name for one in path.parent.iterdir())) if path.parent.is_dir() else ""
        raise InputError(f"there is no file of anchor terms at {path}.{hint}") from error
    except OSError as error:
        raise InputError(f"could not read {path}: {error.strerror}. Give the path of a .toml or .json file.") from error
    if len(content) > MAX_BYTES:
        raise DataError(f"{path} is larger than {MAX_BYTES // 2**20} MiB; a file of anchor terms is not.")
    try:
        return content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        byte = f"byte 0x{content[error.start]:02x}"
        raise DataError(f"{path}, line {line}: {byte} is not UTF-8. Save the file as UTF-8.") from error


def _once(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    """A JSON object whose names are all different, as TOML demands anyway."""
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path}: {quoted(twice)} stands there twice. Join the two entries.")
    return table


def _anchors(data: Any, source: str) -> Anchors:
    shape = 'a table "anchors" from keys to substitutes'
    if not isinstance(data, dict) or not isinstance(data.get("anchors"), dict):
        raise DataError(f"{source}: expected {shape}; found none.")
    for name in data:
        if name != "anchors":
            raise DataError(f"{source}: {quoted(name)} is unknown here; expected {shape} and nothing else.")
    problems: list[str] = []
    anchors = [_anchor(key, entry, problems) for key, entry in data["anchors"].items()]
    if len(problems) == 1:
        raise DataError(f"{source}: {problems[0]}")
    if problems:
        lines = "\n".join(f"- {line}" for line in problems[:20])
        raise DataError(f"{source}: {counted(len(problems), 'problem')}, of which the first:\n{lines}")
    return Anchors(tuple(anchors))


def _anchor(key: str, entry: Any, problems: list[str]) -> Anchor:
    table = entry if isinstance(entry, dict) else {"substitutes": entry}
    for name in table:
        if name not in _FIELDS:
            hint = did_you_mean(name, _FIELDS)
            problems.append(f"anchor {quoted(key)}: {quoted(name)} is unknown; expected {', '.join(_FIELDS)}.{hint}")
    substitutes = table.get("substitutes", ())
    if isinstance(substitutes, str):
        substitutes = [substitutes]
    if not isinstance(substitutes, list | tuple) or not all(isinstance(one, str) for one in substitutes):
        problems.append(
            f"anchor {quoted(key)}: substitutes is {quoted(substitutes)}; expected a text or a list of texts."
        )
        substitutes = ()
    kind, source = table.get("kind"), table.get("source", "user")
    for name, value in (("kind", kind), ("source", source)):
        if not isinstance(value, str) and not (name == "kind" and value is None):
            problems.append(f"anchor {quoted(key)}: {name} is {quoted(value)}; expected a text.")
    return Anchor(key, tuple(substitutes), kind, source)


def _record(anchor: Anchor) -> dict[str, Any]:
    kind = {} if anchor.kind is None else {"kind": anchor.kind}
    return {"substitutes": list(anchor.substitutes), **kind, "source": anchor.source}


def _toml_line(anchor: Anchor) -> str:
    fields = ", ".join(f"{name} = {_json(value)}" for name, value in _record(anchor).items())
    return f"{_json(anchor.key)} = {{ {fields} }}\n"


def _json(value: Any) -> str:
    """JSON; its strings and lists of strings are TOML too once DEL is escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
