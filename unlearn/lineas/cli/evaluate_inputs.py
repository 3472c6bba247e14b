"""What an evaluation reads: questions, concepts, texts and maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.answers.rows import ChoiceRow, read_choices
from audit.runs.plan import resolve_path
from audit.text.files import sha256_file

from ..evaluate.concept import concept_judges
from ..evaluate.judges import Judge
from ..evaluate.truthfulqa import Question, read_questions
from ..files import RECORD, Steering, load_maps
from ..maps import AffineMap
from ..run import check_texts
from .inputs import read_sentences, steering_folder


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a plan names, read and checked.

    Attributes:
        questions: Of TruthfulQA.
        choices: Multiple-choice questions.
        concepts: Judges of the concepts.
        neutral: Texts whose perplexity is taken.
        sentences: Source and target to be fitted on, or None.
        steerings: Folder, maps and record of each steering that was given.
        hashes: Name -> SHA-256 of what was read.
    """

    questions: tuple[Question, ...]
    choices: tuple[ChoiceRow, ...]
    concepts: tuple[Judge, ...]
    neutral: tuple[str, ...]
    sentences: tuple[tuple[str, ...], tuple[str, ...]] | None
    steerings: tuple[tuple[Path, dict[str, AffineMap], Steering], ...]
    hashes: dict[str, str]


def read_inputs(table: Any, path: Path) -> Inputs:
    """Read and check; no model is needed.

    Raises:
        InputError, DataError: As the readers.
    """
    hashes: dict[str, str] = {}

    def file(key: str) -> Path:
        where = resolve_path(getattr(table, key), path)
        if where.is_file():
            hashes[key] = sha256_file(where)
        return where

    def texts(key: str) -> tuple[str, ...]:
        found, hashes[key] = read_sentences(table.texts(key, path), field=table.field)
        return found

    questions = () if table.truthfulqa is None else tuple(read_questions(file("truthfulqa")))
    choices = () if table.choices is None else tuple(read_choices(file("choices")))
    neutral = () if table.neutral is None else texts("neutral")
    sentences = None if table.source is None else (texts("source"), texts("target"))
    if sentences is not None:
        check_texts(*sentences)
    concepts = [[word.strip() for word in one.split(",") if word.strip()] for one in table.concept]
    steerings = []
    for number, name in enumerate(table.steering, start=1):
        folder = steering_folder(resolve_path(name, path))
        steerings.append((folder, *load_maps(folder)))
        hashes[f"steering-{number}"] = sha256_file(folder / RECORD)
    return Inputs(
        questions, choices, tuple(concept_judges(concepts)), neutral, sentences, tuple(steerings), hashes
    )  # fmt: skip
