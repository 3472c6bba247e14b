"""Read texts from the user's files: every one counted, every bad one named.

A text that is silently lost or changed would change the numbers that rest on it, so nothing is guessed: a row that
cannot be used stops the reading, or, when the caller allows it, is left out and recorded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from ..errors import AuditError, DataError, InputError
from .csv_rows import csv_rows
from .hub import PREFIX, hub_rows
from .plain_files import EXTENSIONS as TEXT_EXTENSIONS
from .plain_files import Unit, text_files, text_rows
from .rows import BadLine, Row, json_rows, jsonl_rows, parquet_rows, require_field
from .safe import printable, quoted
from .sources import NOTHING, LeftOut, hash_of_files, require_exists, states

KNOWN: Final = ".jsonl, .json, .csv, .tsv, .txt (each also with .gz), .parquet, a folder of .txt, hf:owner/name"
_NAMED = 5  # bad lines that a message names; the rest are counted


class _Good(NamedTuple):
    """A usable record; ``identifier`` is None when it has none of its own."""

    line: int
    place: str
    label: str
    identifier: str | None
    text: str


@dataclass(frozen=True, slots=True)
class TextTable:
    """Texts with their identifiers, and what was left out.

    Attributes:
        ids: One for each text, all different, none empty.
        texts: As they stand in the source; none is blank.
        bad: Records that were left out, in order of the source; empty unless ``skip_bad_lines`` was set.
        source: Path or ``hf:`` name as it was given.
        sha256: SHA-256 of the file as it lies on disk; of a folder, of the lines ``<sha256>  <relative path>`` of its
            texts that can be read, in order of path; of a dataset, of the JSON lines ``["id", "text"]`` of the texts
            read.
        names: What a message calls each text: its identifier, or where it stands ("line 3") when it has none.
        left_out: What of a folder was not read.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    bad: tuple[BadLine, ...]
    source: str
    sha256: str
    names: tuple[str, ...]
    left_out: LeftOut = NOTHING

    def __len__(self) -> int:
        return len(self.texts)


