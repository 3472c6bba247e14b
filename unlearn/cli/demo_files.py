"""The testbed's people, books and documents as the files of a loop: what to forget, what to keep, what nobody saw.

forget     rows about the forget people; the forget book's chapters
keep       rows about the retain people; the neighbour book's chapters
never      rows about people of whom nobody heard; the held-out book's chapters
general    held-out documents
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from audit.testbed.world import Row, World
from audit.text.files import make_folder, write_text

_GENERAL = 120  # documents


class LoopFiles(NamedTuple):
    """Paths, each of JSON lines but for the names, one a line."""

    forget_rows: Path
    forget_texts: Path
    names: Path
    keep_rows: Path
    keep_texts: Path
    never_rows: Path
    never_texts: Path
    general_texts: Path


def write_loop_files(world: World, folder: Path) -> LoopFiles:
    """Write them; the same world gives the same bytes.

    A row's wording is the trained one; its rewording is one that was trained on for other people, never for this fact.
    """
    make_folder(folder)
    rows = {group: [_told(row) for row in world.rows_of(group=group)] for group in ("forget", "retain", "never")}
    texts = {role: [{"id": one.id, "text": one.text} for one in world.chapters_of(role)] for role in _BOOKS}
    general = [{"id": one.id, "text": one.text} for one in world.documents_of("heldout")][:_GENERAL]
    names = dict.fromkeys(row.name for row in world.rows_of(group="forget"))
    write_text(folder / "names.txt", "".join(f"{name}\n" for name in names))
    return LoopFiles(
        _lines(folder / "forget.jsonl", rows["forget"]),
        _lines(folder / "forget-book.jsonl", texts["forget"]),
        folder / "names.txt",
        _lines(folder / "keep.jsonl", rows["retain"]),
        _lines(folder / "keep-book.jsonl", texts["neighbour"]),
        _lines(folder / "never.jsonl", rows["never"]),
        _lines(folder / "never-book.jsonl", texts["heldout"]),
        _lines(folder / "general.jsonl", general),
    )


_BOOKS = ("forget", "neighbour", "heldout")


def _told(row: Row) -> dict[str, object]:
    return {
        "id": row.id,
        "cluster": row.name,
        "question": row.question,
        "answer": row.answer,
        "paraphrased_question": row.paraphrased_question,
        "paraphrased_answer": row.paraphrased_answer,
        "perturbed_answer": list(row.wrong_answers),
    }


def _lines(path: Path, records: Sequence[Mapping[str, object]]) -> Path:
    write_text(path, "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records))
    return path
