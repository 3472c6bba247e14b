"""What an evaluation asks: rows beside those to forget and to keep, without those that the guard was fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audit.answers.formats import PromptFormat
from audit.answers.qa import Part
from audit.answers.rows import ChoiceRow, QaRow, read_qa
from audit.errors import DataError, InputError
from audit.lm.load import Tokens
from audit.runs.plan import resolve_path
from audit.text.files import sha256_file
from audit.text.safe import counted, quoted

from ..fit import prompt_mark
from ..guard_files import GuardRecord
from .inputs import check_prompts


@dataclass(frozen=True, slots=True)
class Parts:
    """What is measured beside the rows to forget and to keep.

    Attributes:
        general: General questions; may be empty.
        useful: TOFU's real authors and world facts; both or none.
        passages: Beginnings of protected texts, each with what follows as its answer; may be empty.
        inputs: SHA-256 of each file.
    """

    general: Sequence[QaRow] = ()
    useful: dict[Part, Sequence[QaRow]] = field(default_factory=dict)
    passages: Sequence[QaRow] = ()
    inputs: dict[str, str] = field(default_factory=dict)

    def check(
        self,
        tokens: Tokens,
        form: PromptFormat,
        forget: Sequence[QaRow | ChoiceRow],
        retain: Sequence[QaRow | ChoiceRow],
        measures: Any,
    ) -> None:
        """Refuse rows that do not fit the model before any is measured.

        Raises:
            InputError: The row is named.
        """
        listed = {"forget": forget, "retain": retain, **self.useful}
        for name, rows in listed.items():
            is_choice = bool(rows) and isinstance(rows[0], ChoiceRow)
            check_prompts(tokens, form, rows, name, room=0 if is_choice else measures.max_new_tokens)
        for others, what, room in ((self.general, "general", 0), (self.passages, "passage", measures.passage_tokens)):
            check_prompts(tokens, form, [QaRow(row.id, row.cluster, row.asked) for row in others], what, room=room)


def read_parts(measures: Any, plan: Path, *, choices: bool) -> Parts:
    """Read the files that an evaluation names.

    Raises:
        InputError, DataError: One is missing or damaged, or is of no use with multiple choice.
    """
    files = {
        name: resolve_path(value, plan)
        for name in ("general", "real_authors", "world_facts", "passages")
        if (value := getattr(measures, name)) is not None
    }
    if choices and "real_authors" in files:
        raise InputError("the utility is of questions with answers; leave real authors and world facts out.")
    rows = {name: read_qa(file) for name, file in files.items()}
    useful: dict[Part, Sequence[QaRow]] = {}
    if "real_authors" in rows:
        useful = {"real authors": rows["real_authors"], "world facts": rows["world_facts"]}
    passages = rows.get("passages", ())
    blank = next((row for row in passages if not row.answer.strip()), None)
    if blank is not None:
        raise DataError(
            f"{files['passages']}: row {quoted(blank.id)} has no continuation; expected a field "
            '"continuation" (or "answer") with what follows the prompt in the original.'
        )
    inputs = {name: sha256_file(file) for name, file in files.items()}
    return Parts(rows.get("general", ()), useful, passages, inputs)


def unseen(record: GuardRecord, rows: Sequence[QaRow | ChoiceRow]) -> list[Any]:
    """Rows whose prompt the guard was not fitted on."""
    seen = {mark for marks in record.evidence.get("seen", {}).values() for mark in marks}
    return [row for row in rows if prompt_mark(row.asked) not in seen]


def require_unseen(record: GuardRecord, rows: Mapping[str, Sequence[QaRow | ChoiceRow]]) -> None:
    """Refuse files of which every row was fitted on.

    Raises:
        DataError: Names the first.
    """
    for name, listed in rows.items():
        if not unseen(record, listed):
            raise DataError(
                f"the guard was fitted on all {counted(len(listed), f'{name} row')}, so nothing can be measured on "
                "them. Give others."
            )
