"""The testbed's people: the subject learnt forget and retain people, gold (retrained) the retain people alone."""

from __future__ import annotations

from audit.answers.formats import PromptFormat
from audit.answers.qa import Part
from audit.answers.rewordings import BENIGN_QUESTIONS
from audit.answers.rows import QaRow
from audit.testbed.planted import Testbed
from unlearn.eco.fit import Texts

FORM = PromptFormat()


def rows(testbed: Testbed, group: str, *, wording: str = "trained") -> list[QaRow]:
    """Rows of a group; an author is a cluster. The rewording is one that nobody was ever asked in."""
    return [
        QaRow(
            id=f"{row.id}-{wording}",
            cluster=row.name,
            prompt={"trained": row.question, "paraphrased": row.paraphrased_question}[wording],
            answer=row.answer,
            paraphrased_prompt=row.novel_question,
            paraphrased_answer=row.paraphrased_answer,
            wrong=row.wrong_answers,
        )
        for row in testbed.world.rows_of(group=group)
    ]


def texts_of(testbed: Testbed, *, with_names: bool) -> Texts:
    """Prompts that may pass are about retain people and about people of whom no model ever heard, so that there are
    enough of them; only those about retain people have answers that a model learnt."""
    forget, never = rows(testbed, "forget"), rows(testbed, "never")
    retain = [*rows(testbed, "retain"), *rows(testbed, "never"), *_once(rows(testbed, "retain", wording="paraphrased"))]
    names = tuple(dict.fromkeys(row.cluster for row in forget)) if with_names else ()
    return Texts(forget, retain, never, names=names)


def _once(found: list[QaRow]) -> list[QaRow]:
    """Both rows of a fact share this wording."""
    known: dict[str, QaRow] = {}
    for row in found:
        known.setdefault(row.prompt, row)
    return list(known.values())


def parts_of(testbed: Testbed, forget: list[QaRow]) -> dict[Part, list[QaRow]]:
    return {"forget": forget, "retain": rows(testbed, "retain")}


def general() -> list[str]:
    return list(BENIGN_QUESTIONS)
