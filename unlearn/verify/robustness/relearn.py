r"""Does a little tuning bring back what was forgotten? The same tuning of several models, watched as it goes on.

Kinds of text to tune on, after what published attacks used: a few of the forget rows themselves (Lynch et al. 2024,
arXiv:2402.16835; Deeb and Roger 2024, arXiv:2410.08827: tuning on some facts recovers 88% of the accuracy on others),
the facts in other words (Hu et al. 2024, arXiv:2406.13356), and text that has nothing to do with them.

For each seed some clusters of a kind's texts are drawn and tuned on; familiarity is measured on the rows of all other
clusters, so that nothing that is tuned on is measured. Every model gets the same texts in the same order under the same
recipe, and is measured after the same steps. What is compared, and how, stands in `relearn_curves`.

What is tuned is a copy in memory; the model that was given, and its folder, stay as they are. A finished curve is one
line of a file, so that work that was killed goes on with the next one.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import numpy as np

from audit.answers.formats import PromptFormat, stop_ids
from audit.answers.rows import QaRow
from audit.answers.systems import Bare
from audit.errors import DataError, InputError, ModelError
from audit.forgetting.measured import Measured
from audit.lm.load import LanguageModel
from audit.lm.tokens import encode, prefix_ids
from audit.progress import Progress, silent
from audit.runs.records import content_key
from audit.stats.checks import Floats
from audit.text.files import make_folder, storage_errors
from audit.text.safe import quoted

from ...json_lines import append_lines, read_lines
from ...lora import LoraPlan, attach, has_adapter, merge_layers
from ...ranges import check_ranges
from ...sequences import NO_LABEL, Labelled, checked, label_loss, own_labels
from ...training import Recipe, Term, shuffled, train

FORGET_ROWS, FACTS, UNRELATED = "forget rows", "facts in other words", "unrelated text"  # names of the usual kinds
ENOUGH_SEEDS: Final = 3


class Row(Protocol):
    """What familiarity is measured on: a `QaRow`, or anything else that has an id and a cluster."""

    @property
    def id(self) -> str: ...

    @property
    def cluster(self) -> str: ...


AnyRow = TypeVar("AnyRow", bound=Row)


@dataclass(frozen=True, slots=True)
class Text:
    """One text to tune on; ``cluster`` is named as the rows' are, so that what it tells of is not measured."""

    id: str
    cluster: str
    tokens: Labelled


@dataclass(frozen=True, slots=True)
class Tuning:
    """One kind of relearning.

    Attributes:
        kind: Its name, such as `FORGET_ROWS`.
        texts: Of which each seed draws clusters.
        share: Of the clusters that are tuned on, in (0, 1]; at least one cluster is.
    """

    kind: str
    texts: tuple[Text, ...]
    share: float

    def __post_init__(self) -> None:
        check_ranges(self, f"relearning on {self.kind}", {"share": (0 < self.share <= 1, "above 0, at most 1")})
        if not self.texts:
            raise InputError(f"relearning on {self.kind} was given no text; give one or more, or leave the kind out.")

    def drawn(self, seed: int) -> tuple[str, ...]:
        """The clusters that are tuned on, the same for every model."""
        clusters = sorted({text.cluster for text in self.texts})
        n = max(1, round(self.share * len(clusters)))
        places = np.random.default_rng([seed, 71]).choice(len(clusters), n, replace=False)
        return tuple(clusters[place] for place in sorted(places.tolist()))


