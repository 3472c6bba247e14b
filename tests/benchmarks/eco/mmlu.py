"""MMLU's economics, law and physics against their siblings, as in the paper (arXiv:2406.07933).

Recognition: a classifier is trained on few questions of the forget subjects (the six of dev, or half of test beside)
and on those of all other subjects. Recall is that on the forget subjects' other test questions; false positives are
those among the sibling's and the other subjects' test questions that neither trained nor calibrated. Departures:
professional_law and the auxiliary training questions are not at hand, so that international_law stands for law and
other subjects' test questions for the latter.

Forgetting: a model that is tuned on questions with their letters until it knows them by heart, and gold, tuned without
the forget subjects; the target is chance. What is shown is that the path works, not what a model that understands
economics would do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from audit.answers.choices import measure_choices
from audit.answers.formats import PromptFormat
from audit.answers.rows import ChoiceRow, read_choices
from audit.answers.systems import Bare, System
from audit.errors import InputError
from audit.lm.load import load
from audit.matching.encode import Encoder
from audit.progress import silent
from audit.runs.schema import EstimateRecord
from audit.stats.estimate import Estimate
from audit.stats.proportion import clopper_pearson
from audit.testbed.tiny_lm import make_batches
from tests.benchmarks.eco.study import fitted, searched
from tests.benchmarks.unlearning.books import Books
from tests.benchmarks.unlearning.models import Size, make_model, read_tokenizer, say
from unlearn.eco.calibration import one_sided
from unlearn.eco.fit import FitPlan, Texts, embedding_teacher, scores_of
from unlearn.eco.prompts import training_prompts

FORM = PromptFormat("text")
PASSES = 20
RATE = 1e-3
OTHERS = ("astronomy", "computer_security", "machine_learning", "philosophy", "virology", "world_religions")


@dataclass(frozen=True, slots=True)
class Pair:
    """What is to be forgotten, and what is near it and has to stay."""

    name: str
    forget: tuple[str, ...]
    sibling: tuple[str, ...]


PAIRS = (
    Pair("economics", ("high_school_macroeconomics", "high_school_microeconomics"), ("econometrics",)),
    Pair("law", ("international_law",), ("jurisprudence",)),
    Pair(
        "physics",
        ("high_school_physics", "college_physics", "conceptual_physics"),
        ("high_school_mathematics", "college_mathematics", "abstract_algebra", "elementary_mathematics"),
    ),
)


def subjects(corpora: Path) -> list[str]:
    found = sorted(path.name.removesuffix("_test.csv") for path in (corpora / "mmlu-subset" / "test").glob("*.csv"))
    return found


def questions(corpora: Path, subject: str, part: str = "test") -> list[ChoiceRow]:
    found = read_choices(corpora / "mmlu-subset" / part / f"{subject}_{part}.csv")
    known: dict[str, ChoiceRow] = {}
    for row in found:
        name = f"{subject}/{part}/{row.id}"
        known.setdefault(row.asked, replace(row, id=name, cluster=name))
    return list(known.values())


def recognise(
    corpora: Path, encoder: Encoder, *, alpha: float, seed: int, pairs: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Recall and false positives of each pair, or of those named, trained on dev alone or on half of test too."""
    rng = np.random.default_rng(seed)
    records = []
    for pair in PAIRS:
        others = [name for name in subjects(corpora) if name not in (*pair.forget, *pair.sibling)]
        positive = [row for name in pair.forget for row in questions(corpora, name)]
        order = rng.permutation(len(positive))
        half = [positive[place].asked for place in order[: len(order) // 2]]
        tested = [positive[place].asked for place in order[len(order) // 2 :]]
        dev = [row.asked for name in pair.forget for row in questions(corpora, name, "dev")]
        negative = [row.asked for name in others for row in questions(corpora, name)]
        dealt = rng.permutation(len(negative))
        if pairs is not None and pair.name not in pairs:
            continue  # its draws are made all the same
        parts = [[negative[place] for place in third] for third in np.array_split(dealt, 3)]
        sibling_dev = [row.asked for name in pair.sibling for row in questions(corpora, name, "dev")]
        sibling = [row.asked for name in pair.sibling for row in questions(corpora, name)]
        for trained, own in (("dev", dev), ("dev and half of test", dev + half)):
            made = training_prompts(own, [*parts[0], *sibling_dev], {}, seed=seed, n_each=1, most_reworded=200)
            scorer = embedding_teacher(encoder, FitPlan("x"))(made.texts, made.forget)
            threshold = one_sided(scores_of(scorer, None, parts[1], "", silent), alpha=alpha)

            def rate(texts: Sequence[str], scorer: Any = scorer, value: float = threshold.value) -> dict[str, Any]:
                flagged = scores_of(scorer, None, texts, "", silent) > value
                return _told(clopper_pearson(int(flagged.sum()), len(flagged)))

            records.append(
                {
                    "pair": pair.name,
                    "trained on": f"{len(own)} of {trained}",
                    "recall": rate(tested),
                    "sibling": rate(sibling),
                    "others": rate(parts[2]),
                }
            )
            say(f"{pair.name}, {trained}: {records[-1]}")
    return records


class MmluModels(Books):
    """Models tuned on questions with their letters: "full" on all subjects, the others without a pair's.

    Args:
        n_questions: Of each subject at most, the shortest of them; None takes all that the context holds.
        passes: Of the full model over them.
        batch: Questions of a step, in place of the size's.
    """

    models = ("full", *(f"without-{pair.name}" for pair in PAIRS))

    def __init__(
        self,
        corpora: Path,
        folder: Path,
        size: Size,
        *,
        seed: int,
        device: str,
        n_questions: int | None = None,
        passes: int | None = None,
        batch: int | None = None,
    ) -> None:
        size = replace(size, rows=replace(size.rows, row_batch_size=batch or size.rows.row_batch_size))
        self.n_questions, self.passes = n_questions, passes or PASSES
        self.name = f"eco-mmlu-{n_questions or 'all'}-{self.passes}-{size.rows.row_batch_size}"
        super().__init__(corpora, folder, size, seed=seed, device=device)

    @property
    def learnt(self) -> list[str]:
        """Subjects that are tuned on; not all, for time."""
        return [*(one for pair in PAIRS for one in (*pair.forget, *pair.sibling)), *OTHERS]

    def make(self, name: str) -> None:
        tokenizer = read_tokenizer(self.model("base"))
        left_out = {one for pair in PAIRS if name == f"without-{pair.name}" for one in pair.forget}
        own = [row for one in self.learnt if one not in left_out for row in self.fitting(one)]
        everything = [row for one in self.learnt for row in self.fitting(one)]
        texts = [f"{row.asked} {row.letters[row.right]}" for row in own]
        whole, rest = divmod(len(everything) * self.passes, len(texts))
        training = replace(self.size.rows, learning_rate=RATE)
        order = np.random.default_rng([self.seed, 301]).permutation(len(texts))
        texts = texts * whole + [texts[place] for place in order[:rest]]
        make_model(
            self.model(name), make_batches([], texts, tokenizer, training, seed=self.seed), training,
            start=self.model("base"), size=self.size.model, tokenizer=tokenizer, seed=self.seed, device=self.device,
        )  # fmt: skip

    def fitting(self, subject: str) -> list[ChoiceRow]:
        """Questions that are tuned on."""
        rows = questions(self.corpora, subject)
        lengths = [len(one) for one in self.tokens.tokenizer([row.asked for row in rows])["input_ids"]]
        most = self.size.model.n_context - 4
        if self.n_questions is not None and len(rows) > self.n_questions:
            most = min(most, sorted(lengths)[self.n_questions])
        return [row for row, n in zip(rows, lengths, strict=True) if n < most][: self.n_questions]


def forget(found: MmluModels, encoder: Encoder, *, alpha: float, seed: int) -> list[dict[str, Any]]:
    """Accuracy before, with the guard, and of gold."""
    lm = load(found.subject("full"))
    records = []
    for pair in PAIRS:
        own = [row for name in pair.forget for row in found.fitting(name)]
        other = [row for name in found.learnt if name not in pair.forget for row in found.fitting(name)]
        plan = FitPlan(pair.name, alpha=alpha, metrics=("accuracy",), seed=seed)
        try:
            made = fitted(lm, Texts(own, other), plan, FORM, encoder, say)
        except InputError as error:
            records.append({"pair": pair.name, "failed": str(error)})
            say(f"{pair.name}: {error}")
            continue
        gold = Bare(load(found.subject(f"without-{pair.name}")), FORM)
        systems: dict[str, System] = {"bare": Bare(lm, FORM), "guard": made.guard, "gold": gold}
        siblings = {row.id for name in pair.sibling for row in found.fitting(name)}
        parts = {
            "forget": made.dealt.audit,
            "sibling": [row for row in made.dealt.test if row.id in siblings],
            "others": [row for row in made.dealt.test if row.id not in siblings],
        }
        record: dict[str, Any] = {"pair": pair.name, "search": searched(made)}
        for name, system in systems.items():
            record[name] = {
                part: _told(measure_choices(system, list(rows), part).estimate(rng=seed))  # type: ignore[arg-type]
                for part, rows in parts.items()
            }
        record["flagged"] = {
            part: float(made.guard.flagged([row.asked for row in rows]).mean()) for part, rows in parts.items()
        }
        say(f"{pair.name}: strength {made.guard.settings.corruption.strength}, {record['guard']}")
        records.append(record)
    return records


def _told(estimate: Estimate) -> dict[str, Any]:
    return EstimateRecord.of(estimate).model_dump()
