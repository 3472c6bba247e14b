"""File formats as streams of rows; what is wrong with one row is told beside it, not raised."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DataError, InputError
from .safe import did_you_mean, nearest_first, quoted

_LIST_HINT = " (where the whole file is one JSON list, name it *.json)"


class Row(NamedTuple):
    """One record of a source.

    Attributes:
        line: Where it begins: line in the file, or number of the row or item, from 1.
        place: The same for a person: "line 3", "b.txt, line 3", "row 7".
        label: Identifier for want of a better one, unique in the source.
        values: Field -> value.
    """

    line: int
    place: str
    label: str
    values: dict[str, Any]


class BadLine(NamedTuple):
    """A record that cannot be used; ``line`` and ``place`` as in `Row`."""

    line: int
    reason: str
    place: str


class Line(NamedTuple):
    """A physical line: number from 1, text with its end, and what is wrong with its bytes, if anything."""

    number: int
    text: str
    problem: str | None


def require_field(field: str, known: list[str], source: str) -> None:
    """Raises an InputError that lists the fields that exist, those most like ``field`` first."""
    if field not in known:
        _refuse_other_delimiter(known, source)
        names = nearest_first(field, known)
        listed = ", ".join(quoted(name) for name in names[:20]) + (", ..." if len(names) > 20 else "")
        raise InputError(
            f"{source} has no field {quoted(field)}; it has {listed or 'none'}.{did_you_mean(field, known)} "
            "Name the right one with --field (texts) or --id-field (identifiers)."
        )


def _refuse_other_delimiter(known: list[str], source: str) -> None:
    """A table whose header came out as one cell is cut at another character than its extension says."""
    name = source.lower().removesuffix(".gz")
    if len(known) != 1 or not name.endswith((".csv", ".tsv")):
        return
    delimiter = "," if name.endswith(".csv") else "\t"
    other = next((mark for mark in ",;\t|" if mark in known[0] and mark != delimiter), None)
    if other is not None:
        raise InputError(
            f"{source}: the header {quoted(known[0])} is a single column; its delimiter seems to be {other!r}, not "
            f"{delimiter!r}. Save the table with commas as .csv, or with tabs as .tsv."
        )


@contextmanager
def open_stream(path: Path) -> Iterator[gzip.GzipFile | io.BufferedReader]:
    """The file's bytes, unpacked when its name ends in .gz, after a UTF-8 byte order mark if there is one.

    Raises:
        InputError: The file cannot be opened.
        DataError: It is UTF-16 or UTF-32, no gzip, cut off, or damaged; also while it is read in the block.
    """
    try:
        raw = path.open("rb")
    except OSError as error:
        raise InputError(f"could not read {path}: {error.strerror}. Check the path and its permissions.") from error
    with raw:
        try:
            stream = gzip.GzipFile(fileobj=raw) if path.suffix.lower() == ".gz" else raw
            _skip_mark(stream, path)
            yield stream
        except EOFError as error:
            raise DataError(f"{path} is cut off: its gzip data end too early. Copy or download it again.") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path} is not sound gzip: {error}. Copy or download it again.") from error
        except OSError as error:
            raise DataError(f"could not read {path} to its end: {error}. Check the disk.") from error


def _skip_mark(stream: gzip.GzipFile | io.BufferedReader, path: Path) -> None:
    start = stream.peek(4)[:4]
    if start.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")):
        raise DataError(f"{path} is UTF-16 or UTF-32. Save it as UTF-8.")
    if start.startswith(b"\xef\xbb\xbf"):
        stream.read(3)


def read_lines(stream: gzip.GzipFile | io.BufferedReader) -> Iterator[Line]:
    """Lines that end in LF or CRLF, and nowhere else: U+2028 and the like stay inside a line.

    A NUL is a problem: no text holds one, and a file full of them is UTF-16.
    """
    offset = stream.tell()
    for number, raw in enumerate(stream, start=1):
        problem = None
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            text = raw.decode(errors="replace")
            byte = f"0x{raw[error.start]:02x}"
            problem = f"byte {byte} at offset {offset + error.start} of the file's text is not UTF-8"
        else:
            problem = nul_problem(raw, offset)
        offset += len(raw)
        yield Line(number, text, problem)


def nul_problem(raw: bytes, offset: int) -> str | None:
    """What is wrong with bytes that hold a NUL; ``offset`` is where they begin in the file's text."""
    at = raw.find(0)
    if at < 0:
        return None
    return f"byte 0x00 at offset {offset + at} of the file's text is a NUL; is it UTF-16? Save it as UTF-8"