@dataclass(frozen=True, slots=True)
class RelearnPlan:
    """How every model is tuned.

    Attributes:
        recipe: Rates and steps. The rate falls towards the last step, so that steps of different plans do not compare.
        every: Steps from one measurement to the next, >= 1; the first is before any step, the last after all.
        batch_size: Texts of a step, >= 1.
        seeds: Each draws the clusters and their order; different, one or more. Fewer than three are too few.
        lora: Shape of an adapter that is tuned in place of all weights; None for all weights.
    """

    recipe: Recipe
    every: int
    batch_size: int = 8
    seeds: tuple[int, ...] = (0, 1, 2)
    lora: LoraPlan | None = None

    def __post_init__(self) -> None:
        seeds = len(self.seeds) >= 1 and len(set(self.seeds)) == len(self.seeds) and min(self.seeds) >= 0
        ranges = {
            "every": (1 <= self.every <= self.recipe.n_steps, f"from 1 to the {self.recipe.n_steps} steps"),
            "batch_size": (self.batch_size >= 1, "1 or more"),
            "seeds": (seeds, "one or more different numbers, none negative"),
        }
        check_ranges(self, "relearning", ranges)

    def to_record(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Curve:
    """What one model knows of the unseen rows while it is tuned on one kind of text under one seed.

    Attributes:
        model: What the caller calls it.
        kind: Of the texts.
        seed: Of the draw and the order.
        settings: Hash of everything but the model that determines the curve; equal for curves that compare.
        key: Hash of everything.
        name: What was measured, and in which unit.
        tuned: Clusters that were tuned on; no row of them is measured.
        steps: After how many steps it was measured, rising from 0.
        ids: The rows.
        clusters: Of each row.
        values: Of each row after each of the steps, shape (steps, rows).
        left_out: Id -> why a row has no value after some step; it then counts after none.
        losses: Mean training loss of each step, nats a target.
        seconds: That it took.
    """

    model: str
    kind: str
    seed: int
    settings: str
    key: str
    name: str
    tuned: tuple[str, ...]
    steps: tuple[int, ...]
    ids: tuple[str, ...]
    clusters: tuple[str, ...]
    values: Floats
    left_out: dict[str, str]
    losses: tuple[float, ...]
    seconds: float

    def __post_init__(self) -> None:
        shape = len(self.steps), len(self.ids)
        if self.values.shape != shape or len(self.clusters) != shape[1] or not np.isfinite(self.values).all():
            raise InputError(
                f"the curve of {quoted(self.model)} has values of shape {self.values.shape} for {shape[0]} steps and "
                f"{shape[1]} rows; expected one finite value for each."
            )

    def measured(self, place: int) -> Measured:
        """The rows' values after ``steps[place]`` steps."""
        return Measured(self.name, self.ids, self.clusters, self.values[place], self.left_out)

    def to_record(self) -> dict[str, Any]:
        """As plain JSON values, to the bit."""
        return {**asdict(self), "values": self.values.tolist()}

    @classmethod
    def of_record(cls, told: dict[str, Any]) -> Curve:
        """What `to_record` wrote.

        Raises:
            DataError: It is no such record.
        """
        try:
            listed = {name: tuple(told[name]) for name in ("tuned", "steps", "ids", "clusters", "losses")}
            values = np.array(told["values"], dtype=np.float64).reshape(len(told["steps"]), len(told["ids"]))
            return cls(**{**told, **listed, "values": values})
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"a relearning curve cannot be read ({error}). It was changed; remove its file.") from error


def question_texts(lm: LanguageModel, form: PromptFormat, rows: Sequence[QaRow]) -> tuple[Text, ...]:
    """Rows as questions whose answers, with what ends them, are learned.

    Args:
        lm: Whose tokenizer is used; all models that are compared have the same.
        form: How a prompt becomes its input.
        rows: With an answer each.

    Raises:
        InputError: As `Bare.prepare`: a prompt or an answer is empty or too long.
    """
    if not rows:
        return ()
    prepared = Bare(lm, form).prepare([row.prompt for row in rows], answers=[row.answer for row in rows], room=1)
    ends = stop_ids(lm, form)[-1:]  # of a chat, the token after an answer
    texts = []
    for row, ids, n_answer in zip(rows, prepared.rows(), prepared.n_answer, strict=True):
        whole = np.array([*ids, *ends], dtype=np.int64)
        labels = whole.copy()
        labels[: len(ids) - n_answer] = NO_LABEL
        texts.append(Text(row.id, row.cluster, Labelled(whole, labels)))
    return tuple(texts)


def plain_texts(lm: LanguageModel, texts: Sequence[tuple[str, str, str]], *, block: int = 128) -> tuple[Text, ...]:
    """Texts of which every token is learned, cut into blocks that keep their text's cluster.

    Args:
        lm: Whose tokenizer is used.
        texts: (id, cluster, text) of each.
        block: Tokens of a block at most, beginning-of-sequence token included, >= 2.
    """
    lead = prefix_ids(lm)
    width = min(block, lm.n_context) - len(lead)
    found = []
    for (identifier, cluster, _), ids in zip(texts, encode(lm, [text for _, _, text in texts]), strict=True):
        for number, start in enumerate(range(0, len(ids), width)):
            part = [*lead, *ids[start : start + width]]
            if len(part) >= 2:
                found.append(Text(f"{identifier}#{number}", cluster, own_labels(part)))
    return tuple(found)


