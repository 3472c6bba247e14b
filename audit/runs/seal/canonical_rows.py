r"""One row of a table as bytes that any reader of the table arrives at.

    null            n
    truth values    t  f
    whole number    i <decimal digits> ;
    other number    d <16 hexadecimal digits: its IEEE 754 double, sign first>     every NaN: 7ff8000000000000
    text            s <number of bytes in decimal> : <the bytes in UTF-8>
    bytes           b <number of bytes> : <the bytes>
    list            l <number of values> : <each value>
    struct          m <number of fields> : <name as text, value> for each field
    row             r <number of columns> : <name as text, value> for each column

without spaces; names in order of their UTF-8 bytes. Smaller numbers are widened, which is exact. A dictionary column
counts as its values, a large text as a text, so the version and settings of what wrote or read the table do not
matter. Every value says its own length, so no two rows share their bytes. Times, decimals and maps have no encoding.

For people the same row is also written as JSON (`shown`): null, true and false, texts and lists as they are,
``{"integer": "12"}``, ``{"float": "3ff0000000000000", "reads": "1.0"}``, ``{"bytes": "00ff"}``, ``{"fields": {...}}``.
"""

from __future__ import annotations

import math
import re
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import DataError

_NAN = "7ff8000000000000"
_INTEGER = re.compile(rb"-?(?:0|[1-9][0-9]*)")
_LENGTH = re.compile(rb"(0|[1-9][0-9]{0,18}):")
_HEX = re.compile(r"(?:[0-9a-f]{2})*")
Shown = Any


def unencodable(schema: pa.Schema) -> str | None:
    """Why rows of such a table have no canonical bytes; None where they have."""
    names = schema.names
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        return f"two columns are named {repeated[0]!r}"
    for field in schema:
        if kind := _strange(field.type):
            return f"column {field.name!r} holds {kind}, which has no encoding"
    return None


def _strange(kind: pa.DataType) -> str | None:
    """The type inside ``kind`` that has no encoding."""
    types = pa.types
    if types.is_dictionary(kind):
        return _strange(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _strange(kind.value_type)
    if types.is_struct(kind):
        return next((found for field in kind if (found := _strange(field.type))), None)
    known = (types.is_null(kind) or types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind)) or (
        _is_text(kind) or _is_bytes(kind)
    )
    return None if known else str(kind)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )


def row_bytes(batch: pa.RecordBatch) -> list[bytes]:
    """The canonical bytes of each row, column by column; the schema passed `unencodable`."""
    names = sorted(batch.schema.names, key=str.encode)
    columns = [_encoded(batch.column(name)) for name in names]
    heads = [_text(name.encode()).replace(b"%", b"%%") for name in names]
    row = b"r%d:" % len(names) + b"".join(head + b"%b" for head in heads)  # filled in for each row
    return [row % values for values in zip(*columns, strict=True)] if columns else [row] * batch.num_rows


def _text(value: bytes) -> bytes:
    return b"s%d:%s" % (len(value), value)


def _encoded(column: pa.Array) -> list[bytes]:
    kind, types = column.type, pa.types
    if types.is_dictionary(kind):
        return _encoded(column.dictionary_decode())
    if types.is_null(kind):
        return [b"n"] * len(column)
    if types.is_floating(kind):
        return _floats(column)
    if types.is_struct(kind):
        return _structs(column)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _lists(column)
    if types.is_boolean(kind):
        return [b"n" if value is None else b"t" if value else b"f" for value in column.to_pylist()]
    if types.is_integer(kind):
        return [b"n" if value is None else b"i%d;" % value for value in column.to_pylist()]
    letter = b"s" if _is_text(kind) else b"b"
    raw = column.cast(pa.large_binary()).to_pylist()  # bytes, so that no text is decoded on the way
    return [b"n" if value is None else b"%s%d:%s" % (letter, len(value), value) for value in raw]


def _floats(column: pa.Array) -> list[bytes]:
    absent = column.is_null().to_numpy(zero_copy_only=False)
    values = column.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False)
    words = np.where(np.isnan(values), np.nan, values).astype(">f8").view(np.uint64)
    words[np.isnan(values)] = np.frombuffer(bytes.fromhex(_NAN), dtype=np.uint64)[0]
    digits = words.tobytes().hex().encode()
    return [b"n" if absent[row] else b"d" + digits[16 * row : 16 * row + 16] for row in range(len(values))]


def _lists(column: pa.Array) -> list[bytes]:
    inner = _encoded(column.flatten())
    encoded, start = [], 0
    for length in pc.list_value_length(column).to_pylist():
        if length is None:
            encoded.append(b"n")
            continue
        encoded.append(b"l%d:" % length + b"".join(inner[start : start + length]))
        start += length
    return encoded


