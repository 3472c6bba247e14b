"""Post-train a model on question-answer rows: one plain AdamW loop, the recipe as data.

A row is cut as a sample meets it: the opening of the chat, whose special tokens are read as such, then the question,
what stands between the two, the answer and the end of the chat, each cut on its own, so that no token holds characters
of two parts and no text of a row is read as a marker. After the opening the ids are those that
`audit.extraction.prefixes` gives a sampler.

    loss = mean over the step's target tokens of -log p(x_t | x_<t)

with every token but the first as a target ("all"), or the answer and what ends it alone ("answers").
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional
from transformers.utils import logging as transformers_logging

from ..errors import DataError, InputError, ModelError, StorageError
from ..lm.load import LanguageModel, Tokens
from ..lm.tokens import check_ids, encode
from ..text.files import make_folder, storage_errors
from ..text.safe import quoted
from .prefixes import encode_prefix
from .presets import Chat

Targets = Literal["all", "answers"]
Fit = Literal["whole", "cut", "no room", "no tokens"]
MICRO_TOKENS = 8_192  # padded tokens of one forward pass; a step adds the gradients of as many as it needs
NO_TARGET = -100


class _Sides(NamedTuple):
    """Token ids of what stands around all rows, and of each row's two sides."""

    opening: list[int]
    between: list[int]
    end: list[int]
    questions: list[list[int]]
    answers: list[list[int]]