def relearn(
    lm: LanguageModel,
    name: str,
    tunings: Sequence[Tuning],
    rows: Sequence[AnyRow],
    familiarity: Callable[[LanguageModel, Sequence[AnyRow]], Measured],
    plan: RelearnPlan,
    *,
    settings: dict[str, Any],
    path: Path | None = None,
    progress: Progress = silent,
) -> list[Curve]:
    """Tune one model on every kind of text under every seed, each time from where it is now.

    Args:
        lm: The model; it stays as it is. An adapter inside it is merged in the copy. Its fingerprint must name its
            weights: finished curves are found by it.
        name: What it is called in curves.
        tunings: Kinds of text, of different names.
        rows: What is measured; those of the clusters that are tuned on are left out.
        familiarity: Of a model on rows: larger is more familiar; one item for each row, its id and its cluster the
            row's.
        plan: How it is tuned.
        settings: Plain JSON values that name ``familiarity`` and what else the caller's measure depends on.
        path: File of finished curves, JSON lines, of any number of models; made where it is missing. None keeps none.
        progress: Called after every step.

    Raises:
        InputError: Two kinds have one name, a kind leaves no row that is unseen, a text that is tuned on is among the
            rows by its id, or ``familiarity`` measures something other than the rows.
        DataError: A text does not fit the model, or the file's lines are no curves.
        ModelError: As `unlearn.training.train`: a loss that is not finite, or memory that runs out. Finished curves
            stay.
        StorageError: The file cannot be written.
    """
    _check(lm, tunings, rows)
    kept = _read(path)
    total = len(tunings) * len(plan.seeds) * plan.recipe.n_steps
    stage = f"relearning of {name}"
    found: list[Curve] = []
    for tuning in tunings:
        for seed in plan.seeds:
            job = _Job.of(lm, name, tuning, seed, rows, plan, settings)
            curve = kept.get((name, job.key))
            if curve is None:
                done = len(found) * plan.recipe.n_steps
                curve = job.run(lm, familiarity, lambda _, step, __, done=done: progress(stage, done + step, total))  # type: ignore[misc]
                if path is not None:
                    with storage_errors(path, kept="finished curves stay in it"):
                        append_lines(path, [curve.to_record()])
            found.append(curve)
            progress(stage, len(found) * plan.recipe.n_steps, total)
    return found


def _check(lm: LanguageModel, tunings: Sequence[Tuning], rows: Sequence[Row]) -> None:
    kinds = [tuning.kind for tuning in tunings]
    if not kinds or len(set(kinds)) < len(kinds):
        raise InputError(f"the kinds of text to relearn from are {quoted(kinds)}; expected one or more, each once.")
    identifiers = [row.id for row in rows]
    if not identifiers or len(set(identifiers)) < len(identifiers):
        raise InputError(
            "the rows that relearning is measured on are none, or two have one id; expected different ids."
        )
    for tuning in tunings:
        checked(lm, [text.tokens.ids.tolist() for text in tuning.texts], what=f"text to relearn from ({tuning.kind})")


def _read(path: Path | None) -> dict[tuple[str, str], Curve]:
    if path is None:
        return {}
    make_folder(path.parent)
    if not path.exists():
        return {}
    curves = [Curve.of_record(told) for told in read_lines(path)]
    return {(curve.model, curve.key): curve for curve in curves}


