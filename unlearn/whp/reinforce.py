"""Reinforce: train the baseline further on the forget text (arXiv:2310.02238, the reinforced model).

    loss = mean over a step's tokens of -log p_B(x_i | x_<i),   x the forget text in blocks

What the text makes more probable than it was is what the text is known for. Departures: an adapter instead of all
weights, when the plan says so; learning rate and batch size are not sourced (`unlearn.whp.config`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from audit.errors import InputError
from audit.lm.load import LanguageModel, load
from audit.lm.subject import Subject
from audit.progress import Progress, silent
from audit.runs.records import content_key, plain

from ..checkpoints import check_saveable, finished, save_model, work_folder, write_result
from ..lora import LoraPlan, Twin, attach, base_weights
from ..sequences import checked, label_loss, own_labels
from ..training import Processes, Recipe, Term, processes, shuffled, train
from .config import REINFORCE_RATE, Optimisation, Weights, WhpPlan

SAVE_EVERY = 50  # steps between checkpoints


@dataclass(frozen=True, slots=True)
class Trained:
    """A training's result on disk.

    Attributes:
        folder: Checkpoint or adapter.
        subject: How it is loaded: the folder, or the baseline with the adapter over it.
        log: `unlearn.training.TrainingLog` as a record.
    """

    folder: Path
    subject: Subject
    log: dict[str, Any]


def reinforce(
    subject: Subject,
    blocks: Sequence[Sequence[int]],
    plan: WhpPlan,
    *,
    out: Path,
    on_eval: Callable[[int, LanguageModel], None] | None = None,
    eval_every: int | None = None,
    progress: Progress = silent,
) -> Trained:
    """Train the reinforced model and save it in ``out``; killed, the same call goes on from its last checkpoint.

    Args:
        subject: The baseline; its files are only read. All weights are trained in float32; with an adapter the
            baseline keeps the dtype that is asked for.
        blocks: Token ids of the forget text's blocks, in order.
        plan: Epochs, rates, full weights or adapter.
        out: Folder of the result: an ordinary checkpoint, or a PEFT adapter.
        on_eval: Called with the number of steps and the model, every ``eval_every`` steps.
        eval_every: See ``on_eval``.
        progress: Called after every step.

    Raises:
        InputError: ``out`` is taken or an input's folder, or the baseline has an adapter already.
        DataError, ModelError: A block does not fit the model; see also `unlearn.training.train`.
        StorageError: Disk full or not writable.
    """
    team = processes()
    stage = plan.reinforce
    lm = load_baseline(subject, stage.weights, team)
    texts = [own_labels(ids) for ids in checked(lm, blocks, what="forget text") if len(ids) >= 2]
    key = content_key(
        stage="reinforce",
        model=lm.fingerprint.to_record(),
        dtype=str(lm.model.dtype),
        blocks=[row.ids.tolist() for row in texts],
        plan=plain(dataclasses.asdict(stage), "plan"),
        seed=plan.seed,
    )
    record = finished(out, key, inputs=subject)
    if record is None:
        twin = prepare(lm, stage.weights, stage.lora, seed=plan.seed)
        optimisation = stage.optimisation
        n_steps = math.ceil(stage.epochs * len(texts) / optimisation.batch_size)
        draw = shuffled(texts, batch_size=optimisation.batch_size, seed=plan.seed, passes=stage.epochs)
        log = train(
            lm.model,
            [Term("forget text", draw, label_loss, attrgetter("n_tokens"), attrgetter("n_labels"))],
            recipe(optimisation, n_steps, REINFORCE_RATE[stage.weights]),
            seed=plan.seed,
            stage="reinforce",
            key=key,
            work=work_folder(out),
            on_eval=None if on_eval is None else lambda step: on_eval(step, lm),
            eval_every=None if on_eval is None else eval_every,
            save_every=SAVE_EVERY,
            team=team,
            progress=progress,
        )
        record = write(out, lm, twin, key=key, stage="reinforce", log=log.to_record(), team=team)
    return Trained(out, result_subject(subject, out, stage.weights), record["log"])


def load_baseline(subject: Subject, weights: Weights, team: Processes) -> LanguageModel:
    """The baseline, ready to be trained further on this process's device.

    Raises:
        InputError: It has an adapter already.
        ModelError: Its tokenizer cannot be saved with the result.
    """
    if subject.adapter is not None:
        raise InputError(
            f"the baseline {subject.model} was given with the adapter {subject.adapter}. Merge the two into a "
            "checkpoint of its own first (unlearn.lora.merge)."
        )
    if weights == "full":
        subject = dataclasses.replace(subject, dtype="float32")
    if team.n > 1 and team.device is not None:
        subject = dataclasses.replace(subject, device=team.device, device_map=None)
    lm = load(subject)
    if weights == "full":
        check_saveable(lm)
    return lm


def prepare(lm: LanguageModel, weights: Weights, lora: LoraPlan, *, seed: int) -> Twin | None:
    """Ask a gradient of all weights, or of those of a new adapter, which is given back."""
    if weights == "lora":
        return attach(lm, lora, seed=seed)
    lm.model.requires_grad_(True)
    return None


def recipe(optimisation: Optimisation, n_steps: int, usual_rate: float) -> Recipe:
    return Recipe(
        learning_rate=optimisation.learning_rate or usual_rate,
        n_steps=n_steps,
        warm_up=optimisation.warm_up,
        betas=optimisation.betas,
        weight_decay=optimisation.weight_decay,
        clip=optimisation.clip,
        gradient_checkpointing=optimisation.gradient_checkpointing,
        micro_tokens=optimisation.micro_tokens,
    )


def write(
    out: Path, lm: LanguageModel, twin: Twin | None, *, key: str, stage: str, log: dict[str, Any], team: Processes
) -> dict[str, Any]:
    """Save a trained model or adapter with the record of how it was made, which is given back."""
    lm.model.requires_grad_(False)
    record = plain(
        {
            "key": key,
            "kind": "checkpoint" if twin is None else "adapter",
            "stage": stage,
            "base": base_weights(lm.fingerprint),
            "log": log,
        },
        "training.json",
    )
    if team.writes:
        write_result(out, (lambda folder: save_model(lm, folder)) if twin is None else twin.save, record)
    team.wait()
    found: dict[str, Any] = record
    return found


def result_subject(subject: Subject, out: Path, weights: Weights) -> Subject:
    """How the result is loaded."""
    if weights == "lora":
        return dataclasses.replace(subject, adapter=str(out))
    return dataclasses.replace(subject, model=str(out), revision=None)