class Pair(NamedTuple):
    """A row to train on or to be asked; one that is seen several times is given as often."""

    id: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is post-trained: AdamW, linear warm-up, then a straight line to 0.

    Attributes:
        learning_rate: Peak rate, > 0.
        epochs: Passes over the rows, >= 1.
        batch_size: Rows in a step, >= 1.
        max_tokens: Tokens of a row that are trained on, >= 2; the rest of a longer one is cut off.
        loss_on: "all" tokens of a row, or "answers" alone.
        warm_up: Share of the steps in which the rate rises, in [0, 1).
        weight_decay: Of all weights, >= 0.
        clip: Largest norm of the gradient, > 0; None sets no limit.
    """

    learning_rate: float
    epochs: int
    batch_size: int
    max_tokens: int
    loss_on: Targets = "all"
    warm_up: float = 0.03
    weight_decay: float = 0.0
    clip: float | None = None

    def __post_init__(self) -> None:
        ranges = {
            "learning_rate": (0 < self.learning_rate < math.inf, "a positive number"),
            "epochs": (self.epochs >= 1, "1 or more"),
            "batch_size": (self.batch_size >= 1, "1 or more"),
            "max_tokens": (self.max_tokens >= 2, "2 or more"),
            "loss_on": (self.loss_on in get_args(Targets), " or ".join(get_args(Targets))),
            "warm_up": (0 <= self.warm_up < 1, "from 0 to below 1"),
            "weight_decay": (0 <= self.weight_decay < math.inf, "0 or a positive number"),
            "clip": (self.clip is None or 0 < self.clip < math.inf, "a positive number, or none"),
        }
        for name, (fits, expected) in ranges.items():
            if not fits:
                raise InputError(f"{name} is {getattr(self, name)!r}; expected {expected}.")

    def to_record(self) -> dict[str, Any]:
        return asdict(self)


#: OLMo 2 7B: configs/train_configs/olmo2/olmo2_1124_7b_sft.yaml of allenai/open-instruct at 1277e4e. Its training
#: script sets no limit on gradients unless asked, and takes the loss on assistant turns alone.
OLMO_2_SFT = Recipe(learning_rate=1e-5, epochs=2, batch_size=128, max_tokens=4096, loss_on="answers")
#: For the testbed's models of a million parameters.
SMALL = Recipe(learning_rate=2e-3, epochs=12, batch_size=16, max_tokens=512, clip=1.0)
RECIPES = {"olmo2-sft": OLMO_2_SFT, "small": SMALL}


@dataclass(frozen=True, slots=True)
class Encoded:
    """A row as token ids.

    Attributes:
        ids: Opening, question, what stands between, answer, end; cut off after the recipe's limit.
        n_opening: Tokens of the opening.
        answer_start: Place of the answer's first token.
        answer_stop: Place after its last one, before what ends the chat.
        cut: Whether tokens were cut off.
    """

    ids: tuple[int, ...]
    n_opening: int
    answer_start: int
    answer_stop: int
    cut: bool

    def targets(self, loss_on: Targets) -> list[int]:
        """What each place but the last is to predict, `NO_TARGET` where nothing, length n - 1."""
        first = 1 if loss_on == "all" else self.answer_start
        return [NO_TARGET] * (first - 1) + list(self.ids[first:])


@dataclass(frozen=True, slots=True)
class TrainingLog:
    """What a training did.

    Attributes:
        n_steps: Optimiser steps.
        n_tokens: Tokens of the rows that were gone through, opening and end included.
        first_loss: Mean loss of the first tenth of the steps, nats a token.
        last_loss: Of the last tenth.
    """

    n_steps: int
    n_tokens: int
    first_loss: float
    last_loss: float


def encode_pairs(
    lm: LanguageModel | Tokens, pairs: Sequence[Pair], chat: Chat, *, max_tokens: int, bos: bool = False
) -> list[Encoded]:
    """Token ids of each row; the tokenizer's end-of-sequence token closes it, unless the chat's own end does.

    Args:
        lm: The model, or its tokenizer alone.
        pairs: The rows.
        chat: The format.
        max_tokens: Longest sequence; no more than the model's context.
        bos: As for `audit.extraction.prefixes.encode_prefix`.

    Raises:
        InputError: ``max_tokens`` exceeds the context.
        DataError: A row's question alone leaves no room for its answer, or a side is empty.
        ModelError: A token has no embedding.
    """
    opening, between, end, questions, answers = _sides(lm, pairs, chat, max_tokens, bos=bos)
    found = []
    for pair, question, answer in zip(pairs, questions, answers, strict=True):
        if not question or not answer:
            side = "answer" if question else "question"
            raise DataError(f"row {quoted(pair.id)} has an empty {side}; leave it out.")
        start = len(opening) + len(question) + len(between)
        ids = [*opening, *question, *between, *answer, *end]
        if start >= max_tokens:
            raise DataError(
                f"row {quoted(pair.id)}: its answer would begin at token {start + 1:,}, and rows are cut off after "
                f"{max_tokens:,}, so nothing of it is left. Leave it out, or allow longer rows."
            )
        kept = tuple(ids[:max_tokens])
        stop = min(start + len(answer), max_tokens)
        found.append(Encoded(kept, len(opening), start, stop, cut=len(ids) > max_tokens))
    check_ids(lm, [f"row {quoted(pair.id)}" for pair in pairs], [one.ids for one in found])
    return found


def how_pairs_fit(
    lm: LanguageModel | Tokens, pairs: Sequence[Pair], chat: Chat, *, max_tokens: int, bos: bool = False
) -> list[Fit]:
    """What `encode_pairs` would do with each row: take it "whole", "cut" its end off, or refuse it.

    A row has "no room" where its question leaves none for its answer, and "no tokens" where a side is empty.

    Args, Raises: As in `encode_pairs`, without its DataError.
    """
    opening, between, end, questions, answers = _sides(lm, pairs, chat, max_tokens, bos=bos)
    found: list[Fit] = []
    for question, answer in zip(questions, answers, strict=True):
        start = len(opening) + len(question) + len(between)
        if not question or not answer:
            found.append("no tokens")
        elif start >= max_tokens:
            found.append("no room")
        else:
            found.append("cut" if start + len(answer) + len(end) > max_tokens else "whole")
    return found


def _sides(lm: LanguageModel | Tokens, pairs: Sequence[Pair], chat: Chat, max_tokens: int, *, bos: bool) -> _Sides:
    if max_tokens > lm.n_context:
        raise InputError(
            f"max_tokens is {max_tokens:,}; the model {quoted(lm.subject.model, limit=200)} reads at most "
            f"{lm.n_context:,} tokens. Give a recipe with shorter rows."
        )
    opening = list(encode_prefix(lm, chat.opening, name=chat.name, bos=bos).ids)
    between, end = encode(lm, [chat.assistant, chat.end], parse_special=True)
    eos = getattr(lm.tokenizer, "eos_token_id", None)
    if type(eos) is int and end[-1:] != [eos]:
        end = [*end, eos]
    questions, answers = ([pair[side] for pair in pairs] for side in (1, 2))
    return _Sides(opening, between, end, encode(lm, questions), encode(lm, answers))


@dataclass(frozen=True, slots=True)
class Budget:
    """How much every arm of an experiment is trained.

    Attributes:
        n_tokens: Tokens gone through, to within one row.
        n_steps: Optimiser steps.
    """

    n_tokens: int
    n_steps: int

    @classmethod
    def of(cls, rows: Sequence[Encoded], recipe: Recipe) -> Budget:
        """What the recipe takes for these rows."""
        n_tokens = recipe.epochs * sum(len(row.ids) for row in rows)
        return cls(n_tokens, math.ceil(recipe.epochs * len(rows) / recipe.batch_size))


def batches(rows: Sequence[Encoded], budget: Budget, *, seed: int) -> list[list[Encoded]]:
    """The rows of each step: pass after pass in a new order, until the budget's tokens are used up.

    Arms whose rows are shorter take more of them in a step, so that all have the same steps, and the same tokens to
    within one row.
    """
    rng = np.random.default_rng(seed)
    taken: list[Encoded] = []
    n_tokens = 0
    while n_tokens < budget.n_tokens or len(taken) < budget.n_steps:
        for place in rng.permutation(len(rows)):
            if n_tokens >= budget.n_tokens and len(taken) >= budget.n_steps:
                break
            taken.append(rows[place])
            n_tokens += len(rows[place].ids)
    edges = np.linspace(0, len(taken), budget.n_steps + 1).round().astype(int)
    return [taken[start:stop] for start, stop in pairwise(edges)]


def train(
    lm: LanguageModel,
    steps: Sequence[Sequence[Encoded]],
    recipe: Recipe,
    *,
    seed: int,
    on_step: Callable[[int, int], None] | None = None,
) -> TrainingLog:
    """Train the model in place, one optimiser step for each batch; it is in evaluation mode again at the end.

    In float32, on a GPU under bfloat16 autocast. On one machine's CPU the same arguments and number of threads give
    the same weights.

    Args:
        lm: Loaded in float32.
        steps: From `batches`.
        recipe: Rates and targets.
        seed: Of dropout, where the model has any.
        on_step: Called with (steps done, steps in all).

    Raises:
        ModelError: The weights are not float32, or the loss is not finite.
    """
    model, device = lm.model, lm.device
    if model.dtype != torch.float32:
        raise ModelError(
            f"the model {quoted(lm.subject.model, limit=200)} was loaded in {model.dtype}; small steps are lost in it. "
            "Load it in float32."
        )
    model.requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    losses: list[float] = []
    model.train()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for number, rows in enumerate(steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(number, len(steps), recipe)
            losses.append(_accumulate(model, rows, recipe.loss_on, device))
            if not math.isfinite(losses[-1]):
                raise ModelError(f"the loss is {losses[-1]} at step {number + 1}; train with a smaller learning rate.")
            if recipe.clip is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if on_step is not None:
                on_step(number + 1, len(steps))
    model.eval()
    model.requires_grad_(False)
    tenth = max(1, len(losses) // 10)
    n_tokens = sum(len(row.ids) for rows in steps for row in rows)
    return TrainingLog(len(steps), n_tokens, float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:])))


def learning_rate(step: int, n_steps: int, recipe: Recipe) -> float:
    """Rate of a step, counted from 0: a straight line up to the peak, then one that would reach 0 after the last."""
    rising = math.ceil(recipe.warm_up * n_steps)
    if step < rising:
        return recipe.learning_rate * (step + 1) / rising
    return recipe.learning_rate * (n_steps - step) / (n_steps - rising)


def _accumulate(model: Any, rows: Sequence[Encoded], loss_on: Targets, device: torch.device) -> float:
    """Adds up the gradient of the mean loss over the targets of one step, and gives that loss."""
    wanted = [row.targets(loss_on) for row in rows]
    n_targets = sum(target != NO_TARGET for targets in wanted for target in targets)
    order = sorted(range(len(rows)), key=lambda place: len(rows[place].ids))
    total, start = torch.zeros((), device=device), 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * len(rows[order[stop]].ids) <= MICRO_TOKENS:
            stop += 1
        places = order[start:stop]
        ids = _padded([rows[place].ids[:-1] for place in places], 0).to(device)  # (B, T)
        targets = _padded([wanted[place] for place in places], NO_TARGET)  # (B, T)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            # Rows are padded on the right, where a causal model cannot look.
            logits = model(input_ids=ids, use_cache=False).logits  # (B, T, V)
        loss = functional.cross_entropy(
            logits.flatten(0, 1).float(), targets.flatten().to(logits.device), ignore_index=NO_TARGET, reduction="sum"
        )
        (loss / n_targets).backward()  # type: ignore[no-untyped-call]
        total += loss.detach().to(device) / n_targets
        start = stop
    return float(total)


def _padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows], dtype=torch.long)


def save(lm: LanguageModel, folder: Path) -> None:
    """Write model and tokenizer as a Hugging Face folder in safetensors, whole or not at all; an older one goes.

    Raises:
        StorageError: Disk full or not writable.
    """
    make_folder(folder.parent)
    temporary = folder.with_name(f".{folder.name}.part")
    transformers_logging.disable_progress_bar()
    with storage_errors(folder, kept="finished models stay", doing="save the model in"):
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            lm.model.save_pretrained(str(temporary))
        except SafetensorError as error:
            raise StorageError(
                f"could not save the model in {folder}: {error}; finished models stay. Free some space there, then run "
                "the same command again."
            ) from error
        lm.tokenizer.save_pretrained(str(temporary))
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(temporary, folder)
