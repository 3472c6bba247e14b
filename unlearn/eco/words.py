"""What a guard does, in words for reports and cards."""

from __future__ import annotations

from .corruptions import Corruption
from .guard import GuardSettings

_FUNCTIONS = {
    "rand_noise_first_n": "Gaussian noise is added to the first {n} of each embedding",
    "rand_noise_rand_n": "Gaussian noise is added to {n}, drawn at random, of each embedding",
    "rand_noise_top_k": "Gaussian noise is added to the {n} largest in size of each embedding",
    "set_rand_noise_first_n": "Gaussian noise takes the place of the first {n} of each embedding",
    "zero_out_first_n": "the first {n} of each embedding are set to 0",
    "zero_out_top_k": "the {n} largest in size of each embedding are set to 0",
    "flip_sign_first_n": "the first {n} of each embedding change their sign",
    "flip_sign_top_k": "the {n} largest in size of each embedding change their sign",
    "add_value_first_n": "one value is added to the first {n} of each embedding",
    "sub_value_first_n": "one value is taken off the first {n} of each embedding",
    "sub_value_top_k": "one value is taken off the {n} largest of each embedding",
    "add_value_least_k": "one value is added to the {n} smallest of each embedding",
    "laplace_noise_first_n": "Laplace noise is added to the first {n} of each embedding",
    "uniform_noise_first_n": "uniform noise is added to the first {n} of each embedding",
    "reverse_order": "the embeddings are put in reverse order",
    "shuffle": "the embeddings are shuffled",
}
STAGES = {
    "scan": "scan",
    "local": "inside the bracket",
    "descent": "descent",
    "confirm": "confirmation",
    "report": "report",
    "sensitivity": "other targets",
}


def corruption_words(corruption: Corruption) -> str:
    """A clause: "Gaussian noise is added to the first number of each embedding, strength 12.3"."""
    n = "number" if corruption.dims == 1 else f"{corruption.dims:,} numbers" if corruption.dims else ""
    told = _FUNCTIONS[corruption.function].format(n=n)
    return told if corruption.strength is None else f"{told}, strength {corruption.strength:.4g}"


def selection_words(settings: GuardSettings) -> str:
    """Which tokens."""
    return {
        "all": "all its tokens but the last",
        "names": "the tokens of the names in it",
        "tagger": "the tokens that a token classifier marks in it as names",
    }[settings.selection]
