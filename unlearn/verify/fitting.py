"""Rows that a model cannot be asked, left out once and for all: every measure of every system has the same rows.

A row fits where its question with each of its answers, right, reworded or wrong, and what attacks put beside them, is
no longer than the context, and where an answer of the greatest length can be written after it. One that does not fit
would stop a measure that asks all rows together, and leaving it out of that measure alone would compare other rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from audit.answers.rows import QaRow
from audit.answers.systems import Bare
from audit.errors import InputError
from audit.text.safe import counted, quoted

from .battery import Material

ROWS: Final = ("forget_rows", "never_rows", "neighbour_rows", "real_authors", "world_facts")
AFTER: Final = 1  # tokens behind an answer that is tuned on: what ends it
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Unfit:
    """Rows that were left out: set of `ROWS` -> id -> why."""

    rows: Mapping[str, Mapping[str, str]]

    def without(self, material: Material) -> Material:
        """The material without them."""
        kept = {
            name: tuple(row for row in getattr(material, name) if row.id not in self.rows.get(name, {}))
            for name in ROWS
        }
        return replace(material, **kept)

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence for each set that lost rows; the first are named with their reasons."""
        found = []
        for name, reasons in self.rows.items():
            if not reasons:
                continue
            first = "; ".join(f"{quoted(row)}: {why}" for row, why in list(reasons.items())[:_NAMED])
            found.append(f"{counted(len(reasons), 'row')} of {name.replace('_', ' ')} left out everywhere; {first}")
        return tuple(found)

    def to_record(self) -> dict[str, Any]:
        return {name: dict(reasons) for name, reasons in self.rows.items()}


def unfit(bare: Bare, material: Material, *, max_new_tokens: int, n_soft: int) -> Unfit:
    """Which rows do not fit, by a model's tokenizer and context.

    Args:
        bare: The subject, in the format in which it is asked; the others have its tokenizer.
        material: What is to be measured.
        max_new_tokens: Of a greedy answer.
        n_soft: Vectors of a soft prompt.
    """
    why_not = _asking(bare, max_new_tokens, n_soft)
    return Unfit(
        {name: {row.id: why for row in getattr(material, name) if (why := why_not(row)) is not None} for name in ROWS}
    )


def _asking(bare: Bare, max_new_tokens: int, n_soft: int) -> Callable[[QaRow], str | None]:
    def why_not(row: QaRow) -> str | None:
        answers = [one for one in (row.answer, row.paraphrased_answer, *row.wrong) if one.strip()]
        pairs = [(row.prompt, one) for one in answers]
        if row.paraphrased_answer.strip():
            pairs.append((row.paraphrased_prompt or row.prompt, row.paraphrased_answer))
        try:
            bare.check_room([len(one.ids) for one in bare.encoded([row.prompt])], [max_new_tokens])
            if pairs:
                bare.prepare([one for one, _ in pairs], answers=[one for _, one in pairs], room=n_soft + AFTER)
        except InputError as error:
            return str(error)
        return None

    return why_not


def require_context(name: str, n_context: int, subjects: int) -> None:
    """Refuse a model that reads less than the subject: rows that were kept would not fit it.

    Raises:
        InputError: Both contexts are named.
    """
    if n_context < subjects:
        raise InputError(
            f"{quoted(name)} reads at most {n_context:,} tokens and the subject {subjects:,}, so that rows which fit "
            "one need not fit the other. Give models of one context length, or shorter ones of both."
        )
