"""Names of the scores, in a fixed order."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, get_args

ExtraScore = Literal["ratio_of_losses", "min_20", "zlib_rate", "lowercase", "neighbourhood", "recall"]
Score = Literal["ratio", "loss", "min_k", "min_k_plus_plus", "zlib"] | ExtraScore
EXTRA_SCORES: tuple[ExtraScore, ...] = get_args(ExtraScore)
SCORES: tuple[Score, ...] = ("ratio", "loss", "min_k", "min_k_plus_plus", "zlib", *EXTRA_SCORES)
OF_REFERENCE = ("ratio", "ratio_of_losses")  # compare with a reference model
NAMES: dict[str, str] = {
    "ratio": "Ratio",
    "loss": "Loss",
    "min_k": "Min-K%",
    "min_k_plus_plus": "Min-K%++",
    "zlib": "zlib",
    "ratio_of_losses": "Ratio of losses",
    "min_20": "Min-20 tokens",
    "zlib_rate": "zlib rate",
    "lowercase": "Lower-case",
    "neighbourhood": "Neighbourhood",
    "recall": "ReCaLL",
}


def score_names(*, has_reference: bool, further: Collection[str] = ()) -> list[Score]:
    """The five that every audit makes and those asked for, as far as they can be made.

    Args:
        has_reference: Whether there is a reference model.
        further: Extra scores that are wanted.
    """
    wanted = [score for score in SCORES if score not in EXTRA_SCORES or score in further]
    return [score for score in wanted if has_reference or score not in OF_REFERENCE]
