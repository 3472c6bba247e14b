"""Every choice of the audit of found texts, with its unit and where it comes from."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ..errors import InputError
from .score_names import OF_REFERENCE, SCORES, Score, score_names


@dataclass(frozen=True, slots=True)
class MembershipPlan:
    """What is compared and how, fixed before any score is seen.

    Attributes:
        primary: The one score that the verdict speaks of; None stands for "ratio" with a reference model and "loss"
            without one. The others are exploratory.
        k: Share of a text's tokens that Min-K% and Min-K%++ average over, in (0, 1].
        level: Level of the intervals of AUC and TPR; the blind checks have 99%.
        n_splits: Random splits whose p-values dataset inference puts together, 1 to 999.
        n_checks: Random splits of the validation set against itself, 100 to 10,000.
        seed: Of all splits and of the blind baseline.
    """

    primary: Score | None = None
    k: float = 0.2
    level: float = 0.95
    n_splits: int = 25
    n_checks: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if self.primary is not None and self.primary not in SCORES:
            raise InputError(f'membership: primary is "{self.primary}"; expected one of {", ".join(SCORES)}')
        ranges = {
            "k": (0 < self.k <= 1, "above 0 and at most 1"),
            "level": (0 < self.level < 1, "a number between 0 and 1"),
            "n_splits": (1 <= self.n_splits <= 999, "1 to 999"),
            "n_checks": (100 <= self.n_checks <= 10_000, "100 to 10,000"),
            "seed": (self.seed >= 0, "0 or more"),
        }
        for name, (fits, expected) in ranges.items():
            if not fits:
                raise InputError(f"membership: {name} is {getattr(self, name)}; expected {expected}")

    def score(self, *, has_reference: bool, further: Collection[str] = ()) -> Score:
        """The primary score.

        Args:
            has_reference: Whether there is a reference model.
            further: Extra scores that are made.

        Raises:
            InputError: It compares with a reference model, and there is none; or it is not made.
        """
        made = score_names(has_reference=has_reference, further=further)
        if self.primary in OF_REFERENCE and not has_reference:
            raise InputError(
                f'the primary score is "{self.primary}", which compares with a reference model, and none was given. '
                f"Give a reference, or choose primary from {', '.join(made)}."
            )
        if self.primary is not None and self.primary not in made:
            raise InputError(f'the primary score is "{self.primary}", which is not made; add it to scores.')
        return self.primary or ("ratio" if has_reference else "loss")
