"""What a baseline method does to a model, fixed before anything is computed.

Values marked C were read in published code; those marked U are widely repeated but could not be confirmed in a source
that was read, and are not to be quoted as a paper's; those marked "own" are this project's. Rates and steps have no
default: the open-unlearning suite (C) takes 1e-5 and 10 passes over the forget text, untuned.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from ..lora import LoraPlan
from ..ranges import check_ranges
from ..training import Recipe
from ..whp.config import Weights

RetainKind = Literal["none", "mixed", "kl", "activations"]
#: Answers that are preferred to the forget text; own, in the manner of TOFU's list. Text, never instructions.
REFUSALS = (
    " I don't know.",
    " I'm not sure about that.",
    " I have no information on this.",
    " I can't say anything about that.",
    " That is not something I know.",
)


def _positive(value: float) -> tuple[bool, str]:
    return 0 < value < math.inf, "a positive number"


@dataclass(frozen=True, slots=True)
class Npo:
    """Negative preference optimisation.

    Attributes:
        beta: Inverse temperature, > 0; 0.1: C (a published TOFU configuration). Towards 0 it is gradient ascent.
    """

    beta: float = 0.1

    def __post_init__(self) -> None:
        check_ranges(self, "npo", {"beta": _positive(self.beta)})


@dataclass(frozen=True, slots=True)
class SimNpo:
    """Its form without a reference.

    Attributes:
        beta: Inverse temperature, > 0; 2.5 and 4.5 in the authors' two TOFU commands (C).
        gamma: Margin, finite; 0: C.
    """

    beta: float = 2.5
    gamma: float = 0.0

    def __post_init__(self) -> None:
        finite = math.isfinite(self.gamma), "a finite number"
        check_ranges(self, "simnpo", {"beta": _positive(self.beta), "gamma": finite})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Preference of refusals to the forget text.

    Attributes:
        beta: Inverse temperature, > 0; 0.1: U.
        texts: Refusals, each with a token; one is drawn for each block.
        prompt: Share of a block's tokens that stands as the prompt where the block does not say which, in (0, 1); own.
    """

    beta: float = 0.1
    texts: tuple[str, ...] = REFUSALS
    prompt: float = 0.5

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "refusal",
            {
                "beta": _positive(self.beta),
                "texts": (len(self.texts) >= 1 and all(self.texts), "one text or more, none empty"),
                "prompt": (0 < self.prompt < 1, "between 0 and 1"),
            },
        )


@dataclass(frozen=True, slots=True)
class Rmu:
    """Representation misdirection; the plan's ``retain_weight`` is the paper's alpha.

    Attributes:
        layer: Decoder layer whose output is steered, from 0; None for the one at 7/32 of the depth, because 7 of 32 is
            common (C), with 5 to 7 trained.
        depth: How many layers are trained, that one and those below it, >= 1; 3: C.
        steering: Length of the target vector, > 0; 20: C (the default of open-unlearning's trainer). It should exceed
            the usual length of that layer's outputs and wants choosing for each model, as alpha does.
    """

    layer: int | None = None
    depth: int = 3
    steering: float = 20.0

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "rmu",
            {
                "layer": (self.layer is None or self.layer >= 0, "0 or more, or none"),
                "depth": (self.depth >= 1, "1 or more"),
                "steering": _positive(self.steering),
            },
        )


@dataclass(frozen=True, slots=True)
class TaskVector:
    """Negation of what training on the forget text does.

    Attributes:
        scale: How often the change is taken off, > 0; the paper chooses it on held-out data. 1: own.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        check_ranges(self, "task_vector", {"scale": _positive(self.scale)})


@dataclass(frozen=True, slots=True)
class BaselinePlan:
    """One training; of the methods' own settings only those of the method that is run take part.

    Attributes:
        recipe: Rates and steps.
        weights: "full" or "lora".
        batch_size: Forget blocks in a step, >= 1; 32 (8 x 4): C, open-unlearning.
        forget_weight: Of the forget term, > 0; 0.1375 and 0.125 in SimNPO's two TOFU commands (C).
        retain: The retain term: "none", "mixed" (ordinary loss on retain text), "kl" (divergence from the baseline on
            it) or "activations" (RMU's own). None for the method's usual one.
        retain_weight: Of the retain term, > 0.
        retain_batch_size: Retain blocks in a step, >= 1; None for as many as forget blocks.
        lora: Shape of the adapter.
        npo: See `Npo`.
        simnpo: See `SimNpo`.
        refusal: See `Refusal`.
        rmu: See `Rmu`.
        task_vector: See `TaskVector`.
        seed: Of orders, refusals, the steering direction and adapters, 0 to 2^63 - 2.
    """

    recipe: Recipe
    weights: Weights = "full"
    batch_size: int = 32
    forget_weight: float = 1.0
    retain: RetainKind | None = None
    retain_weight: float = 1.0
    retain_batch_size: int | None = None
    lora: LoraPlan = field(default_factory=LoraPlan)
    npo: Npo = field(default_factory=Npo)
    simnpo: SimNpo = field(default_factory=SimNpo)
    refusal: Refusal = field(default_factory=Refusal)
    rmu: Rmu = field(default_factory=Rmu)
    task_vector: TaskVector = field(default_factory=TaskVector)
    seed: int = 0

    def __post_init__(self) -> None:
        size = self.retain_batch_size
        check_ranges(
            self,
            "baseline",
            {
                "weights": (self.weights in get_args(Weights), " or ".join(get_args(Weights))),
                "batch_size": (self.batch_size >= 1, "1 or more"),
                "forget_weight": _positive(self.forget_weight),
                "retain": (
                    self.retain is None or self.retain in get_args(RetainKind),
                    f"{', '.join(get_args(RetainKind))} or none given",
                ),
                "retain_weight": _positive(self.retain_weight),
                "retain_batch_size": (size is None or size >= 1, "1 or more, or none"),
                "seed": (0 <= self.seed < 2**63 - 1, "from 0 to below 2^63 - 1"),
            },
        )

    def to_record(self) -> dict[str, Any]:
        return asdict(self)
