"""The stages of an evaluation: maps fitted, questions asked, continuations written; each is kept where it has ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, reduce
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np

from audit.answers.formats import PromptFormat
from audit.answers.rows import ChoiceRow
from audit.answers.systems import Bare
from audit.errors import InputError
from audit.forgetting.measured import Measured
from audit.lm.generate import Sampling
from audit.lm.load import LanguageModel
from audit.lm.tokens import encode, prefix_ids
from audit.progress import Progress
from audit.runs.records import plain, read_json
from audit.runs.store import Run
from audit.text.files import make_folder, write_json
from audit.text.safe import counted

from ..arms import UNSTEERED, Arm
from ..evaluate.judge_texts import shared_places
from ..evaluate.judges import Judge
from ..evaluate.truthfulqa import (
    PRIMER,
    Fold,
    Question,
    Truth,
    chance,
    folds,
    prompt_of,
    truth,
)
from ..evaluate.utility import choice_accuracy, letter_accuracy
from ..evaluated import Choices, Questions, Truthful
from ..files import load_maps, require_model
from ..from_flags import NEUTRAL
from ..from_questions import CHOICES, TRUTHFUL, chosen_rows, concept_of, question_items, truth_rows
from ..maps import AffineMap, composed, support_share
from ..sweep_made import Swept
from .evaluate_inputs import Inputs
from .fitting import Asked, asked_for, check, fit_into
from .inputs import STEERING
from .sweep_measuring import Points

HALVES = "halves"
MEASURED = "measured"
WORK = "training"
LETTER, OPTION = "by letter", "by option, per byte"
_PLAIN: Final = "as plain text"


class Measuring:
    """One evaluation.

    Args:
        table: The plan's.
        found: What it names.
        lm: Gives the model.
        folder: Of the run.
    """

    def __init__(self, table: Any, found: Inputs, lm: Callable[[], LanguageModel], folder: Path) -> None:
        self._table, self._found, self._lm, self._folder = table, found, lm, folder

    # What is asked

    @cached_property
    def _folds(self) -> tuple[Fold, Fold]:
        return folds(self._asked[0], n=self._table.sentences, seed=self._table.seed)

    @cached_property
    def _asked(self) -> tuple[list[Question], Questions]:
        """Questions of TruthfulQA that are drawn and fit the context."""
        primer = self._primer
        drawn = self._drawn(self._found.questions, "truthfulqa")
        kept = [
            one
            for one in drawn
            if self._fits([f"{prompt_of(one, primer)} {answer}" for answer in (*one.true, *one.false)])
        ]
        return self._some(kept, "TruthfulQA"), Questions(len(self._found.questions), len(drawn), len(kept))

    @cached_property
    def _choosing(self) -> tuple[list[ChoiceRow], Questions]:
        """Multiple-choice questions likewise."""
        drawn = self._drawn(self._found.choices, "choices")
        bare = Bare(self._lm(), self._form)
        kept = [
            one
            for one in drawn
            if len(bare.encoded([one.asked])[0].ids) <= self._lm().n_context
            and self._fits([f"{_after(one)} {option}" for option in one.options])
        ]
        return self._some(kept, "multiple choice"), Questions(len(self._found.choices), len(drawn), len(kept))

    @cached_property
    def _form(self) -> PromptFormat:
        return PromptFormat("text" if self._lm().tokenizer.chat_template is None else "chat")

    @property
    def _primer(self) -> str:
        return PRIMER if self._table.primer else ""

    def _fits(self, texts: Sequence[str]) -> bool:
        lm = self._lm()
        room = lm.n_context - len(prefix_ids(lm))
        return max(map(len, encode(lm, texts))) <= room

    def _some(self, kept: list[Any], what: str) -> list[Any]:
        if not kept:
            hint = ", or leave the primer out" if what == "TruthfulQA" and self._table.primer else ""
            raise InputError(
                f"no question of {what} fits the model's context of {self._lm().n_context:,} tokens. Choose a model "
                f"that reads more{hint}."
            )
        return kept

    def _drawn(self, rows: Sequence[Any], name: str) -> list[Any]:
        """At most so many rows, by the seed, in their order."""
        most = self._table.max_rows
        if most is None or len(rows) <= most:
            return list(rows)
        digest = sha256(f"{self._table.seed}\0{name}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        return [rows[place] for place in sorted(rng.permutation(len(rows))[:most].tolist())]

    def _fit(self, source: Sequence[str], target: Sequence[str]) -> Asked:
        return asked_for(self._table, source, target)

    def check(self) -> None:
        """Refuse, before a run is begun, what cannot be measured.

        Raises:
            InputError, DataError, ModelError: No question fits, a fit's sites or sentences do not, or a steering is of
                another model.
        """
        self.require_same_model()
        self._given()
        lm = self._lm()
        if self._found.sentences is not None:
            check(lm, self._fit(*self._found.sentences))
        if self._found.questions:
            for fold in self._folds:
                check(lm, self._fit(fold.source, fold.target))
        if self._found.choices:
            _ = self._choosing

    def require_same_model(self) -> None:
        """Refuse a steering of another model.

        Raises:
            ModelError, InputError: As `require_model`.
        """
        for folder, maps, record in self._found.steerings:
            require_model(record, self._lm(), maps, folder=folder)

    # What is measured

    def _kept(self, run: Run, name: str, make: Callable[[], Any]) -> Any:
        """What a stage measured, from its file where it has ended."""
        file = make_folder(self._folder / MEASURED) / f"{name.replace(', ', '-').replace(' ', '-')}.json"
        if not run.has(name):
            with run.stage(name):
                write_json(file, plain(make(), name), secret=True)
        return read_json(file, missing=f"{file} is gone, though its stage has ended. Begin anew with another --out.")

    def _fitted(self, run: Run, stage: str, folder: Path, asked: Asked, progress: Progress) -> dict[str, AffineMap]:
        """Maps of a fit, from their folder where it has ended."""
        if not run.has(stage):
            with run.stage(stage) as detail:
                work = self._folder / WORK / stage.replace(", ", "-").replace(" ", "-")
                record = fit_into(folder, work, self._lm(), asked, progress)
                detail |= {"steps": record["n_steps"], "support": record["support"]}
        return load_maps(folder)[0]

    def _given(self) -> dict[str, AffineMap]:
        """Maps of all steerings that were given, one after the other."""
        return reduce(composed, [maps for _, maps, _ in self._found.steerings], {})

    def arm(self, run: Run, progress: Progress) -> tuple[Arm, float, str]:
        """The maps of multiple choice and concepts, the strength at which their source applies them, and in words."""
        if self._found.sentences is not None:
            asked = self._fit(*self._found.sentences)
            maps = self._fitted(run, "fit", self._folder / STEERING, asked, progress)
            n_source, n_target = map(len, self._found.sentences)
            told = f"{asked.method.title}, fitted here on {n_source:,} and {counted(n_target, 'sentence')}"
            return Arm(asked.method.title, maps), asked.method.strength, told
        records = [record for _, _, record in self._found.steerings]
        names = [record.method for record in records]
        usual = records[0].strength if len(records) == 1 else 1.0
        told = names[0] if len(names) == 1 else f"{', then '.join(names)}, composed"
        return Arm(names[0] if len(names) == 1 else "composed", self._given()), usual, f"{told}, as given"

    def truthful(self, run: Run, progress: Progress) -> tuple[Truthful, list[dict[str, Any]]]:
        """TruthfulQA, and a row for each question, measure and strength."""
        questions, counts = self._asked
        method = self._fit(self._folds[0].source, self._folds[0].target).method
        strengths = self._table.rising(method.strength)
        truths: dict[float, list[Truth]] = {strength: [] for strength in (0.0, *strengths)}
        support = []
        for number, fold in enumerate(self._folds, start=1):
            asked = self._fit(fold.source, fold.target)
            where = self._folder / HALVES / str(number)
            maps = self._fitted(run, f"fit, half {number}", where, asked, progress)
            support.append(support_share(maps))
            for place, strength in enumerate(truths):
                progress(f"TruthfulQA, half {number}", place, len(truths))
                arm = Arm(method.title, maps) if strength else UNSTEERED

                def make(arm: Arm = arm, strength: float = strength, fold: Fold = fold) -> dict[str, Any]:
                    return truth(self._lm(), arm, strength, fold.asked, primer=self._primer).to_record()

                told = self._kept(run, f"truthfulqa, half {number}, strength {strength:g}", make)
                truths[strength].append(Truth.of_record(told))
            progress(f"TruthfulQA, half {number}", len(truths), len(truths))
        items = [
            row
            for strength, halves in truths.items()
            for number, half in enumerate(halves, start=1)
            for one in (half.mc1, half.mc2)
            for row in question_items(TRUTHFUL, one.name, strength, one, half=number)
        ]
        made = Truthful(
            method.title, counts, self._table.sentences, bool(self._table.primer), (support[0], support[1]),
            chance(questions), truth_rows(truths, seed=self._table.seed),
        )  # fmt: skip
        return made, items

    def choices(self, run: Run, arm: Arm, usual: float, progress: Progress) -> tuple[Choices, list[dict[str, Any]]]:
        """Multiple choice by letter and by option, and a row for each question, way and strength."""
        rows, counts = self._choosing
        plain_rows = [replace(one, prompt=_after(one)) for one in rows]
        strengths = (0.0, *self._table.rising(usual))
        measured: dict[tuple[str, float], Measured] = {}
        n_done, total = 0, 2 * len(strengths)
        for how in (LETTER, OPTION):
            for strength in strengths:
                progress("multiple choice", n_done, total)
                acting = arm if strength else UNSTEERED

                def make(how: str = how, acting: Arm = acting, strength: float = strength) -> dict[str, Any]:
                    if how == LETTER:
                        found = letter_accuracy(self._lm(), acting.maps, strength, rows, self._form).measured
                    else:
                        found = choice_accuracy(self._lm(), acting, strength, plain_rows)
                    return found.to_record()

                told = self._kept(run, f"choices, {how}, strength {strength:g}", make)
                measured[how, strength] = Measured.of_record(told)
                n_done += 1
        progress("multiple choice", total, total)
        by_chance = float(np.mean([1 / len(one.options) for one in rows]))
        form = "the model's chat template" if self._form.kind == "chat" else _PLAIN
        items = [
            row for (how, strength), one in measured.items() for row in question_items(CHOICES, how, strength, one)
        ]
        return Choices(counts, by_chance, form, chosen_rows(measured, seed=self._table.seed)), items

    def concept(self, arm: Arm, usual: float, progress: Progress) -> Swept:
        """Rates of the concepts at each strength, and what it costs."""
        table, lm = self._table, self._lm()
        sampling = Sampling(max_new_tokens=table.max_new_tokens, temperature=table.temperature, top_p=table.top_p)
        texts: Mapping[str, Sequence[str]] = {NEUTRAL: self._found.neutral}
        points = Points(self._folder / MEASURED / "points.jsonl", texts, sampling, (table.seed,)).measured(
            lm, [arm], [table.opening] * table.continuations, {arm.name: table.rising(usual)}, progress
        )
        drawn = (
            "greedily" if table.temperature == 0 else f"at temperature {table.temperature:g} and top_p {table.top_p:g}"
        )
        return concept_of(
            points,
            self._found.concepts,
            model=lm.subject.model,
            arm=arm.name,
            records=tuple(judge.to_record() for judge in self._found.concepts),
            warnings=self._seen(),
            settings=f"{table.continuations:,} continuations of {table.max_new_tokens} tokens at most, {drawn},",
            seed=table.seed,
        )

    def _seen(self) -> tuple[str, ...]:
        """A warning where neutral texts were fitted on."""
        if self._found.sentences is None:
            return ()
        fitted = dict(zip(("source", "target"), self._found.sentences, strict=True))
        n = len(shared_places(self._found.neutral, fitted))
        told = (
            f"{counted(n, 'neutral text')} of {len(self._found.neutral):,} stand in the sentences that were fitted on."
        )
        return (told,) if n else ()

    @property
    def judges(self) -> tuple[Judge, ...]:
        return self._found.concepts


def _after(one: ChoiceRow) -> str:
    """A question without its options, up to where one is said."""
    return f"{one.prompt}\nAnswer:"
