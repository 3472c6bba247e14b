"""What is to be forgotten and what may pass, read from files: questions with answers, or with lettered options.

The fields are those of TOFU (arXiv:2401.06121), so that its files can be given as they are, and MMLU's CSV without a
header is read too.
"""

from __future__ import annotations

import csv
import string
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ..errors import DataError, InputError
from ..text.csv_rows import csv_rows
from ..text.rows import BadLine, Row, json_rows, jsonl_rows
from ..text.safe import counted, nearest_first, quoted
from ..text.sources import require_exists
from ..text.tables import read_parquet

PROMPTS: Final = ("question", "prompt", "instruction", "text")
ANSWERS: Final = ("answer", "response", "output", "continuation")
CLUSTERS: Final = ("cluster", "author", "source")
KNOWN: Final = ".jsonl, .json (a list, or JSON lines as TOFU has them), .csv, .parquet"
_LETTERS: Final = string.ascii_uppercase
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class QaRow:
    """A question, with what is known of it.

    Attributes:
        id: Where it stands in its file, or its field "id".
        cluster: Rows of one cluster, an author say, are dealt and resampled together; without such a field each row is
            one.
        prompt: The user's text.
        answer: The right answer; empty where the file has none.
        paraphrased_prompt: The question in other words, never trained on here; empty where there is none.
        paraphrased_answer: The right answer in other words.
        wrong: Wrong answers in the same words.
        alias_prompt: The question by another name, or over another fact.
        translated_prompt: The question in another language.
    """

    id: str
    cluster: str
    prompt: str
    answer: str = ""
    paraphrased_prompt: str = ""
    paraphrased_answer: str = ""
    wrong: tuple[str, ...] = ()
    alias_prompt: str = ""
    translated_prompt: str = ""

    @property
    def asked(self) -> str:
        """The whole text that a user sends."""
        return self.prompt


@dataclass(frozen=True, slots=True)
class ChoiceRow:
    """A question with options, of which ``right`` is the right one's place, from 0."""

    id: str
    cluster: str
    prompt: str
    options: tuple[str, ...]
    right: int

    @property
    def letters(self) -> tuple[str, ...]:
        return tuple(_LETTERS[: len(self.options)])

    @property
    def asked(self) -> str:
        """The question, its options on lines of their own, and "Answer:", as in the authors' code."""
        lines = [f"{letter}. {option}" for letter, option in zip(self.letters, self.options, strict=True)]
        return "\n".join([self.prompt, *lines, "Answer:"])


def read_qa(path: str | Path, *, cluster_size: int | None = None) -> list[QaRow]:
    """Questions of a file, in its order.

    The prompt is the first of `PROMPTS` that the first row has, the answer the first of `ANSWERS`, the cluster the
    first of `CLUSTERS`. Further fields: "paraphrased_question", "paraphrased_answer", "perturbed_answer" (a list),
    "alias_question", "translated_question". Others are not read.

    Args:
        path: A file of `KNOWN`.
        cluster_size: So many rows that stand together are one cluster, where the file does not say (TOFU: 20 of each
            author).

    Raises:
        InputError: No such file, or of a kind that is not read.
        DataError: No rows, no prompt, a value of the wrong kind or an id that stands twice; the first places are named.
    """
    path = Path(path)
    found: list[QaRow] = []
    bad: list[str] = []
    keys: _Keys | None = None
    for record in _records(path):
        if isinstance(record, BadLine):
            bad.append(f"{record.place}: {record.reason}")
            continue
        keys = keys or _Keys.of(record.values, path)
        try:
            found.append(keys.row(record))
        except ValueError as error:
            bad.append(f"{record.place}: {error}")
    _refuse(path, bad, len(found))
    _refuse_twice(path, [row.id for row in found])
    if cluster_size is None:
        return found
    if cluster_size < 1:
        raise InputError(f"the cluster size is {cluster_size}; expected 1 or more.")
    if keys is not None and keys.cluster is not None:
        raise InputError(f"{path} has a field {quoted(keys.cluster)}; leave the cluster size out.")
    return [replace(row, cluster=f"{place // cluster_size}") for place, row in enumerate(found)]


def read_choices(path: str | Path) -> list[ChoiceRow]:
    """Multiple-choice questions of a file: fields "question", "options" (or "choices"), "answer" (a letter or a place
    from 0); or a CSV: without a header, as MMLU's is, question, options and letter; with one, columns "question",
    "choice..." or "option..." in their order, and "answer".

    Raises:
        As `read_qa`.
    """
    path = Path(path)
    records = _lettered(path) if path.suffix.lower() == ".csv" else _records(path)
    found: list[ChoiceRow] = []
    bad: list[str] = []
    for record in records:
        if isinstance(record, BadLine):
            bad.append(f"{record.place}: {record.reason}")
            continue
        try:
            found.append(_choice(record))
        except ValueError as error:
            bad.append(f"{record.place}: {error}")
    _refuse(path, bad, len(found))
    _refuse_twice(path, [row.id for row in found])
    return found


def read_groups(path: str | Path, field: str) -> dict[str, str]:
    """Row id -> the value of a field, such as a language; for rows as `read_qa` and `read_choices` read them.

    Raises:
        As `read_qa`; or a row has no text in that field.
    """
    path = Path(path)
    found: dict[str, str] = {}
    bad: list[str] = []
    for record in _records(path):
        if isinstance(record, BadLine):
            bad.append(f"{record.place}: {record.reason}")
            continue
        try:
            found[_text(record.values, "id") or record.label] = _text(record.values, field, needed=True)
        except ValueError as error:
            bad.append(f"{record.place}: {error}")
    _refuse(path, bad, len(found))
    return found


