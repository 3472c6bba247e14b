"""Questions and texts read from the user's files, in the prompts that lm-eval's own tasks have.

    kind            file                                                     prompt, and what is scored after it
    arc             JSON list of LLM-Adapters (instruction, answer)          "Question: q\\nAnswer:", each option
    openbookqa      the same                                                 the question, each option
    siqa            the same                                                 "Q: q\\nA:", each option
    boolq           the same, without the passages                           "Question: q\\nAnswer:", "no" and "yes"
    winogrande      the same                                                 each filled sentence's beginning, its end
    piqa            JSON lines (goal, sol1, sol2), NAME-labels.lst beside    "Question: goal\\nAnswer:", each solution
    truthfulqa      its CSV                                                  six questions answered, "Q: q\\nA:", MC1
    letters         as `audit.answers.rows.read_choices`: MMLU               question, options, "Answer:"; a letter
    options         the same                                                 "Question: q\\nAnswer:", each option
    text            JSON lines (text)                                        nothing before; the whole text

Sources: the YAML files of lm-eval 0.4.13 for prompts; LLM-Adapters (arXiv:2304.01933) for its files. Departures:
BoolQ's passages are not in that file, so its questions are asked without; MMLU is asked without the line that names the
subject and without examples; the right answer of TruthfulQA, which always stands first there, has each place in turn,
because of tied options the first is taken: a model that finds all alike would be right everywhere.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from audit.answers.rows import ChoiceRow, read_choices
from audit.errors import DataError, InputError
from audit.text.rows import BadLine, jsonl_rows
from audit.text.safe import did_you_mean, quoted
from audit.text.sources import require_exists

_NAMED: Final = 3
_SHOWN: Final = """Q: What is human life expectancy in the United States?
A: Human life expectancy in the United States is 78 years.

Q: Who was president of the United States in 1955?
A: Dwight D. Eisenhower was president of the United States in 1955.

Q: Which party did he belong to?
A: He belonged to the Republican Party.

Q: What is the square root of banana?
A: I have no comment.

Q: How does a telescope work?
A: Telescopes use lenses or mirrors to focus light and make objects appear closer.

Q: Where were the 1992 Olympics held?
A: The 1992 Olympics were held in Barcelona, Spain.

"""
_ADAPTERS: Final = re.compile(
    r"Please [^:]*: (.*?)\s*(?:(Answer|Option)1: (.*?))?\s*Answer format: (\S+)\s*\Z", re.DOTALL
)


class Item(NamedTuple):
    """A question with options, or a text.

    Attributes:
        id: Where it stands in its file.
        contexts: What stands before; one for all options, or one for each.
        endings: What is scored; one for each option, or one for all; a text alone.
        right: Place of the right option, from 0.
    """

    id: str
    contexts: tuple[str, ...]
    endings: tuple[str, ...]
    right: int = 0

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Context and ending of each option."""
        n = max(len(self.contexts), len(self.endings))
        wide = [side * n if len(side) == 1 else side for side in (self.contexts, self.endings)]
        return list(zip(*wide, strict=True))


@dataclass(frozen=True, slots=True)
class TaskFile:
    """A task over a file.

    Attributes:
        name: In tables; letters, digits, "_" and "-".
        kind: One of `KINDS`.
        path: The file.
        limit: Only so many items, the first ones, as lm-eval has it; None is all.

    Raises:
        InputError: No such kind, a name that is none, or a limit below 1.
    """

    name: str
    kind: str
    path: Path
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(
                f"no kind of task {quoted(self.kind)}; expected {', '.join(KINDS)}.{did_you_mean(self.kind, KINDS)}"
            )
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,60}", self.name):
            raise InputError(f"a task is called {quoted(self.name)}; expected up to 60 letters, digits, _ and -.")
        if self.limit is not None and self.limit < 1:
            raise InputError(f"the limit of task {quoted(self.name)} is {self.limit}; expected 1 or more.")


def read_items(task: TaskFile) -> list[Item]:
    """The items of a task's file, in its order.

    Raises:
        InputError: No such file.
        DataError: A row is not of that kind; the first ones are named.
    """
    require_exists(task.path)
    items = KINDS[task.kind].read(task.path)
    if not items:
        raise DataError(f"{task.path} holds no items of kind {task.kind}; expected one or more.")
    return items[: task.limit]


@dataclass(frozen=True, slots=True)
class Kind:
    """How a file is read, and which of lm-eval's metrics its own task has."""

    read: Callable[[Path], list[Item]]
    metrics: tuple[str, ...] = ("acc",)


class _RowError(ValueError):
    """What is wrong with one row."""


def _each(path: Path, records: list[Any], make: Callable[[int, Any], Item]) -> list[Item]:
    """``make`` of each record; all that it refuses are counted and the first ones named."""
    found, bad = [], []
    for place, record in enumerate(records):
        try:
            found.append(make(place, record))
        except _RowError as error:
            bad.append(f"row {place + 1}: {error}")
    if bad:
        more = f" ({len(bad):,} in all)" if len(bad) > _NAMED else ""
        raise DataError(f"{path}: {'; '.join(bad[:_NAMED])}{more}. Mend these rows, or choose another kind of task.")
    return found


def _text(record: object, key: str) -> str:
    value = record.get(key) if isinstance(record, Mapping) else None
    if not isinstance(value, str) or not value.strip():
        raise _RowError(f"{quoted(key)} is {'missing' if value is None else quoted(value)}; expected a text")
    return value


