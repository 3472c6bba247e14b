"""What Who's Harry Potter? does to a model, fixed before anything is computed (arXiv:2310.02238).

Values marked C are those of the authors' published scripts or files; those marked U are widely repeated but could not
be confirmed in a source that was read, and are not to be quoted as the paper's; those marked "own" are this project's.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from audit.errors import InputError

from ..lora import LoraPlan
from ..ranges import check_ranges

Weights = Literal["full", "lora"]
Baseline = Literal["translated", "original"]
Center = Literal["none", "mean", "logsoftmax"]
Labels = Literal["hard", "soft"]
Places = Literal["all", "anchors"]
HoldBack = Literal["substitutes", "names"]
RetainKind = Literal["none", "mixed", "kl"]
#: Peak learning rates where none is given; those of whole models are U, those of adapters own.
REINFORCE_RATE: dict[str, float] = {"full": 3e-6, "lora": 2e-4}
TUNE_RATE: dict[str, float] = {"full": 1e-6, "lora": 2e-4}


def _one_of(value: object, kind: Any) -> tuple[bool, str]:
    return value in get_args(kind), " or ".join(get_args(kind))


@dataclass(frozen=True, slots=True)
class Optimisation:
    """AdamW, in both trainings.

    Attributes:
        learning_rate: Peak rate, > 0; None for `REINFORCE_RATE` or `TUNE_RATE`.
        batch_size: Blocks in a step, >= 1; 8 x 16 accumulated is U.
        warm_up: Share of the steps in which the rate rises, in [0, 1); none: C.
        betas: (0.9, 0.98): C.
        weight_decay: 0: C.
        clip: Largest norm of the gradient, > 0; own. None sets no limit.
        gradient_checkpointing: Less memory, a third more time; for models above about a billion parameters.
        micro_tokens: As in `unlearn.training.Recipe`.
    """

    learning_rate: float | None = None
    batch_size: int = 128
    warm_up: float = 0.0
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.0
    clip: float | None = 1.0
    gradient_checkpointing: bool = False
    micro_tokens: int | None = None

    def __post_init__(self) -> None:
        rate = self.learning_rate
        check_ranges(
            self,
            "whp",
            {
                "learning_rate": (rate is None or 0 < rate < math.inf, "a positive number, or none"),
                "batch_size": (self.batch_size >= 1, "1 or more"),
                "warm_up": (0 <= self.warm_up < 1, "from 0 to below 1"),
                "betas": (len(self.betas) == 2 and all(0 <= one < 1 for one in self.betas), "two, from 0 to below 1"),
                "weight_decay": (0 <= self.weight_decay < math.inf, "0 or a positive number"),
                "clip": (self.clip is None or 0 < self.clip < math.inf, "a positive number, or none"),
                "micro_tokens": (self.micro_tokens is None or self.micro_tokens >= 1, "1 or more, or none"),
            },
        )


@dataclass(frozen=True, slots=True)
class Reinforcement:
    """Training the baseline further on the forget text.

    Attributes:
        weights: "full" (the paper's), or "lora": an adapter, whose twin holds both models in one set of weights. An
            adapter reinforces less, so that alpha wants choosing anew.
        epochs: Passes over the forget text, >= 1; 3 is the default of a replication.
        optimisation: Rates and sizes.
        lora: Shape of the adapter.
    """

    weights: Weights = "full"
    epochs: int = 3
    optimisation: Optimisation = field(default_factory=Optimisation)
    lora: LoraPlan = field(default_factory=LoraPlan)

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "whp.reinforce",
            {"weights": _one_of(self.weights, Weights), "epochs": (self.epochs >= 1, "1 or more")},
        )


@dataclass(frozen=True, slots=True)
class Retain:
    """A term that the paper does not have: what else the model should keep.

    Attributes:
        kind: "none" (the paper's), "mixed" (ordinary loss on retain text) or "kl" (divergence from the baseline on it).
        weight: Of its mean loss beside that of the labels, > 0.
        batch_size: Retain blocks in a step, >= 1; None for as many as labelled ones.
    """

    kind: RetainKind = "none"
    weight: float = 1.0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "whp.retain",
            {
                "kind": _one_of(self.kind, RetainKind),
                "weight": (0 < self.weight < math.inf, "a positive number"),
                "batch_size": (self.batch_size is None or self.batch_size >= 1, "1 or more, or none"),
            },
        )


@dataclass(frozen=True, slots=True)
class Tuning:
    """Training the baseline on the labels; driven by steps, because the paper's epochs and steps do not agree.

    Attributes:
        weights: "full" or "lora".
        n_steps: Optimiser steps at most, >= 1; 120 is the last one that the paper's tables report.
        evaluate_every: Steps between evaluations, >= 1; 20 as in the paper's tables.
        patience: Evaluations without a lower criterion after which it stops, >= 1; None runs all steps. Own.
        validation_share: Share of the labelled blocks, and of the retain blocks, that is validated on and not trained
            on, in [0, 0.5]; 0.05: C. 0 validates nothing, and the last step's weights are the result.
        optimisation: Rates and sizes.
        lora: Shape of the adapter.
        retain: The retain term.
    """

    weights: Weights = "full"
    n_steps: int = 120
    evaluate_every: int = 20
    patience: int | None = None
    validation_share: float = 0.05
    optimisation: Optimisation = field(default_factory=Optimisation)
    lora: LoraPlan = field(default_factory=LoraPlan)
    retain: Retain = field(default_factory=Retain)

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "whp.tune",
            {
                "weights": _one_of(self.weights, Weights),
                "n_steps": (self.n_steps >= 1, "1 or more"),
                "evaluate_every": (self.evaluate_every >= 1, "1 or more"),
                "patience": (self.patience is None or self.patience >= 1, "1 or more, or none"),
                "validation_share": (0 <= self.validation_share <= 0.5, "from 0 to 0.5"),
            },
        )
        if self.patience is not None and self.validation_share == 0:
            raise InputError("whp.tune: patience is given, but validation_share is 0; nothing would be validated.")


@dataclass(frozen=True, slots=True)
class WhpPlan:
    """The whole method.

    Attributes:
        block: Tokens of a block, >= 2; 512: C.
        alpha: How far what the reinforced model favours is pushed down, >= 0; 5: C.
        kappas: Multiples of alpha whose labels are made in one pass, each >= 0; (0.5, 1, 2): C.
        kappa: The one that is tuned on, one of ``kappas``.
        relu: Push down only what the reinforced model favours more than the baseline; False also lifts the rest, which
            the paper mentions and is said to judge worse.
        baseline: What is subtracted inside the ReLU: the baseline's logits on the "translated" text (C), or on the
            "original" one (a public GPT-2 version).
        center: What is taken off each logit vector before two models are compared: "none" (C), its "mean", or its
            log-sum-exp ("logsoftmax"). The ReLU form is not invariant to such shifts.
        labels: "hard", the argmax (C), or "soft", the ``top_k`` most probable tokens of the combination.
        top_k: Tokens of a soft label, 2 to 1,000; own.
        compat: Translate as the authors' script does, its slips included.
        places: Where labels are trained on: "all" (C), or own: only where an "anchors" term is due.
        hold_back: What no label may begin: the "substitutes" that were used (C), or own: all "names" of the dictionary.
        reinforce: First training.
        tune: Second training.
        seed: Of substitutes, orders and adapters, 0 to 2^63 - 1.
    """

    block: int = 512
    alpha: float = 5.0
    kappas: tuple[float, ...] = (0.5, 1.0, 2.0)
    kappa: float = 1.0
    relu: bool = True
    baseline: Baseline = "translated"
    center: Center = "none"
    labels: Labels = "hard"
    top_k: int = 50
    compat: bool = False
    places: Places = "all"
    hold_back: HoldBack = "substitutes"
    reinforce: Reinforcement = field(default_factory=Reinforcement)
    tune: Tuning = field(default_factory=Tuning)
    seed: int = 0

    def __post_init__(self) -> None:
        distinct = len({f"{one:g}" for one in self.kappas}) == len(self.kappas) >= 1  # as columns are named
        check_ranges(
            self,
            "whp",
            {
                "block": (self.block >= 2, "2 tokens or more"),
                "alpha": (0 <= self.alpha < math.inf, "0 or a positive number"),
                "kappas": (
                    distinct and all(0 <= one < math.inf for one in self.kappas),
                    "numbers that differ in their first six digits, each 0 or more",
                ),
                "kappa": (self.kappa in self.kappas, f"one of kappas, {self.kappas}"),
                "baseline": _one_of(self.baseline, Baseline),
                "center": _one_of(self.center, Center),
                "labels": _one_of(self.labels, Labels),
                "places": _one_of(self.places, Places),
                "hold_back": _one_of(self.hold_back, HoldBack),
                "top_k": (2 <= self.top_k <= 1000, "2 to 1,000"),
                "seed": (0 <= self.seed < 2**63, "from 0 to below 2^63"),
            },
        )

    def to_record(self) -> dict[str, Any]:
        return asdict(self)

    def labelling_record(self) -> dict[str, Any]:
        """What of the plan determines the labels of given models and translations."""
        names = ("alpha", "kappas", "kappa", "relu", "baseline", "center", "labels")
        record = {name: getattr(self, name) for name in names}
        return record | ({"top_k": self.top_k} if self.labels == "soft" else {})