@dataclass(frozen=True, slots=True)
class _Keys:
    """Which field of a file is which."""

    prompt: str
    answer: str | None
    cluster: str | None

    @classmethod
    def of(cls, values: dict[str, Any], path: Path) -> _Keys:
        def first(names: tuple[str, ...]) -> str | None:
            return next((name for name in names if name in values), None)

        prompt = first(PROMPTS)
        if prompt is None:
            listed = ", ".join(quoted(name) for name in nearest_first(PROMPTS[0], list(values))[:10])
            raise DataError(f"{path} has no field {' or '.join(PROMPTS)}; its first row has {listed or 'none'}.")
        return cls(prompt, first(ANSWERS), first(CLUSTERS))

    def row(self, record: Row) -> QaRow:
        values = record.values
        name = _text(values, "id") or record.label
        return QaRow(
            id=name,
            cluster=_text(values, self.cluster) or name,
            prompt=_text(values, self.prompt, needed=True),
            answer=_text(values, self.answer),
            paraphrased_prompt=_text(values, "paraphrased_question"),
            paraphrased_answer=_text(values, "paraphrased_answer"),
            wrong=_texts(values, "perturbed_answer"),
            alias_prompt=_text(values, "alias_question"),
            translated_prompt=_text(values, "translated_question"),
        )


def _text(values: dict[str, Any], key: str | None, *, needed: bool = False) -> str:
    value = None if key is None else values.get(key)
    if value is None and not needed:
        return ""
    if isinstance(value, int) and not isinstance(value, bool) and key in ("id", *CLUSTERS):
        return str(value)
    if not isinstance(value, str):
        found = "missing or null" if value is None else type(value).__name__
        raise ValueError(f"{quoted(key)} is {found}; expected a text")
    if needed and not value.strip():
        raise ValueError(f"{quoted(key)} is blank")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{quoted(key)} holds half of a surrogate pair, which is no character")
    return value


def _texts(values: dict[str, Any], key: str) -> tuple[str, ...]:
    value = values.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(one, str) and one.strip() for one in value):
        raise ValueError(f"{quoted(key)} is no list of texts")
    return tuple(value)


def _choice(record: Row) -> ChoiceRow:
    values = record.values
    options = _texts(values, "options") or _texts(values, "choices")
    if not 2 <= len(options) <= len(_LETTERS):
        raise ValueError(f'"options" holds {counted(len(options), "text")}; expected 2 to {len(_LETTERS)}')
    answer = values.get("answer")
    right = _LETTERS.find(answer.strip().upper()) if isinstance(answer, str) and len(answer.strip()) == 1 else answer
    if not isinstance(right, int) or isinstance(right, bool) or not 0 <= right < len(options):
        raise ValueError(f'"answer" is {quoted(answer)}; expected a letter of the options, or their place from 0')
    name = _text(values, "id") or record.label
    return ChoiceRow(name, _text(values, "cluster") or name, _text(values, "question", needed=True), options, right)


def _lettered(path: Path) -> Iterator[Row | BadLine]:
    """A CSV of choices: under a header with "question", columns "choice..." or "option...", and "answer"; or without
    one, question, options and letter."""
    require_exists(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = list(csv.reader(stream, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a CSV of UTF-8: {error}.") from error
    header = lines[0] if lines and "question" in lines[0] and "answer" in lines[0] else None
    columns = len(lines[0]) if lines else 0
    unnamed = ["question", *[f"choice{place}" for place in range(columns - 2)], "answer"]
    names = unnamed if header is None else header
    for number, cells in enumerate(lines[1:] if header else lines, start=2 if header else 1):
        place = f"row {number}"
        if len(cells) != len(names):
            yield BadLine(number, f"{counted(len(cells), 'cell')}; expected {len(names)}, as above", place)
            continue
        values: dict[str, Any] = dict(zip(names, cells, strict=True))
        values["options"] = [values[name] or "(empty)" for name in names if name.startswith(("choice", "option"))]
        if header and values["answer"].strip().isdecimal():
            values["answer"] = int(values["answer"])
        yield Row(number, place, str(number), values)


def _records(path: Path) -> Iterator[Row | BadLine]:
    require_exists(path)
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".jsonl"):
        return jsonl_rows(path)
    if name.endswith(".json"):
        return json_rows(path) if _is_list(path) else jsonl_rows(path)
    if name.endswith((".csv", ".tsv")):
        return csv_rows(path, "\t" if name.endswith(".tsv") else ",")
    if name.endswith(".parquet"):
        rows = read_parquet(path).to_pylist()
        return (Row(number, f"row {number}", str(number), values) for number, values in enumerate(rows, start=1))
    raise InputError(f"{path} is of a kind that is not read; expected {KNOWN}.")


def _is_list(path: Path) -> bool:
    if path.name.lower().endswith(".gz"):
        return True
    with path.open("rb") as stream:
        return stream.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def _refuse(path: Path, bad: list[str], n_good: int) -> None:
    if bad:
        more = f" ({len(bad):,} in all)" if len(bad) > _NAMED else ""
        raise DataError(f"{path}: {'; '.join(bad[:_NAMED])}{more}. Mend these rows or take them out.")
    if not n_good:
        raise DataError(f"{path} holds no rows; expected one or more.")


def _refuse_twice(path: Path, ids: list[str]) -> None:
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            raise DataError(f"{path}: two rows have the id {quoted(one)}; expected one each.")
        seen.add(one)
