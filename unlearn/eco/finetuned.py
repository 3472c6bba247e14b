r"""P(forget | prompt) by an encoder that is fine-tuned with a head of two labels, as RoBERTa is by the authors of ECO.

    p_f(x) = max over windows w of x of softmax(h(w))_forget
    loss   = sum over the batch of c_y * -log softmax(h(w))_y  /  sum over the batch of c_y,    c_y = N / N_y

Source: the authors' code of arXiv:2406.07933 (spec of ECO, section 2.1): RoBERTa-base, AdamW, 30 epochs, a warm-up and
a cosine, no clipping; `FineTuning` has their values.

Departures:
- They keep the checkpoint with fewest errors on the very forget prompts that it is trained on. Here held-out prompts
  decide where some are given: fewest forget prompts missed, then fewest retain prompts flagged, then the lower mean
  loss, then the earlier one; and a checkpoint that is no better than chance on them, as one that flags everything,
  comes last. Without held-out prompts the weights of the last step are kept. The record says which.
- They cut a prompt after 512 tokens; here it is read in windows (`unlearn.eco.heads`) of 512 tokens and of 32: an
  encoder that is trained on short questions can overlook one among 500 other tokens.
- Weight decay takes in biases and norms. No published threshold applies: see `unlearn.eco.calibration`.

On disk a classifier is a checkpoint of transformers in safetensors and a record of its files' hashes.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from scipy.special import expit, log_expit
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.utils import logging as transformers_logging

from audit.errors import DataError, InputError, ModelError
from audit.progress import Progress, silent
from audit.runs.records import content_key, plain, read_json
from audit.stats.checks import Floats
from audit.testbed.tiny_lm import system_errors
from audit.text.files import expanded, make_folder, storage_errors, write_json
from audit.text.safe import quoted

from ..ranges import check_ranges
from ..training import CRITERION, Recipe, Term, Validation, shuffled, train
from .classifier import RECORD, PromptScores
from .heads import LEAST, Head, Window, file_hashes, load_head, padded
from .prompts import WINDOWS

KIND: Final = "fine-tuned"
MODEL: Final = "model"  # folder of the checkpoint beside the record
_VERSION: Final = 1
_FORGET: Final = 1  # the label


@dataclass(frozen=True, slots=True)
class FineTuning:
    """How the encoder is trained; the defaults are the authors'.

    Attributes:
        learning_rate: Peak rate of AdamW, > 0.
        betas: Its two decay rates, each in [0, 1).
        epsilon: What it adds to each denominator, > 0.
        weight_decay: Of all weights, >= 0.
        warm_up: Share of the steps in which the rate rises in a straight line, in [0, 1); then it falls as a cosine.
        epochs: Passes over the training prompts, >= 1.
        batch_size: Windows of a step, >= 1.
        dropout: Every rate of dropout that the encoder's configuration names, in [0, 1).
        windows: Tokens of the windows, control tokens included, each >= 8; fewer where the encoder has fewer places.
        check_every: Steps from one checkpoint to the next, >= 1; held-out prompts are scored at each and at the end.
        seed: Of the head's first weights, the order of the prompts and dropout.
    """

    learning_rate: float = 2e-5
    betas: tuple[float, float] = (0.9, 0.98)
    epsilon: float = 1e-6
    weight_decay: float = 0.1
    warm_up: float = 0.1
    epochs: int = 30
    batch_size: int = 16
    dropout: float = 0.1
    windows: tuple[int, ...] = WINDOWS
    check_every: int = 1_000
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = {
            "epochs": (self.epochs >= 1, "1 or more"),
            "batch_size": (self.batch_size >= 1, "1 or more"),
            "dropout": (0 <= self.dropout < 1, "from 0 to below 1"),
            "windows": (
                bool(self.windows) and all(n >= LEAST for n in self.windows),
                f"one or more, each {LEAST} or more",
            ),
            "check_every": (self.check_every >= 1, "1 or more"),
            "seed": (self.seed >= 0, "0 or more"),
        }
        check_ranges(self, "fine-tuning", ranges)
        self.recipe(1)  # checks the rest

    def recipe(self, n_windows: int) -> Recipe:
        """The recipe of training on so many windows."""
        return Recipe(
            learning_rate=self.learning_rate,
            n_steps=math.ceil(self.epochs * n_windows / self.batch_size),
            warm_up=self.warm_up,
            betas=self.betas,
            epsilon=self.epsilon,
            weight_decay=self.weight_decay,
            decay="cosine",
            clip=None,
        )


class Labelled(NamedTuple):
    """Prompts with their labels.

    Attributes:
        texts: n prompts.
        forget: Whether each is about what is to be forgotten; n of them.
    """

    texts: Sequence[str]
    forget: Sequence[bool]


@dataclass(frozen=True, slots=True)
class FineTuned:
    """A fine-tuned classifier; made by `fine_tune` or `load_fine_tuned`.

    Attributes:
        head: The model.
        record: Plain JSON: what it was made of (``base``, ``plan``, ``n_forget`` and ``n_retain`` windows), the steps
            made, the step whose weights were kept and the rule that chose it, and what was measured.
    """

    head: Head
    record: dict[str, Any]

    def scores(self, texts: Sequence[str]) -> PromptScores:
        """P(forget) of each prompt, as `unlearn.eco.classifier.score`.

        Raises:
            InputError: A text is no string or holds half of a surrogate pair, or memory runs out.
        """
        windows = self.head.windows(texts, self.record["windows"])
        owners = np.array([window.owner for window in windows], dtype=np.int64)
        p_forget = np.zeros(len(texts))
        unseen = np.zeros(len(texts), dtype=np.bool_)
        np.maximum.at(p_forget, owners, expit(_log_odds(self.head, windows)))
        np.logical_or.at(unseen, owners, np.array([not window.seen for window in windows], dtype=np.bool_))
        return PromptScores(p_forget, np.bincount(owners, minlength=len(texts)).astype(np.int64), unseen)


def fine_tune(
    encoder: str | Path,
    training: Labelled,
    plan: FineTuning | None = None,
    *,
    held_out: Labelled | None = None,
    work: Path | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> FineTuned:
    """Train an encoder and a head on prompts; deterministic on one CPU with as many threads.

    A prompt that may pass is trained on in all its windows. One that may not is trained on in the largest ones alone,
    mostly one that holds it whole, as not each of its smaller parts need be about what is to be forgotten.

    Args:
        encoder: Local folder of a transformers encoder; a head of two labels that it has is trained on.
        training: Prompts, as of `unlearn.eco.prompts.training_prompts`; both labels occur.
        plan: None takes the authors' values.
        held_out: Other prompts, which choose among the checkpoints; both labels occur. None keeps the last step's.
        work: Folder of checkpoints, from which a killed training goes on to the same result; None keeps none. Remove it
            when the classifier is saved.
        device: As for `audit.lm.load`.
        progress: Called after every step.

    Raises:
        InputError: Labels are missing or all alike; a prompt is empty, or too long; no such folder or device.
        ModelError: As `load_head`, or the training diverges.
        StorageError: A checkpoint cannot be written.
    """
    plan = plan or FineTuning()
    for name, side in (("training", training), ("held-out", held_out)):
        if side is not None:
            _check_labels(name, side)
    settings = {"num_labels": 2, **dict.fromkeys(_dropouts(encoder), plan.dropout)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        head = load_head(
            encoder,
            AutoModelForSequenceClassification,
            device=device,
            window=max(plan.windows),
            settings=settings,
            may_lack_head=True,
        )
    items = _items(head, training, plan.windows)
    n_forget = sum(item.label == _FORGET for item in items)
    # N / N_y, times n_forget * n_retain / N: whole numbers, and the loss is divided by their sum.
    weights = (n_forget, len(items) - n_forget)  # of retain, of forget
    term = Term(
        "prompts",
        shuffled(items, batch_size=plan.batch_size, seed=plan.seed, passes=plan.epochs),
        lambda model, batch: _loss(model, batch, head, weights),
        lambda item: len(item.ids),
        lambda item: weights[item.label],
    )
    base = {"base": head.fingerprint.to_record(), "plan": plain(asdict(plan), "plan")}
    key = content_key(**base, training=_content(training), held_out=held_out and _content(held_out))
    head.model.requires_grad_(True)
    log = train(
        head.model,
        [term],
        plan.recipe(len(items)),
        seed=plan.seed,
        stage="fine-tune the classifier",
        key=key,
        work=work,
        validation=None
        if held_out is None
        else Validation(lambda: _held_out(head, held_out, plan.windows), plan.check_every),
        save_every=plan.check_every,
        progress=progress,
    )
    head.model.requires_grad_(False)
    record = {
        **base,
        "key": key,
        "windows": [min(size, head.window) for size in plan.windows],
        "n_forget": n_forget,
        "n_retain": len(items) - n_forget,
        "n_steps": log.n_steps,
        "kept_step": log.best_step,
        "kept_by": "last step" if held_out is None else "fewest errors on held-out prompts",
        "evaluations": [[step, found] for step, found in log.evaluations],
    }
    return FineTuned(head, record)


class _Item(NamedTuple):
    ids: list[int]
    label: int


def _items(head: Head, training: Labelled, sizes: Sequence[int]) -> list[_Item]:
    forget = [text if is_forget else "" for text, is_forget in zip(training.texts, training.forget, strict=True)]
    retain = ["" if is_forget else text for text, is_forget in zip(training.texts, training.forget, strict=True)]
    whole = head.windows(forget, [max(sizes)])
    found = [(window, _FORGET) for window in whole] + [(window, 1 - _FORGET) for window in head.windows(retain, sizes)]
    return [_Item(window.ids, label) for window, label in sorted(found, key=lambda one: one[0].owner)]


def _check_labels(name: str, side: Labelled) -> None:
    if len(side.texts) != len(side.forget):
        raise InputError(
            f"there are {len(side.forget)} labels for {len(side.texts)} {name} prompts; expected one for each."
        )
    for place, text in enumerate(side.texts):
        if isinstance(text, str) and not text.strip():
            raise InputError(f"{name} prompt {place} is empty. Leave it out.")
    n_forget = sum(map(bool, side.forget))
    if not 0 < n_forget < len(side.texts):
        raise InputError(
            f"{n_forget} of {len(side.texts)} {name} prompts are about what is to be forgotten; expected some that are "
            "and some that are not."
        )


def _loss(model: nn.Module, items: Sequence[_Item], head: Head, weights: tuple[int, int]) -> Tensor:
    """Sum over the items of weight times -log softmax, in nats."""
    logits = model(**padded([item.ids for item in items], head.tokenizer, head.device)).logits
    labels = torch.tensor([item.label for item in items], device=logits.device)
    scale = torch.tensor(weights, dtype=torch.float32, device=logits.device)
    return nn.functional.cross_entropy(logits.float(), labels, weight=scale, reduction="sum")


def _log_odds(head: Head, windows: Sequence[Window]) -> Floats:
    """log p_f / (1 - p_f) of each window, shape (n,)."""
    found: NDArray[np.float64] = np.array(
        [float(row[_FORGET].double() - row[1 - _FORGET].double()) for row in head.logits(windows)], dtype=np.float64
    )
    return found


def _held_out(head: Head, rows: Labelled, sizes: Sequence[int]) -> dict[str, float]:
    """Errors on held-out prompts, their mean loss in nats, and the one number that orders checkpoints by them."""
    windows = head.windows(rows.texts, sizes)
    odds = np.full(len(rows.texts), -np.inf)
    np.maximum.at(odds, [window.owner for window in windows], _log_odds(head, windows))
    forget = np.array(rows.forget, dtype=np.bool_)
    missed, false = int((odds[forget] <= 0).sum()), int((odds[~forget] > 0).sum())
    loss = -float(np.mean(log_expit(np.where(forget, odds, -odds))))
    n = len(forget) + 1
    by_chance = missed / forget.sum() + false / (~forget).sum() >= 1
    criterion = n * n * int(by_chance) + n * missed + false + loss / (1 + loss)
    return {"missed": missed, "false_alarms": false, "loss": loss, CRITERION: criterion}


def _content(rows: Labelled) -> list[list[Any]]:
    return [[text, bool(is_forget)] for text, is_forget in zip(rows.texts, rows.forget, strict=True)]


def _dropouts(encoder: str | Path) -> list[str]:
    """Names of the rates of dropout in an encoder's configuration; a folder without one is told by `load_head`."""
    try:
        config = AutoConfig.from_pretrained(expanded(str(encoder)), trust_remote_code=False, local_files_only=True)
    except Exception:  # hostile files can make transformers raise anything
        return []
    return [
        name
        for name, value in config.to_dict().items()
        if "dropout" in name and (value is None or type(value) in (int, float))
    ]


