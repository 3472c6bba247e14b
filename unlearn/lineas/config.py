"""How maps are fitted, with the paper's values as defaults."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from audit.errors import InputError

from .loss import LEAST_BATCH, Reduction

Optimizer = Literal["sgd", "adam"]


@dataclass(frozen=True, slots=True)
class FitSettings:
    """Defaults are the language-model column of the paper (arXiv:2503.10679), where it says.

    Attributes:
        optimizer: "sgd" is proximal gradient descent without momentum (paper); "adam" has betas 0.9, 0.9 and no weight
            decay (the authors' configuration), and its sparse step is a heuristic.
        lr: Learning rate of the first step; 0.1 for SGD (paper), 1e-3 in the authors' configuration for Adam.
        final_lr: Share of it that the cosine ends at.
        steps: Steps of the optimiser.
        batch: Source sentences of a step; None takes all. The loss always compares them with all target sentences.
        gamma: Weight of the sparse group lasso; 0 fits every neuron.
        l1: Its weight of single numbers.
        group: Its weight of a site's w and b as groups.
        floor: Least w, or None. Nothing else keeps w above 0, and a reflecting map can have the lower loss.
        neurons: How the loss reduces a site's neurons; see `loss`.
        sites: How it reduces sites.
        microbatch: Sentences in memory at a time, or None for the whole batch. The loss is that of the whole batch: it
            is taken once, and parts are run again with their share of its gradient.
        checkpointing: Compute activations again in the backward pass; less memory, more time.
        check_every: Steps between looks at held-out sentences, where there are any.
        patience: Looks without improvement after which fitting stops; None always goes to the end. The maps are then
            those of the best look.
        forced: Allow batches below 4.
        seed: Order of the source sentences.
    """

    optimizer: Optimizer = "sgd"
    lr: float = 0.1
    final_lr: float = 1e-3
    steps: int = 1000
    batch: int | None = 32
    gamma: float = 0.0
    l1: float = 1.0
    group: float = 1.0
    floor: float | None = None
    neurons: Reduction = "sum"
    sites: Reduction = "mean"
    microbatch: int | None = None
    checkpointing: bool = False
    check_every: int = 50
    patience: int | None = None
    forced: bool = False
    seed: int = 42

    def __post_init__(self) -> None:
        for name, choices in (("optimizer", Optimizer), ("neurons", Reduction), ("sites", Reduction)):
            if getattr(self, name) not in get_args(choices):
                raise InputError(f'{name} is "{getattr(self, name)}"; expected {" or ".join(get_args(choices))}.')
        ranges = {
            "lr": (math.isfinite(self.lr) and self.lr > 0, "a positive number"),
            "final_lr": (0 <= self.final_lr <= 1, "a share from 0 to 1"),
            "steps": (self.steps >= 1, "1 or more"),
            "batch": (self.batch is None or self.batch >= 1, f"{LEAST_BATCH} or more, or none for all"),
            "gamma": (math.isfinite(self.gamma) and self.gamma >= 0, "0 or a positive number"),
            "l1": (math.isfinite(self.l1) and self.l1 >= 0, "0 or a positive number"),
            "group": (math.isfinite(self.group) and self.group >= 0, "0 or a positive number"),
            "floor": (self.floor is None or (math.isfinite(self.floor) and self.floor <= 1), "a number up to 1"),
            "microbatch": (self.microbatch is None or self.microbatch >= 1, "1 or more"),
            "check_every": (self.check_every >= 1, "1 or more"),
            "patience": (self.patience is None or self.patience >= 1, "1 or more"),
            "seed": (self.seed >= 0, "0 or more"),
        }
        for name, (fits, expected) in ranges.items():
            if not fits:
                raise InputError(f"{name} is {getattr(self, name)}; expected {expected}.")

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0: cosine from ``lr`` towards ``final_lr * lr``."""
        least = self.final_lr * self.lr
        return least + (self.lr - least) * (1 + math.cos(math.pi * step / self.steps)) / 2

    def to_record(self) -> dict[str, Any]:
        return asdict(self)