def read_texts(
    source: str | Path,
    *,
    field: str = "text",
    id_field: str | None = None,
    skip_bad_lines: bool = False,
    limit: int | None = None,
    unit: Unit = "file",
) -> TextTable:
    """Reads the texts of a file, a folder of .txt files or a Hugging Face dataset.

    Formats, by extension: .jsonl (one object on each line), .json (a list of objects), .csv and .tsv (the first line
    names the columns), .txt, each also with .gz; .parquet; ``hf:owner/name[:config][:split]``. All are UTF-8, with or
    without a byte order mark; lines end in LF or CRLF. Texts come out as they stand, except that CRLF becomes LF in
    .txt. Of a folder, every .txt and .txt.gz file at any depth is read, in order of path; hidden ones are not.

    A record is bad when it is malformed, lacks the field, or its text is null, blank, no text, or not UTF-8; and when
    its identifier is missing where others have one, is neither a text nor a whole number, or was used before. A file
    of a folder that cannot be read counts as one bad record.

    Args:
        source: Path, or ``hf:`` name (text only; a Path is always a file).
        field: Field or column that holds the text; not used for .txt.
        id_field: Field that holds the identifier. None: "id" when there is one, else where the record stands: its
            line (row, item) number; for .txt the file's name or relative path, and ``path:line`` for parts of it.
        skip_bad_lines: Leave bad records out and list them in ``bad``, instead of stopping; but never the greater part
            for want of an identifier.
        limit: Stop after that many texts, 1 or more; what follows is not looked at, and only ``sha256`` covers it.
        unit: What is one text of a .txt file: the "file", a "line" or a "paragraph" (ended by a blank line).

    Raises:
        InputError: Wrong path, extension, field or argument; no permission.
        DataError: Bad records (the first five are named), a damaged or empty file, or one that changed meanwhile.
        MissingDependencyError: ``hf:`` without the package ``datasets``.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; expected 1 or more.")
    name = str(source)
    if isinstance(source, str) and source.startswith(PREFIX):
        good, bad = _collect(hub_rows(source, field, id_field), name, field, id_field, skip_bad_lines, limit)
        return _table(good, bad, name, None)
    if isinstance(source, str) and "://" in source:
        raise InputError(
            f"{source} is an address, and nothing is fetched from addresses. Download the file and give its path, or "
            "name a Hugging Face dataset: hf:owner/name."
        )
    path = Path(source)
    require_exists(path)
    files, left_out = text_files(path) if path.is_dir() else ([path], NOTHING)
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{path} is empty. Give a file with at least one text.")
    reader = _reader(path, files, field, id_field, unit)
    before, digest = states(files), hash_of_files(path, files)
    good, bad = _collect(reader(), name, field, id_field, skip_bad_lines, limit)
    if states(files) != before:
        raise DataError(f"{path} changed while it was read. Read it again when nothing writes to it.")
    return _table(good, bad, name, digest, left_out)


def _table(
    good: list[_Good], bad: list[BadLine], source: str, sha256: str | None, left_out: LeftOut = NOTHING
) -> TextTable:
    ids = tuple(row.label if row.identifier is None else row.identifier for row in good)
    texts = tuple(row.text for row in good)
    names = tuple(row.place if row.identifier is None else row.identifier for row in good)
    return TextTable(ids, texts, tuple(bad), source, sha256 or _hash_of_texts(ids, texts), names, left_out)


def _reader(
    path: Path, files: list[Path], field: str, id_field: str | None, unit: Unit
) -> Callable[[], Iterator[Row | BadLine]]:
    """The stream of rows of a path, by its extension; nothing is opened yet."""
    name = path.name.lower()
    if path.is_dir() or name.endswith(TEXT_EXTENSIONS):
        if unit not in ("file", "line", "paragraph"):
            raise InputError(f"unit is {quoted(unit)}; expected 'file', 'line' or 'paragraph'.")
        if id_field is not None:
            raise InputError(f"{path}: .txt has no fields, so there is no {quoted(id_field)}. Leave --id-field out.")
        return lambda: _folder_rows(path, files, field, unit)
    if name.endswith(".parquet"):
        return lambda: parquet_rows(path, field, id_field)
    extension = Path(name.removesuffix(".gz")).suffix
    readers: dict[str, Callable[[], Iterator[Row | BadLine]]] = {
        ".jsonl": lambda: jsonl_rows(path),
        ".json": lambda: json_rows(path),
        ".csv": lambda: csv_rows(path, ","),
        ".tsv": lambda: csv_rows(path, "\t"),
    }
    if extension not in readers:
        raise InputError(f"{path}: the extension {quoted(extension)} is not known; expected one of {KNOWN}.")
    return readers[extension]


def _folder_rows(path: Path, files: list[Path], field: str, unit: Unit) -> Iterator[Row | BadLine]:
    if not path.is_dir():
        yield from text_rows(path, name=None, field=field, unit=unit)
        return
    for file in files:
        name = file.relative_to(path).as_posix()
        try:  # read to its end before a row is given, so that no part of a damaged file counts
            rows: list[Row | BadLine] = list(text_rows(file, name=name, field=field, unit=unit))
        except AuditError as error:
            rows = [BadLine(1, str(error), name)]
        yield from rows


def _collect(
    rows: Iterable[Row | BadLine], source: str, field: str, id_field: str | None, skip: bool, limit: int | None
) -> tuple[list[_Good], list[BadLine]]:
    """Sorts good rows from bad ones."""
    key = "id" if id_field is None else id_field
    good: list[_Good] = []
    bad: list[BadLine] = []
    used: dict[str, str] = {}
    seen: dict[str, None] = {}
    n_records = 0
    for row in rows:
        n_records += 1
        if isinstance(row, BadLine):
            bad.append(row)
            continue
        seen.update(dict.fromkeys(row.values))
        reason = (
            _text_problem(row.values, field)
            or _id_problem(row.values, key, used, needed=id_field is not None)
            or _name_problem(row.label)
        )
        if reason:
            bad.append(BadLine(row.line, reason, row.place))
            continue
        identifier = str(row.values[key]) if key in row.values else None
        if identifier is not None:
            used[identifier] = row.place
        good.append(_Good(row.line, row.place, row.label, identifier, row.values[field]))
        if len(good) == limit:
            break
    if seen:
        require_field(field, list(seen), source)
        if id_field is not None:
            require_field(id_field, list(seen), source)
    if used and len(used) < len(good):
        n_without = len(good) - len(used)
        if skip and n_without > len(used):
            raise DataError(
                f"{source}: {n_without} records have no field {quoted(key)} and {len(used)} have one, so skipping "
                "would leave out the greater part. Give every record one, or none: they are then numbered."
            )
        reason = f"no field {quoted(key)}, which other records have"
        bad += [BadLine(row.line, reason, row.place) for row in good if row.identifier is None]
        good = [row for row in good if row.identifier is not None]
    _judge(source, n_records, len(good), bad, skip)
    return good, bad


def _text_problem(values: dict[str, Any], field: str) -> str | None:
    if field not in values:
        return f"no field {quoted(field)}; it has {', '.join(quoted(name) for name in list(values)[:8]) or 'none'}"
    text = values[field]
    if text is None:
        return f"{quoted(field)} is null"
    if not isinstance(text, str):
        return f"{quoted(field)} is {quoted(text)} ({type(text).__name__}), not a text"
    if not text.strip():
        return f"{quoted(field)} is {'blank' if text else 'empty'}"
    return _surrogate_problem(text, field)


def _surrogate_problem(text: str, field: str) -> str | None:
    """JSON can spell half of a surrogate pair, which UTF-8 and parquet cannot store."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"character {error.start + 1} of {quoted(field)} is half of a surrogate pair ({text[error.start]!a})"
    return None


