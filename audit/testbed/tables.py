"""A world on disk: one parquet table for each kind of record, and back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from ..text.files import write_json
from ..text.tables import read_parquet, write_parquet
from .books import BookFact, BookName, Chapter, Probe
from .documents import Document
from .styles import StyleText
from .world import Person, Row, World

Record = TypeVar("Record")

#: Field of `World` -> class of its records; the table's file is named like the field.
RECORDS: dict[str, type[Any]] = {
    "documents": Document,
    "people": Person,
    "rows": Row,
    "chapters": Chapter,
    "names": BookName,
    "book_facts": BookFact,
    "probes": Probe,
    "style_texts": StyleText,
}


def to_table(records: Sequence[Any], kind: type[Any]) -> pa.Table:
    """One column for each field of the dataclass ``kind``; tuples become lists."""
    names = [field.name for field in dataclasses.fields(kind)]
    return pa.table({name: [_plain(getattr(record, name)) for record in records] for name in names})


def from_table(table: pa.Table, kind: type[Record]) -> tuple[Record, ...]:
    """The records of a table that `to_table` made."""
    return tuple(
        kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in row.items()})
        for row in table.to_pylist()
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def write_world(world: World, folder: Path) -> None:
    """Write ``<field>.parquet`` for each kind of record, and the rest to ``world.json``."""
    for name, kind in RECORDS.items():
        write_parquet(folder / f"{name}.parquet", to_table(getattr(world, name), kind))
    rest = {
        "size": world.size,
        "seed": world.seed,
        "corpus_sha256": world.corpus_sha256,
        "vocabulary_texts": list(world.vocabulary_texts),
    }
    write_json(folder / "world.json", rest)


def read_world(folder: Path) -> World:
    """The world that `write_world` wrote."""
    rest = json.loads((folder / "world.json").read_text(encoding="utf-8"))
    records: dict[str, Any] = {
        name: from_table(read_parquet(folder / f"{name}.parquet"), kind) for name, kind in RECORDS.items()
    }
    return World(
        size=rest["size"],
        seed=rest["seed"],
        corpus_sha256=rest["corpus_sha256"],
        vocabulary_texts=tuple(rest["vocabulary_texts"]),
        **records,
    )