@dataclass(frozen=True, slots=True)
class _Job:
    """One curve that is to be made."""

    name: str
    tuning: Tuning
    seed: int
    plan: RelearnPlan
    tuned: tuple[str, ...]
    texts: tuple[Text, ...]
    rows: tuple[Any, ...]
    settings: str
    key: str

    @classmethod
    def of(
        cls,
        lm: LanguageModel,
        name: str,
        tuning: Tuning,
        seed: int,
        rows: Sequence[Any],
        plan: RelearnPlan,
        settings: dict[str, Any],
    ) -> _Job:
        tuned = tuning.drawn(seed)
        texts = tuple(text for text in tuning.texts if text.cluster in tuned)
        unseen = tuple(row for row in rows if row.cluster not in tuned)
        if not unseen:
            raise InputError(
                f"relearning on {tuning.kind} with a share of {tuning.share} tunes on every cluster that is measured, "
                "so no row is unseen. Give a smaller share, or more clusters."
            )
        twice = {text.id for text in texts} & {row.id for row in unseen}
        if twice:
            raise InputError(
                f"relearning on {tuning.kind} would tune on what it measures: {quoted(sorted(twice)[0])} is among "
                "both, in different clusters. Name the clusters of texts and rows alike."
            )
        recipe = {key: value for key, value in plan.to_record().items() if key != "seeds"}
        determining = content_key(
            kind=tuning.kind,
            texts=[[one.id, one.cluster, one.tokens.ids.tolist(), one.tokens.labels.tolist()] for one in texts],
            rows=[[row.id, row.cluster] for row in unseen],
            # How text is cut; the configuration beside it is written anew by whoever saves a model.
            tokenizer=lm.fingerprint.files.get("tokenizer.json", lm.fingerprint.tokenizer),
            plan=recipe,
            seed=seed,
            caller=settings,
        )
        model = {"fingerprint": lm.fingerprint.to_record(), "dtype": str(lm.model.dtype)}
        key = content_key(settings=determining, model=model)
        return cls(name, tuning, seed, plan, tuned, texts, unseen, determining, key)

    def run(
        self, lm: LanguageModel, familiarity: Callable[[LanguageModel, Sequence[Any]], Measured], progress: Progress
    ) -> Curve:
        plan = self.plan
        told: list[tuple[int, Measured]] = []
        draw = shuffled([one.tokens for one in self.texts], batch_size=plan.batch_size, seed=self.seed)
        term = Term(self.tuning.kind, draw, label_loss, attrgetter("n_tokens"), attrgetter("n_labels"))
        with _copied(lm, plan.lora, seed=self.seed) as tuned:
            log = train(
                tuned.model,
                [term],
                plan.recipe,
                seed=self.seed,
                stage=f"relearning of {self.name} on {self.tuning.kind}, seed {self.seed}",
                on_eval=lambda step: told.append((step, self._measure(tuned, familiarity))),
                eval_every=plan.every,
                progress=progress,
            )
        return self._curve(told, tuple(float(loss or 0.0) for loss in log.losses[self.tuning.kind]), log.seconds)

    def _measure(self, lm: LanguageModel, familiarity: Callable[[LanguageModel, Sequence[Any]], Measured]) -> Measured:
        found = familiarity(lm, self.rows)
        home = {row.id: row.cluster for row in self.rows}
        wrong = [one for one, cluster in zip(found.ids, found.passages, strict=True) if home.get(one) != cluster]
        strange = [one for one in found.left_out if one not in home]
        lacking = [one for one in home if one not in found.ids and one not in found.left_out]
        if wrong or strange or lacking:
            first = (wrong + strange + lacking)[0]
            raise InputError(
                f"the familiarity ({found.name}) does not speak of the rows that were asked for: row {quoted(first)} "
                "is missing, was not asked for, or lies in another cluster. Measure each row that is given, no other."
            )
        return found

    def _curve(self, told: Sequence[tuple[int, Measured]], losses: tuple[float, ...], seconds: float) -> Curve:
        left_out: dict[str, str] = {}
        for step, one in told:
            for identifier, why in one.left_out.items():
                left_out.setdefault(identifier, f"after {step} steps: {why}")
        kept = [row for row in self.rows if row.id not in left_out]
        values = [dict(zip(one.ids, one.values.tolist(), strict=True)) for _, one in told]
        return Curve(
            model=self.name,
            kind=self.tuning.kind,
            seed=self.seed,
            settings=self.settings,
            key=self.key,
            name=told[0][1].name,
            tuned=self.tuned,
            steps=tuple(step for step, _ in told),
            ids=tuple(row.id for row in kept),
            clusters=tuple(row.cluster for row in kept),
            values=np.array([[one[row.id] for row in kept] for one in values], dtype=np.float64).reshape(
                len(told), len(kept)
            ),
            left_out=left_out,
            losses=losses,
            seconds=seconds,
        )


@contextlib.contextmanager
def _copied(lm: LanguageModel, lora: LoraPlan | None, *, seed: int) -> Iterator[LanguageModel]:
    """A model to train: float32 weights of its own, or a new adapter over the very weights of the given one."""
    merging = has_adapter(lm.model)
    shared: dict[int, Any] = {} if lora is None or merging else {id(one): one for one in lm.model.parameters()}
    asked = [(one, one.requires_grad) for one in lm.model.parameters()]
    try:
        model = copy.deepcopy(lm.model, shared)
        if lora is None or merging:
            model.float()
    except RuntimeError as error:
        raise ModelError(
            f"the model cannot be copied to be tuned ({' '.join(str(error).split())[:200]}). Tune an adapter (lora), "
            "which needs no second copy of the weights, or take a smaller model."
        ) from error
    if merging:
        merge_layers(model, adapter=str(lm.subject.adapter))
    copied = dataclasses.replace(lm, model=model)
    if lora is None:
        model.requires_grad_(True)
        yield copied
        return
    try:
        yield attach(copied, lora, seed=seed).lm  # nothing but the adapter asks for a gradient
    finally:
        for one, before in asked:  # the given model's weights, where they are shared
            one.requires_grad_(before)