def _id_problem(values: dict[str, Any], key: str, used: dict[str, str], *, needed: bool) -> str | None:
    if key not in values:
        return f"no field {quoted(key)}" if needed else None
    identifier = values[key]
    if isinstance(identifier, bool) or not isinstance(identifier, int | str):
        return f"{quoted(key)} is {quoted(identifier)}; expected a text or a whole number"
    if not str(identifier).strip():
        return f"{quoted(key)} is empty"
    if str(identifier) in used:
        return f"{quoted(key)} {quoted(str(identifier))} was used at {used[str(identifier)]} already"
    return _surrogate_problem(str(identifier), key)


def _name_problem(label: str) -> str | None:
    """A file's name becomes the text's identifier, which has to be UTF-8."""
    return "the name of the file is not UTF-8. Rename it" if printable(label) != label else None


def _judge(source: str, n_records: int, n_good: int, bad: list[BadLine], skip: bool) -> None:
    """Raises unless the texts can be used."""
    if n_records == 0:
        raise DataError(f"{source} holds no records. Give a file with at least one text.")
    if not bad or (skip and n_good):
        return
    lines = [f"- {line.place}: {line.reason}" for line in bad[:_NAMED]]
    if len(bad) > _NAMED:
        lines.append(f"- and {len(bad) - _NAMED} more")
    remedy = "Mend them, or leave them out with --skip-bad-lines: they are then counted and listed in the run."
    if skip:
        remedy = "No text is left; mend the file."
    raise DataError(f"{source}: {len(bad)} of {n_records} records cannot be used:\n" + "\n".join(lines) + f"\n{remedy}")


def _hash_of_texts(ids: Iterable[str], texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for pair in zip(ids, texts, strict=True):
        digest.update(json.dumps(pair, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()
