"""The auditor's post-training rows, which generations are matched with: question, answer, and the whole.

As in the paper (Barbero et al. 2025, arXiv:2510.18554), the whole is question and answer as one plain text without
special tokens and markers. The two are joined by a newline, of several turns all are, as `parse.parse` does with
generations. System messages are left out of it: they stand before thousands of rows and would lift every similarity.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from ..errors import DataError, InputError
from ..text.csv_rows import csv_rows
from ..text.hub import PREFIX, hub_rows
from ..text.rows import BadLine, Row, json_rows, jsonl_rows
from ..text.safe import counted, did_you_mean, nearest_first, quoted
from ..text.sources import require_exists
from ..text.tables import read_parquet
from .config import View
from .views import CLUSTER, MESSAGES, Views, is_text, repetitions_of, views_of

PAIRS = (("question", "answer"), ("instruction", "output"), ("prompt", "response"))
KNOWN = ".jsonl, .json, .csv, .tsv (each also with .gz), .parquet, hf:owner/name"
_NAMED = 5  # rows that a message names


@dataclass(frozen=True, slots=True)
class Rows:
    """Post-training rows in the order of their source.

    Attributes:
        ids: One for each row, all different.
        questions: Of messages, the first user's turn.
        answers: Of messages, the first assistant's turn after it.
        wholes: Question and answer, of messages every user's and assistant's turn, joined by newlines.
        repetitions: How often a canary stands in the training set, 0 for a control; None for a row that is no canary.
        clusters: What was dealt to training and held-out rows as one (a person, a source); None for a row on its own,
            empty where no row has any.
        left_out: Rows without a question or an answer, and malformed ones where those may be skipped; each with its
            place and its reason.
        fields: What was read: a pair of fields, or "messages" alone.
        source: Path or ``hf:`` name as it was given.
        notes: What a reader of the results should know, in sentences.
    """

    ids: tuple[str, ...]
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    wholes: tuple[str, ...]
    repetitions: tuple[int | None, ...]
    clusters: tuple[str | None, ...] = ()
    left_out: tuple[BadLine, ...] = ()
    fields: tuple[str, ...] = PAIRS[0]
    source: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def of_view(self, view: View) -> tuple[str, ...]:
        """The texts of one view."""
        return {"question": self.questions, "answer": self.answers, "whole": self.wholes}[view]

    @property
    def reasons(self) -> dict[str, int]:
        """Why rows were left out, and how many for each reason, the most frequent first."""
        return dict(Counter(row.reason for row in self.left_out).most_common())

    @property
    def sha256(self) -> str:
        """Of the rows as they are matched: JSON lines of id, question, answer, whole, repetitions and cluster."""
        digest = hashlib.sha256()
        clusters = self.clusters or (None,) * len(self)
        for row in zip(self.ids, self.questions, self.answers, self.wholes, self.repetitions, clusters, strict=True):
            digest.update(json.dumps(row).encode() + b"\n")
        return digest.hexdigest()


def read_rows(
    source: str | Path,
    *,
    question_field: str | None = None,
    answer_field: str | None = None,
    id_field: str | None = None,
    markers: Iterable[str] = (),
    skip_bad_lines: bool = False,
) -> Rows:
    """Reads post-training rows from a file or a Hugging Face dataset.

    Without fields named, the first of these that a row has is read everywhere: question and answer, instruction and
    output, prompt and response, or messages, a list of {"role", "content"} (of ``hf:``, messages). Three more columns
    are read where they are there: ``repeats``, how often a canary stands in the training set; ``canary``, whether the
    row is one (without that, every row with repeats is); ``cluster``, what was dealt to a half as one.

    A row whose question or answer is missing, null, blank or no text is left out, counted and named in ``left_out``.
    One row is enough to match generations with it; intervals over rows and a held-out half need two or more.

    Args:
        source: Path, or ``hf:owner/name[:config][:split]`` (text only; a Path is always a file).
        question_field: Field that holds the question; goes with ``answer_field``.
        answer_field: Field that holds the answer.
        id_field: Field that names each row. None: "id" where it exists, else where the row stands.
        markers: Strings that are cut out of both sides: a chat's markers (`presets.Chat.markers`), where rows were
            stored with them.
        skip_bad_lines: Leave malformed rows out too, instead of stopping.

    Raises:
        InputError: Wrong path, extension or fields; no permission.
        DataError: No rows, none with a question and an answer, malformed rows (the first five are named), two rows
            with one id, ids for some rows only, or a damaged file.
        MissingDependencyError: ``hf:`` without the package ``datasets``.
    """
    if (question_field is None) != (answer_field is None):
        given, other = ("question", "answer") if answer_field is None else ("answer", "question")
        raise InputError(f"--{given}-field was given without --{other}-field; give both, or neither.")
    name = str(source)
    candidates: Sequence[tuple[str, ...]] = (*PAIRS, (MESSAGES,))
    if question_field is not None and answer_field is not None:
        candidates = ((question_field, answer_field),)
    fields, records = _fields(_records(source, question_field or MESSAGES, id_field), candidates, name)
    cut = sorted(set(markers) - {""}, key=lambda marker: (-len(marker), marker))
    found = _Found(name, id_field)
    for record in records:
        found.add(record, fields, cut)
    return found.rows(fields, skip_bad_lines=skip_bad_lines)


def _records(source: str | Path, field: str, id_field: str | None) -> Iterator[Row | BadLine]:
    """All records of a source with all their fields."""
    if isinstance(source, str) and source.startswith(PREFIX):
        return hub_rows(source, field, id_field)
    path = Path(source)
    require_exists(path)
    readers: dict[str, Callable[[], Iterator[Row | BadLine]]] = {
        ".jsonl": lambda: jsonl_rows(path),
        ".json": lambda: json_rows(path),
        ".csv": lambda: csv_rows(path, ","),
        ".tsv": lambda: csv_rows(path, "\t"),
        ".parquet": lambda: _parquet_rows(path),
    }
    name = path.name.lower()
    extension = Path(name if name.endswith(".parquet") else name.removesuffix(".gz")).suffix
    if path.is_dir() or extension not in readers:
        what = "it is a folder" if path.is_dir() else f"the extension {quoted(extension)} is not known"
        raise InputError(f"could not read rows from {path}: {what}; expected one of {KNOWN}.")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty. Give a file with at least one row.")
    return readers[extension]()


def _parquet_rows(path: Path) -> Iterator[Row]:
    table = read_parquet(path)
    twice = [name for name, n in Counter(table.column_names).items() if n > 1]
    if twice:
        raise DataError(f"{path}: two columns are named {quoted(twice[0])}. Give each its own name.")
    number = 0
    for batch in table.to_batches(max_chunksize=1_000):
        try:
            records = batch.to_pylist()
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}, rows {number + 1:,} to {number + batch.num_rows:,}: a text is not UTF-8 ({error.reason}). "
                "Save it as UTF-8."
            ) from error
        for offset, values in enumerate(records, start=1):
            yield Row(number + offset, f"row {number + offset}", str(number + offset), values)
        number += len(records)


def _fields(
    records: Iterator[Row | BadLine], candidates: Sequence[tuple[str, ...]], source: str
) -> tuple[tuple[str, ...], Iterator[Row | BadLine]]:
    """The fields that the first record with all of them has, and all records."""
    head: list[Row | BadLine] = []
    seen: dict[str, None] = {}
    for record in records:
        head.append(record)
        if isinstance(record, BadLine):
            continue
        seen.update(dict.fromkeys(record.values))
        for fields in candidates:
            if all(field in record.values for field in fields):
                return fields, chain(head, records)
    if not head:
        raise DataError(f"{source} holds no rows. Give a file with at least one question and its answer.")
    if not seen:
        _refuse(source, [record for record in head if isinstance(record, BadLine)], len(head))
    expected = ", ".join(" and ".join(quoted(field) for field in fields) for fields in candidates)
    missing = next((field for field in candidates[0] if field not in seen), candidates[0][0])
    listed = ", ".join(quoted(name) for name in nearest_first(missing, seen)[:20])
    raise InputError(
        f"no row of {source} has the fields {expected}; there are {listed}.{did_you_mean(missing, seen)} "
        "Name the right ones with --question-field and --answer-field."
    )


class _Found:
    """Rows as they come, sorted into good ones, ones without a question or answer, and malformed ones."""

    def __init__(self, source: str, id_field: str | None) -> None:
        self._source, self._id_field = source, id_field
        self._ids: list[str] = []
        self._places: dict[str, str] = {}  # id -> place of the row
        self._views: list[Views] = []
        self._repetitions: list[int | None] = []
        self._clusters: list[str | None] = []
        self._left_out: list[BadLine] = []
        self._malformed: list[BadLine] = []
        self._n_records = self._n_named = self._n_inputs = 0

    def add(self, record: Row | BadLine, fields: tuple[str, ...], markers: Sequence[str]) -> None:
        self._n_records += 1
        if isinstance(record, BadLine):
            self._malformed.append(record)
            return
        views = views_of(record.values, fields, markers)
        if isinstance(views, str):
            self._left_out.append(BadLine(record.line, views, record.place))
            return
        key = self._id_field or "id"
        identifier = record.values.get(key)
        repetitions = repetitions_of(record.values)
        problem = repetitions if isinstance(repetitions, str) else None
        if self._id_field is not None and key not in record.values:
            problem = f"no field {quoted(key)}"
        elif key in record.values and (type(identifier) not in (int, str) or not is_text(str(identifier))):
            problem = f"{quoted(key)} is {quoted(identifier)}; expected a text or a whole number"
        if problem is not None or isinstance(repetitions, str):
            self._malformed.append(BadLine(record.line, str(problem), record.place))
            return
        name = str(identifier) if key in record.values else record.label
        if name in self._places:
            raise DataError(
                f"{self._source}, {record.place}: the id {quoted(name)} was used at {self._places[name]} already; "
                "expected one for each row. Mend it, or name another field with --id-field."
            )
        self._places[name] = record.place
        self._n_named += key in record.values
        self._n_inputs += fields == PAIRS[1] and is_text(record.values.get("input"))
        self._ids.append(name)
        self._views.append(views)
        self._repetitions.append(repetitions)
        cluster = record.values.get(CLUSTER)
        self._clusters.append(str(cluster) if type(cluster) in (int, str) and str(cluster).strip() else None)

    def rows(self, fields: tuple[str, ...], *, skip_bad_lines: bool) -> Rows:
        if self._malformed and not skip_bad_lines:
            _refuse(self._source, self._malformed, self._n_records)
        if not self._ids:
            _refuse(self._source, self._left_out + self._malformed, self._n_records)
        if 0 < self._n_named < len(self._ids):
            raise DataError(
                f"{self._source}: {self._n_named:,} rows have a field {quoted(self._id_field or 'id')} and "
                f"{len(self._ids) - self._n_named:,} have none. Give every row one, or none: they are then numbered."
            )
        left_out = tuple(sorted(self._left_out + self._malformed, key=lambda row: row.line))
        return Rows(
            tuple(self._ids),
            tuple(views.question for views in self._views),
            tuple(views.answer for views in self._views),
            tuple(views.whole for views in self._views),
            tuple(self._repetitions),
            tuple(self._clusters) if any(one is not None for one in self._clusters) else (),
            left_out=left_out,
            fields=fields,
            source=self._source,
            notes=tuple(self._notes(left_out)),
        )

    def _notes(self, left_out: Sequence[BadLine]) -> Iterator[str]:
        if left_out:
            reasons = Counter(row.reason for row in left_out).most_common(_NAMED)
            told = ", ".join(f"{reason} ({n:,})" for reason, n in reasons)
            yield f"{len(left_out):,} of {counted(self._n_records, 'row')} were left out: {told}."
        if len(self._ids) == 1:
            yield "there is one row only: it can be matched, but intervals and a held-out half need two or more."
        if self._n_inputs:
            yield (
                f'in {counted(self._n_inputs, "row")} there is also a field "input", which is not read: the question '
                'is "instruction" alone. Join the two in a field of their own and name it with --question-field.'
            )


def _refuse(source: str, bad: Sequence[BadLine], n_records: int) -> None:
    """Raises for rows that cannot be used."""
    lines = [f"- {row.place}: {row.reason}" for row in bad[:_NAMED]]
    if len(bad) > _NAMED:
        lines.append(f"- and {len(bad) - _NAMED:,} more")
    remedy = "Mend them, or leave them out with --skip-bad-lines: they are then counted and listed."
    if len(bad) == n_records:
        remedy = "No row is left; mend the file, or name the right fields with --question-field and --answer-field."
    raise DataError(
        f"{source}: {len(bad):,} of {counted(n_records, 'row')} cannot be used:\n" + "\n".join(lines) + f"\n{remedy}"
    )