def jsonl_rows(path: Path) -> Iterator[Row | BadLine]:
    """JSON Lines: one object on each line; blank lines are passed over."""
    n_seen = 0
    with open_stream(path) as stream:
        for number, text, problem in read_lines(stream):
            place = f"line {number}"
            if problem:
                yield BadLine(number, problem, place)
            elif text.strip():
                n_seen += 1
                value = _parsed(text.rstrip("\r\n"))
                if isinstance(value, dict):
                    yield Row(number, place, str(number), value)
                else:
                    is_list = n_seen == 1 and text.lstrip().startswith("[")
                    yield BadLine(number, value + _LIST_HINT if is_list else value, place)


def _parsed(text: str) -> dict[str, Any] | str:
    """The JSON object, or what is wrong with it."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        return f"malformed JSON: {error.msg} at column {error.colno}"
    except ValueError as error:
        return f"malformed JSON: {error}"
    except RecursionError:
        return "JSON nested too deeply"
    return value if isinstance(value, dict) else f"{_kind(value)}, not an object with fields"


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {quoted(twice)} stands more than once")
    return record


def _kind(value: object) -> str:
    """The JSON type of a value, with its article."""
    kinds = {bool: "a truth value", dict: "an object", list: "a list", str: "a text", type(None): "null"}
    return kinds.get(type(value), "a number" if isinstance(value, int | float) else f"a {type(value).__name__}")


def json_rows(path: Path) -> Iterator[Row | BadLine]:
    """One JSON array of objects."""
    with open_stream(path) as stream:
        content = stream.read()
    try:
        items = json.loads(content.decode(), parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} at offset {error.start} is not UTF-8. "
            "Save it as UTF-8."
        ) from error
    except json.JSONDecodeError as error:
        hint = " Is it JSON Lines? Then name it *.jsonl." if error.msg == "Extra data" else ""
        raise DataError(f"{path}, line {error.lineno}: malformed JSON: {error.msg}.{hint}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: malformed JSON: {error}.") from error
    if not isinstance(items, list):
        raise DataError(f"{path} holds {_kind(items)}; expected a list of objects, or JSON Lines in a *.jsonl file.")
    for number, item in enumerate(items, start=1):
        place = f"item {number}"
        if isinstance(item, dict):
            yield Row(number, place, str(number), item)
        else:
            yield BadLine(number, f"{_kind(item)}, not an object with fields", place)


def parquet_rows(path: Path, field: str, id_field: str | None) -> Iterator[Row | BadLine]:
    """Rows of a parquet file, only the columns ``field`` and the identifier's."""
    try:
        # Opened here, because pyarrow cannot open a path that is not UTF-8.
        with path.open("rb") as stream, pq.ParquetFile(stream, page_checksum_verification=True) as file:
            schema = file.schema_arrow
            require_field(field, schema.names, str(path))
            if id_field is not None:
                require_field(id_field, schema.names, str(path))
            columns = list(dict.fromkeys([field, id_field or "id"]))
            columns = [name for name in columns if name in schema.names]
            _require_text(path, field, schema)
            number = 0
            for batch in file.iter_batches(batch_size=10_000, columns=columns):
                yield from _batch_rows(batch, number)
                number += batch.num_rows
    except OSError as error:
        if isinstance(error, PermissionError | FileNotFoundError | IsADirectoryError):
            raise InputError(f"could not read {path}: {error.strerror}. Check the path.") from error
        raise DataError(f"{path} is damaged: {error}. Copy or download it again.") from error
    except pa.ArrowException as error:
        raise DataError(f"{path} is not sound parquet: {error}. Copy or download it again.") from error


def _require_text(path: Path, field: str, schema: pa.Schema) -> None:
    if schema.names.count(field) > 1:
        raise DataError(f"{path}: two columns are named {quoted(field)}. Give each its own name.")
    kind = schema.field(field).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise InputError(f"{path}: column {quoted(field)} holds {kind}; expected texts (string). Choose another field.")


def _batch_rows(batch: pa.RecordBatch, before: int) -> Iterator[Row | BadLine]:
    try:
        records = batch.to_pylist()
    except UnicodeDecodeError:  # find the rows that hold it
        for index in range(batch.num_rows):
            number = before + index + 1
            try:
                yield Row(number, f"row {number}", str(number), batch.slice(index, 1).to_pylist()[0])
            except UnicodeDecodeError as error:
                byte = f"0x{error.object[error.start]:02x}"
                reason = f"byte {byte} at offset {error.start} of the text is not UTF-8"
                yield BadLine(number, reason, f"row {number}")
        return
    for index, record in enumerate(records):
        number = before + index + 1
        yield Row(number, f"row {number}", str(number), record)
