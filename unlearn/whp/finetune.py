"""Tune: train the baseline on the forget text with generic labels (arXiv:2310.02238, the last step).

    loss = mean over labelled places of the cross-entropy with the label
           + weight * mean over the retain text's places of  -log p(token)  or  KL(baseline || model)

The input is the original text, the labels are not. Departures: the retain term is this project's (the paper has none);
soft labels likewise. The criterion of early stopping is the same loss on blocks of both texts that are kept out of
training; nothing that the result is audited on has a way in here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from audit.errors import DataError, InputError
from audit.lm.load import LanguageModel
from audit.lm.subject import Subject
from audit.progress import Progress, silent
from audit.runs.records import content_key, plain

from ..checkpoints import finished, work_folder
from ..initial import initial
from ..lora import Twin
from ..sequences import Labelled, checked, divergence, label_loss, own_labels
from ..training import CRITERION, Term, Validation, mean_loss, processes, shuffled, train
from .config import TUNE_RATE, WhpPlan
from .label_table import labelled_blocks
from .reinforce import Trained, load_baseline, prepare, recipe, result_subject, write

LABELS, RETAIN = "labels", "retain"
FEWEST = 2  # blocks, so that one can be kept out


def tune(
    subject: Subject,
    labels: pa.Table,
    plan: WhpPlan,
    *,
    out: Path,
    retain: Sequence[Sequence[int]] = (),
    on_eval: Callable[[int, LanguageModel], None] | None = None,
    progress: Progress = silent,
) -> Trained:
    """Train the unlearned model and save it in ``out``; killed, the same call goes on from its last checkpoint.

    It is evaluated before the first step, every ``evaluate_every`` steps and after the last; with blocks to validate
    on, the weights of the lowest criterion are the result.

    Args:
        subject: The baseline; its files are only read.
        labels: Table of `unlearn.whp.generic_labels.label`.
        plan: Steps, rates, weights, retain term.
        out: Folder of the result: an ordinary checkpoint, or a PEFT adapter.
        retain: Token ids of the retain text's blocks, for the retain term.
        on_eval: Called with the number of steps and the model at each evaluation; it decides nothing.
        progress: Called after every step.

    Raises:
        InputError: ``out`` is taken or an input's folder, the baseline has an adapter, or there is a retain term and no
            retain text.
        DataError: No labels, or too few blocks to keep some out.
        ModelError: See `unlearn.training.train`.
        StorageError: Disk full or not writable.
    """
    stage, kept = plan.tune, plan.tune.retain
    if kept.kind != "none" and not retain:
        raise InputError(f'the retain term is "{kept.kind}", but no retain text was given. Give some, or set "none".')
    team = processes()
    lm = load_baseline(subject, stage.weights, team)
    rows = [row for row in labelled_blocks(labels, plan) if row.n_labels]
    if not rows:
        raise DataError("no block has a label, so there is nothing to tune on. Give more forget text.")
    checked(lm, [row.ids.tolist() for row in rows], what="forget text")
    others = [] if kept.kind == "none" else checked(lm, retain, what="retain text")
    key = content_key(
        stage="tune",
        model=lm.fingerprint.to_record(),
        dtype=str(lm.model.dtype),
        labels=[[None if one is None else one.tolist() for one in dataclasses.astuple(row)] for row in rows],
        retain=others,
        plan=plain(dataclasses.asdict(stage), "plan"),
        seed=plan.seed,
    )
    record = finished(out, key, inputs=subject)
    if record is None:
        twin = prepare(lm, stage.weights, stage.lora, seed=plan.seed)
        parts = [_part(LABELS, rows, label_loss, plan, seed=plan.seed)]
        if others:
            texts = [own_labels(ids) for ids in others if len(ids) >= 2]
            loss, n_reads = _retain_loss(lm, twin, plan)
            parts.append(_part(RETAIN, texts, loss, plan, seed=plan.seed + 1, n_reads=n_reads))
        log = train(
            lm.model,
            [term for term, _ in parts],
            recipe(stage.optimisation, stage.n_steps, TUNE_RATE[stage.weights]),
            seed=plan.seed,
            stage="tune",
            key=key,
            work=work_folder(out),
            validation=_validation(lm, parts, plan) if stage.validation_share else None,
            on_eval=None if on_eval is None else lambda step: on_eval(step, lm),
            eval_every=stage.evaluate_every,
            team=team,
            progress=progress,
        )
        record = write(out, lm, twin, key=key, stage="tune", log=log.to_record(), team=team)
    return Trained(out, result_subject(subject, out, stage.weights), record["log"])


def split(rows: Sequence[Labelled], share: float, *, seed: int, what: str) -> tuple[list[Labelled], list[Labelled]]:
    """(to train on, to validate on): a share of the blocks, at least one of each side, chosen at random.

    Raises:
        DataError: There are too few blocks to keep one out.
    """
    if share == 0:
        return list(rows), []
    if len(rows) < FEWEST:
        raise DataError(
            f"there is one block of {what}, so none can be kept out to validate on. Give more text or shorter "
            "blocks; from Python, a validation_share of 0 keeps none."
        )
    n_out = min(max(1, round(share * len(rows))), len(rows) - 1)
    out = set(np.random.default_rng([seed, 1]).permutation(len(rows))[:n_out].tolist())
    return (
        [row for place, row in enumerate(rows) if place not in out],
        [row for place, row in enumerate(rows) if place in out],
    )


def _part(
    name: str,
    rows: Sequence[Labelled],
    loss: Callable[[Any, Sequence[Labelled]], Any],
    plan: WhpPlan,
    *,
    seed: int,
    n_reads: int = 0,
) -> tuple[Term[Labelled], list[Labelled]]:
    """A term over most of the blocks, and those that are kept out to validate on."""
    stage = plan.tune
    trained_on, validated_on = split(rows, stage.validation_share, seed=seed, what=name)
    size, weight = stage.optimisation.batch_size, 1.0
    if name == RETAIN:
        size, weight = stage.retain.batch_size or size, stage.retain.weight
    draw = shuffled(trained_on, batch_size=size, seed=seed)
    return Term(
        name, draw, loss, attrgetter("n_tokens"), attrgetter("n_labels"), weight=weight, n_reads=n_reads
    ), validated_on


def _retain_loss(
    lm: LanguageModel, twin: Twin | None, plan: WhpPlan
) -> tuple[Callable[[Any, Sequence[Labelled]], Any], int]:
    """The loss on retain text, and how often it reads the baseline beside: before ``lm`` is trained."""
    if plan.tune.retain.kind == "mixed":
        return label_loss, 0
    return divergence(lm.model, initial(lm.model) if twin is None else twin.off), 1


def _validation(
    lm: LanguageModel, terms: Sequence[tuple[Term[Labelled], Sequence[Labelled]]], plan: WhpPlan
) -> Validation:
    def measure() -> dict[str, float]:
        micro = plan.tune.optimisation.micro_tokens
        found = {term.name: mean_loss(lm.model, term, rows, micro_tokens=micro) for term, rows in terms}
        return {**found, CRITERION: sum(term.weight * found[term.name] for term, _ in terms)}

    return Validation(measure, plan.tune.evaluate_every, plan.tune.patience)
