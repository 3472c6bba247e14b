"""The loop's rows and texts as the files that the remedies' own verbs read, and as sequences to train on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from audit.answers.formats import PromptFormat
from audit.answers.rows import QaRow
from audit.forgetting.prompts import Passage
from audit.lm.load import LanguageModel
from audit.text.files import make_folder, write_text

from ...sequences import Labelled
from ...verify.robustness.relearn import plain_texts, question_texts
from .data import Data, Part

SENTENCES = 64  # of a side, for steering


def write_rows(path: Path, rows: Iterable[QaRow]) -> Path:
    """Rows as JSON lines, as `audit.answers.rows.read_qa` reads them."""
    lines = []
    for row in rows:
        told = {
            "id": row.id,
            "cluster": row.cluster,
            "question": row.prompt,
            "answer": row.answer,
            "paraphrased_question": row.paraphrased_prompt,
            "paraphrased_answer": row.paraphrased_answer,
            "perturbed_answer": list(row.wrong),
        }
        lines.append(json.dumps({key: value for key, value in told.items() if value}, ensure_ascii=False))
    return _written(path, "\n".join(lines) + "\n")


def write_lines(path: Path, lines: Iterable[str]) -> Path:
    """One text a line; white space inside a text becomes single spaces."""
    return _written(path, "".join(" ".join(line.split()) + "\n" for line in lines))


def _written(path: Path, text: str) -> Path:
    make_folder(path.parent)
    write_text(path, text)
    return path


def sequences(lm: LanguageModel, form: PromptFormat, part: Part, *, block: int) -> list[Labelled]:
    """A part as something to train on: of a row the answer after its question, of a text every token."""
    rows = question_texts(lm, form, part.rows)
    texts = plain_texts(lm, [(one.id, one.id, one.text) for one in part.texts], block=block)
    return [one.tokens for one in (*rows, *texts)]


def as_one_text(part: Part) -> str:
    """A part as plain text, a blank line between its texts; a row is its question and its answer."""
    return "\n\n".join([*(one.text for one in part.texts), *(f"{row.prompt} {row.answer}" for row in part.rows)])


def sentences(part: Part, *, seed: int) -> list[str]:
    """At most `SENTENCES` texts of a part: rows with their answers, and the beginnings of texts."""
    listed = [f"{row.prompt} {row.answer}" for row in part.rows] + [_begin(one) for one in part.texts]
    if len(listed) <= SENTENCES:
        return listed
    drawn = np.random.default_rng([seed, 7]).choice(len(listed), SENTENCES, replace=False)
    return [listed[place] for place in sorted(drawn.tolist())]


def _begin(passage: Passage) -> str:
    return " ".join(passage.text.split()[:60])


def benign_rows(data: Data) -> Sequence[QaRow]:
    """Prompts that a guard may let pass: what is lent, and what nobody saw, so that there are enough of them."""
    return (*data.lent.rows, *data.never.rows)