def save_fine_tuned(classifier: FineTuned, folder: str | Path) -> None:
    """Write the checkpoint into ``model`` and then ``classifier.json``; killed in between there is no classifier.

    Raises:
        StorageError: The folder cannot be written.
    """
    where = make_folder(folder)
    model = where / MODEL
    with storage_errors(model, kept="no classifier is left there", doing="save the classifier in"), system_errors():
        (where / RECORD).unlink(missing_ok=True)
        if model.exists():
            shutil.rmtree(model)
        model.mkdir()
        transformers_logging.disable_progress_bar()
        classifier.head.model.save_pretrained(str(model))
        classifier.head.tokenizer.save_pretrained(str(model))
    write_json(
        where / RECORD,
        {"kind": KIND, "version": _VERSION, "files": file_hashes(model), **classifier.record},
    )


def load_fine_tuned(folder: str | Path, *, device: str = "auto") -> FineTuned:
    """Read what `save_fine_tuned` wrote.

    Raises:
        IncompleteRunError: There is no classifier in the folder.
        DataError: A file was changed, added or taken away, or the record is of another version or kind.
        InputError: No such device.
    """
    where = Path(folder)
    record = read_json(where / RECORD, missing=f"{where} holds no {RECORD}. Fine-tune a classifier and save it there.")
    again = "They were changed or damaged: restore them from a copy, or fine-tune and save it again."
    if not isinstance(record, dict) or (record.get("kind"), record.get("version")) != (KIND, _VERSION):
        raise DataError(f"{where} holds no fine-tuned classifier of version {_VERSION}. {again}")
    try:
        files = file_hashes(where / MODEL)
        told = record.pop("files")
        changed = sorted(name for name in {*files, *told} if files.get(name) != told.get(name))
        sizes = [int(size) for size in record["windows"]]
        window = max(sizes)
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{where} holds no fine-tuned classifier that is whole ({quoted(error)}). {again}") from error
    if changed:
        raise DataError(f"{where / MODEL}: {quoted(changed[0])} is not the file that was saved there. {again}")
    try:
        head = load_head(where / MODEL, AutoModelForSequenceClassification, device=device, window=window)
    except (ModelError, SafetensorError) as error:
        raise DataError(f"{where} holds a classifier that cannot be loaded: {error}") from error
    if head.model.config.num_labels != 2:
        raise DataError(f"{where}: the classifier has {head.model.config.num_labels} labels; expected 2. {again}")
    values = {name: value for name, value in record.items() if name not in ("kind", "version")}
    return FineTuned(head, values)