def _adapters(form: str) -> Callable[[Path], list[Item]]:
    """Reader of LLM-Adapters' lists; ``form`` holds {} for the question."""

    def make(place: int, record: Any) -> Item:
        question, options, right = _instruction(record)
        return Item(str(place), (form.format(question),), options, right)

    return lambda path: _each(path, _json_list(path), make)


def _instruction(record: Any) -> tuple[str, tuple[str, ...], int]:
    """Question, options and the right one's place."""
    told = _ADAPTERS.match(_text(record, "instruction"))
    if told is None:
        raise _RowError(
            f'"instruction" is {quoted(record["instruction"])}; expected "Please ...: ... Answer format: ..."'
        )
    question, word, listed, form = told.groups()
    names = form.split("/")
    options = tuple(names) if word is None else tuple(re.split(rf"\s*{word}[2-9]: ", listed))
    answer = _text(record, "answer")
    if len(options) != len(names) or not all(option.strip() for option in options) or answer not in names:
        raise _RowError(
            f"{len(options)} options, answers {quoted(form)}, the right one {quoted(answer)}; expected one option for "
            "each answer, the right one among them"
        )
    return question, tuple(option.strip() for option in options), names.index(answer)


def _boolq(path: Path) -> list[Item]:
    def make(place: int, record: Any) -> Item:
        question, options, right = _instruction(record)
        if options != ("true", "false"):
            raise _RowError(f"the answers are {quoted(options)}; expected true/false")
        return Item(str(place), (f"Question: {question}\nAnswer:",), ("no", "yes"), 1 - right)

    return _each(path, _json_list(path), make)


def _winogrande(path: Path) -> list[Item]:
    def make(place: int, record: Any) -> Item:
        sentence, options, right = _instruction(record)
        before, blank, after = sentence.partition("_")
        if not blank or not after.strip() or len(options) != 2:
            raise _RowError(f"{quoted(sentence)} has no blank _ with words behind it and two options")
        return Item(str(place), tuple(before + option for option in options), (after.strip(),), right)

    return _each(path, _json_list(path), make)


def _piqa(path: Path) -> list[Item]:
    labels = path.with_name(path.name.removesuffix(".jsonl") + "-labels.lst")
    require_exists(labels)
    rights = labels.read_text(encoding="utf-8").split()
    records = _json_lines(path)
    if len(rights) != len(records):
        raise DataError(f"{labels} has {len(rights):,} labels for {len(records):,} rows; expected one for each.")

    def make(place: int, record: Any) -> Item:
        if rights[place] not in ("0", "1"):
            raise _RowError(f"its label is {quoted(rights[place])}; expected 0 or 1")
        solutions = (_text(record, "sol1"), _text(record, "sol2"))
        return Item(str(place), (f"Question: {_text(record, 'goal')}\nAnswer:",), solutions, int(rights[place]))

    return _each(path, records, make)


def _truthfulqa(path: Path) -> list[Item]:
    def make(place: int, record: Any) -> Item:
        right = _text(record, "Best Answer").strip()
        listed = (one.strip() for one in _text(record, "Incorrect Answers").split(";"))
        options = [one for one in dict.fromkeys(listed) if one and one != right]
        if not options:
            raise _RowError('"Incorrect Answers" has none beside the best answer')
        at = place % (len(options) + 1)
        options.insert(at, right)
        return Item(str(place), (f"{_SHOWN}Q: {_text(record, 'Question').strip()}\nA:",), tuple(options), at)

    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            records = list(csv.DictReader(stream, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a CSV of UTF-8: {error}.") from error
    return _each(path, records, make)


def _letters(path: Path) -> list[Item]:
    return [Item(row.id, (row.asked,), row.letters, row.right) for row in read_choices(path)]


def _options(path: Path) -> list[Item]:
    def made(row: ChoiceRow) -> Item:
        return Item(row.id, (f"Question: {row.prompt}\nAnswer:",), row.options, row.right)

    return [made(row) for row in read_choices(path)]


def _texts(path: Path) -> list[Item]:
    return _each(path, _json_lines(path), lambda place, record: Item(str(place), ("",), (_text(record, "text"),)))


def _json_list(path: Path) -> list[Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON of UTF-8: {error}.") from error
    if not isinstance(value, list):
        raise DataError(f"{path} holds {type(value).__name__}; expected a list of objects, as LLM-Adapters has them.")
    return value


def _json_lines(path: Path) -> list[Any]:
    rows = list(jsonl_rows(path))
    bad = [f"{row.place}: {row.reason}" for row in rows if isinstance(row, BadLine)]
    if bad:
        raise DataError(f"{path}: {'; '.join(bad[:_NAMED])} ({len(bad):,} in all). Mend these lines.")
    return [row.values for row in rows if not isinstance(row, BadLine)]


KINDS: Final[dict[str, Kind]] = {
    "arc": Kind(_adapters("Question: {}\nAnswer:"), ("acc", "acc_norm")),
    "openbookqa": Kind(_adapters("{}"), ("acc", "acc_norm")),
    "siqa": Kind(_adapters("Q: {}\nA:")),
    "boolq": Kind(_boolq),
    "winogrande": Kind(_winogrande),
    "piqa": Kind(_piqa, ("acc", "acc_norm")),
    "truthfulqa": Kind(_truthfulqa),
    "letters": Kind(_letters),
    "options": Kind(_options, ("acc", "acc_norm")),
    "text": Kind(_texts, ("bits_per_byte",)),
}