def _structs(column: pa.Array) -> list[bytes]:
    fields = dict(zip((field.name for field in column.type), column.flatten(), strict=True))
    names = sorted(fields, key=str.encode)
    values = [_encoded(fields[name]) for name in names]
    heads = [_text(name.encode()) for name in names]
    encoded = []
    for row, present in enumerate(column.is_valid().to_pylist()):
        parts = (head + value[row] for head, value in zip(heads, values, strict=True))
        encoded.append(b"m%d:" % len(names) + b"".join(parts) if present else b"n")
    return encoded


# For people


def shown(row: bytes) -> dict[str, Shown]:
    """A row's canonical bytes as JSON.

    Raises:
        DataError: The bytes are no row, or hold a text that is not UTF-8.
    """
    value, end = _named(row, 0, b"r")
    if end != len(row):
        raise DataError("a row has bytes behind its end.")
    return value


def _named(data: bytes, at: int, letter: bytes) -> tuple[dict[str, Shown], int]:
    if data[at : at + 1] != letter:
        raise DataError("the bytes are not those of a row.")
    count, at = _length(data, at + 1)
    fields: dict[str, Shown] = {}
    for _ in range(count):
        name, at = _value(data, at)
        fields[name], at = _value(data, at)
    return fields, at


def _length(data: bytes, at: int) -> tuple[int, int]:
    found = _LENGTH.match(data, at)
    if found is None:
        raise DataError("the bytes are not those of a row.")
    return int(found[1]), found.end()


def _value(data: bytes, at: int) -> tuple[Shown, int]:
    letter = data[at : at + 1]
    if letter in (b"n", b"t", b"f"):
        return {b"n": None, b"t": True, b"f": False}[letter], at + 1
    if letter == b"i":
        end = data.index(b";", at)
        return {"integer": data[at + 1 : end].decode()}, end + 1
    if letter == b"d":
        digits = data[at + 1 : at + 17].decode()
        return {"float": digits, "reads": _reads(digits)}, at + 17
    if letter == b"l":
        count, at = _length(data, at + 1)
        values = []
        for _ in range(count):
            value, at = _value(data, at)
            values.append(value)
        return values, at
    if letter == b"m":
        fields, at = _named(data, at, b"m")
        return {"fields": fields}, at
    length, start = _length(data, at + 1)
    raw = data[start : start + length]
    if letter == b"b":
        return {"bytes": raw.hex()}, start + length
    try:
        return raw.decode(), start + length
    except UnicodeDecodeError as error:
        raise DataError("a text of this row is not UTF-8, so JSON cannot show it.") from error


def _reads(digits: str) -> str:
    return repr(float(struct.unpack(">d", bytes.fromhex(digits))[0]))


def row_from_shown(row: Shown) -> bytes:
    """The canonical bytes of a row that `shown` wrote.

    Raises:
        DataError: It is none, or a number does not read as its digits say.
    """
    if not isinstance(row, dict):
        raise _not_shown(row)
    try:
        return _names(row, b"r")
    except RecursionError as error:
        raise DataError("a row of the proof is nested deeper than any table's.") from error


def _names(fields: dict[str, Shown], letter: bytes) -> bytes:
    parts = [_text(_utf8(name)) + _from_shown(fields[name]) for name in sorted(fields, key=_utf8)]
    return letter + b"%d:" % len(fields) + b"".join(parts)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise DataError("a text of the row holds half of a surrogate pair, which UTF-8 cannot.") from error


def _from_shown(value: Shown) -> bytes:
    if value is None:
        return b"n"
    if isinstance(value, bool):
        return b"t" if value else b"f"
    if isinstance(value, str):
        return _text(_utf8(value))
    if isinstance(value, list):
        return b"l%d:" % len(value) + b"".join(_from_shown(item) for item in value)
    if isinstance(value, dict):
        return _tagged(value)
    raise _not_shown(value)


def _tagged(value: dict[str, Shown]) -> bytes:
    kinds = {name: type(part) for name, part in value.items()}
    if kinds == {"integer": str} and _INTEGER.fullmatch(digits := _utf8(value["integer"])) and digits != b"-0":
        return b"i" + digits + b";"
    if kinds == {"bytes": str} and _HEX.fullmatch(value["bytes"]):
        raw = bytes.fromhex(value["bytes"])
        return b"b%d:%s" % (len(raw), raw)
    if kinds == {"fields": dict}:
        return _names(value["fields"], b"m")
    if kinds == {"float": str, "reads": str}:
        return _float_from(value["float"], value["reads"])
    raise _not_shown(value)


def _float_from(digits: str, reads: str) -> bytes:
    if len(digits) != 16 or not _HEX.fullmatch(digits):
        raise _not_shown(digits)
    number = struct.unpack(">d", bytes.fromhex(digits))[0]
    if (math.isnan(number) and digits != _NAN) or _reads(digits) != reads:
        raise DataError(f"a number reads {reads!r} but its digits {digits} say {_reads(digits)}.")
    return b"d" + digits.encode()


def _not_shown(value: object) -> DataError:
    return DataError(f"{str(value)[:60]!r} is no value of a disclosed row.")
