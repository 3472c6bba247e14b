r"""Who's Harry Potter? in its parts and the baselines, each at a few learning rates, and which weights are audited.

Every few steps of every training two numbers are taken on validation data, which nothing is audited on: familiarity
with the forget text, and the loss on other text as a share above the target's, its rise. Two sets of weights of an arm
are audited:

    stop    the lowest familiarity among all whose rise is at most the limit (2%); step 0, the target itself, takes part
    equal   of each rate the weights whose rise is nearest to the limit, or the last where it is never reached; of those
            whose rise is at most a quarter above the limit the lowest familiarity, else the nearest

The first rate is set by hand. The next is three times the largest while no training reaches the limit, a third of the
smallest while all do, and else the geometric middle of the two rates that enclose it. A training is left once the rise
is five times the limit.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from audit.errors import AuditError
from audit.lm.load import LanguageModel, load
from audit.lm.subject import Subject
from tests.benchmarks.unlearning.models import Size, copied, say
from unlearn.baselines.config import BaselinePlan, Rmu, TaskVector
from unlearn.baselines.methods import METHODS
from unlearn.baselines.rmu import layer_names, layer_output
from unlearn.sequences import Labelled
from unlearn.training import Recipe
from unlearn.whp.anchors import Anchors
from unlearn.whp.blocks import Block
from unlearn.whp.config import Optimisation, Reinforcement, Retain, RetainKind, Tuning, WhpPlan
from unlearn.whp.finetune import tune
from unlearn.whp.label_table import label
from unlearn.whp.own_rules import at_anchors, names_held_back
from unlearn.whp.pair import open_pair
from unlearn.whp.reinforce import reinforce
from unlearn.whp.translate import Translator

OnEval = Callable[[int, LanguageModel], None]
LEAVE = 5.0  # times the limit
FACTOR = 3.0  # from one rate to the next while the limit is not enclosed
REINFORCE_RATE = 5e-4  # ours; the paper's 3 passes


@dataclass(frozen=True, slots=True)
class Task:
    """What is unlearnt, from what.

    Attributes:
        subject: The target.
        blocks: Of the forget text, the beginning-of-sequence token before each.
        forget: The same as the baselines read it.
        retain: Text that retain terms keep.
        anchors: The dictionary.
        size: Steps and batches.
        batch: Blocks in a step.
        seed: Of orders and substitutes.
        folder: Where trainings are kept while they run.
        drafted: Another dictionary, drafted by counting, where ``anchors`` is not.
    """

    subject: Subject
    blocks: Sequence[Block]
    forget: Sequence[Labelled]
    retain: Sequence[Labelled]
    anchors: Anchors
    size: Size
    batch: int
    seed: int
    folder: Path
    drafted: Callable[[], Anchors] | None = None


@dataclass(frozen=True, slots=True)
class Whp:
    """The method or a part of it: without a dictionary reinforcement alone, with alpha 0 the dictionary alone."""

    rate: float = 1e-4
    with_anchors: bool = True
    labels: Literal["hard", "soft"] = "hard"
    alpha: float = 5.0
    retain: RetainKind = "none"
    weight: float = 1.0
    drafted: bool = False
    own_rules: bool = False

    def ready(self, task: Task) -> Callable[[float, OnEval], object]:
        """Reinforce and label; what is given back tunes at one rate."""
        plan = self._plan(task, self.rate)
        ids = [block.token_ids for block in task.blocks]
        stronger = reinforce(task.subject, ids, plan, out=task.folder / "reinforced")
        pair = open_pair(task.subject, stronger.subject)
        anchors = task.anchors if self.with_anchors else Anchors()
        if self.drafted and task.drafted is not None:
            anchors = task.drafted()
        translate = Translator(pair.baseline.tokenizer, anchors, seed=task.seed)
        translations = [translate(one) for one in task.blocks]
        if self.own_rules:
            translations = [at_anchors(one) for one in names_held_back(translate, ids, translations)]
        made = label(pair, ids, translations, plan, folder=task.folder / "labels")
        kept = [one.ids.tolist() for one in task.retain] if self.retain != "none" else []

        def training(rate: float, on_eval: OnEval) -> object:
            out = task.folder / f"rate-{rate:g}"
            return tune(task.subject, made.table, self._plan(task, rate), out=out, retain=kept, on_eval=on_eval)

        return training

    def _plan(self, task: Task, rate: float) -> WhpPlan:
        size, step = task.size, Optimisation(batch_size=task.batch)
        return WhpPlan(
            block=size.block,
            alpha=self.alpha,
            kappas=(1.0,),
            labels=self.labels,
            reinforce=Reinforcement(optimisation=replace(step, learning_rate=REINFORCE_RATE * size.factor)),
            tune=Tuning(
                n_steps=size.steps,
                evaluate_every=size.every,
                validation_share=0.0,
                optimisation=replace(step, learning_rate=rate),
                retain=Retain(self.retain, self.weight),
            ),
            seed=task.seed,
        )


@dataclass(frozen=True, slots=True)
class Baseline:
    """A method of `unlearn.baselines` with its usual retain term."""

    name: str
    rate: float

    def ready(self, task: Task) -> Callable[[float, OnEval], object]:
        size, first = task.size, self._first(task)

        def training(rate: float, on_eval: OnEval) -> object:
            plan = replace(first, recipe=replace(first.recipe, learning_rate=rate))
            out = task.folder / f"rate-{rate:g}"
            return METHODS[self.name](
                task.subject, task.forget, task.retain, plan, out=out, on_eval=on_eval, eval_every=size.every
            )

        return training

    def _first(self, task: Task) -> BaselinePlan:
        recipe = Recipe(self.rate, task.size.steps, betas=(0.9, 0.98))
        plan = BaselinePlan(recipe, batch_size=task.batch, seed=task.seed)
        if self.name in ("npo", "refusal"):  # its loss is of whole texts, the retain term's of tokens
            n_labels = [row.n_labels for row in task.forget]
            return replace(plan, forget_weight=len(n_labels) / sum(n_labels))
        if self.name == "rmu":
            return replace(plan, retain_weight=10.0, rmu=Rmu(steering=2 * _length(task)))
        return plan


@dataclass(frozen=True, slots=True)
class Negation:
    """Task-vector negation; what stands for a rate is its scale, and only its result is a model that forgot."""

    rate: float = 0.2

    def ready(self, task: Task) -> Callable[[float, OnEval], object]:
        size = task.size
        n_steps = max(1, 3 * len(task.forget) // task.batch)

        def training(scale: float, on_eval: OnEval) -> object:
            recipe = Recipe(REINFORCE_RATE * size.factor, n_steps, betas=(0.9, 0.98))
            plan = BaselinePlan(recipe, batch_size=task.batch, task_vector=TaskVector(scale), seed=task.seed)
            out = task.folder / f"scale-{scale:g}"
            made = METHODS["task_vector"](task.subject, task.forget, (), plan, out=out)
            on_eval(0, load(task.subject))
            on_eval(n_steps, load(made.subject))
            return made

        return training


def _length(task: Task) -> float:
    """Mean length of the steered layer's outputs on the forget text."""
    lm = load(task.subject)
    names = layer_names(lm.model)
    with torch.no_grad():
        hidden = layer_output(lm.model, names[len(names) * 7 // 32], task.forget[:16])
    return float(hidden.norm(dim=1).mean())


#: In the order of importance: a budget cuts off the end. The first is the paper's recipe; soft labels are ours.
ARMS: dict[str, Whp | Baseline | Negation] = {
    "whp": Whp(),
    "whp, soft labels": Whp(labels="soft"),
    "gradient_difference": Baseline("gradient_difference", 1e-4),
    "npo": Baseline("npo", 1e-4),
    "whp, reinforcement only": Whp(with_anchors=False),
    "whp, anchors only": Whp(alpha=0.0),
    "gradient_ascent": Baseline("gradient_ascent", 3e-5),
    "simnpo": Baseline("simnpo", 1e-4),
    "whp, soft labels + kl 1": Whp(labels="soft", retain="kl"),
    "whp + kl 1": Whp(retain="kl", weight=1.0),
    "whp + mixed 1": Whp(retain="mixed", weight=1.0),
    "rmu": Baseline("rmu", 3e-4),
    "whp + kl 4": Whp(retain="kl", weight=4.0),
    "whp + mixed 4": Whp(retain="mixed", weight=4.0),
    "whp, own rules": Whp(own_rules=True),
    "whp, own rules + mixed 1": Whp(own_rules=True, retain="mixed"),
    "whp, drafted anchors": Whp(drafted=True),
    "task_vector": Negation(),
    "kl_ascent": Baseline("kl_ascent", 1e-4),
    "refusal": Baseline("refusal", 1e-4),
}


class Gauged(NamedTuple):
    """Taken on validation data: mean familiarity with the forget text, mean loss on other text in nats a token."""

    familiarity: float
    loss: float


@dataclass(frozen=True, slots=True)
class Point:
    """One look at one training; ``rise`` is the loss on other text over the target's, less 1."""

    rate: float
    step: int
    familiarity: float
    rise: float


@dataclass
class Followed:
    """One training's looks, and the weights that may be audited."""

    rate: float
    before: Gauged
    gauge: Callable[[LanguageModel], Gauged]
    limit: float
    points: list[Point] = field(default_factory=list)
    stop: tuple[Point, dict[str, torch.Tensor]] | None = None
    near: tuple[Point, dict[str, torch.Tensor]] | None = None
    last: tuple[Point, dict[str, torch.Tensor]] | None = None
    failed: bool = False

    def __call__(self, step: int, lm: LanguageModel) -> None:
        found = self.before if step == 0 else self.gauge(lm)
        point = Point(self.rate, step, found.familiarity, found.loss / self.before.loss - 1)
        self.points.append(point)
        weights = copied(lm)
        self.last = point, weights
        if point.rise <= self.limit and (self.stop is None or point.familiarity < self.stop[0].familiarity):
            self.stop = self.last
        if self.near is None or abs(point.rise - self.limit) < abs(self.near[0].rise - self.limit):
            self.near = self.last
        if not point.rise <= LEAVE * self.limit:
            raise _LeftError

    @property
    def reached(self) -> bool:
        """Whether the limit was reached at one of the looks, or the training failed."""
        return self.failed or any(not point.rise < self.limit for point in self.points)

    def equal(self) -> tuple[Point, dict[str, torch.Tensor]] | None:
        return self.near if self.reached else self.last


class _LeftError(Exception):
    """This training has done more damage than any choice allows."""


class Tried(NamedTuple):
    """All looks of an arm, the weights that are audited by name ("stop", "equal"), and trainings that failed."""

    points: list[Point]
    kept: dict[str, tuple[Point, dict[str, torch.Tensor]]]
    failures: list[str]
    seconds: float


def try_rates(
    name: str,
    task: Task,
    *,
    gauge: Callable[[LanguageModel], Gauged],
    before: Gauged,
    limit: float,
) -> Tried:
    """Train at every rate and choose; a training that fails is told and counts for what it was before."""
    began, arm = time.monotonic(), ARMS[name]
    followed: list[Followed] = []
    failures = []
    try:
        training = arm.ready(task)
        for _ in range(task.size.tries):
            watch = Followed(_next_rate(followed, arm.rate * task.size.factor), before, gauge, limit)
            followed.append(watch)
            try:
                training(watch.rate, watch)
            except _LeftError:
                pass
            except AuditError as error:  # a loss that is no number, say: as bad as any rise
                failures.append(f"rate {watch.rate:g}: {error}")
                watch.failed = True
            if watch.points:
                at = watch.points[-1]
                say(
                    f"  {name}, rate {at.rate:g}: step {at.step}, familiarity {at.familiarity:.3g}, rise {at.rise:+.2%}"
                )
    finally:
        shutil.rmtree(task.folder, ignore_errors=True)
    points = [point for one in followed for point in one.points]
    kept = {}
    if stops := [one.stop for one in followed if one.stop is not None]:
        kept["stop"] = min(stops, key=lambda found: found[0].familiarity)
    if ends := [end for one in followed if (end := one.equal()) is not None]:
        kept["equal"] = min(ends, key=lambda found: _order(found[0], limit))
    return Tried(points, kept, failures, time.monotonic() - began)


def _next_rate(followed: Sequence[Followed], first: float) -> float:
    below = [one.rate for one in followed if not one.reached]
    above = [one.rate for one in followed if one.reached]
    if not followed:
        return first
    if not above:
        return FACTOR * max(below)
    if not below:
        return min(above) / FACTOR
    return math.sqrt(max(below) * min(above))


def _order(point: Point, limit: float) -> tuple[bool, float]:
    off = point.rise - limit
    comes_near = off <= limit / 4  # below the limit it is the last of a training that never got there, or near
    return not comes_near, point.familiarity if comes_near else off


def at_step(arm: Whp | Baseline | Negation, task: Task, *, rate: float, step: int) -> dict[str, torch.Tensor]:
    """The weights after so many steps of one training of the same plan."""
    found: dict[str, torch.Tensor] = {}

    def look(now: int, lm: LanguageModel) -> None:
        if now == step:
            found.update(copied(lm))
            raise _LeftError

    try:
        arm.ready(task)(rate, look)
    except _LeftError:
        pass
    finally:
        shutil.rmtree(task.folder, ignore_errors=True)
    return found


def record_of(point: Point) -> dict[str, Any]:
    return asdict(point)
