r"""The training loop of every remedy: one AdamW loop, the loss and the recipe given as data.

    loss of a step = sum over terms of  weight * (sum of the term's losses) / (number of its targets)

A `Term` is a loss with the items that it is computed on; a retain term is a second one. The items of a step follow
from its number alone, and so do the random numbers of dropout, so that a training that was killed and went on ends, on
one CPU with as many threads, with the very weights of one that was not.

Several processes (``torchrun`` or ``accelerate launch`` sets WORLD_SIZE) each hold the whole model and take a share of
each step's items; gradients are added up once a step, and divided by the number of targets of all. Sharded models
(FSDP, DeepSpeed) are refused: train an adapter where the whole model does not fit.

Precision: weights that are trained are float32; a CUDA device that has bfloat16 computes under autocast.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeAlias, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor, nn

from audit.errors import InputError, ModelError
from audit.lm.sharing import out_of_memory, release_memory
from audit.progress import Progress, silent

from .checkpoints import TrainingState
from .ranges import check_ranges

Item = TypeVar("Item")
Decay: TypeAlias = Literal["linear", "cosine"]
CRITERION = "criterion"  # what a validation must give: lower is better
LOGIT_NUMBERS = 2**28  # of one micro-batch: 1 GiB of logits in float32
MICRO_TOKENS = 8_192  # padded tokens of one micro-batch at most


class DivergedError(ModelError):
    """A loss or a gradient is not finite: the same training ends so every time, where memory may be free tomorrow."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is trained: AdamW, a straight line up to the peak rate and a fall to 0.

    Attributes:
        learning_rate: Peak rate, > 0.
        n_steps: Optimiser steps, >= 1.
        warm_up: Share of the steps in which the rate rises, in [0, 1).
        betas: AdamW's two decay rates, each in [0, 1).
        epsilon: What AdamW adds to each denominator, > 0.
        weight_decay: Of all trained weights, >= 0.
        decay: How the rate falls: "linear", or half a wave of a "cosine".
        clip: Largest norm of a step's gradient, > 0; None sets no limit.
        gradient_checkpointing: Compute activations again in the backward pass: less memory, a third more time.
        micro_tokens: Padded tokens of one forward pass, >= 1; None for 8,192, or fewer where the vocabulary is so
            large that their logits would exceed 1 GiB. It is halved when memory runs out.
    """

    learning_rate: float
    n_steps: int
    warm_up: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    decay: Decay = "linear"
    clip: float | None = 1.0
    gradient_checkpointing: bool = False
    micro_tokens: int | None = None

    def __post_init__(self) -> None:
        ranges = {
            "learning_rate": (0 < self.learning_rate < math.inf, "a positive number"),
            "n_steps": (self.n_steps >= 1, "1 or more"),
            "warm_up": (0 <= self.warm_up < 1, "from 0 to below 1"),
            "betas": (len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas), "two, from 0 to below 1"),
            "epsilon": (0 < self.epsilon < math.inf, "a positive number"),
            "decay": (self.decay in get_args(Decay), '"linear" or "cosine"'),
            "weight_decay": (0 <= self.weight_decay < math.inf, "0 or a positive number"),
            "clip": (self.clip is None or 0 < self.clip < math.inf, "a positive number, or none"),
            "micro_tokens": (self.micro_tokens is None or self.micro_tokens >= 1, "1 or more, or none"),
        }
        check_ranges(self, "training", ranges)

    def to_record(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Term(Generic[Item]):
    """A loss and what it is computed on.

    Attributes:
        name: What the log calls it.
        draw: The items of a step, from its number (from 0) alone.
        loss: (model, items) -> sum over the items' targets, in nats, a scalar with a gradient.
        n_tokens: Tokens that an item puts through the model.
        n_targets: Targets of an item; what the sum is divided by.
        weight: Of the mean in the step's loss, finite; a negative one ascends.
        n_reads: Forward passes without gradient that ``loss`` makes of each token beside the one with.
    """

    name: str
    draw: Callable[[int], Sequence[Item]]
    loss: Callable[[Any, Sequence[Item]], Tensor]
    n_tokens: Callable[[Item], int]
    n_targets: Callable[[Item], int]
    weight: float = 1.0
    n_reads: int = 0


@dataclass(frozen=True, slots=True)
class Validation:
    """What is measured as the training goes on, and when it stops early.

    At the end the weights of the evaluation with the lowest criterion are put back; the evaluation before the first
    step takes part.

    Attributes:
        measure: The model in evaluation mode -> measures by name; "criterion" decides. None of them may come from data
            that the result is audited on.
        every: Steps from one evaluation to the next, >= 1; the last step is always followed by one.
        patience: Evaluations without a lower criterion after which the training stops, >= 1; None never stops.
    """

    measure: Callable[[], Mapping[str, float]]
    every: int
    patience: int | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise InputError(f"validation: every is {self.every!r}; expected 1 step or more.")
        if self.patience is not None and self.patience < 1:
            raise InputError(f"validation: patience is {self.patience!r}; expected 1 or more evaluations, or none.")


@dataclass(frozen=True, slots=True)
class TrainingLog:
    """What a training did.

    Attributes:
        n_steps: Optimiser steps made.
        n_planned: Steps of the recipe; more than ``n_steps`` when it stopped early.
        best_step: Step whose weights the model has now; the last one where nothing was validated.
        losses: By term, the mean loss of each step, nats a target; None where a step had no target.
        evaluations: Measures by step, in order.
        n_trained: Tokens that went through the model forward and backward, over all processes, padding left out.
        n_read: Tokens that went through it forward only, in the terms; those of the validation are not counted.
        n_items: Items of the first step, over all processes: the effective batch.
        n_processes: Processes that shared it.
        peak_memory: Bytes; `peak_memory_of` says of what.
        peak_memory_of: "CUDA allocations" of this training, or "process" for the largest size that the whole process
            ever had, which other work may have set.
        resumed_at: Step of the checkpoint that it went on from; 0 for none.
        seconds: Of this process's part, after ``resumed_at``.
    """

    n_steps: int
    n_planned: int
    best_step: int
    losses: dict[str, tuple[float | None, ...]]
    evaluations: tuple[tuple[int, dict[str, float]], ...]
    n_trained: int
    n_read: int
    n_items: int
    n_processes: int
    peak_memory: int
    peak_memory_of: str
    resumed_at: int
    seconds: float

    def to_record(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Processes:
    """Which of how many processes this is. The first one alone writes."""

    rank: int = 0
    n: int = 1
    device: str | None = None

    @property
    def writes(self) -> bool:
        return self.rank == 0

    def add_up(self, tensor: Tensor) -> None:
        """Sum over the processes, in place."""
        if self.n > 1:
            torch.distributed.all_reduce(tensor)

    def agree(self, value: dict[str, float] | None) -> dict[str, float]:
        """What the first process found."""
        if self.n > 1:
            held = [value]
            torch.distributed.broadcast_object_list(held, src=0)
            value = held[0]
        assert value is not None
        return value

    def wait(self) -> None:
        if self.n > 1:
            torch.distributed.barrier()


def processes() -> Processes:
    """Joins the processes that the launch environment names (WORLD_SIZE above 1); else this one alone.

    Raises:
        InputError: A sharded model was asked for (ACCELERATE_USE_FSDP, ACCELERATE_USE_DEEPSPEED).
    """
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        return Processes()
    for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM"):
        if os.environ.get(name, "false").lower() in ("true", "1"):
            raise InputError(
                f"{name} is set, but each process must hold the whole model here. Launch plain processes "
                "(accelerate launch --multi_gpu), and train an adapter where the whole model does not fit."
            )
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    return Processes(accelerator.process_index, accelerator.num_processes, str(accelerator.device))


def shuffled(
    items: Sequence[Item], *, batch_size: int, seed: int, passes: int | None = None
) -> Callable[[int], list[Item]]:
    """Pass after pass in a new order; a function from a step's number to its items.

    Args:
        items: At least one.
        batch_size: Items of a step.
        seed: Of the orders.
        passes: Passes after which nothing follows: the last step may be short. None goes on for ever.

    Raises:
        InputError: There are no items.
    """
    if not items:
        raise InputError("there is nothing to train on; give at least one item.")
    orders: dict[int, Any] = {}

    def draw(step: int) -> list[Item]:
        stop = (step + 1) * batch_size if passes is None else min((step + 1) * batch_size, passes * len(items))
        chosen = []
        for place in range(step * batch_size, stop):
            number, within = divmod(place, len(items))
            if number not in orders:
                orders.clear()
                orders[number] = np.random.default_rng([seed, number]).permutation(len(items))
            chosen.append(items[orders[number][within]])
        return chosen

    return draw


def learning_rate(step: int, recipe: Recipe) -> float:
    """Rate of a step, counted from 0: a straight line up to the peak, then a fall that would reach 0 after the last."""
    rising = math.ceil(recipe.warm_up * recipe.n_steps)
    if step < rising:
        return recipe.learning_rate * (step + 1) / rising
    left = (recipe.n_steps - step) / (recipe.n_steps - rising)  # of the fall, from 1 to above 0
    return recipe.learning_rate * (left if recipe.decay == "linear" else (1 - math.cos(math.pi * left)) / 2)


def train(
    model: nn.Module,
    terms: Sequence[Term[Any]],
    recipe: Recipe,
    *,
    seed: int,
    stage: str = "training",
    key: str = "",
    work: Path | None = None,
    validation: Validation | None = None,
    on_eval: Callable[[int], None] | None = None,
    eval_every: int | None = None,
    save_every: int | None = None,
    team: Processes | None = None,
    progress: Progress = silent,
) -> TrainingLog:
    """Train the weights of ``model`` that ask for a gradient, in place; it is in evaluation mode again at the end.

    Args:
        model: A transformers model on its device; what is not to be trained has ``requires_grad`` off.
        terms: The loss; at least one term.
        recipe: Rates, steps, sizes.
        seed: Of dropout, where the model has any.
        stage: Name for ``progress`` and for messages.
        key: Names everything that determines the result (model, data, plan); a checkpoint of another key is ignored.
        work: Folder of the checkpoints, which are removed at the end; None keeps none and cannot resume.
        validation: What is measured, and when to stop.
        on_eval: Called with the number of steps made at each evaluation, the model in evaluation mode; for the
            caller's own measures, which decide nothing. In every process. The checkpoint of that step is on disk by
            then, so that what was measured is never of weights that are made anew; a training that goes on from there
            begins by calling it again.
        eval_every: Steps between such calls where there is no validation; with one, its own hold.
        save_every: Steps between checkpoints beside those at evaluations.
        team: From `processes`.
        progress: Called after every step.

    Raises:
        ModelError: Trained weights are not float32, nothing is trained, a loss or gradient is not finite, or memory
            runs out on a single item.
        StorageError: A checkpoint cannot be written; the last whole one stays.
    """
    loop = _Loop(model, terms, recipe, seed=seed, stage=stage, team=team or Processes())
    state = TrainingState(work, key, trained=loop.trained, optimizer=loop.optimizer, writes=loop.team.writes)
    every = validation.every if validation is not None else eval_every
    began, resumed_at = time.monotonic(), state.load()
    step, n_planned = resumed_at, recipe.n_steps
    progress(stage, step, n_planned)
    with loop.training():
        if every is not None and (step % every == 0 or step == n_planned):
            if step == 0:
                _validate(loop, state, validation, step=0)
            _look(loop, on_eval, step=step)
        while step < n_planned and not _out_of_patience(state, validation):
            loop.step(step, state.record)
            step += 1
            last = step == n_planned
            if every is not None and (step % every == 0 or last):
                _validate(loop, state, validation, step=step)
                state.save(step)
                loop.team.wait()
                _look(loop, on_eval, step=step)
            elif last or (save_every is not None and step % save_every == 0):
                state.save(step)
            progress(stage, step, n_planned)
    best = state.restore_best() if validation is not None else step
    loop.team.wait()  # whoever saves the result removes the files that the best weights are read from
    peak, peak_of = loop.peak_memory()
    record = state.record
    return TrainingLog(
        n_steps=step,
        n_planned=n_planned,
        best_step=step if best is None else best,
        losses={name: tuple(values) for name, values in record["losses"].items()},
        evaluations=tuple((int(number), dict(found)) for number, found in record["evaluations"]),
        n_trained=record["n_trained"],
        n_read=record["n_read"],
        n_items=sum(len(term.draw(0)) for term in terms),
        n_processes=loop.team.n,
        peak_memory=peak,
        peak_memory_of=peak_of,
        resumed_at=resumed_at,
        seconds=time.monotonic() - began,
    )


def mean_loss(model: nn.Module, term: Term[Any], items: Sequence[Any], *, micro_tokens: int | None = None) -> float:
    """Mean loss of ``items`` under ``term``, nats a target, without a gradient; the model's mode stays as it is.

    Raises:
        InputError: No item has a target.
    """
    n_targets = sum(term.n_targets(item) for item in items)
    if n_targets == 0:
        raise InputError(f"{term.name}: none of {len(items):,} items has a target, so there is no loss to measure.")
    device = _device(model)
    total = 0.0
    with torch.no_grad(), _autocast(device):
        for part in _micro_batches(term, items, _micro_tokens(model, micro_tokens) // (1 + term.n_reads)):
            total += float(term.loss(model, part))
    return total / n_targets


class _Loop:
    """The model, its optimiser and how one step is made."""

    def __init__(
        self, model: Any, terms: Sequence[Term[Any]], recipe: Recipe, *, seed: int, stage: str, team: Processes
    ) -> None:
        self.model, self.terms, self.recipe = model, terms, recipe
        self.seed, self.stage, self.team = seed, stage, team
        self.device = _device(model)
        self.trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
        if not self.trained:
            raise ModelError(f"{stage}: no weight of the model asks for a gradient, so nothing would be trained.")
        for name, parameter in self.trained.items():
            if parameter.dtype != torch.float32:
                raise ModelError(
                    f"{stage}: {name} is {parameter.dtype}; small steps are lost in it. Load the model in float32, or "
                    "train an adapter over it."
                )
        self.optimizer = torch.optim.AdamW(
            self.trained.values(),
            lr=recipe.learning_rate,
            betas=recipe.betas,
            eps=recipe.epsilon,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self.micro = _micro_tokens(model, recipe.micro_tokens)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Training mode inside, evaluation mode after, and torch's global random state as it was."""
        checkpointing = self.recipe.gradient_checkpointing
        if checkpointing:
            try:
                with _old_name_allowed():
                    self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            except (AttributeError, ValueError) as error:
                raise ModelError(
                    f"{type(self.model).__name__} cannot compute its activations again (gradient checkpointing). "
                    "Train without it."
                ) from error
        self.model.train()
        try:
            with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
                yield
        finally:
            self.optimizer.zero_grad(set_to_none=True)
            self.model.eval()
            if checkpointing:
                with _old_name_allowed():
                    self.model.gradient_checkpointing_disable()
                    self.model.disable_input_require_grads()

    def step(self, number: int, record: dict[str, Any]) -> None:
        """One optimiser step; what it saw is added to ``record``."""
        drawn = [term.draw(number) for term in self.terms]
        counts = [sum(term.n_targets(item) for item in items) for term, items in zip(self.terms, drawn, strict=True)]
        sums = self._gradients(number, drawn, counts)
        self.team.add_up(sums)
        for term, items, total, count in zip(self.terms, drawn, sums.tolist(), counts, strict=True):
            if not math.isfinite(total):
                self._refuse(f"the loss ({term.name}) is {total}", number)
            record["losses"].setdefault(term.name, []).append(total / count if count else None)
            n_tokens = sum(term.n_tokens(item) for item in items)
            record["n_trained"] += n_tokens
            record["n_read"] += n_tokens * term.n_reads
        for parameter in self.trained.values():
            if self.team.n > 1:  # a share without items has no gradient of its own
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                self.team.add_up(parameter.grad)
        norm = float(torch.nn.utils.clip_grad_norm_(list(self.trained.values()), self.recipe.clip or math.inf))
        if not math.isfinite(norm):
            self._refuse(f"the gradient's norm is {norm}", number)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(number, self.recipe)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _refuse(self, what: str, number: int) -> None:
        raise DivergedError(
            f"{self.stage}: {what} at step {number + 1} of {self.recipe.n_steps}, so the training stopped; the model "
            "that was given is unchanged on disk and nothing was saved as a result. Train with a smaller learning "
            "rate; if it is the first step, the weights themselves or the texts are broken."
        )

    def _gradients(self, number: int, drawn: Sequence[Sequence[Any]], counts: Sequence[int]) -> Tensor:
        """Sum of each term's losses over this process's share, (terms,); the gradients are left in the weights."""
        while True:
            torch.manual_seed(int(np.random.SeedSequence([self.seed, number, self.team.rank]).generate_state(1)[0]))
            try:
                return self._try_gradients(drawn, counts)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                shares = [items[self.team.rank :: self.team.n] for items in drawn]
                longest = max(
                    term.n_tokens(item) for term, items in zip(self.terms, shares, strict=True) for item in items
                )
                if self.micro < longest:
                    raise ModelError(
                        f"{self.stage}: memory runs out on a single text of {longest:,} tokens. Train an adapter "
                        "instead of all weights, turn gradient checkpointing on, or take shorter blocks."
                    ) from error
            self.optimizer.zero_grad(set_to_none=True)
            self.micro = max(1, self.micro // 2)
            release_memory(self.device)

    def _try_gradients(self, drawn: Sequence[Sequence[Any]], counts: Sequence[int]) -> Tensor:
        sums = torch.zeros(len(self.terms), dtype=torch.float32, device=self.device)
        for place, (term, items, count) in enumerate(zip(self.terms, drawn, counts, strict=True)):
            share = items[self.team.rank :: self.team.n]
            for part in _micro_batches(term, share, self.micro // (1 + term.n_reads)):
                if count == 0:
                    break
                with _autocast(self.device):
                    loss = term.loss(self.model, part)
                (loss * (term.weight / count)).backward()  # type: ignore[no-untyped-call]
                sums[place] += loss.detach().to(self.device)
        return sums

    def peak_memory(self) -> tuple[int, str]:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device), "CUDA allocations"
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "process"


@contextlib.contextmanager
def _old_name_allowed() -> Iterator[None]:
    """transformers renames gradient checkpointing in the middle of version 5; the old name works in all of it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.* is deprecated", category=FutureWarning)
        yield


def _validate(loop: _Loop, state: TrainingState, validation: Validation | None, *, step: int) -> None:
    if validation is None:
        return
    loop.model.eval()
    found = dict(validation.measure()) if loop.team.writes else None
    found = loop.team.agree(found)
    if not math.isfinite(found.get(CRITERION, math.nan)):
        raise ModelError(
            f"{loop.stage}: the validation after step {step} gives the criterion {found.get(CRITERION)}, which is "
            "not finite. Train with a smaller learning rate."
        )
    state.record["evaluations"].append([step, found])
    state.keep_if_best(step)
    loop.model.train()


def _look(loop: _Loop, on_eval: Callable[[int], None] | None, *, step: int) -> None:
    if on_eval is not None:
        loop.model.eval()
        on_eval(step)
        loop.model.train()


def _out_of_patience(state: TrainingState, validation: Validation | None) -> bool:
    if validation is None or validation.patience is None:
        return False
    later = [step for step, _ in state.record["evaluations"] if step > state.record["best_step"]]
    return len(later) >= validation.patience


def _micro_batches(term: Term[Any], items: Sequence[Any], budget: int) -> Iterator[list[Any]]:
    """Items of like length together, no more padded tokens than ``budget`` unless one item alone has more."""
    ordered = sorted(items, key=term.n_tokens)
    start = 0
    while start < len(ordered):
        stop = start + 1
        while stop < len(ordered) and (stop + 1 - start) * term.n_tokens(ordered[stop]) <= budget:
            stop += 1
        yield ordered[start:stop]
        start = stop


def _micro_tokens(model: Any, asked: int | None) -> int:
    if asked is not None:
        return asked
    rows = getattr(model, "get_input_embeddings", lambda: None)()
    n_vocabulary = int(rows.weight.shape[0]) if rows is not None else 1
    return max(1, min(MICRO_TOKENS, LOGIT_NUMBERS // n_vocabulary))


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _autocast(device: torch.device) -> Any:
    enabled = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)
