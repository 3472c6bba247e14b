"""What a metric would be for a model that never learnt, without training one.

Source: spec of ECO, section 4: chance level for multiple choice; else the same metric where nothing was learnt, on
entities that the model never met in the same template, or of the base model before it was taught. A model trained
without the forget set is for judging and never gives a target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from audit.errors import InputError
from audit.stats.bootstrap import bootstrap
from audit.stats.checks import Labels, Seed
from audit.stats.checks import count as whole
from audit.stats.estimate import Estimate


@dataclass(frozen=True, slots=True)
class Surrogate:
    """A target value, and where it comes from.

    Attributes:
        estimate: The value with its interval and n.
        source: "chance level", "entities never learnt", "base model", for a reader.

    Raises:
        InputError: The estimate has no value.
    """

    estimate: Estimate
    source: str

    def __post_init__(self) -> None:
        if self.estimate.value is None:
            raise InputError(
                f"the target from {self.source} has no value ({self.estimate.why}); expected a number. Give more rows."
            )

    @property
    def value(self) -> float:
        assert self.estimate.value is not None
        return self.estimate.value


def chance(options: Sequence[int]) -> Surrogate:
    """Mean of 1/K over questions of K options each: what guessing gives, exactly.

    Args:
        options: K of each question, at least 2.
    """
    if not options:
        raise InputError("options is empty; expected the number of options of each question.")
    counts = [whole(number, f"options[{place}]", least=2) for place, number in enumerate(options)]
    value = float(np.mean([1 / number for number in counts]))
    return Surrogate(Estimate(value, value, value, 0.95, len(counts), "mean of 1/K, exact"), "chance level")


def where_not_learnt(
    values: ArrayLike, *, clusters: Labels | None = None, source: str, level: float = 0.95, rng: Seed
) -> Surrogate:
    """Mean of a metric where nothing was learnt, clustered percentile bootstrap.

    Args:
        values: The same metric, row by row, in the same template: of the guarded model on entities that it never met,
            or of the base model on the forget rows; shape (n,).
        clusters: Entity of each row.
        source: Which of the two, in words.
        level: Level of the interval.
        rng: Generator or seed.
    """

    def mean(sample: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(sample.mean(axis=axis))

    return Surrogate(bootstrap(mean, values, clusters=clusters, level=level, rng=rng), source)
