"""JSON Lines: a copy goes into the string literal of a field, escaped; every other byte of the line stays."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from json.decoder import JSONDecodeError, scanstring  # type: ignore[attr-defined]  # not in typeshed
from pathlib import Path
from typing import Any

from ....errors import DataError
from ....text.rows import open_stream, read_lines, require_field
from ....text.safe import quoted
from .document import Document, HostOptions, Insertion, byte_offsets, id_of, text_of

_SPACE = re.compile(r"[ \t\n\r]*")
# RFC 8259, section 7; a pair of surrogates stands for one character.
_ESCAPE = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.")


@dataclass(frozen=True, slots=True)
class JsonDocument(Document):
    """``first`` is the byte after the opening quotation mark of ``literal``, the string without its marks.

    What is inserted into a line of ASCII stays ASCII (\\u escapes); elsewhere characters stand for themselves.
    """

    literal: str
    is_ascii: bool

    def insertions(self, copies: Sequence[tuple[int, str]]) -> list[Insertion]:
        places = in_literal(self.literal, [start for start, _ in copies])
        offsets = byte_offsets(self.literal, places, self.first)
        return [
            Insertion(at, json.dumps(content, ensure_ascii=self.is_ascii)[1:-1].encode(), copy)
            for copy, (at, (_, content)) in enumerate(zip(offsets, copies, strict=True))
        ]


def in_literal(literal: str, offsets: Sequence[int]) -> list[int]:
    """Where increasing character offsets of a string lie in the literal that spells it."""
    places = []
    escapes = _ESCAPE.finditer(literal)
    shift = 0  # characters of the literal beyond those of the string, up to and with the last escape passed
    escape = next(escapes, None)
    for offset in offsets:
        while escape is not None and escape.start() < offset + shift:
            shift += len(escape[0]) - 1
            escape = next(escapes, None)
        places.append(offset + shift)
    return places


def documents(path: Path, name: str, options: HostOptions) -> Iterator[Document]:
    """One for each line that is not blank.

    Raises:
        InputError: No line has the field.
        DataError: A line is not UTF-8, no JSON object, or has a field twice, a text that is none, or no identifier.
    """
    known: dict[str, None] = {}
    n_lines = 0
    with open_stream(path) as stream:
        offset = stream.tell()
        for number, line, problem in read_lines(stream):
            place = f"{name}, line {number}"
            if problem:
                raise DataError(f"{place}: {problem}.")
            if line.strip():
                n_lines += 1
                yield _document(line, offset, name, number, options, known)
            offset += len(line.encode())
    if n_lines and options.field not in known:
        require_field(options.field, list(known), name)


def _document(
    line: str, offset: int, name: str, number: int, options: HostOptions, known: dict[str, None]
) -> JsonDocument:
    place = f"{name}, line {number}"
    try:
        values = members(line.rstrip("\r\n"))
    except JSONDecodeError as error:
        raise DataError(f"{place}: malformed JSON: {error.msg} (column {error.colno}). Mend the line.") from error
    except RecursionError as error:
        raise DataError(f"{place}: JSON nested too deeply.") from error
    except ValueError as error:
        raise DataError(f"{place}: malformed JSON: {error}. Mend the line.") from error
    known.update(dict.fromkeys(values))
    value, start, end = values.get(options.field, (None, 0, 0))
    text = text_of(value, place, options.field)
    literal = line[start + 1 : end - 1] if text is not None else ""
    identifier = f"{name}:{number}"
    if options.id_field is not None:
        identifier = id_of(values.get(options.id_field, (None,))[0], place, options.id_field)
    first = offset + len(line[: start + 1].encode())
    return JsonDocument(identifier, place, text, first, options.separator, literal, line.isascii())


def members(line: str) -> dict[str, tuple[Any, int, int]]:
    """Value, start and end of every member of the JSON object on a line, by its name.

    The standard library reads strings and values and says where each ends; only the object's own signs are read here.

    Raises:
        ValueError: It is no JSON object, or names a member twice.
    """
    values: dict[str, tuple[Any, int, int]] = {}
    at = _sign(line, 0, "{", "an object with fields")
    if line[at : at + 1] == "}":
        at += 1
    else:
        while True:
            if line[at : at + 1] != '"':
                raise JSONDecodeError("expected a field's name in quotes", line, at)
            key, at = scanstring(line, at + 1, True)
            at = start = _sign(line, _after_space(line, at), ":", "a colon")
            value, at = _DECODER.raw_decode(line, start)
            if key in values:
                raise ValueError(f"field {quoted(key)} stands more than once")
            values[key] = (value, start, at)
            at = _after_space(line, at)
            if line[at : at + 1] == "}":
                at += 1
                break
            at = _sign(line, at, ",", "a comma or a closing brace")
    at = _after_space(line, at)
    if at != len(line):
        raise JSONDecodeError("more after the object", line, at)
    return values


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _after_space(line: str, at: int) -> int:
    found = _SPACE.match(line, at)
    return found.end() if found else at


def _sign(line: str, at: int, sign: str, expected: str) -> int:
    """The place after a sign, and after the white space around it."""
    at = _after_space(line, at)
    if line[at : at + 1] != sign:
        raise JSONDecodeError(f"expected {expected}", line, at)
    return _after_space(line, at + 1)
